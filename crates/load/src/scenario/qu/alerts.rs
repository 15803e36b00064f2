//! Three nodes and targets that fail at any moment: from the failure to the message in the sink, and from the decision to the message.
//!
//! All targets of a round fail within one interval, each at a moment of its own, and are well again before the next round.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::quantile;
use crate::bench::Bench;
use crate::closed_loop::{latencies, record};
use crate::data::Chance;
use crate::figure::{Bound, Figure, Goal};
use crate::qu::Nodes;
use crate::scenario::{P50, P99, Scenario};
use crate::system::System;
use crate::uptime::Uptime;

const NODES: usize = 3;
const HAND_OVER_P50: &str = "hand-over p50";
const HAND_OVER_P99: &str = "hand-over p99";
/// How long a message may take at all.
const TOLD_MAX: Duration = Duration::from_mins(2);
/// From the decision to the channel.
const HAND_OVER_GOAL_MS: f64 = 1000.0;

/// The scenario.
pub(super) struct Alerts {
    targets: usize,
    rounds: usize,
    interval: Duration,
}

impl Alerts {
    pub(super) fn new(quick: bool) -> Self {
        Self {
            targets: if quick { 5 } else { 25 },
            rounds: if quick { 1 } else { 4 },
            interval: Duration::from_secs(if quick { 1 } else { 5 }),
        }
    }
}

fn name(target: usize) -> String {
    format!("target{target}")
}

impl Scenario for Alerts {
    fn name(&self) -> String {
        "alert-latency".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "{NODES} nodes, {} checks every {} s; each target fails {} times: until the webhook has come, and of that from the decision on",
            self.targets,
            self.interval.as_secs(),
            self.rounds
        )
    }

    fn goals(&self) -> Vec<Goal> {
        // Two rounds, and a second for everything else.
        let bound = (self.interval * 2 + Duration::from_secs(1)).as_secs_f64() * 1000.0;
        let goal = |figure, bound| Goal {
            figure,
            bound: Bound::AtMost(bound),
        };
        vec![goal(P99, bound), goal(HAND_OVER_P99, HAND_OVER_GOAL_MS)]
    }

    fn takes(&self, system: System) -> bool {
        system == System::Qu
    }

    fn run(&self, bench: &Bench, _system: System) -> Result<Vec<Figure>> {
        let uptime = Uptime::start()?;
        let nodes = Nodes::start(bench, NODES, None)?;
        let interval = format!("{}s", self.interval.as_secs());
        nodes.run(
            0,
            &[
                "alert",
                "add",
                "webhook",
                "sink",
                "--url",
                &uptime.sink(),
                "--default",
            ],
        )?;
        for target in 0..self.targets {
            let page = uptime.page(target);
            nodes.run(
                0,
                &[
                    "check",
                    "add",
                    "http",
                    &name(target),
                    &page,
                    "--interval",
                    &interval,
                ],
            )?;
        }
        let (mut told, mut handed_over) = (latencies(), latencies());
        let mut chance = Chance::new(0);
        for _ in 0..self.rounds {
            nodes.until(0, "all targets to be up", |status| {
                let up = |check: &crate::qu::Check| check.status == "up" && check.total == NODES;
                status.checks.len() == self.targets && status.checks.iter().all(up)
            })?;
            let mut failed = Vec::new();
            for target in 0..self.targets {
                let part = chance.below(1_000) as f64 / 1_000.0;
                std::thread::sleep(self.interval.mul_f64(2.0 * part / self.targets as f64));
                uptime.fail(target);
                failed.push(Instant::now());
            }
            for (target, failed) in failed.into_iter().enumerate() {
                let message = uptime.told("DOWN", &name(target), failed, TOLD_MAX)?;
                record(&mut told, message.at - failed);
                record(&mut handed_over, message.after);
            }
            for target in 0..self.targets {
                uptime.heal(target);
            }
        }
        Ok(vec![
            quantile(P50, &told, 0.5),
            quantile(P99, &told, 0.99),
            quantile(HAND_OVER_P50, &handed_over, 0.5),
            quantile(HAND_OVER_P99, &handed_over, 0.99),
        ])
    }
}
