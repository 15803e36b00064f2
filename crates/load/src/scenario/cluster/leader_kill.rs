//! `kill -9` of the leader while a client writes: how long no write succeeds.
//!
//! The gap is the time from the signal to the answer of the first successful write that was begun after it. The client gives up a
//! request after a tenth of a second and asks the next member, so that the gap shows the cluster and not the client. The killed member
//! is started again and has caught up before the next kill; kills come at no fixed distance, so that they meet heartbeats anywhere.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::bench::Bench;
use crate::closed_loop::{latencies, record};
use crate::cluster::Cluster;
use crate::data::Chance;
use crate::figure::{Bound, Figure, Goal, Unit};
use crate::scenario::{P50, P99, Scenario};
use crate::system::System;
use crate::writer::Writer;

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_millis(100);

/// How long no write may succeed at most.
const GAP_MAX: Duration = Duration::from_mins(1);

/// Between the return of a member and the next kill, at least; at most twice that.
const CALM: Duration = Duration::from_millis(500);

const MAX: &str = "max";

/// The scenario.
pub(super) struct LeaderKill {
    pub(super) nodes: usize,
    pub(super) kills: u32,
}

impl Scenario for LeaderKill {
    fn name(&self) -> String {
        "leader-kill".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "{} nodes, the leader killed {} times; from the kill to the first successful write begun after it (one client, requests of \
             at most {} ms, next member after each failure)",
            self.nodes,
            self.kills,
            REQUEST_MAX.as_millis()
        )
    }

    fn goals(&self) -> Vec<Goal> {
        [P50, P99]
            .map(|figure| Goal {
                figure,
                bound: Bound::RatioAtMost(1.0),
            })
            .into()
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let mut cluster = Cluster::start(bench, system, self.nodes)?;
        let mut chance = Chance::new(0);
        let writer = Writer::start(cluster.addresses(), REQUEST_MAX)?;
        let mut gaps = latencies();
        let mut returns = latencies();
        for kill in 1..=self.kills {
            let told = || format!("kill {kill} of {}", self.kills);
            writer.success_since(Instant::now(), GAP_MAX).with_context(told)?;
            std::thread::sleep(CALM + CALM.mul_f64(chance.below(1_000) as f64 / 1_000.0));
            let leader = cluster.leader()?;
            let killed = cluster.kill(leader)?;
            let first = writer.success_since(killed, GAP_MAX).with_context(told)?;
            record(&mut gaps, first.ended - killed);
            let started = Instant::now();
            cluster.rejoin(leader).with_context(told)?;
            record(&mut returns, started.elapsed());
        }
        writer.finish()?;
        let milliseconds = |name, micros: u64| Figure::new(name, Unit::Milliseconds, micros as f64 / 1000.0);
        Ok(vec![
            milliseconds(P50, gaps.value_at_quantile(0.5)),
            milliseconds(P99, gaps.value_at_quantile(0.99)),
            milliseconds(MAX, gaps.max()),
            milliseconds("rejoin p50", returns.value_at_quantile(0.5)),
            milliseconds("rejoin max", returns.max()),
        ])
    }
}
