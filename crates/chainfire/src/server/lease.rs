//! Leases: grant, revoke, keep alive, look at.

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::calls::Replies;
use super::{Server, mismatched};
use crate::auth::{Access, Identity};
use crate::error::Error;
use crate::lease::{self, TTL_SECONDS_MAX};
use crate::state_machine::Reply;
use crate::wire::etcdserverpb::lease_server::Lease;
use crate::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::wire::logpb::command::Request as Command;

/// Keep-alive replies between the task and the connection.
const REPLIES_IN_FLIGHT: usize = 16;

/// Renewals of one stream under way together. Each has to hear from a majority that the leader still leads, and those that wait
/// do so together: a client with very many leases, all on one stream, does not wait for each of them.
const RENEWALS_AT_ONCE: usize = 256;

#[tonic::async_trait]
impl Lease for Server {
    type LeaseKeepAliveStream = Replies<LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.calls
            .count("LeaseGrant", async {
                let identity = self.identify(request.metadata())?;
                let request = request.into_inner();
                let mut response = self.grant_lease(request, &identity).await?;
                let revision = self.node.machine.mvcc.revision();
                response.header = Some(self.node.header(revision));
                Ok(response)
            })
            .await
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.calls
            .count("LeaseRevoke", async {
                let identity = self.identify(request.metadata())?;
                match self
                    .node
                    .propose(Command::LeaseRevoke(request.into_inner()), &identity)
                    .await?
                {
                    (Reply::LeaseRevoke(_), revision) => Ok(LeaseRevokeResponse {
                        header: Some(self.node.header(revision)),
                    }),
                    _ => Err(mismatched()),
                }
            })
            .await
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Replies<LeaseKeepAliveResponse>>, Status> {
        self.calls
            .count_stream("LeaseKeepAlive", async {
                let identity = self.identify(request.metadata())?;
                let (sender, receiver) = mpsc::channel(REPLIES_IN_FLIGHT);
                let server = self.clone();
                let metadata = request.metadata().clone();
                tokio::spawn(server.keep_all_alive(request.into_inner(), metadata, identity, sender));
                Ok(ReceiverStream::new(receiver))
            })
            .await
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.calls
            .count("LeaseTimeToLive", async {
                let identity = self.identify(request.metadata())?;
                let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
                self.node.read_barrier().await?;
                let machine = &self.node.machine;
                let attached = |id: i64| lease::attached(&self.node.store, id).unwrap_or_default();
                machine.auth.read().check(&identity, Access::Authenticated)?;
                if keys {
                    machine.auth.read().check_lease_read(&identity, id, &attached)?;
                }
                let header = Some(self.node.header(machine.mvcc.revision()));
                let remaining = self.node.lease_remaining(id).await?;
                Ok(match remaining {
                    None => LeaseTimeToLiveResponse {
                        header,
                        id,
                        ttl: -1,
                        ..Default::default()
                    },
                    Some(remaining) => {
                        let keys: Vec<Bytes> = if keys {
                            lease::attached(&self.node.store, id).map_err(Status::from)?
                        } else {
                            Vec::new()
                        };
                        LeaseTimeToLiveResponse {
                            header,
                            id,
                            ttl: remaining.left,
                            granted_ttl: remaining.granted,
                            keys,
                        }
                    }
                })
            })
            .await
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.calls
            .count("LeaseLeases", async {
                let identity = self.identify(request.metadata())?;
                self.node.read_barrier().await?;
                let machine = &self.node.machine;
                machine.auth.read().check(&identity, Access::Authenticated)?;
                let ids = machine.lessor.lock().ids();
                Ok(LeaseLeasesResponse {
                    header: Some(self.node.header(machine.mvcc.revision())),
                    leases: ids.into_iter().map(|id| LeaseStatus { id }).collect(),
                })
            })
            .await
    }
}

impl Server {
    async fn keep_all_alive(
        self,
        requests: Streaming<LeaseKeepAliveRequest>,
        metadata: MetadataMap,
        identity: Identity,
        replies: mpsc::Sender<Result<LeaseKeepAliveResponse, Status>>,
    ) {
        let renew = |request: Result<LeaseKeepAliveRequest, Status>| {
            let (server, identity) = (&self, &identity);
            async move {
                // A client that has gone away does not hear of it.
                let id = request?.id;
                server.keep_alive(id, identity).await.map_err(Status::from)
            }
        };
        let mut renewals = requests.map(renew).buffered(RENEWALS_AT_ONCE);
        let serve = async {
            while let Some(reply) = renewals.next().await {
                let failed = reply.is_err();
                if replies.send(reply).await.is_err() || failed {
                    return;
                }
            }
        };
        tokio::select! {
            () = serve => {}
            () = replies.closed() => {}
            () = self.leader_lost(metadata.as_ref()) => {
                // Best effort, as below.
                let _ = replies.try_send(Err(Error::NoLeader.into()));
            }
            () = self.shutdown.wait() => {
                // Best effort: a client that does not read now sees the stream end.
                let _ = replies.try_send(Err(Error::Stopped.into()));
            }
        }
    }

    /// Grants a lease; the response's header is the caller's.
    pub(super) async fn grant_lease(
        &self,
        mut request: LeaseGrantRequest,
        identity: &Identity,
    ) -> Result<LeaseGrantResponse, Error> {
        if request.ttl > TTL_SECONDS_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        request.ttl = request.ttl.max(self.ttl_min());
        self.node.check_space(0).await?;
        let chosen_here = request.id == 0;
        loop {
            if chosen_here {
                request.id = self.new_lease_id()?;
            }
            match self.node.propose(Command::LeaseGrant(request), identity).await {
                Ok((Reply::LeaseGrant(response), _)) => return Ok(response),
                Ok(_) => return Err(Error::Local("a grant was answered with another reply".to_owned())),
                Err(Error::LeaseExists) if chosen_here => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Shortest time to live: one and a half election timeouts, so that a lease survives a change of leader.
    fn ttl_min(&self) -> i64 {
        let raft = &self.node.config.raft;
        let election_ms = raft.tick_interval_ms * u64::from(raft.election_ticks);
        (election_ms * 3 / 2).div_ceil(1000) as i64
    }

    /// A lease id that nobody has, as far as chance goes.
    pub(super) fn new_lease_id(&self) -> Result<i64, Error> {
        loop {
            let mut bytes = [0; 8];
            (self.node.entropy)(&mut bytes)?;
            let id = i64::from_be_bytes(bytes) & i64::MAX;
            if id != 0 {
                return Ok(id);
            }
        }
    }

    async fn keep_alive(&self, id: i64, identity: &Identity) -> Result<LeaseKeepAliveResponse, Error> {
        let machine = &self.node.machine;
        machine.auth.read().check(identity, Access::Authenticated)?;
        let ttl = self.node.renew_lease(id).await?;
        let header = Some(self.node.header(machine.mvcc.revision()));
        Ok(LeaseKeepAliveResponse { header, id, ttl })
    }
}
