//! Puts of 256 bytes by 1, 64 or 512 clients.
//!
//! Scattered keys come at random from a bounded space, so the store first grows and is then overwritten, as most stores are. Ordered
//! keys are new ones, each behind the last: what leases, queues and logs in a store do.

use anyhow::Result;
use chainfire::wire::etcdserverpb::PutRequest;

use super::{P99, Scenario, THROUGHPUT, throughput_figures};
use crate::bench::Bench;
use crate::closed_loop::{Operation, drive};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::figure::{Bound, Figure, Goal};
use crate::system::System;

/// Different scattered keys.
pub(super) const KEY_SPACE: u64 = 100_000;

/// Clients from which the goal holds: below, the disk decides alone.
const GOAL_CLIENTS_MIN: usize = 64;

/// The scenario.
pub(super) struct Put {
    clients: usize,
    keys: Keys,
}

impl Put {
    pub(super) fn scattered(clients: usize) -> Self {
        Self {
            clients,
            keys: Keys::Scattered,
        }
    }

    pub(super) fn ordered(clients: usize) -> Self {
        Self {
            clients,
            keys: Keys::Ordered,
        }
    }
}

impl Scenario for Put {
    fn name(&self) -> String {
        match self.keys {
            Keys::Scattered => format!("put-{}", self.clients),
            Keys::Ordered => format!("put-sequential-{}", self.clients),
        }
    }

    fn about(&self) -> String {
        let keys = match self.keys {
            Keys::Scattered => format!("{KEY_SPACE} random keys of 16 to 32 B"),
            Keys::Ordered => "ever new sequential keys of 16 B".to_owned(),
        };
        format!("puts of 256 B to {keys}, {} clients", self.clients)
    }

    fn goals(&self) -> Vec<Goal> {
        if self.clients < GOAL_CLIENTS_MIN {
            return Vec::new();
        }
        vec![
            Goal {
                figure: THROUGHPUT,
                bound: Bound::RatioAtLeast(1.5),
            },
            Goal {
                figure: P99,
                bound: Bound::RatioAtMost(1.0),
            },
        ]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let site = bench.site(system)?;
        let server = site.start_ready()?;
        let operation = PutOne { keys: self.keys };
        let measurement = drive(&server, bench.workers, self.clients, bench.window(), operation)?;
        Ok(throughput_figures(&measurement))
    }
}

/// Puts one key.
pub(super) struct PutOne {
    pub(super) keys: Keys,
}

impl Operation for PutOne {
    async fn perform(&self, connection: &mut Connection, chance: &mut Chance, number: u64) -> Result<()> {
        let number = match self.keys {
            Keys::Scattered => chance.below(KEY_SPACE),
            Keys::Ordered => number,
        };
        let request = PutRequest {
            key: self.keys.key(number),
            value: chance.value(),
            ..PutRequest::default()
        };
        connection.put(&request).await?;
        Ok(())
    }
}
