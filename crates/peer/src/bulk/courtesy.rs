//! How a directory is sent as fast as it goes, and yet no message to the same member has to wait for it.
//!
//! The directory has a connection of its own, so in this process nothing waits. But both share the network, and the processors and the
//! disk of the other end. Whether that matters is measured: while the directory is sent, a ping goes over the connection of the messages
//! ten times a second. What it takes longer than the fastest one took is time that messages wait, and when that is more than
//! [`WAIT_MAX`], the rate is halved; when it is less, the rate grows again by a tenth at each ping, until it limits nothing any more. (So
//! it takes what others leave, as RFC 6817 has it for background transfers.)

use std::time::Duration;

use tokio::time::Instant;

use crate::link::Link;

/// Half of a tick of 100 ms: far from what an election takes.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How often is measured.
const EVERY: Duration = Duration::from_millis(100);

/// Bytes a second that are sent in any case: who lags has to catch up some day.
const RATE_MIN: f64 = (1 << 20) as f64;

/// The rate that results from what was measured.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    /// What a ping takes when nothing is in its way.
    least: Option<Duration>,
    /// Bytes a second; as fast as goes if there is none.
    rate: Option<f64>,
}

impl Courtesy {
    /// A ping took this long, and since the one before it so many bytes were sent in so long a time.
    fn note(&mut self, took: Duration, sent: u64, within: Duration) {
        let least = self.least.map_or(took, |least| least.min(took));
        self.least = Some(least);
        let speed = sent as f64 / within.as_secs_f64().max(1e-3);
        if took.saturating_sub(least) > WAIT_MAX {
            let rate = self.rate.map_or(speed, |rate| rate.min(speed));
            self.rate = Some((rate / 2.0).max(RATE_MIN));
        } else if let Some(rate) = self.rate {
            let more = rate * 1.1;
            // Something else limits it by far.
            self.rate = (more < 2.0 * speed.max(RATE_MIN)).then_some(more);
        }
    }

    fn is_too_long(&self, took: Duration) -> bool {
        self.least.is_some_and(|least| took > least + WAIT_MAX)
    }
}

/// Measures, and keeps the rate.
#[derive(Debug)]
pub(super) struct Measured {
    courtesy: Courtesy,
    /// The ping on its way: since when, and how many answers had come before it.
    on_its_way: Option<(Instant, u64)>,
    /// It takes too long and that has been counted; its answer is none of the rate that is kept since then.
    is_counted: bool,
    next: Instant,
    noted: Instant,
    sent: u64,
    /// When the next piece may go.
    due: Instant,
}

impl Measured {
    pub(super) fn new(now: Instant) -> Measured {
        Measured {
            courtesy: Courtesy::default(),
            on_its_way: None,
            is_counted: false,
            next: now,
            noted: now,
            sent: 0,
            due: now,
        }
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> Option<f64> {
        self.courtesy.rate
    }

    /// So many bytes go now; when the next may, if that is limited.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        self.sent += bytes as u64;
        let rate = self.courtesy.rate?;
        self.due = self.due.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
        Some(self.due)
    }

    /// Looks how messages fare on `link`; often.
    pub(super) fn look(&mut self, link: &Link, now: Instant) {
        match self.on_its_way {
            None if now >= self.next => {
                self.on_its_way = Some((now, link.pongs()));
                self.is_counted = false;
                self.next = now + EVERY;
                link.measure();
            }
            None => {}
            Some((since, before)) if link.pongs() == before => {
                let took = now.duration_since(since);
                if !self.is_counted && self.courtesy.is_too_long(took) {
                    self.is_counted = true;
                    self.note(took, now);
                }
            }
            Some(_) => {
                self.on_its_way = None;
                if let Some(took) = link.round_trip().filter(|_| !self.is_counted) {
                    self.note(took, now);
                }
            }
        }
    }

    fn note(&mut self, took: Duration, now: Instant) {
        self.courtesy
            .note(took, self.sent, now.duration_since(self.noted));
        self.sent = 0;
        self.noted = now;
    }

    /// The connection was exchanged for another, or is gone.
    pub(super) fn forget(&mut self) {
        self.on_its_way = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that carries `capacity` bytes a second and lets the rest wait in front of it, for ten simulated seconds of which the
    /// first is left out. The longest wait of a ping, and how many bytes got through.
    fn simulate(capacity: f64, others: impl Fn(f64) -> f64) -> (Duration, f64) {
        let step = EVERY.as_secs_f64();
        let mut courtesy = Courtesy::default();
        let (mut waiting, mut longest, mut carried) = (0.0f64, 0.0f64, 0.0);
        for number in 0..100 {
            let free = capacity - others(f64::from(number) * step);
            // Without a limit, the kernel takes no more than this ahead of the network.
            let sent = courtesy
                .rate
                .map_or(free * step + 0.2 * capacity, |rate| rate * step);
            waiting = (waiting + sent - free * step).max(0.0);
            let wait = waiting / capacity;
            if number >= 10 {
                longest = longest.max(wait);
                carried += sent;
            }
            let took = Duration::from_secs_f64(0.001 + wait);
            courtesy.note(took, sent as u64, EVERY);
        }
        (Duration::from_secs_f64(longest), carried / 9.0)
    }

    #[test]
    fn messages_wait_little_and_the_network_is_used_well() {
        for capacity in [10e6, 100e6, 1e9] {
            let (wait, carried) = simulate(capacity, |_| 0.0);
            assert!(wait < 2 * WAIT_MAX, "{capacity}: {wait:?}");
            assert!(carried > 0.6 * capacity, "{capacity}: {carried}");
        }
    }

    #[test]
    fn what_others_need_is_left_to_them_and_taken_when_they_stop() {
        let capacity = 100e6;
        let (_, shared) = simulate(capacity, |at| if at < 5.0 { 0.8 * capacity } else { 0.0 });
        assert!((0.3 * capacity..0.7 * capacity).contains(&shared), "{shared}");
    }

    #[test]
    fn a_fast_network_is_not_limited() {
        let mut courtesy = Courtesy::default();
        for _ in 0..100 {
            courtesy.note(Duration::from_micros(300), 100 << 20, EVERY);
        }
        assert_eq!(courtesy.rate, None);
        courtesy.note(Duration::from_millis(80), 100 << 20, EVERY);
        let rate = courtesy.rate.unwrap();
        assert!((rate - 500.0 * RATE_MIN).abs() < RATE_MIN, "{rate}");
        for _ in 0..20 {
            // The disk has become what limits it.
            courtesy.note(Duration::from_micros(300), 10 << 20, EVERY);
        }
        assert_eq!(courtesy.rate, None);
        for _ in 0..50 {
            courtesy.note(Duration::from_secs(1), 0, EVERY);
        }
        assert_eq!(courtesy.rate, Some(RATE_MIN));
    }

    #[tokio::test]
    async fn a_ping_that_does_not_come_back_counts_once_and_before_it_does() {
        let link = Link::new(consensus::NodeId(2), 1, None);
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut measured = Measured::new(start);
        measured.look(&link, start);
        link.answered(Duration::from_millis(1));
        measured.look(&link, at(1));
        assert_eq!((measured.rate(), measured.take(64 << 20, at(1))), (None, None));

        measured.look(&link, at(100));
        measured.look(&link, at(140));
        assert_eq!(measured.rate(), None, "nothing is late yet");
        measured.look(&link, at(161));
        let halved = measured.rate().unwrap();
        assert!(
            (halved - 0.5 * f64::from(64 << 20) / 0.16).abs() < 1.0,
            "{halved}"
        );
        measured.look(&link, at(900));
        assert_eq!(measured.rate(), Some(halved));
        // What it took is what was waited for before the rate was lowered.
        link.answered(Duration::from_millis(850));
        measured.look(&link, at(950));
        assert_eq!(measured.rate(), Some(halved));
        // A piece now waits until the one before it is over, by the rate.
        let pieces = [1, 2].map(|_| measured.take(halved as usize / 10, at(950)).unwrap());
        assert_eq!(
            pieces.map(|due| due.duration_since(at(950)).as_millis()),
            [100, 200]
        );

        measured.look(&link, at(1000));
        link.answered(Duration::from_millis(2));
        measured.look(&link, at(1002));
        assert!(measured.rate().is_none_or(|rate| rate > halved));
    }
}
