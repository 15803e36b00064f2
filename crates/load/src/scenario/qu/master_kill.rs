//! `kill -9` of the master: how long no change is taken, and how long no verdict is given.
//!
//! A target fails right after the signal; a check with an interval of a second, which one round decides, shows when the new master has
//! judged its first round. At the same time a change is asked for again and again on a survivor.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

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
const VERDICT_P50: &str = "first verdict p50";
const VERDICT_P99: &str = "first verdict p99";
/// How long no change may be taken.
const CHANGE_MAX: Duration = Duration::from_mins(1);
/// From the kill to the first change.
const GOAL_MS: f64 = 3000.0;
/// From the kill to the first verdict.
const VERDICT_GOAL_MS: f64 = 6000.0;

/// The scenario.
pub(super) struct MasterKill {
    pub(super) kills: u32,
}

impl Scenario for MasterKill {
    fn name(&self) -> String {
        "master-kill".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "{NODES} nodes, the master killed {} times: until a change is committed, and until a check of 1 s has its first verdict",
            self.kills
        )
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |figure, bound| Goal {
            figure,
            bound: Bound::AtMost(bound),
        };
        vec![goal(P99, GOAL_MS), goal(VERDICT_P99, VERDICT_GOAL_MS)]
    }

    fn takes(&self, system: System) -> bool {
        system == System::Qu
    }

    fn run(&self, bench: &Bench, _system: System) -> Result<Vec<Figure>> {
        let uptime = Uptime::start()?;
        let mut nodes = Nodes::start(bench, NODES, None)?;
        let target = ["check", "add", "http", "target"];
        let quick = ["--interval", "1s", "--confirm", "1", "--recover", "1"];
        nodes.run(
            0,
            &[&target[..], &[uptime.page(0).as_str()][..], &quick[..]].concat(),
        )?;
        nodes.run(0, &["check", "add", "tcp", "changed", &uptime.port(0)])?;
        let (mut changes, mut verdicts) = (latencies(), latencies());
        let mut chance = Chance::new(0);
        for kill in 1..=self.kills {
            let told = || format!("kill {kill} of {}", self.kills);
            nodes.settle().with_context(told)?;
            let is = |wanted: &'static str| {
                move |status: &crate::qu::Status| {
                    let mut checks = status.checks.iter();
                    checks.any(|check| check.name == "target" && check.status == wanted)
                }
            };
            nodes
                .until(0, "the target to be up", is("up"))
                .with_context(told)?;
            // Anywhere between two beats.
            std::thread::sleep(Duration::from_millis(chance.below(1_000)));
            let master = nodes.master()?;
            let [one, other] = [(master + 1) % NODES, (master + 2) % NODES];
            let killed = nodes.kill(master)?;
            uptime.fail(0);
            let nodes_now = &nodes;
            std::thread::scope(|scope| {
                let changed = scope.spawn(move || first_change(nodes_now, one, kill, killed));
                nodes_now.until(other, "the first verdict", is("down"))?;
                record(&mut verdicts, killed.elapsed());
                let changed = changed
                    .join()
                    .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
                record(&mut changes, changed?);
                anyhow::Ok(())
            })
            .with_context(told)?;
            uptime.heal(0);
            nodes.start_again(master)?;
        }
        Ok(vec![
            quantile(P50, &changes, 0.5),
            quantile(P99, &changes, 0.99),
            quantile(VERDICT_P50, &verdicts, 0.5),
            quantile(VERDICT_P99, &verdicts, 0.99),
        ])
    }
}

/// Asks until it is done; from the kill on.
fn first_change(nodes: &Nodes, node: usize, kill: u32, killed: Instant) -> Result<Duration> {
    let group = format!("after{kill}");
    loop {
        match nodes.run(node, &["check", "edit", "changed", "--group", &group]) {
            Ok(_) => return Ok(killed.elapsed()),
            // An answer that was lost: it was made.
            Err(error) if format!("{error:#}").contains("nothing to change") => return Ok(killed.elapsed()),
            Err(error) if killed.elapsed() > CHANGE_MAX => {
                bail!("no change after {} s: {error:#}", CHANGE_MAX.as_secs());
            }
            Err(_) => {}
        }
    }
}
