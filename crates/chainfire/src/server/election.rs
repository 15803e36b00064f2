//! Elections: the oldest key under a name leads, and its value says what the leader proclaims.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Server;
use super::calls::Replies;
use super::recipes::{created_at, delete_if, prefix, put_if};
use crate::auth::{Access, Identity};
use crate::error::Error;
use crate::mvcc::KeyRange;
use crate::watch::Session;
use crate::wire::etcdserverpb::WatchCreateRequest;
use crate::wire::v3electionpb::election_server::Election;
use crate::wire::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};

/// Leaders between the task and the connection.
const REPLIES_IN_FLIGHT: usize = 16;

/// These three are plain errors in etcd, which gRPC calls unknown.
fn no_leader() -> Status {
    Status::unknown("election: no leader")
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

fn leader_missing() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

#[tonic::async_trait]
impl Election for Server {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        self.calls
            .count("Campaign", async {
                let identity = self.identify(request.metadata())?;
                let CampaignRequest { name, lease, value } = request.into_inner();
                let place = self.queue(&name, lease, value.clone(), &identity).await?;
                if place.old_value.as_ref().is_some_and(|old| *old != value) {
                    let put = put_if(
                        created_at(&place.key, place.created),
                        place.key.clone(),
                        value,
                        place.lease,
                    );
                    self.run_txn(put, &identity).await?;
                }
                let leader = LeaderKey {
                    name,
                    key: place.key,
                    rev: place.created,
                    lease: place.lease,
                };
                let header = Some(self.node.header(self.node.machine.mvcc.revision()));
                Ok(CampaignResponse {
                    header,
                    leader: Some(leader),
                })
            })
            .await
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        self.calls
            .count("Proclaim", async {
                let identity = self.identify(request.metadata())?;
                let ProclaimRequest { leader, value } = request.into_inner();
                let leader = leader.ok_or_else(leader_missing)?;
                let put = put_if(
                    created_at(&leader.key, leader.rev),
                    leader.key,
                    value,
                    leader.lease,
                );
                let response = self.run_txn(put, &identity).await?;
                if !response.succeeded {
                    return Err(not_leader());
                }
                Ok(ProclaimResponse {
                    header: response.header,
                })
            })
            .await
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        self.calls
            .count("Leader", async {
                let identity = self.identify(request.metadata())?;
                let (kv, revision) = self.oldest(&request.into_inner().name, &identity).await?;
                let kv = Some(kv.ok_or_else(no_leader)?);
                Ok(LeaderResponse {
                    header: Some(self.node.header(revision)),
                    kv,
                })
            })
            .await
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        self.calls
            .count("Resign", async {
                let identity = self.identify(request.metadata())?;
                let leader = request.into_inner().leader.ok_or_else(leader_missing)?;
                let delete = delete_if(created_at(&leader.key, leader.rev), leader.key);
                let response = self.run_txn(delete, &identity).await?;
                Ok(ResignResponse {
                    header: response.header,
                })
            })
            .await
    }

    type ObserveStream = Replies<LeaderResponse>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Replies<LeaderResponse>>, Status> {
        self.calls
            .count_stream("Observe", async {
                let identity = self.identify(request.metadata())?;
                let name = request.into_inner().name;
                self.check_observe(&name, &identity)?;
                let (sender, receiver) = mpsc::channel(REPLIES_IN_FLIGHT);
                let server = self.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        result = server.tell_leaders(name, identity, sender.clone()) => {
                            if let Err(error) = result {
                                let _ = sender.send(Err(error.into())).await;
                            }
                        }
                        () = sender.closed() => {}
                        () = server.shutdown.wait() => {
                            let _ = sender.try_send(Err(Error::Stopped.into()));
                        }
                    }
                });
                Ok(ReceiverStream::new(receiver))
            })
            .await
    }
}

impl Server {
    /// Whether `identity` may observe the election `name`.
    fn check_observe(&self, name: &Bytes, identity: &Identity) -> Result<(), Error> {
        let range = KeyRange::prefix(&prefix(name));
        let range_end = range.end.unwrap_or_else(|| Bytes::from_static(&[0]));
        let access = Access::Read {
            key: &range.start,
            range_end: &range_end,
        };
        self.node.machine.auth.read().check(identity, access)
    }

    /// Sends the leader of the moment, and again whenever it or its value changes. Changes that follow each other faster
    /// than they can be sent are told as the last of them, as in etcd.
    async fn tell_leaders(
        &self,
        name: Bytes,
        identity: Identity,
        replies: mpsc::Sender<Result<LeaderResponse, Status>>,
    ) -> Result<(), Error> {
        let node = &self.node;
        let range = KeyRange::prefix(&prefix(&name));
        let mut session = Session::new(node.machine.clone(), node.hub.clone(), node.session_settings());
        let stream = session.stream().clone();
        let watch = WatchCreateRequest {
            key: range.start,
            range_end: range.end.unwrap_or_else(|| Bytes::from_static(&[0])),
            ..Default::default()
        };
        session.create(watch, node.now_ms());
        let mut told = None;
        loop {
            let (leader, revision) = self.oldest(&name, &identity).await?;
            if let Some(kv) = leader
                && told != Some(kv.mod_revision)
            {
                told = Some(kv.mod_revision);
                let reply = LeaderResponse {
                    header: Some(node.header(revision)),
                    kv: Some(kv),
                };
                if replies.send(Ok(reply)).await.is_err() {
                    return Ok(());
                }
            }
            // Waits for the next change under the name.
            loop {
                let changed = session
                    .advance(node.now_ms())
                    .iter()
                    .any(|reply| !reply.events.is_empty());
                if changed {
                    break;
                }
                if session.is_empty() {
                    return Err(Error::WatchCanceled);
                }
                if session.is_catching_up() {
                    tokio::task::yield_now().await;
                } else {
                    stream.filled().await;
                }
            }
        }
    }
}
