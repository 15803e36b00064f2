//! Filling a store before it is read: transactions of many puts, which is fast and not measured.

use anyhow::{Context as _, Result};
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

use crate::bench::Bench;
use crate::closed_loop::{Extent, Operation, drive};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::server::Server;

/// Keys the reading scenarios read from.
pub(super) const KEYS: u64 = 100_000;

/// Puts in a transaction; etcd allows 128.
const PUTS_PER_TXN: u64 = 100;

const CLIENTS: usize = 16;

/// Puts keys 0 to [`KEYS`] of this kind.
pub(super) fn fill(bench: &Bench, server: &Server, keys: Keys) -> Result<()> {
    let extent = Extent::Operations(KEYS / PUTS_PER_TXN);
    drive(server, bench.workers, CLIENTS, extent, Batch { keys })
        .map(|_| ())
        .context("fill the store before the measurement")
}

struct Batch {
    keys: Keys,
}

impl Operation for Batch {
    async fn perform(&self, kv: &mut KvClient<Connection>, chance: &mut Chance, number: u64) -> Result<()> {
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
        kv.txn(request).await.context("txn")?;
        Ok(())
    }
}
