//! Looking after a node: status, alarms, hashes, space, snapshots.

use consensus::NodeId;
use tonic::{Request, Response, Status};

use super::calls::Replies;
use super::{Server, mismatched, snapshot};
use crate::auth::Identity;
use crate::error::Error;
use crate::mvcc::family;
use crate::node::is_learner;
use crate::state_machine::Reply;
use crate::wire::etcdserverpb::alarm_request::AlarmAction;
use crate::wire::etcdserverpb::downgrade_request::DowngradeAction;
use crate::wire::etcdserverpb::maintenance_server::Maintenance;
use crate::wire::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use crate::wire::logpb::command::Request as Command;

#[tonic::async_trait]
impl Maintenance for Server {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        self.calls
            .count("Alarm", async {
                let identity = self.identify(request.metadata())?;
                Ok(self.run_alarm(request.into_inner(), &identity).await?)
            })
            .await
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.calls
            .count("Status", async {
                // As in etcd nobody has to log in for this: it is what balancers and operators ask first.
                drop(request);
                let now = self.node.snapshot();
                let view = self.node.raft.view();
                let no_leader = view.leader.is_none().then(|| Error::NoLeader.to_string());
                let alarms = self.node.machine.alarms();
                let text = |alarm: i32| {
                    let kind = AlarmType::try_from(alarm).unwrap_or(AlarmType::None);
                    format!("alarm:{}", kind.as_str_name())
                };
                Ok(StatusResponse {
                    header: Some(self.node.header(now.revision)),
                    version: self.node.config.compat.etcd_server_version.clone(),
                    db_size: now.db_size as i64,
                    db_size_in_use: now.db_in_use as i64,
                    db_size_quota: now.quota as i64,
                    leader: view.leader.map_or(0, |leader| leader.0),
                    raft_index: now.raft_index,
                    raft_term: now.term,
                    raft_applied_index: now.applied_index,
                    errors: no_leader
                        .into_iter()
                        .chain(self.node.obstacles(&view))
                        .chain(
                            alarms
                                .iter()
                                .map(|alarm| format!("memberID:{} {} ", alarm.member_id, text(alarm.alarm))),
                        )
                        .collect(),
                    is_learner: is_learner(&view, self.node.id()),
                    storage_version: self.node.config.compat.etcd_cluster_version.clone(),
                    downgrade_info: None,
                })
            })
            .await
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.calls
            .count("Defragment", async {
                self.admin(&request)?;
                let node = self.node.clone();
                let compacted = tokio::task::spawn_blocking(move || {
                    node.store.flush()?;
                    for family in family::ALL {
                        node.store.compact(family);
                    }
                    Ok::<(), store::Error>(())
                });
                compacted
                    .await
                    .map_err(|_| Error::Stopped)?
                    .map_err(Error::from)?;
                Ok(DefragmentResponse {
                    header: Some(self.node.header(self.node.machine.mvcc.revision())),
                })
            })
            .await
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.calls
            .count("Hash", async {
                self.admin(&request)?;
                let hash = self.hash_at(0).await?;
                Ok(HashResponse {
                    header: Some(self.node.header(hash.revision)),
                    hash: hash.hash,
                })
            })
            .await
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        self.calls
            .count("HashKV", async {
                self.admin(&request)?;
                let hash = self.hash_at(request.into_inner().revision).await?;
                Ok(HashKvResponse {
                    header: Some(self.node.header(self.node.machine.mvcc.revision())),
                    hash: hash.hash,
                    // etcd tells clients -1 while nothing has been compacted.
                    compact_revision: if hash.compacted == 0 { -1 } else { hash.compacted },
                    hash_revision: hash.revision,
                })
            })
            .await
    }

    type SnapshotStream = Replies<SnapshotResponse>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.calls
            .count_stream("Snapshot", async {
                self.admin(&request)?;
                Ok(snapshot::stream(self.node.clone()))
            })
            .await
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.calls
            .count("MoveLeader", async {
                self.admin(&request)?;
                let to = request.into_inner().target_id;
                if !self.node.raft.view().leads() {
                    return Err(Error::NotLeader.into());
                }
                if to != self.node.id() {
                    let to = self.node.transfer(Some(NodeId(to))).await?;
                    self.node.leads_now(to).await?;
                }
                Ok(MoveLeaderResponse {
                    header: Some(self.node.header(self.node.machine.mvcc.revision())),
                })
            })
            .await
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        self.calls
            .count("Downgrade", async {
                self.admin(&request)?;
                if request.into_inner().action() == DowngradeAction::Cancel {
                    return Err(Error::NoInflightDowngrade.into());
                }
                Ok(DowngradeResponse {
                    header: Some(self.node.header(self.node.machine.mvcc.revision())),
                    version: self.node.config.compat.etcd_cluster_version.clone(),
                })
            })
            .await
    }
}

impl Server {
    async fn run_alarm(&self, request: AlarmRequest, identity: &Identity) -> Result<AlarmResponse, Error> {
        AlarmAction::try_from(request.action)
            .map_err(|_| Error::Invalid(format!("unknown alarm action {}", request.action)))?;
        AlarmType::try_from(request.alarm)
            .map_err(|_| Error::Invalid(format!("unknown alarm {}", request.alarm)))?;
        match self.node.propose(Command::Alarm(request), identity).await? {
            (Reply::Alarm(mut response), revision) => {
                response.header = Some(self.node.header(revision));
                Ok(response)
            }
            _ => Err(Error::Local(mismatched().message().to_owned())),
        }
    }

    async fn hash_at(&self, revision: i64) -> Result<crate::mvcc::KvHash, Error> {
        let node = self.node.clone();
        let hash = tokio::task::spawn_blocking(move || node.machine.mvcc.hash_kv(revision));
        hash.await.map_err(|_| Error::Stopped)?
    }
}
