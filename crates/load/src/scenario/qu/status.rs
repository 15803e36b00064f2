//! `qu status` of a node with a thousand checks, as a person or a cron job runs it: the whole command.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{list, quantile};
use crate::bench::Bench;
use crate::closed_loop::{latencies, record};
use crate::figure::{Bound, Figure, Goal};
use crate::qu::Nodes;
use crate::scenario::{P50, P99, Scenario};
use crate::system::System;
use crate::uptime::Uptime;

const CHECKS: usize = 1_000;
const LOOKS: u32 = 100;
const INTERVAL: Duration = Duration::from_secs(30);
const GOAL_MS: f64 = 50.0;

/// The scenario.
pub(super) struct StatusOfMany;

impl Scenario for StatusOfMany {
    fn name(&self) -> String {
        "status".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "one node with {CHECKS} checks every {} s; {LOOKS} times the command qu status",
            INTERVAL.as_secs()
        )
    }

    fn goals(&self) -> Vec<Goal> {
        vec![Goal {
            figure: P50,
            bound: Bound::AtMost(GOAL_MS),
        }]
    }

    fn takes(&self, system: System) -> bool {
        system == System::Qu
    }

    fn run(&self, bench: &Bench, _system: System) -> Result<Vec<Figure>> {
        let uptime = Uptime::start()?;
        let nodes = Nodes::start(bench, 1, Some(&list(&uptime, CHECKS, INTERVAL)))?;
        let mut times = latencies();
        for _ in 0..LOOKS {
            let started = Instant::now();
            let said = nodes.run(0, &["status"])?;
            record(&mut times, started.elapsed());
            let rows = said.lines().filter(|line| line.starts_with("id")).count();
            ensure!(rows == CHECKS, "qu status shows {rows} checks of {CHECKS}");
        }
        Ok(vec![quantile(P50, &times, 0.5), quantile(P99, &times, 0.99)])
    }
}
