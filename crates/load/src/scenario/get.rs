//! Gets of single keys, chosen at random from a filled store, linearizable or from the local copy.

use anyhow::{Result, bail};
use chainfire::wire::etcdserverpb::RangeRequest;

use super::{Scenario, THROUGHPUT, preload, throughput_figures};
use crate::bench::Bench;
use crate::closed_loop::{Operation, drive};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::figure::{Bound, Figure, Goal};
use crate::system::System;

const CLIENTS: usize = 64;

/// The scenario.
pub(super) struct Get {
    serializable: bool,
}

impl Get {
    pub(super) fn linearizable() -> Self {
        Self { serializable: false }
    }

    pub(super) fn serializable() -> Self {
        Self { serializable: true }
    }

    fn kind(&self) -> &'static str {
        if self.serializable {
            "serializable"
        } else {
            "linearizable"
        }
    }
}

impl Scenario for Get {
    fn name(&self) -> String {
        format!("get-{}", self.kind())
    }

    fn about(&self) -> String {
        format!(
            "{} gets of one of {} keys with values of 256 B, {CLIENTS} clients",
            self.kind(),
            preload::KEYS
        )
    }

    fn goals(&self) -> Vec<Goal> {
        vec![Goal {
            figure: THROUGHPUT,
            bound: Bound::RatioAtLeast(2.0),
        }]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let site = bench.site(system)?;
        let server = preload::filled_server(bench, &site, Keys::Scattered)?;
        let operation = GetOne {
            serializable: self.serializable,
        };
        let measurement = drive(&server, bench.workers, CLIENTS, bench.window(), operation)?;
        Ok(throughput_figures(&measurement))
    }
}

struct GetOne {
    serializable: bool,
}

impl Operation for GetOne {
    async fn perform(&self, connection: &mut Connection, chance: &mut Chance, _number: u64) -> Result<()> {
        let request = RangeRequest {
            key: Keys::Scattered.key(chance.below(preload::KEYS)),
            serializable: self.serializable,
            ..RangeRequest::default()
        };
        let found = connection.range(&request).await?.kvs.len();
        if found != 1 {
            bail!("get: {found} keys in the reply, 1 was put");
        }
        Ok(())
    }
}
