//! Members, in etcd's words and in ours.
//!
//! etcd numbers a new member itself and may let it vote at once. Here the operator numbers it (our own service), and every member begins as
//! a learner: one that etcd's service was asked to add as a voter is promoted by the leader as soon as it has caught up.

use bytes::Bytes;
use consensus::{Change, NodeId};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::Server;
use crate::auth::Access;
use crate::error::Error;
use crate::wire::chainfire::v1;
use crate::wire::chainfire::v1::cluster_server::Cluster as OwnCluster;
use crate::wire::etcdserverpb::cluster_server::Cluster;
use crate::wire::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, ResponseHeader,
};
use crate::wire::logpb;

#[tonic::async_trait]
impl Cluster for Server {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        self.calls
            .count("MemberAdd", async {
                self.admin(&request)?;
                let request = request.into_inner();
                let address = only_address(&request.peer_ur_ls)?;
                self.node.read_barrier().await?;
                self.refuse_known_address(0, &address)?;
                let highest = self.members().map(|(id, _, _)| id).max().unwrap_or(0);
                let id = highest + 1;
                let member = logpb::Member {
                    peer_address: address,
                    wants_vote: !request.is_learner,
                    ..logpb::Member::default()
                };
                self.add(id, &member).await?;
                Ok(MemberAddResponse {
                    header: Some(self.header_now()),
                    member: self.list().into_iter().find(|member| member.id == id),
                    members: self.list(),
                })
            })
            .await
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        self.calls
            .count("MemberRemove", async {
                self.admin(&request)?;
                let node = NodeId(request.into_inner().id);
                self.node.change(Change::Remove { node }).await?;
                tracing::info!(target: "chainfire_raft", node_id = node.0, "Node removed from cluster");
                Ok(MemberRemoveResponse {
                    header: Some(self.header_now()),
                    members: self.list(),
                })
            })
            .await
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        self.calls
            .count("MemberUpdate", async {
                self.admin(&request)?;
                let request = request.into_inner();
                let known = self.members().find(|(id, _, _)| *id == request.id);
                let (_, _, mut member) = known.ok_or(Error::MemberNotFound)?;
                member.peer_address = only_address(&request.peer_ur_ls)?;
                self.refuse_known_address(request.id, &member.peer_address)?;
                let context = member.encode_to_vec().into();
                let node = NodeId(request.id);
                self.node.change(Change::SetContext { node, context }).await?;
                Ok(MemberUpdateResponse {
                    header: Some(self.header_now()),
                    members: self.list(),
                })
            })
            .await
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.calls
            .count("MemberList", async {
                let identity = self.identify(request.metadata())?;
                self.node
                    .machine
                    .auth
                    .read()
                    .check(&identity, Access::Authenticated)?;
                if request.into_inner().linearizable {
                    self.node.read_barrier().await?;
                }
                Ok(MemberListResponse {
                    header: Some(self.header_now()),
                    members: self.list(),
                })
            })
            .await
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        self.calls
            .count("MemberPromote", async {
                self.admin(&request)?;
                let node = NodeId(request.into_inner().id);
                self.node.change(Change::Promote { node }).await?;
                Ok(MemberPromoteResponse {
                    header: Some(self.header_now()),
                    members: self.list(),
                })
            })
            .await
    }
}

#[tonic::async_trait]
impl OwnCluster for Server {
    async fn member_add(
        &self,
        request: Request<v1::MemberAddRequest>,
    ) -> Result<Response<v1::MemberAddResponse>, Status> {
        self.calls
            .count("MemberAdd", async {
                self.admin(&request)?;
                let request = request.into_inner();
                let address = only_address(&[request.peer_url])?;
                let id = request.node_id;
                if id == 0 {
                    return Err(Error::Invalid("node id 0 is none; number nodes from 1".to_owned()).into());
                }
                let mut already = self
                    .members()
                    .any(|(member, _, known)| member == id && known.peer_address == address);
                let mut no_leader = false;
                if already {
                    // Without a leader the operator says by this that the member came back empty.
                    no_leader = self.node.raft.view().leader.is_none();
                    if no_leader && id != self.node.id() {
                        // Before what may follow from it.
                        self.node.look_around();
                        let noted = self.node.raft.note_replaced(NodeId(id)).await;
                        no_leader = noted.is_ok();
                    }
                } else {
                    self.refuse_known_address(id, &address)?;
                    let member = logpb::Member {
                        peer_address: address,
                        wants_vote: false,
                        ..logpb::Member::default()
                    };
                    match self.add(id, &member).await {
                        Err(Error::MemberExists) => {
                            already = self.members().any(|(known, _, told)| {
                                known == id && told.peer_address == member.peer_address
                            });
                            if !already {
                                return Err(Error::MemberExists.into());
                            }
                        }
                        outcome => outcome?,
                    }
                }
                let status = self.node.own_status().await?;
                Ok(v1::MemberAddResponse {
                    header: Some(self.header_now()),
                    member: status.members.into_iter().find(|member| member.id == id),
                    already,
                    no_leader,
                })
            })
            .await
    }

    async fn leader_transfer(
        &self,
        request: Request<v1::LeaderTransferRequest>,
    ) -> Result<Response<v1::LeaderTransferResponse>, Status> {
        self.calls
            .count("LeaderTransfer", async {
                self.admin(&request)?;
                let to = request.into_inner().to;
                let to = self.node.transfer((to != 0).then_some(NodeId(to))).await?;
                self.node.leads_now(to).await?;
                Ok(v1::LeaderTransferResponse {
                    header: Some(self.header_now()),
                    leader: to.0,
                })
            })
            .await
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        self.calls
            .count("Status", async {
                drop(request);
                Ok(self.node.own_status().await?)
            })
            .await
    }

    async fn gossip(
        &self,
        request: Request<v1::GossipRequest>,
    ) -> Result<Response<v1::GossipResponse>, Status> {
        self.calls
            .count("Gossip", async {
                let identity = self.identify(request.metadata())?;
                self.node
                    .machine
                    .auth
                    .read()
                    .check(&identity, Access::Authenticated)?;
                let view = self.node.raft.view();
                let nodes = self.node.around().into_iter().map(|seen| v1::GossipNode {
                    member: view.configuration.member(NodeId(seen.node.id)).is_some(),
                    id: seen.node.id,
                    name: seen.node.name,
                    role: seen.node.role,
                    state: seen.state.name().to_owned(),
                    since_unix_ms: seen.since_unix_ms,
                    version: seen.node.version,
                    gossip_address: seen.node.gossip_address,
                    client_url: seen.node.api_address,
                    peer_address: seen.node.raft_address,
                });
                Ok(v1::GossipResponse {
                    header: Some(self.header_now()),
                    nodes: nodes.collect(),
                })
            })
            .await
    }
}

impl Server {
    /// Refuses who may not manage the cluster.
    pub(super) fn admin<T>(&self, request: &Request<T>) -> Result<(), Error> {
        let identity = self.identify(request.metadata())?;
        self.node.machine.auth.read().check(&identity, Access::Admin)
    }

    fn header_now(&self) -> ResponseHeader {
        self.node.header(self.node.machine.mvcc.revision())
    }

    async fn add(&self, id: u64, member: &logpb::Member) -> Result<(), Error> {
        tracing::info!(
            target: "chainfire_raft",
            node_id = id,
            addr = %member.peer_address,
            learner = true,
            "Adding node to cluster"
        );
        let context = Bytes::from(member.encode_to_vec());
        let node = NodeId(id);
        self.node.change(Change::AddLearner { node, context }).await
    }

    /// Id, vote, and what is told of each member.
    fn members(&self) -> impl Iterator<Item = (u64, bool, logpb::Member)> {
        let view = self.node.raft.view();
        let members: Vec<_> = view
            .configuration
            .members()
            .map(|(id, member)| {
                let told = logpb::Member::decode(member.context.clone()).unwrap_or_default();
                (id.0, member.voter, told)
            })
            .collect();
        members.into_iter()
    }

    /// The members as etcd's clients want them.
    fn list(&self) -> Vec<Member> {
        let scheme = if self.node.config.network.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let members = self.members().map(|(id, voter, told)| Member {
            id,
            name: told.name,
            peer_ur_ls: if told.peer_address.is_empty() {
                Vec::new()
            } else {
                vec![format!("{scheme}://{}", told.peer_address)]
            },
            client_ur_ls: [told.client_url]
                .into_iter()
                .filter(|url| !url.is_empty())
                .collect(),
            is_learner: !voter,
        });
        members.collect()
    }

    fn refuse_known_address(&self, but: u64, address: &str) -> Result<(), Error> {
        let known = self
            .members()
            .any(|(id, _, told)| id != but && told.peer_address == address);
        if known { Err(Error::PeerUrlExists) } else { Ok(()) }
    }
}

fn without_scheme(url: &str) -> &str {
    url.strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .unwrap_or(url)
}

/// The one address that a member has, `host:port`.
fn only_address(urls: &[String]) -> Result<String, Error> {
    match urls {
        [url] if is_peer_url(url) => Ok(without_scheme(url).to_owned()),
        _ => Err(Error::BadMemberUrls),
    }
}

/// `host:port`, with or without a scheme.
fn is_peer_url(url: &str) -> bool {
    without_scheme(url).rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_host_and_port_with_or_without_scheme() {
        assert!(is_peer_url("http://node2:2380") && is_peer_url("node2:2380"));
        assert!(!is_peer_url("node2") && !is_peer_url("http://node2:2380/x") && !is_peer_url(":2380"));
        assert_eq!(
            only_address(&["http://node1:2380".to_owned()]),
            Ok("node1:2380".to_owned())
        );
        assert_eq!(only_address(&[]), Err(Error::BadMemberUrls));
    }
}
