//! [`Pace`]: how fast time runs. In tests and drills an hour lasts a minute, or less: every length of time is divided by the same number,
//! and nothing else changes, so the figures of the alerts stay what they are.
//!
//! Names keep the lengths that were meant: `error_ratio_rate1h` looks back one minute at pace 60.

use std::time::Duration;

use crate::span::Span;

/// Fastest that is taken: the shortest window, 5 minutes, then lasts a second and has to hold some samples.
const FASTEST: u64 = 300;

/// So many seconds in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(u64);

impl Pace {
    /// Time as it is.
    pub const REAL: Pace = Pace(1);

    /// Reads a number from 1 to 300.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Pace, String> {
        text.parse().ok().and_then(Pace::of).ok_or_else(|| {
            format!(
                "{text:?} is no whole number from 1 (time as it is) to {FASTEST} (an hour lasts 12 seconds)"
            )
        })
    }

    /// The pace at which so many seconds pass in one.
    pub fn of(times: u64) -> Option<Pace> {
        (1..=FASTEST).contains(&times).then_some(Pace(times))
    }

    /// How many seconds pass in one.
    pub fn times(self) -> u64 {
        self.0
    }

    /// Whether it is time as it is.
    pub fn is_real(self) -> bool {
        self == Pace::REAL
    }

    /// How long a span lasts, in milliseconds; at least one.
    pub fn ms(self, span: Span) -> u64 {
        (span.as_seconds() * 1000 / self.0).max(1)
    }

    /// The same.
    pub fn lasts(self, span: Span) -> Duration {
        Duration::from_millis(self.ms(span))
    }

    /// How long a span lasts, as Prometheus takes it: `5m`, and `5s` or `500ms` where time runs faster.
    pub fn text(self, span: Span) -> String {
        let ms = self.ms(span);
        if ms.is_multiple_of(1000) {
            Span::seconds(ms / 1000).to_string()
        } else {
            format!("{ms}ms")
        }
    }

    /// What so many milliseconds mean, in seconds.
    pub fn meant_seconds(self, ms: u64) -> f64 {
        ms as f64 * self.0 as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_divided() {
        let text = |times: u64, span: Span| Pace::of(times).unwrap().text(span);
        assert_eq!(text(1, Span::hours(6)), "6h");
        assert_eq!(text(60, Span::hours(6)), "6m");
        assert_eq!(text(60, Span::minutes(5)), "5s");
        assert_eq!(text(60, Span::seconds(30)), "500ms");
        assert_eq!(text(7, Span::minutes(1)), "8571ms");
        assert_eq!(Pace::of(60).unwrap().meant_seconds(500).to_string(), "30");
    }

    #[test]
    fn what_is_no_pace_is_refused() {
        for text in ["0", "301", "-1", "1.5", "fast", ""] {
            assert!(Pace::parse(text).unwrap_err().contains("from 1"), "{text}");
        }
        assert!(Pace::parse("1").unwrap().is_real());
    }
}
