//! Keys: Range, Put, DeleteRange, Txn, Compact.

use http::HeaderMap;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Server, mismatched};
use crate::auth::{Access, Identity};
use crate::error::Error;
use crate::lease;
use crate::mvcc::{self, Version};
use crate::state_machine::Reply;
use crate::wire::etcdserverpb::kv_server::Kv;
use crate::wire::etcdserverpb::request_op;
use crate::wire::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use crate::wire::logpb::command::Request as Command;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Kv for Server {
    async fn range(&self, request: Request<RangeRequest>) -> Answer<RangeResponse> {
        let (metadata, _, request) = request.into_parts();
        self.call_range(metadata.as_ref(), request).await
    }

    async fn put(&self, request: Request<PutRequest>) -> Answer<PutResponse> {
        let (metadata, _, request) = request.into_parts();
        self.call_put(metadata.as_ref(), request).await
    }

    async fn delete_range(&self, request: Request<DeleteRangeRequest>) -> Answer<DeleteRangeResponse> {
        let (metadata, _, request) = request.into_parts();
        self.call_delete_range(metadata.as_ref(), request).await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Answer<TxnResponse> {
        let (metadata, _, request) = request.into_parts();
        self.call_txn(metadata.as_ref(), request).await
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Answer<CompactionResponse> {
        self.calls
            .count("Compact", async {
                let identity = self.identify(request.metadata())?;
                let request = request.into_inner();
                let (_, revision) = self.node.propose(Command::Compaction(request), &identity).await?;
                if request.physical {
                    self.node.swept().await;
                }
                Ok(CompactionResponse {
                    header: Some(self.node.header(revision)),
                })
            })
            .await
    }
}

impl Server {
    /// A counted range for whoever the headers name. Here and below: both HTTP/2 paths end in these calls.
    pub(super) async fn call_range(
        &self,
        headers: &HeaderMap,
        request: RangeRequest,
    ) -> Answer<RangeResponse> {
        self.calls
            .count("Range", async {
                let identity = self.identify_headers(headers)?;
                Ok(self.read(request, &identity).await?)
            })
            .await
    }

    pub(super) async fn call_put(&self, headers: &HeaderMap, request: PutRequest) -> Answer<PutResponse> {
        self.calls
            .count("Put", async {
                let identity = self.identify_headers(headers)?;
                Ok(self.write_put(request, &identity).await?)
            })
            .await
    }

    pub(super) async fn call_delete_range(
        &self,
        headers: &HeaderMap,
        request: DeleteRangeRequest,
    ) -> Answer<DeleteRangeResponse> {
        self.calls
            .count("DeleteRange", async {
                let identity = self.identify_headers(headers)?;
                self.node.limits().check_delete(&request)?;
                match self
                    .node
                    .propose(Command::DeleteRange(request), &identity)
                    .await?
                {
                    (Reply::DeleteRange(mut response), revision) => {
                        response.header = Some(self.node.header(revision));
                        Ok(response)
                    }
                    _ => Err(mismatched()),
                }
            })
            .await
    }

    pub(super) async fn call_txn(&self, headers: &HeaderMap, request: TxnRequest) -> Answer<TxnResponse> {
        self.calls
            .count("Txn", async {
                let identity = self.identify_headers(headers)?;
                Ok(self.run_txn(request, &identity).await?)
            })
            .await
    }

    /// A range as `identity` may see it.
    pub(super) async fn read(
        &self,
        request: RangeRequest,
        identity: &Identity,
    ) -> Result<RangeResponse, Error> {
        self.node.limits().check_range(&request)?;
        let auth_revision = {
            let auth = self.node.machine.auth.read();
            auth.check_range(identity, &request)?;
            auth.revision()
        };
        if request.serializable {
            self.node.check_local_read()?;
        } else {
            self.node.read_barrier().await?;
        }
        let mvcc = &self.node.machine.mvcc;
        let (mut response, revision) = if request.range_end.is_empty() {
            mvcc.range(&request)?
        } else {
            // Long scans leave this worker's other tasks to somebody else.
            tokio::task::block_in_place(|| mvcc.range(&request))?
        };
        // What was allowed before the read may not have been during it.
        let auth = self.node.machine.auth.read();
        if auth.enabled() && auth.revision() != auth_revision {
            return Err(Error::AuthOldRevision);
        }
        response.header = Some(self.node.header(revision));
        Ok(response)
    }

    pub(super) async fn write_put(
        &self,
        request: PutRequest,
        identity: &Identity,
    ) -> Result<PutResponse, Error> {
        self.node.limits().check_put(&request)?;
        self.node
            .check_space(Version::cost(&request.key, request.value.len()))
            .await?;
        match self.node.propose(Command::Put(request), identity).await? {
            (Reply::Put(mut response), revision) => {
                response.header = Some(self.node.header(revision));
                Ok(response)
            }
            _ => Err(Error::Local("a put was answered with another reply".to_owned())),
        }
    }

    pub(super) async fn run_txn(
        &self,
        request: TxnRequest,
        identity: &Identity,
    ) -> Result<TxnResponse, Error> {
        let limits = self.node.limits();
        if request.encoded_len() > limits.request_bytes {
            return Err(Error::RequestTooLarge);
        }
        limits.check_txn(&request)?;
        if !mvcc::writes(&request) {
            return self.read_txn(&request, identity).await;
        }
        if mvcc::puts(&request) {
            self.node.check_space(put_cost(&request)).await?;
        }
        match self.node.propose(Command::Txn(request), identity).await? {
            (Reply::Txn(mut response), revision) => {
                response.header = Some(self.node.header(revision));
                Ok(response)
            }
            _ => Err(Error::Local(
                "a transaction was answered with another reply".to_owned(),
            )),
        }
    }

    async fn read_txn(&self, request: &TxnRequest, identity: &Identity) -> Result<TxnResponse, Error> {
        let auth_revision = {
            let auth = self.node.machine.auth.read();
            auth.check(identity, Access::Authenticated)?;
            let keys_of = |id| lease::attached(&self.node.store, id).unwrap_or_default();
            auth.check_txn(identity, request, &keys_of)?;
            auth.revision()
        };
        if !is_serializable(request) {
            self.node.read_barrier().await?;
        }
        let mvcc = &self.node.machine.mvcc;
        let (mut response, revision) = tokio::task::block_in_place(|| mvcc.read_txn(request))?;
        let auth = self.node.machine.auth.read();
        if auth.enabled() && auth.revision() != auth_revision {
            return Err(Error::AuthOldRevision);
        }
        response.header = Some(self.node.header(revision));
        Ok(response)
    }
}

/// True if all reads of the transaction are.
fn is_serializable(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|operation| match &operation.request {
            Some(request_op::Request::RequestRange(range)) => range.serializable,
            Some(request_op::Request::RequestTxn(nested)) => is_serializable(nested),
            _ => true,
        })
}

/// Bytes that the larger branch of the transaction would take, as etcd counts.
fn put_cost(request: &TxnRequest) -> u64 {
    let branch = |operations: &[crate::wire::etcdserverpb::RequestOp]| -> u64 {
        let cost = |operation: &crate::wire::etcdserverpb::RequestOp| match &operation.request {
            Some(request_op::Request::RequestPut(put)) => Version::cost(&put.key, put.value.len()),
            Some(request_op::Request::RequestTxn(nested)) => put_cost(nested),
            _ => 0,
        };
        operations.iter().map(cost).sum()
    };
    branch(&request.success).max(branch(&request.failure))
}
