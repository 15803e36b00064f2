//! How often a source may fail.
//!
//! A call counts as failed from its beginning, so that many at once are as few as many in a row; one that goes well is forgiven. Time is
//! handed in.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use service::clock::Moment;

/// Failed calls of one source within [`WINDOW`].
pub const FAILURES_MAX: usize = 5;

/// How long a failed call is remembered.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Sources that are remembered; one more makes the one that has been quiet for longest forgotten.
const SOURCES_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Failures {
    /// When each failed call, or one under way, began.
    by_source: BTreeMap<IpAddr, VecDeque<(Moment, u64)>>,
    next: u64,
}

/// A call under way.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a call that went well is forgiven only when that is said"]
pub struct Attempt {
    source: IpAddr,
    number: u64,
}

impl Failures {
    /// How long this source has to wait until it may call again; nothing if it may now.
    pub fn wait(&mut self, now: Moment, source: IpAddr) -> Option<Duration> {
        let source = network(source);
        let calls = self.by_source.get_mut(&source)?;
        calls.retain(|(at, _)| now.since(*at) < WINDOW);
        let wait = (calls.len() >= FAILURES_MAX)
            .then(|| calls.front().map(|(at, _)| WINDOW.saturating_sub(now.since(*at))));
        if calls.is_empty() {
            self.by_source.remove(&source);
        }
        wait.flatten()
    }

    /// A call of this source begins, or has to wait.
    pub fn begin(&mut self, now: Moment, source: IpAddr) -> Result<Attempt, Duration> {
        if let Some(wait) = self.wait(now, source) {
            return Err(wait);
        }
        let source = network(source);
        if !self.by_source.contains_key(&source) && self.by_source.len() >= SOURCES_MAX {
            self.forget(now);
        }
        let number = self.next;
        self.next += 1;
        self.by_source.entry(source).or_default().push_back((now, number));
        Ok(Attempt { source, number })
    }

    /// That call went well.
    pub fn succeeded(&mut self, attempt: Attempt) {
        let Attempt { source, number } = attempt;
        if let Some(calls) = self.by_source.get_mut(&source) {
            calls.retain(|(_, other)| *other != number);
            if calls.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }

    fn forget(&mut self, now: Moment) {
        let last = |calls: &VecDeque<(Moment, u64)>| calls.back().copied();
        self.by_source
            .retain(|_, calls| last(calls).is_some_and(|(at, _)| now.since(at) < WINDOW));
        if self.by_source.len() < SOURCES_MAX {
            return;
        }
        let quietest = self
            .by_source
            .iter()
            .min_by_key(|(_, calls)| last(calls).map(|(_, number)| number));
        if let Some(source) = quietest.map(|(source, _)| *source) {
            self.by_source.remove(&source);
        }
    }
}

/// Whoever has one address of IPv6 usually has the 64 bits behind it.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::from_millis(second * 1000)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn five_failures_in_a_minute_are_too_many_and_the_oldest_is_forgotten_first() {
        let (mut all, one) = (Failures::default(), ip("192.0.2.1"));
        for second in 0..5 {
            let _failed = all.begin(at(second * 10), one).unwrap();
        }
        assert_eq!(all.begin(at(45), one), Err(Duration::from_secs(15)));
        assert_eq!(all.wait(at(45), one), Some(Duration::from_secs(15)));
        let _failed = all.begin(at(45), ip("192.0.2.2")).unwrap();
        let _failed = all.begin(at(60), one).unwrap();
        assert_eq!(all.begin(at(60), one), Err(Duration::from_secs(10)));
        assert_eq!(all.wait(at(121), one), None);
        assert!(!all.by_source.contains_key(&one), "nothing is kept of the past");
    }

    #[test]
    fn calls_that_go_well_do_not_count_and_those_under_way_do() {
        let (mut all, one) = (Failures::default(), ip("192.0.2.1"));
        for _ in 0..100 {
            let attempt = all.begin(at(1), one).unwrap();
            all.succeeded(attempt);
        }
        assert!(all.by_source.is_empty());
        let mut under_way: Vec<Attempt> = (0..5).map(|_| all.begin(at(2), one).unwrap()).collect();
        assert!(all.begin(at(2), one).is_err(), "a sixth at once");
        all.succeeded(under_way.pop().unwrap());
        let _sixth = all.begin(at(2), one).unwrap();
        assert!(all.begin(at(2), one).is_err());
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let mut all = Failures::default();
        for host in 1..=5 {
            let _failed = all.begin(at(1), ip(&format!("2001:db8::{host}"))).unwrap();
        }
        assert!(all.begin(at(1), ip("2001:db8::dead:beef")).is_err());
        let _other = all.begin(at(1), ip("2001:db8:0:1::1")).unwrap();
        for _ in 0..5 {
            let _failed = all.begin(at(1), ip("::ffff:192.0.2.1")).unwrap();
        }
        assert!(all.begin(at(1), ip("192.0.2.1")).is_err());
    }

    #[test]
    fn no_more_sources_than_a_number_are_remembered() {
        let mut all = Failures::default();
        for source in 0..SOURCES_MAX as u32 + 100 {
            let _failed = all
                .begin(at(u64::from(source) / 100), IpAddr::from(source.to_be_bytes()))
                .unwrap();
            assert!(all.by_source.len() <= SOURCES_MAX);
        }
        assert!(
            !all.by_source.contains_key(&ip("0.0.0.1")),
            "the first is forgotten"
        );
        let last = (SOURCES_MAX as u32 + 99).to_be_bytes();
        assert!(all.by_source.contains_key(&IpAddr::from(last)));
    }
}
