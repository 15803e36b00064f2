//! What of a budget is spent, from counts over time: how much is left, where it went, and on which days.
//!
//! The period is cut into slices, oldest first. Where there is less history than the period, it is computed over what there is, and said:
//! what is left is then what would be left if the rest of the period were like it.

mod chart;

use std::collections::BTreeMap;

use crate::decimal::Decimal;
use crate::span::Span;

pub(crate) use chart::escape;
pub use chart::{plot, svg};

/// A piece of the period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// Its beginning, in seconds since 1970.
    pub from: u64,
    /// Its end, in seconds since 1970.
    pub until: u64,
    /// Events in it.
    pub total: f64,
    /// Those that failed.
    pub bad: f64,
}

/// A budget and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The share of events that may fail.
    pub budget: Decimal,
    /// The period that was asked for.
    pub window: Span,
    /// How long a slice is.
    pub step: Span,
    /// Those in which there were events, the oldest first.
    pub slices: Vec<Slice>,
    /// The end of the period, in seconds since 1970.
    pub at: u64,
}

/// What a day, or any other piece, has cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// Its beginning, in seconds since 1970.
    pub from: u64,
    /// Events.
    pub total: f64,
    /// Those that failed.
    pub bad: f64,
    /// The share of the period's budget that they took.
    pub share: f64,
}

const DAY: u64 = 24 * 3600;

/// Longest period that is cut into hours: a thousand of them are enough for any picture.
const HOURLY_MAX: u64 = 41 * DAY;

impl Budget {
    /// How long slices of a period are: an hour, and longer ones for long periods, shorter ones for short ones.
    pub fn step(window: Span) -> Span {
        let seconds = window.as_seconds();
        if seconds <= DAY {
            Span::seconds((seconds / 96).max(60))
        } else if seconds <= HOURLY_MAX {
            Span::hours(1)
        } else {
            Span::days(1)
        }
    }

    /// All events.
    pub fn total(&self) -> f64 {
        self.slices.iter().map(|slice| slice.total).sum()
    }

    /// All that failed.
    pub fn bad(&self) -> f64 {
        self.slices.iter().map(|slice| slice.bad).sum()
    }

    /// The share of good events; `None` without events.
    pub fn sli(&self) -> Option<f64> {
        let total = self.total();
        (total > 0.0).then(|| 1.0 - self.bad() / total)
    }

    /// The share of the budget that is left; below 0 it is overspent. `None` without events.
    pub fn left(&self) -> Option<f64> {
        self.sli().map(|sli| 1.0 - (1.0 - sli) / self.budget.value())
    }

    /// Seconds of total outage that are left.
    pub fn left_seconds(&self) -> Option<f64> {
        self.left()
            .map(|left| left * crate::burn::budget_seconds(self.budget, self.window))
    }

    /// Seconds of the period that there are measurements of.
    pub fn covered_seconds(&self) -> u64 {
        self.slices.first().map_or(0, |first| {
            self.at.saturating_sub(first.from).min(self.window.as_seconds())
        })
    }

    /// `12d of 30d` if there is less history than the period.
    pub fn partly(&self) -> Option<String> {
        let (covered, window) = (self.covered_seconds(), self.window.as_seconds());
        // The slice in which it began may hold no events.
        if covered == 0 || covered + 2 * self.step.as_seconds() >= window {
            return None;
        }
        let covered = if covered >= DAY {
            format!("{}d", covered / DAY)
        } else {
            crate::span::spoken(covered as f64)
        };
        Some(format!("{covered} of {}", self.window))
    }

    /// The share of the budget that was left at the end of each slice.
    pub fn course(&self) -> Vec<(u64, f64)> {
        let allowed = self.total() * self.budget.value();
        let mut left = 1.0;
        let slices = self.slices.iter().map(|slice| {
            left -= slice.bad / allowed;
            (slice.until, left)
        });
        slices.collect()
    }

    /// What each day (UTC) has cost, the oldest first.
    pub fn days(&self) -> Vec<Spent> {
        let mut days: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for slice in &self.slices {
            let day = slice.from / DAY * DAY;
            let sums = days.entry(day).or_default();
            sums.0 += slice.total;
            sums.1 += slice.bad;
        }
        days.into_iter()
            .map(|(from, (total, bad))| self.spent(from, total, bad))
            .collect()
    }

    /// The slices that have cost most, the worst first.
    pub fn worst(&self, count: usize) -> Vec<Spent> {
        let mut slices: Vec<&Slice> = self.slices.iter().filter(|slice| slice.bad > 0.0).collect();
        slices.sort_by(|a, b| b.bad.total_cmp(&a.bad).then(a.until.cmp(&b.until)));
        let worst = slices.into_iter().take(count);
        worst
            .map(|slice| self.spent(slice.from, slice.total, slice.bad))
            .collect()
    }

    fn spent(&self, from: u64, total: f64, bad: f64) -> Spent {
        let allowed = self.total() * self.budget.value();
        Spent {
            from,
            total,
            bad,
            share: if allowed > 0.0 { bad / allowed } else { 0.0 },
        }
    }
}

/// A moment for people: `2026-01-31 12:00`.
pub fn minute(seconds: u64) -> String {
    written(seconds, "%Y-%m-%d %H:%M")
}

/// A day: `2026-01-31`.
pub fn day(seconds: u64) -> String {
    written(seconds, "%Y-%m-%d")
}

fn written(seconds: u64, form: &str) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "?".to_owned(), |time| time.strftime(form).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days with 1000 events an hour, of which so many fail in the hour before noon.
    fn budget(bad: &[f64]) -> Budget {
        let hours = bad.len() as u64 * 24;
        let start = 20_000 * DAY;
        let slices = (1..=hours).map(|hour| Slice {
            from: start + (hour - 1) * 3600,
            until: start + hour * 3600,
            total: 1000.0,
            bad: if hour % 24 == 12 {
                bad[(hour / 24) as usize]
            } else {
                0.0
            },
        });
        Budget {
            budget: Decimal::parse("0.005").unwrap(),
            window: Span::days(30),
            step: Span::hours(1),
            slices: slices.collect(),
            at: start + hours * 3600,
        }
    }

    #[test]
    fn what_is_left_follows_from_the_counts() {
        let budget = budget(&[0.0, 60.0, 120.0, 0.0]);
        // 96,000 events may have 480 failures; there were 180.
        assert_eq!(
            budget.left().map(|left| crate::decimal::short(left, 6)),
            Some("0.625".to_owned())
        );
        assert_eq!(
            budget.left_seconds().map(crate::span::spoken),
            Some("2h 15m".to_owned())
        );
        assert_eq!(budget.partly(), Some("4d of 30d".to_owned()));
        let days: Vec<f64> = budget.days().iter().map(|day| day.share).collect();
        assert_eq!(days, [0.0, 0.125, 0.25, 0.0]);
        let worst = budget.worst(5);
        assert_eq!(worst.len(), 2, "hours without errors cost nothing");
        assert_eq!(
            (minute(worst[0].from), worst[0].bad),
            ("2024-10-06 11:00".to_owned(), 120.0)
        );
        let last = budget.course().last().copied().unwrap();
        assert_eq!(
            (last.0, crate::decimal::short(last.1, 6)),
            (budget.at, "0.625".to_owned())
        );
    }

    #[test]
    fn without_events_nothing_is_said() {
        let budget = budget(&[]);
        assert_eq!((budget.sli(), budget.left(), budget.partly()), (None, None, None));
        assert!(budget.course().is_empty() && budget.days().is_empty());
    }

    #[test]
    fn a_whole_period_is_not_partly() {
        let full = budget(&[0.0; 30]);
        assert_eq!((full.partly(), full.left()), (None, Some(1.0)));
        assert!(budget(&[1000.0]).left().unwrap() < 0.0);
    }

    #[test]
    fn charts_have_every_budget_in_them() {
        let budget = budget(&[0.0, 60.0, 600.0, 0.0]);
        let drawn = plot(&budget, 40);
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(
            lines[0].contains("100 %") && lines.iter().any(|line| line.contains("  0 %")),
            "{drawn}"
        );
        assert!(
            drawn.contains("2024-10-04") && drawn.contains("2024-10-08"),
            "{drawn}"
        );
        let svg = svg(&[("A <b> & c".to_owned(), budget)]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(
            svg.contains("A &lt;b&gt; &amp; c") && svg.contains("<path d=\"M"),
            "{svg}"
        );
    }
}
