//! Time, as an argument.
//!
//! Code that decides something over time takes a [`Clock`] (or a plain [`Moment`]), so that a test can drive it. Two
//! kinds of time exist and never mix: a [`Moment`] is monotonic, counts from the start of its clock and is only good
//! for differences; [`Clock::unix_ms`] is the wall clock, which may jump, and is only good for showing and storing.
//!
//! [`Stopwatch`] reads the system's monotonic clock directly. It is for measuring latencies that go to logs and
//! metrics, never for decisions.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the system's clocks"
)]

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock time (milliseconds since 1970) as it stands in names of files: `20260131T235959Z`.
pub fn utc_compact(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A point on a clock's monotonic time line: nanoseconds since that clock was made.
///
/// Moments of different clocks must not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment a clock was made.
    pub const ORIGIN: Self = Self(0);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the origin.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to here; zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates after 584 years.
    fn add(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A source of time.
pub trait Clock: Send + Sync + Debug {
    /// The monotonic time. Never goes back.
    fn now(&self) -> Moment;

    /// The wall clock in milliseconds since 1970-01-01 UTC. May jump in both directions.
    fn unix_ms(&self) -> u64;
}

/// Time that runs on while the machine sleeps, for deadlines that others count too.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Moment {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .expect("Linux has had this clock since 2.6.39");
        Moment(u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
    }

    fn unix_ms(&self) -> u64 {
        SystemClock::new().unix_ms()
    }
}

/// A clock handed around by value.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose origin is now.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The same, ready to hand around.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::ORIGIN + self.origin.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        // A machine set to before 1970 gives 0 rather than an error: nobody can act on it here.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}

/// A clock that stands still until told to move. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    hands: Arc<Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    monotonic_ns: AtomicU64,
    unix_ms: AtomicU64,
}

impl ManualClock {
    /// A clock at [`Moment::ORIGIN`] whose wall clock shows `unix_ms`.
    pub fn at(unix_ms: u64) -> Self {
        let clock = Self::default();
        clock.set_unix_ms(unix_ms);
        clock
    }

    /// Moves both the monotonic and the wall clock forward.
    pub fn advance(&self, by: Duration) {
        self.hands
            .monotonic_ns
            .fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
        self.hands
            .unix_ms
            .fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Makes the wall clock jump; the monotonic clock does not notice.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        self.hands.unix_ms.store(unix_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment(self.hands.monotonic_ns.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        self.hands.unix_ms.load(Ordering::SeqCst)
    }
}

/// Measures how long something took, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whole milliseconds since the start; below one it is 0.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed().as_millis() as u64
    }

    /// Seconds since the start, the unit of all duration metrics.
    pub fn elapsed_seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(1_000);
        let seen_elsewhere = clock.clone();
        let start = clock.now();
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(seen_elsewhere.now().since(start), Duration::from_millis(1_500));
        assert_eq!(seen_elsewhere.unix_ms(), 2_500);
        clock.set_unix_ms(10);
        assert_eq!(seen_elsewhere.now() - start, Duration::from_millis(1_500));
        assert_eq!(seen_elsewhere.unix_ms(), 10);
    }

    #[test]
    fn moments_do_not_underflow_or_overflow() {
        assert_eq!(
            Moment::from_millis(1).since(Moment::from_millis(5)),
            Duration::ZERO
        );
        assert_eq!(
            (Moment::from_nanos(u64::MAX) + Duration::from_secs(1)).nanos(),
            u64::MAX
        );
        let mut moment = Moment::ORIGIN;
        moment += Duration::from_millis(7);
        assert_eq!(moment.millis(), 7);
    }

    #[test]
    fn system_clock_goes_forward() {
        let clock = SystemClock::shared();
        let first = clock.now();
        let watch = Stopwatch::start();
        while clock.now() == first {
            std::hint::spin_loop();
        }
        assert!(watch.elapsed() > Duration::ZERO);
        // 2020-01-01: the machine running this has a set clock.
        assert!(clock.unix_ms() > 1_577_836_800_000);
    }
}
