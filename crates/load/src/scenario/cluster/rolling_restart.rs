//! Each member restarted in turn, as an upgrade does, while a client writes: what the client notices.
//!
//! The client sends a request to another member only when the first one did not look at it, as client libraries do. Everything else
//! that is no success is a failed request: the application would have to find out itself whether it was carried out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use terminal::note;

use crate::bench::Bench;
use crate::cluster::Cluster;
use crate::figure::{Bound, Figure, Goal, Unit};
use crate::scenario::Scenario;
use crate::system::System;
use crate::writer::{Outcome, Writer, longest_gap};

/// How long a request may take; long enough that a leader which hands over is not taken for dead.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// How long no write may succeed at most.
const GAP_MAX: Duration = Duration::from_mins(1);

/// Between the return of a member and the end of the next.
const CALM: Duration = Duration::from_millis(500);

const FAILED: &str = "failed";
const LONGEST_GAP: &str = "longest gap";

/// The scenario.
pub(super) struct RollingRestart {
    pub(super) nodes: usize,
    pub(super) passes: u32,
}

impl Scenario for RollingRestart {
    fn name(&self) -> String {
        "rolling-restart".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "{} nodes, each stopped by SIGTERM and started again, {} times round; one client writes and moves to the next member when \
             one does not take its request",
            self.nodes, self.passes
        )
    }

    fn goals(&self) -> Vec<Goal> {
        let at_most = |figure, bound| Goal {
            figure,
            bound: Bound::AtMost(bound),
        };
        vec![at_most(FAILED, 0.0), at_most(LONGEST_GAP, 500.0)]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let mut cluster = Cluster::start(bench, system, self.nodes)?;
        let writer = Writer::start(cluster.addresses(), REQUEST_MAX)?;
        let mut slowest_stop = Duration::ZERO;
        for _ in 0..self.passes {
            for member in 0..self.nodes {
                writer.success_since(Instant::now(), GAP_MAX)?;
                std::thread::sleep(CALM);
                slowest_stop = slowest_stop.max(cluster.stop(member)?);
                cluster.rejoin(member)?;
            }
        }
        writer.success_since(Instant::now(), GAP_MAX)?;
        let attempts = writer.finish()?;
        let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
        for attempt in &attempts {
            if let Outcome::Failed(reason) = &attempt.outcome {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        for (reason, times) in &reasons {
            note(&format!(
                "{}: {} failed {times} times: {reason}",
                self.name(),
                system.name()
            ));
        }
        let count = |name, outcome: &dyn Fn(&Outcome) -> bool| {
            let count = attempts
                .iter()
                .filter(|attempt| outcome(&attempt.outcome))
                .count();
            Figure::new(name, Unit::Count, count as f64)
        };
        Ok(vec![
            count(FAILED, &|outcome| matches!(outcome, Outcome::Failed(_))),
            Figure::new(
                LONGEST_GAP,
                Unit::Milliseconds,
                longest_gap(&attempts).as_secs_f64() * 1e3,
            ),
            count("moved", &|outcome| *outcome == Outcome::Moved),
            count("written", &|outcome| *outcome == Outcome::Written),
            Figure::new("slowest stop", Unit::Seconds, slowest_stop.as_secs_f64()),
        ])
    }
}
