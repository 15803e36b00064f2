//! Linearizable ranges of a thousand keys with their values, about 0.3 MB a reply.

use anyhow::{Result, bail};
use chainfire::wire::etcdserverpb::RangeRequest;

use super::{Scenario, preload, throughput_figures};
use crate::bench::Bench;
use crate::closed_loop::{Operation, drive};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::figure::{Figure, Goal};
use crate::system::System;

const CLIENTS: usize = 8;

/// Keys in one range.
const WIDTH: u64 = 1000;

/// The scenario.
pub(super) struct RangeOfThousand;

impl Scenario for RangeOfThousand {
    fn name(&self) -> String {
        format!("range-{WIDTH}")
    }

    fn about(&self) -> String {
        format!("linearizable ranges of {WIDTH} keys with values of 256 B, {CLIENTS} clients")
    }

    fn goals(&self) -> Vec<Goal> {
        Vec::new()
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let site = bench.site(system)?;
        let server = preload::filled_server(bench, &site, Keys::Ordered)?;
        let measurement = drive(&server, bench.workers, CLIENTS, bench.window(), RangeOne)?;
        Ok(throughput_figures(&measurement))
    }
}

struct RangeOne;

impl Operation for RangeOne {
    async fn perform(&self, connection: &mut Connection, chance: &mut Chance, _number: u64) -> Result<()> {
        let first = chance.below(preload::KEYS - WIDTH);
        let request = RangeRequest {
            key: Keys::Ordered.key(first),
            range_end: Keys::Ordered.key(first + WIDTH),
            ..RangeRequest::default()
        };
        let found = connection.range(&request).await?.kvs.len() as u64;
        if found != WIDTH {
            bail!("range: {found} keys in the reply, {WIDTH} were put");
        }
        Ok(())
    }
}
