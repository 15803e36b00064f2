//! Filling a store before it is read: transactions of many puts, which is fast and not measured.
//!
//! The server is then restarted, so that both systems are read as they are from day to day and not as a burst of writes left them.
//! It matters: etcd 3.4 allocates with every read a buffer as large as its largest batch of writes since the start (`txReadBuffer`),
//! and answers a fifth of the gets if this batch was the filling.

use anyhow::{Context as _, Result};
use chainfire::wire::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

use crate::bench::Bench;
use crate::closed_loop::{Extent, Operation, drive};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::server::{Server, Site};

/// Keys the reading scenarios read from.
pub(super) const KEYS: u64 = 100_000;

/// Puts in a transaction; etcd allows 128.
const PUTS_PER_TXN: u64 = 100;

const CLIENTS: usize = 16;

/// A server at rest that holds keys 0 to [`KEYS`] of this kind.
pub(super) fn filled_server(bench: &Bench, site: &Site, keys: Keys) -> Result<Server> {
    let server = site.start_ready()?;
    let extent = Extent::Operations(KEYS / PUTS_PER_TXN);
    drive(&server, bench.workers, CLIENTS, extent, Batch { keys })
        .context("fill the store before the measurement")?;
    server.stop()?;
    site.start_ready()
}

struct Batch {
    keys: Keys,
}

impl Operation for Batch {
    async fn perform(&self, connection: &mut Connection, chance: &mut Chance, number: u64) -> Result<()> {
        let first = number * PUTS_PER_TXN;
        let puts = (first..first + PUTS_PER_TXN).map(|number| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: self.keys.key(number),
                value: chance.value(),
                ..PutRequest::default()
            })),
        });
        let request = TxnRequest {
            success: puts.collect(),
            ..TxnRequest::default()
        };
        connection.txn(&request).await?;
        Ok(())
    }
}
