//! What a node counts for `/metrics`: what it did itself and nothing else remembers. Values that the replicated state or the newest probe
//! has are not kept a second time.
//!
//! Counts go on over the runs of a daemon and begin anew with it. What is counted by check or alert goes when the check or alert goes,
//! and detail is kept for a bounded number of checks, so a node with very many of them has a page that can still be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use probe::Phases;

use super::wire::Found;
use crate::document::{CheckKind, Document};

/// Upper bounds of probes, seconds.
const PROBE_SECONDS: &[f64] = &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Upper bounds of how late a probe begins, seconds.
const DELAY_SECONDS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0];
/// Upper bounds from a change to its message, seconds: from at once to a day of retries.
const DELIVERY_SECONDS: &[f64] = &[0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3600.0];
/// Checks whose times are kept, by phase: each takes up to fifty lines of the page.
const CHECKS_MAX: usize = 1000;

/// Numbers of observations below bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Not added up; the last is for what is above all bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    fn observe(&mut self, seconds: f64) {
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[place] += 1;
        self.sum += seconds;
    }

    /// Upper bounds and how many observations were at most that; the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |below, count| {
            *below += count;
            Some(*below)
        }))
    }

    /// The sum of all observations, seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Counts {
    inner: Mutex<Counted>,
}

/// What was counted up to a moment.
#[derive(Debug, Clone)]
pub struct Counted {
    /// How often the master changed, as seen here.
    pub master_changes: u64,
    /// Probes of this node, by type and what they found.
    pub probes: BTreeMap<(CheckKind, &'static str), u64>,
    /// How late probes began.
    pub queue_delay: Histogram,
    /// Where the time of probes went, by check (its id) and phase.
    pub phases: BTreeMap<String, BTreeMap<&'static str, Histogram>>,
    /// Attempts of this node to tell somebody, by alert (its id) and how they ended.
    pub deliveries: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// From a change to its message, by alert (its id).
    pub delivery_seconds: BTreeMap<String, Histogram>,
}

impl Default for Counted {
    fn default() -> Counted {
        Counted {
            master_changes: 0,
            probes: BTreeMap::new(),
            queue_delay: Histogram::new(DELAY_SECONDS),
            phases: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            delivery_seconds: BTreeMap::new(),
        }
    }
}

impl Counts {
    /// There is another master.
    pub fn master_changed(&self) {
        self.inner.lock().master_changes += 1;
    }

    /// A probe begins so much later than it was due.
    pub fn probe_begins(&self, late: Duration) {
        self.inner.lock().queue_delay.observe(late.as_secs_f64());
    }

    /// A probe has ended.
    pub fn probe_ended(&self, check: &str, kind: CheckKind, found: Found, phases: &Phases) {
        let mut counted = self.inner.lock();
        *counted.probes.entry((kind, found.name())).or_default() += 1;
        if !counted.phases.contains_key(check) && counted.phases.len() >= CHECKS_MAX {
            return;
        }
        let known = counted.phases.entry(check.to_owned()).or_default();
        let times = [
            ("resolve", phases.resolve),
            ("connect", phases.connect),
            ("tls", phases.tls),
            ("first_byte", phases.first_byte),
            ("transfer", phases.transfer),
        ];
        for (phase, time) in times {
            if let Some(time) = time {
                let histogram = known
                    .entry(phase)
                    .or_insert_with(|| Histogram::new(PROBE_SECONDS));
                histogram.observe(time.as_secs_f64());
            }
        }
    }

    /// An attempt to tell somebody has ended; if it went well, so long after what is told.
    pub fn attempted(&self, alert: &str, taken_after: Option<Duration>) {
        let mut counted = self.inner.lock();
        let result = if taken_after.is_some() { "sent" } else { "failed" };
        let by_result = counted.deliveries.entry(alert.to_owned()).or_default();
        *by_result.entry(result).or_default() += 1;
        if let Some(after) = taken_after {
            let times = counted.delivery_seconds.entry(alert.to_owned());
            let times = times.or_insert_with(|| Histogram::new(DELIVERY_SECONDS));
            times.observe(after.as_secs_f64());
        }
    }

    /// Forgets what is counted for checks and alerts that are not there any more.
    pub fn follow(&self, document: &Document) {
        let checks: BTreeSet<&str> = document.checks.iter().map(|check| check.id.as_str()).collect();
        let alerts: BTreeSet<&str> = document.alerts.iter().map(|alert| alert.id.as_str()).collect();
        let mut counted = self.inner.lock();
        counted.phases.retain(|check, _| checks.contains(check.as_str()));
        counted
            .deliveries
            .retain(|alert, _| alerts.contains(alert.as_str()));
        counted
            .delivery_seconds
            .retain(|alert, _| alerts.contains(alert.as_str()));
    }

    /// All of it, as of now.
    pub fn counted(&self) -> Counted {
        self.inner.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Check;

    #[test]
    fn an_observation_counts_in_every_bucket_that_is_not_below_it() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for seconds in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(seconds);
        }
        let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
        assert_eq!(buckets, [(0.1, 2), (1.0, 3), (f64::INFINITY, 4)]);
        assert!((histogram.sum() - 7.65).abs() < 1e-9);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_very_many_checks_are_bounded() {
        let counts = Counts::default();
        let phases = Phases {
            connect: Some(Duration::from_millis(20)),
            ..Phases::default()
        };
        let ended = |check: &str| counts.probe_ended(check, CheckKind::Tcp, Found::Up, &phases);
        for number in 0..CHECKS_MAX + 5 {
            ended(&format!("c{number}"));
        }
        counts.attempted("a", Some(Duration::from_millis(200)));
        counts.attempted("a", None);
        counts.attempted("b", None);
        let counted = counts.counted();
        assert_eq!(counted.phases.len(), CHECKS_MAX);
        assert_eq!(counted.probes[&(CheckKind::Tcp, "up")], CHECKS_MAX as u64 + 5);
        assert_eq!(
            counted.deliveries["a"],
            BTreeMap::from([("failed", 1), ("sent", 1)])
        );
        let kept = Check {
            id: "c3".to_owned(),
            ..Check::new("kept", CheckKind::Tcp, "h:1")
        };
        counts.follow(&Document {
            checks: vec![kept],
            ..Document::default()
        });
        let counted = counts.counted();
        assert_eq!(counted.phases.keys().collect::<Vec<_>>(), ["c3"]);
        assert!(counted.deliveries.is_empty() && counted.delivery_seconds.is_empty());
        // There is room again.
        ended("new");
        assert_eq!(counts.counted().phases.len(), 2);
    }
}
