//! A follower that was away while many keys were written: how long until it has them all.
//!
//! From the start of its process to the moment when its own revision is that of the leader. Nothing is written meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::Bench;
use crate::closed_loop::{Extent, drive};
use crate::cluster::Cluster;
use crate::figure::{Bound, Figure, Goal, Unit};
use crate::scenario::million::PutEach;
use crate::scenario::{Scenario, THROUGHPUT};
use crate::system::System;

const CLIENTS: usize = 512;

/// How long catching up may take.
const CATCH_UP_MAX: Duration = Duration::from_mins(10);

const CATCH_UP: &str = "catch-up";

/// The scenario.
pub(super) struct CatchUp {
    pub(super) nodes: usize,
    pub(super) keys: u64,
}

impl Scenario for CatchUp {
    fn name(&self) -> String {
        "catch-up".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "{} nodes, {} keys with values of 256 B loaded by {CLIENTS} clients while a follower is stopped (throughput is of the \
             load); from its start until it has them all",
            self.nodes, self.keys
        )
    }

    fn goals(&self) -> Vec<Goal> {
        vec![Goal {
            figure: CATCH_UP,
            bound: Bound::RatioAtMost(1.0),
        }]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let mut cluster = Cluster::start(bench, system, self.nodes)?;
        let follower = (cluster.leader()? + 1) % self.nodes;
        cluster.stop(follower)?;
        let extent = Extent::Operations(self.keys);
        let load = drive(cluster.target(), bench.workers, CLIENTS, extent, PutEach)?;
        let leader = cluster.leader()?;
        let revision = cluster.revision(leader)?;
        let started = Instant::now();
        cluster.start_member(follower)?;
        cluster.wait_for(follower, revision, CATCH_UP_MAX)?;
        let catch_up = started.elapsed().as_secs_f64();
        Ok(vec![
            Figure::new(CATCH_UP, Unit::Seconds, catch_up),
            Figure::new("caught up", Unit::PerSecond, self.keys as f64 / catch_up),
            Figure::new(
                THROUGHPUT,
                Unit::PerSecond,
                load.operations() / load.elapsed.as_secs_f64(),
            ),
        ])
    }
}
