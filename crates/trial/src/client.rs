//! Asking members over gRPC: one connection to each, and for each failure whether the request may have been carried out.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chainfire::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use chainfire::wire::etcdserverpb::request_op::Request as Op;
use chainfire::wire::etcdserverpb::response_op::Response as Reply;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::{
    Compare, HashKvRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, StatusRequest,
    StatusResponse, TxnRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::ledger::Write;

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request did not leave: certainly nothing was done.
    NotSent,
    /// It may have been carried out, or may be later.
    Unknown(Status),
}

/// A handle on one member; cheap to clone, all clones share a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    channel: Channel,
}

/// What a read or a write is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The store's revision when it was answered; for a write its own.
    pub(crate) revision: i64,
    /// For reads and for swaps that were refused: the value with the revision at which it was written.
    pub(crate) found: Option<(u64, i64)>,
    /// For swaps: whether the value was stored.
    pub(crate) stored: bool,
}

impl Client {
    /// A connection that is made when it is needed, and again when it is lost. To be called within a tokio runtime.
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .context("make an endpoint of an address")?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true);
        Ok(Self {
            address,
            channel: endpoint.connect_lazy(),
        })
    }

    /// Another connection to the same member. One whose packets were lost for seconds takes as long again to notice that they are not.
    pub(crate) fn renewed(&self) -> Result<Self> {
        Self::new(self.address)
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// The client of watches.
    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Stores a value.
    pub(crate) async fn put(&self, write: Write, at_most: Duration) -> Result<Answer, Failure> {
        let reply = within(at_most, self.kv().put(put_request(write))).await?;
        Ok(Answer {
            revision: reply.header.unwrap_or_default().revision,
            found: None,
            stored: true,
        })
    }

    /// Reads a key; `serializable` from the member's own copy.
    pub(crate) async fn get(
        &self,
        key: u64,
        serializable: bool,
        at_most: Duration,
    ) -> Result<Answer, Failure> {
        let request = RangeRequest {
            serializable,
            ..range_request(key)
        };
        let reply = within(at_most, self.kv().range(request)).await?;
        Ok(Answer {
            revision: reply.header.unwrap_or_default().revision,
            found: found(&reply),
            stored: false,
        })
    }

    /// Stores a value if the key has the value `old` (none: is not there), else reads it.
    pub(crate) async fn swap(
        &self,
        old: Option<u64>,
        write: Write,
        at_most: Duration,
    ) -> Result<Answer, Failure> {
        let (target, union) = match old {
            Some(old) => (
                CompareTarget::Value,
                TargetUnion::Value(old.to_string().into_bytes().into()),
            ),
            None => (CompareTarget::Version, TargetUnion::Version(0)),
        };
        let request = TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal.into(),
                target: target.into(),
                key: crate::keys::name(write.key).into(),
                target_union: Some(union),
                ..Compare::default()
            }],
            success: vec![RequestOp {
                request: Some(Op::RequestPut(put_request(write))),
            }],
            failure: vec![RequestOp {
                request: Some(Op::RequestRange(range_request(write.key))),
            }],
        };
        let reply = within(at_most, self.kv().txn(request)).await?;
        let found = match reply.responses.first().and_then(|op| op.response.as_ref()) {
            Some(Reply::ResponseRange(range)) => found(range),
            _ => None,
        };
        Ok(Answer {
            revision: reply.header.unwrap_or_default().revision,
            found,
            stored: reply.succeeded,
        })
    }

    /// Everything the member holds itself.
    pub(crate) async fn everything(&self, at_most: Duration) -> Result<RangeResponse, Failure> {
        let request = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            serializable: true,
            ..RangeRequest::default()
        };
        within(at_most, self.kv().range(request)).await
    }

    /// The hash of all that the member holds up to this revision.
    pub(crate) async fn hash(&self, revision: i64, at_most: Duration) -> Result<u32, Failure> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let reply = within(at_most, client.hash_kv(HashKvRequest { revision })).await?;
        Ok(reply.hash)
    }

    /// What the member says of itself.
    pub(crate) async fn status(&self, at_most: Duration) -> Result<StatusResponse, Failure> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        within(at_most, client.status(StatusRequest::default())).await
    }
}

/// The value as it stands in the store.
pub(crate) fn parse(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn put_request(write: Write) -> PutRequest {
    PutRequest {
        key: crate::keys::name(write.key).into(),
        value: write.value.to_string().into_bytes().into(),
        ..PutRequest::default()
    }
}

fn range_request(key: u64) -> RangeRequest {
    RangeRequest {
        key: crate::keys::name(key).into(),
        ..RangeRequest::default()
    }
}

fn found(reply: &RangeResponse) -> Option<(u64, i64)> {
    let kv = reply.kvs.first()?;
    // Value 0 was never written, so whoever told of it is found out by the ledger.
    Some((parse(&kv.value).unwrap_or(0), kv.mod_revision))
}

async fn within<T>(
    at_most: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(at_most, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) if not_connected(&status) => Err(Failure::NotSent),
        Ok(Err(status)) => Err(Failure::Unknown(status)),
        Err(_) => Err(Failure::Unknown(Status::deadline_exceeded("no answer in time"))),
    }
}

/// Whether there was nobody to send the request to.
fn not_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(
                io.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            );
        }
        source = error.source();
    }
    false
}
