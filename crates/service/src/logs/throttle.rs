//! At most one line per interval, for call sites that could flood the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;

/// Lets one event through per interval and counts the others. Each call site owns its instance.
///
/// ```
/// # use service::{clock::{Clock, ManualClock}, logs::Throttle};
/// # use std::time::Duration;
/// # let clock = ManualClock::default();
/// let committed = Throttle::new(Duration::from_secs(1));
/// if committed.permit(clock.now()) {
///     let held_back = committed.held_back_field();
///     tracing::info!(target: "chainfire_storage", index = 12345, held_back, "Committed entry");
/// }
/// ```
#[derive(Debug)]
pub struct Throttle {
    interval_ns: u64,
    /// Nanoseconds of the clock before which nothing passes.
    closed_until_ns: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    /// At most one per `interval`; the first passes at once.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval_ns: interval.as_nanos() as u64,
            closed_until_ns: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }
    }

    /// Whether an event at `now` may be shown. Of several threads asking at once, one gets through.
    pub fn permit(&self, now: Moment) -> bool {
        let closed_until = self.closed_until_ns.load(Ordering::Relaxed);
        let passes = now.nanos() >= closed_until
            && self
                .closed_until_ns
                .compare_exchange(
                    closed_until,
                    now.nanos().saturating_add(self.interval_ns),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if !passes {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// How many events were held back since this was asked last.
    pub fn take_held_back(&self) -> u64 {
        self.held_back.swap(0, Ordering::Relaxed)
    }

    /// The same for a line's last field, `held_back`, which is not there when none were.
    pub fn held_back_field(&self) -> Option<u64> {
        Some(self.take_held_back()).filter(|held_back| *held_back > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_interval() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let passed: Vec<u64> = (0..3_500)
            .step_by(100)
            .filter(|ms| throttle.permit(Moment::from_millis(*ms)))
            .collect();
        assert_eq!(passed, [0, 1_000, 2_000, 3_000]);
        assert_eq!(throttle.held_back_field(), Some(31));
        assert_eq!((throttle.take_held_back(), throttle.held_back_field()), (0, None));
    }

    #[test]
    fn threads_asking_at_once_get_one_line() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        passed.fetch_add(
                            u64::from(throttle.permit(Moment::from_millis(5))),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1);
    }
}
