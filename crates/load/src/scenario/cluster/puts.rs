//! Puts of 256 bytes into a cluster, the clients spread over the members or all on the leader.

use anyhow::Result;

use crate::bench::Bench;
use crate::closed_loop::{Target, drive};
use crate::cluster::Cluster;
use crate::data::Keys;
use crate::figure::{Bound, Figure, Goal};
use crate::options::ClientsOn;
use crate::scenario::put::{KEY_SPACE, PutOne};
use crate::scenario::{Scenario, THROUGHPUT, throughput_figures};
use crate::system::System;

/// The scenario.
pub(super) struct Puts {
    pub(super) nodes: usize,
    pub(super) clients: usize,
    pub(super) clients_on: ClientsOn,
}

impl Scenario for Puts {
    fn name(&self) -> String {
        format!("cluster-put-{}", self.clients)
    }

    fn about(&self) -> String {
        let place = match self.clients_on {
            ClientsOn::All => "spread evenly over the members",
            ClientsOn::Leader => "all on the leader",
        };
        format!(
            "{} nodes, puts of 256 B to {KEY_SPACE} random keys of 16 to 32 B, {} clients {place}; CPU is of all nodes",
            self.nodes, self.clients
        )
    }

    fn goals(&self) -> Vec<Goal> {
        vec![Goal {
            figure: THROUGHPUT,
            bound: Bound::RatioAtLeast(1.3),
        }]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let cluster = Cluster::start(bench, system, self.nodes)?;
        let target = match self.clients_on {
            ClientsOn::All => cluster.target(),
            ClientsOn::Leader => Target {
                addresses: vec![cluster.addresses()[cluster.leader()?]],
                ..cluster.target()
            },
        };
        let operation = PutOne {
            keys: Keys::Scattered,
        };
        let measurement = drive(target, bench.workers, self.clients, bench.window(), operation)?;
        Ok(throughput_figures(&measurement))
    }
}
