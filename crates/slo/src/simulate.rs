//! An outage played against the alerts: when each fires, when it is quiet again, and what of the budget is gone.
//!
//! Events are counted, scraped and evaluated as Prometheus does it, sample by sample: `rate` with its extrapolation ([`rate`]), rules at
//! their interval, alerts on what the recording rules of the same moment say. So the answer is that of `promtool test rules` on the same
//! samples, not that of the formula, which knows neither scrapes nor intervals; a test holds the two together.
//!
//! Traffic is constant. What is played begins with time without errors, as long as the longest window unless told otherwise: a service
//! that is younger than its windows burns its budget sooner in the eyes of its alerts.

mod rate;

use crate::burn::Condition;
use crate::decimal::Decimal;
use crate::span::Span;

pub use rate::rate;

/// Errors of one kind, for a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// How long.
    pub seconds: u64,
    /// The share of events that fail, 0 to 1.
    pub error_ratio: f64,
}

impl Stretch {
    /// Reads `60s@100%`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Stretch, String> {
        let wrong = || format!("{text:?} is no outage; write how long and how much fails: 60s@100%");
        let (length, share) = text.split_once('@').ok_or_else(wrong)?;
        let seconds = Span::parse(length)
            .filter(|parsed| !parsed.is_calendar)
            .ok_or_else(wrong)?
            .span
            .as_seconds();
        let percent = share
            .strip_suffix('%')
            .and_then(Decimal::parse)
            .ok_or_else(wrong)?
            .value();
        if percent > 100.0 {
            return Err(format!("{share} of events cannot fail; at most 100% can"));
        }
        if seconds > SECONDS_MAX {
            return Err(format!(
                "{length} is too long; at most {} is simulated",
                Span::seconds(SECONDS_MAX)
            ));
        }
        Ok(Stretch {
            seconds,
            error_ratio: percent / 100.0,
        })
    }
}

/// Longest outage that is simulated.
pub const SECONDS_MAX: u64 = 90 * 24 * 3600;

/// How the service is observed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Events in a second.
    pub events_per_second: f64,
    /// Seconds between samples.
    pub scrape: u64,
    /// Seconds between evaluations of rules.
    pub evaluate: u64,
    /// Seconds without errors before the first outage, during which samples were taken.
    pub before: u64,
}

/// What is counted at each sample: all events and bad ones, since the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Seconds between them; the first is at 0.
    pub scrape: u64,
    /// All events.
    pub total: Vec<f64>,
    /// Bad events.
    pub bad: Vec<f64>,
}

impl Samples {
    /// What is counted while a service goes through these stretches, and `after` seconds without errors.
    pub fn of(setting: Setting, stretches: &[Stretch], after: u64) -> Samples {
        let outage: u64 = stretches.iter().map(|stretch| stretch.seconds).sum();
        let count = (setting.before + outage + after) / setting.scrape + 1;
        let moments = (0..count).map(|number| number * setting.scrape);
        let (total, bad) = moments
            .map(|now| {
                let total = now as f64 * setting.events_per_second;
                (
                    total,
                    bad_seconds(setting.before, stretches, now) * setting.events_per_second,
                )
            })
            .unzip();
        Samples {
            scrape: setting.scrape,
            total,
            bad,
        }
    }

    /// The ratio of the rates of both over a window that ends now. `None` without traffic, or if there are too few samples.
    pub fn error_ratio(&self, now: u64, window: Span) -> Option<f64> {
        let total = rate(&self.total, self.scrape, now, window).filter(|total| *total > 0.0)?;
        Some(rate(&self.bad, self.scrape, now, window).unwrap_or(0.0) / total)
    }
}

/// Seconds of total outage up to a moment.
fn bad_seconds(before: u64, stretches: &[Stretch], now: u64) -> f64 {
    let mut start = before;
    let mut bad = 0.0;
    for stretch in stretches {
        let end = start + stretch.seconds;
        bad += now.clamp(start, end).saturating_sub(start) as f64 * stretch.error_ratio;
        start = end;
    }
    bad
}

/// Whether an alert fires now. The same comparison as the generated expression.
pub fn fires(samples: &Samples, condition: &Condition, budget: Decimal, now: u64) -> bool {
    // As Prometheus multiplies: both as floating point.
    let threshold = shown(condition.factor) * shown(budget);
    [condition.long, condition.short].iter().all(|window| {
        samples
            .error_ratio(now, *window)
            .is_some_and(|ratio| ratio > threshold)
    })
}

/// The number as it stands in the rule.
fn shown(number: Decimal) -> f64 {
    number.to_string().parse().expect("a printed decimal is a number")
}

/// A time during which an alert fires: its first moment, and the first at which it does not fire any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    /// In seconds since the beginning of the first stretch; may be before it only if history is too short.
    pub from: i64,
    /// `None` if it still fires when nothing is played any more.
    pub until: Option<i64>,
}

/// When an alert fires during stretches of errors and afterwards, until everything has left its windows.
pub fn firings(
    setting: Setting,
    stretches: &[Stretch],
    condition: &Condition,
    budget: Decimal,
) -> Vec<Firing> {
    let after = condition.long.as_seconds().max(condition.short.as_seconds()) + 2 * setting.evaluate;
    let samples = Samples::of(setting, stretches, after);
    let end = samples.total.len() as u64 * setting.scrape;
    let mut found: Vec<Firing> = Vec::new();
    let mut was_firing = false;
    for now in (0..end).step_by(usize::try_from(setting.evaluate).unwrap_or(usize::MAX)) {
        let is_firing = fires(&samples, condition, budget, now);
        let since = now as i64 - setting.before as i64;
        if is_firing && !was_firing {
            found.push(Firing {
                from: since,
                until: None,
            });
        } else if was_firing
            && !is_firing
            && let Some(last) = found.last_mut()
        {
            last.until = Some(since);
        }
        was_firing = is_firing;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burn::{FAST, SLOW};

    const MONTH: Span = Span::days(30);
    const USUAL: Setting = Setting {
        events_per_second: 50.0,
        scrape: 15,
        evaluate: 30,
        before: 6 * 3600,
    };

    fn play(target: &str, spend: crate::burn::Spend, outage: &str) -> Vec<Firing> {
        let budget = Decimal::parse(target).unwrap().complement();
        firings(
            USUAL,
            &[Stretch::parse(outage).unwrap()],
            &Condition::of(spend, MONTH),
            budget,
        )
    }

    #[test]
    fn outages_are_read() {
        let stretch = Stretch::parse("5m@12.5%").unwrap();
        assert_eq!(
            stretch,
            Stretch {
                seconds: 300,
                error_ratio: 0.125
            }
        );
        for text in [
            "60s", "@5%", "60s@", "60s@100", "60s@-1%", "1M@1%", "60@1%", "60s@101%", "91d@1%",
        ] {
            assert!(Stretch::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_outage_is_found_and_left_one_evaluation_after_the_formula() {
        // By the formula: found after 259 s and 648 s, quiet 278 s and 1746 s after the end.
        assert_eq!(
            play("0.995", FAST, "15m@100%"),
            [Firing {
                from: 270,
                until: Some(900 + 300)
            }]
        );
        assert_eq!(
            play("0.995", SLOW, "15m@100%"),
            [Firing {
                from: 660,
                until: Some(900 + 1770)
            }]
        );
        assert_eq!(
            play("0.99", FAST, "15m@100%"),
            [Firing {
                from: 540,
                until: Some(900 + 270)
            }]
        );
    }

    #[test]
    fn a_minute_of_outage_and_few_errors_are_silent() {
        for spend in [FAST, SLOW] {
            assert_eq!(play("0.995", spend, "60s@100%"), []);
            assert_eq!(play("0.995", spend, "1d@2.9%"), []);
        }
        assert_eq!(play("0.995", FAST, "1d@7%"), []);
        assert_eq!(play("0.995", SLOW, "1d@7%").len(), 1);
    }

    #[test]
    fn a_young_series_fires_sooner() {
        let young = Setting { before: 600, ..USUAL };
        let budget = Decimal::parse("0.995").unwrap().complement();
        let found = firings(
            young,
            &[Stretch::parse("60s@100%").unwrap()],
            &Condition::of(FAST, MONTH),
            budget,
        );
        assert_eq!(found.first().map(|firing| firing.from), Some(60));
    }
}
