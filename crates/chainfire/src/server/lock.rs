//! Locks: the oldest key under a name holds it.

use tonic::{Request, Response, Status};

use super::Server;
use crate::wire::etcdserverpb::DeleteRangeRequest;
use crate::wire::logpb::command::Request as Command;
use crate::wire::v3lockpb::lock_server::Lock;
use crate::wire::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

#[tonic::async_trait]
impl Lock for Server {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        self.calls
            .count("Lock", async {
                let identity = self.identify(request.metadata())?;
                let LockRequest { name, lease } = request.into_inner();
                let place = self.queue(&name, lease, bytes::Bytes::new(), &identity).await?;
                let header = Some(self.node.header(self.node.machine.mvcc.revision()));
                Ok(LockResponse {
                    header,
                    key: place.key,
                })
            })
            .await
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        self.calls
            .count("Unlock", async {
                let identity = self.identify(request.metadata())?;
                let delete = DeleteRangeRequest {
                    key: request.into_inner().key,
                    ..Default::default()
                };
                self.node.limits().check_delete(&delete)?;
                let (_, revision) = self.node.propose(Command::DeleteRange(delete), &identity).await?;
                Ok(UnlockResponse {
                    header: Some(self.node.header(revision)),
                })
            })
            .await
    }
}
