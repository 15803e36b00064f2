//! Members. A node of this release is alone, so there is one.

use tonic::{Request, Response, Status};

use super::Server;
use crate::auth::Access;
use crate::error::Error;
use crate::wire::etcdserverpb::cluster_server::Cluster;
use crate::wire::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};

#[tonic::async_trait]
impl Cluster for Server {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        self.calls
            .count("MemberAdd", async {
                self.admin(&request)?;
                let urls = request.into_inner().peer_ur_ls;
                if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
                    return Err(Error::BadMemberUrls.into());
                }
                if urls.iter().any(|url| same_peer(url, &self.node.peer_address())) {
                    return Err(Error::PeerUrlExists.into());
                }
                Err(not_alone())
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
                self.known(request.into_inner().id)?;
                Err(Error::NotEnoughStarted.into())
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
                self.known(request.id)?;
                if request.peer_ur_ls.is_empty() || !request.peer_ur_ls.iter().all(|url| is_peer_url(url)) {
                    return Err(Error::BadMemberUrls.into());
                }
                Err(not_alone())
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
                let header = Some(self.node.header(self.node.machine.mvcc.revision()));
                Ok(MemberListResponse {
                    header,
                    members: vec![self.this_member()],
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
                self.known(request.into_inner().id)?;
                Err(Error::NotLearner.into())
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

    fn known(&self, id: u64) -> Result<(), Error> {
        if id == self.node.id() {
            Ok(())
        } else {
            Err(Error::MemberNotFound)
        }
    }

    fn this_member(&self) -> Member {
        Member {
            id: self.node.id(),
            name: self.node.config.node.name.clone(),
            peer_ur_ls: vec![format!("http://{}", self.node.peer_address())],
            client_ur_ls: vec![self.node.client_url()],
            is_learner: false,
        }
    }
}

fn not_alone() -> Status {
    Error::Unsupported("clusters of several members are not in this release".to_owned()).into()
}

fn without_scheme(url: &str) -> &str {
    url.strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .unwrap_or(url)
}

/// `host:port`, with or without a scheme.
fn is_peer_url(url: &str) -> bool {
    without_scheme(url).rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

fn same_peer(url: &str, address: &str) -> bool {
    without_scheme(url) == address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_host_and_port_with_or_without_scheme() {
        assert!(is_peer_url("http://node2:2380") && is_peer_url("node2:2380"));
        assert!(!is_peer_url("node2") && !is_peer_url("http://node2:2380/x") && !is_peer_url(":2380"));
        assert!(same_peer("http://node1:2380", "node1:2380"));
    }
}
