//! A node that was away for a hundred versions: from its start until it has them all.

use std::time::Instant;

use anyhow::Result;

use crate::bench::Bench;
use crate::figure::{Bound, Figure, Goal, Unit};
use crate::qu::Nodes;
use crate::scenario::Scenario;
use crate::system::System;

const NODES: usize = 3;
const VERSIONS: u32 = 100;
const CATCH_UP: &str = "catch-up";
const GOAL_S: f64 = 1.5;

/// The scenario.
pub(super) struct CatchUp;

impl Scenario for CatchUp {
    fn name(&self) -> String {
        "catch-up".to_owned()
    }

    fn about(&self) -> String {
        format!("{NODES} nodes, one stopped for {VERSIONS} versions; from its start until it has them all")
    }

    fn goals(&self) -> Vec<Goal> {
        vec![Goal {
            figure: CATCH_UP,
            bound: Bound::AtMost(GOAL_S),
        }]
    }

    fn takes(&self, system: System) -> bool {
        system == System::Qu
    }

    fn run(&self, bench: &Bench, _system: System) -> Result<Vec<Figure>> {
        let mut nodes = Nodes::start(bench, NODES, None)?;
        nodes.run(
            0,
            &[
                "check",
                "add",
                "tcp",
                "changed",
                "127.0.0.1:1",
                "--interval",
                "1h",
            ],
        )?;
        nodes.settle()?;
        let master = nodes.master()?;
        let away = (master + 1) % NODES;
        nodes.stop(away)?;
        for version in 0..VERSIONS {
            let group = format!("g{version}");
            nodes.run(master, &["check", "edit", "changed", "--group", &group])?;
        }
        let version = nodes.status(master)?.config_version;
        let started = Instant::now();
        nodes.start_again(away)?;
        nodes.until(away, "all versions", |status| status.config_version >= version)?;
        let caught_up = started.elapsed().as_secs_f64();
        Ok(vec![Figure::new(CATCH_UP, Unit::Seconds, caught_up)])
    }
}
