//! The arithmetic of burn rates. Everything is computed from the formula, so other windows and targets give other figures.
//!
//! The budget *b* is what the target leaves for errors: `1 - target`. At burn rate *B* the error ratio is `B·b`, and the budget of the
//! period *T* is gone after `T / B`. Looking back over *w*, burn rate *B* has spent the share `B·w/T` of the period's budget; so an alert
//! that means "the share *s* was spent within *w*" has the factor `B = s·T/w`.
//!
//! An alert fires while the error ratio is above `B·b` over two windows: the long one proves that it matters, the short one (a twelfth)
//! that it is still going on.

use crate::decimal::Decimal;
use crate::span::Span;

/// The short window is this part of the long one.
pub const SHORT_PART: u64 = 12;

/// How much of the budget, within how long, is worth an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// Per cent of the period's budget.
    pub percent: u64,
    /// Within this time: the long window.
    pub within: Span,
}

/// A page: 2 % of the budget within an hour.
pub const FAST: Spend = Spend {
    percent: 2,
    within: Span::hours(1),
};

/// A ticket: 5 % within six hours.
pub const SLOW: Spend = Spend {
    percent: 5,
    within: Span::hours(6),
};

/// A ticket about what neither of the others sees: 10 % within three days.
pub const CREEPING: Spend = Spend {
    percent: 10,
    within: Span::days(3),
};

impl Spend {
    /// The factor over a period: `s·T/w`.
    pub fn factor(self, period: Span) -> Decimal {
        Decimal::ratio(self.percent * period.as_seconds(), 100 * self.within.as_seconds())
    }
}

/// When an alert fires: above a burn rate, over both of two windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The burn rate that has to be exceeded.
    pub factor: Decimal,
    /// The long window.
    pub long: Span,
    /// The short window.
    pub short: Span,
}

impl Condition {
    /// The condition of a spend over a period.
    pub fn of(spend: Spend, period: Span) -> Condition {
        Condition {
            factor: spend.factor(period),
            long: spend.within,
            short: short_window(spend.within),
        }
    }

    /// The error ratio that has to be exceeded: `B·b`.
    pub fn threshold(&self, budget: Decimal) -> Decimal {
        self.factor.times(budget)
    }

    /// Whether it can fire at all: no error ratio is above one.
    pub fn can_fire(&self, budget: Decimal) -> bool {
        self.threshold(budget) < Decimal::ONE
    }

    /// Seconds from the start of errors with this ratio until it fires, `B·b·w/e`, after long enough without errors. `None` if it never
    /// does. Prometheus adds the wait for its next evaluation.
    pub fn detect_seconds(&self, budget: Decimal, error_ratio: f64) -> Option<f64> {
        let part = self.threshold(budget).value() / error_ratio;
        (part < 1.0).then(|| part * self.long.as_seconds().max(self.short.as_seconds()) as f64)
    }

    /// Seconds from the end of all errors until it is quiet again: `short·(1 - B·b/e)`. `None` if errors of this ratio do not make it fire.
    pub fn clear_seconds(&self, budget: Decimal, error_ratio: f64) -> Option<f64> {
        let part = self.threshold(budget).value() / error_ratio;
        (part < 1.0).then(|| (1.0 - part) * self.short.as_seconds() as f64)
    }

    /// Whether an outage of this length and error ratio, after long enough without errors, makes it fire.
    pub fn fires_on(&self, budget: Decimal, error_ratio: f64, outage_seconds: f64) -> bool {
        self.detect_seconds(budget, error_ratio)
            .is_some_and(|seconds| seconds < outage_seconds)
    }

    /// Seconds until the budget of a period is gone, at exactly this burn rate.
    pub fn exhausted_seconds(&self, period: Span) -> f64 {
        period.as_seconds() as f64 / self.factor.value()
    }
}

/// The short window that belongs to a long one; at least a minute, below which a rate has too few samples.
pub fn short_window(long: Span) -> Span {
    Span::seconds((long.as_seconds() / SHORT_PART).max(60))
}

/// Seconds of total outage that a period's budget allows.
pub fn budget_seconds(budget: Decimal, period: Span) -> f64 {
    budget.value() * period.as_seconds() as f64
}

/// The share of a period's budget that errors with this ratio spend in so many seconds, at constant traffic.
pub fn spent(budget: Decimal, period: Span, error_ratio: f64, seconds: f64) -> f64 {
    error_ratio * seconds / budget_seconds(budget, period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::spoken;

    const MONTH: Span = Span::days(30);

    fn budget(target: &str) -> Decimal {
        Decimal::parse(target).unwrap().complement()
    }

    #[test]
    fn factors_follow_the_period() {
        for (days, fast, slow, creeping) in [
            (30, "14.4", "6", "1"),
            (28, "13.44", "5.6", "0.933333"),
            (7, "3.36", "1.4", "0.233333"),
            (90, "43.2", "18", "3"),
        ] {
            let period = Span::days(days);
            assert_eq!(FAST.factor(period).to_string(), fast);
            assert_eq!(SLOW.factor(period).to_string(), slow);
            assert_eq!(CREEPING.factor(period).to_string(), creeping);
        }
    }

    #[test]
    fn windows_are_twelve_to_one() {
        let (fast, slow) = (Condition::of(FAST, MONTH), Condition::of(SLOW, MONTH));
        assert_eq!((fast.long, fast.short), (Span::hours(1), Span::minutes(5)));
        assert_eq!((slow.long, slow.short), (Span::hours(6), Span::minutes(30)));
        assert_eq!(short_window(Span::days(3)), Span::hours(6));
        assert_eq!(short_window(Span::minutes(5)), Span::minutes(1));
    }

    #[test]
    fn the_table_of_the_two_targets() {
        for (target, thresholds, row) in [
            (
                "0.995",
                ["0.072", "0.03"],
                ["3h 36m", "4m 19s", "4m 38s", "10m 48s", "29m 6s"],
            ),
            (
                "0.99",
                ["0.144", "0.06"],
                ["7h 12m", "8m 38s", "4m 17s", "21m 36s", "28m 12s"],
            ),
        ] {
            let budget = budget(target);
            let (fast, slow) = (Condition::of(FAST, MONTH), Condition::of(SLOW, MONTH));
            let thresholds_now = [fast, slow].map(|condition| condition.threshold(budget).to_string());
            assert_eq!(thresholds_now, thresholds);
            let now = [
                budget_seconds(budget, MONTH),
                fast.detect_seconds(budget, 1.0).unwrap(),
                fast.clear_seconds(budget, 1.0).unwrap(),
                slow.detect_seconds(budget, 1.0).unwrap(),
                slow.clear_seconds(budget, 1.0).unwrap(),
            ];
            assert_eq!(now.map(spoken), row);
            assert_eq!(spoken(fast.exhausted_seconds(MONTH)), "50h");
            assert_eq!(spoken(slow.exhausted_seconds(MONTH)), "120h");
        }
    }

    #[test]
    fn a_minute_of_outage_pages_nobody() {
        let budget = budget("0.995");
        for spend in [FAST, SLOW] {
            assert!(!Condition::of(spend, MONTH).fires_on(budget, 1.0, 60.0));
        }
        let spent = spent(budget, MONTH, 1.0, 60.0);
        assert_eq!(crate::decimal::short(spent * 100.0, 2), "0.46");
        assert!(Condition::of(FAST, MONTH).fires_on(budget, 1.0, 4.4 * 60.0));
    }

    #[test]
    fn errors_below_the_threshold_never_fire_and_targets_can_be_too_low() {
        let fast = Condition::of(FAST, MONTH);
        assert_eq!(fast.detect_seconds(budget("0.995"), 0.072), None);
        assert!(fast.detect_seconds(budget("0.995"), 0.073).is_some());
        assert!(fast.can_fire(budget("0.94")) && !fast.can_fire(budget("0.93")));
    }
}
