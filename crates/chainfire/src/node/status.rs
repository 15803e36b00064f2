//! This node's view of the cluster, for operators.

use ::gossip::State;
use consensus::{NodeId, PeerStatus, RoleName};
use prost::Message as _;

use super::{Node, VERSION};
use crate::error::Result;
use crate::raft::View;
use crate::wire::chainfire::v1::{MemberStatus, StatusResponse};
use crate::wire::logpb;

/// What this node is, in the word that metrics and `status` use.
pub fn role_name(view: &View, own: u64) -> &'static str {
    match view.role {
        RoleName::Leader => "leader",
        RoleName::Candidate | RoleName::PreCandidate => "candidate",
        RoleName::Follower if is_learner(view, own) => "learner",
        RoleName::Follower => "follower",
    }
}

/// True if the node receives the log but has no vote.
pub fn is_learner(view: &View, own: u64) -> bool {
    let member = view.configuration.member(NodeId(own));
    member.is_none_or(|member| !member.voter)
}

impl Node {
    /// True if the cluster knows where clients reach this node, so that everybody who asks for the members is told.
    pub fn is_published(&self) -> bool {
        let view = self.raft.view();
        let own = view.configuration.member(NodeId(self.id()));
        let told = own.and_then(|member| logpb::Member::decode(member.context.clone()).ok());
        told.is_some_and(|told| !told.client_url.is_empty())
    }

    /// This node's view of the cluster.
    pub async fn own_status(&self) -> Result<StatusResponse> {
        let status = self.raft.status().await?;
        let view = View::of(status, false);
        let own = self.id();
        Ok(StatusResponse {
            header: Some(self.header(self.machine.mvcc.revision())),
            node_id: own,
            name: self.config.node.name.clone(),
            version: VERSION.to_owned(),
            role: role_name(&view, own).to_owned(),
            leader: view.leader.map_or(0, |leader| leader.0),
            raft_term: view.term.0,
            raft_index: self.raft.appended(),
            raft_commit_index: self.raft.committed(),
            raft_applied_index: self.raft.applied(),
            recovering: view.recovering,
            incarnation: view.life.0,
            cluster_instance: self.peers.instance(),
            members: self.member_statuses(&view),
            missing: self.obstacles(&view),
        })
    }

    /// Without a leader: what this node waits for, in words for operators.
    pub fn obstacles(&self, view: &View) -> Vec<String> {
        if view.leader.is_some() {
            return Vec::new();
        }
        if let Some(forming) = self.peers.forming() {
            return vec![forming];
        }
        let (own, members) = (self.id(), &view.configuration);
        match members.member(NodeId(own)) {
            None if members.members().next().is_none() => {
                vec![format!(
                    "waiting to be added to a cluster: on a member, run member-add for node {own}"
                )]
            }
            None => {
                vec![format!(
                    "node {own} is no member, or was removed: on a member, run member-add for it"
                )]
            }
            Some(_) => view.missing.clone(),
        }
    }

    /// The members as this node sees them: how far each is behind only the leader knows.
    fn member_statuses(&self, view: &View) -> Vec<MemberStatus> {
        let connected = self.peers.statuses();
        let around = self.around();
        let last = self.raft.appended();
        let members = view.configuration.members().map(|(id, member)| {
            let told = logpb::Member::decode(member.context.clone()).unwrap_or_default();
            let own = id.0 == self.id();
            let peer = view.peers.get(&id);
            let seen = around.iter().find(|seen| seen.node.id == id.0);
            let connection = connected.iter().find(|status| status.node == id);
            let is_connected = connection.is_some_and(|status| status.connected);
            // Who leads knows by itself who answers.
            let is_down = !view.leads() && seen.is_some_and(|seen| seen.state == State::Down);
            let reached = own || (is_connected && !is_down);
            let lag = match peer {
                Some(peer) => i64::try_from(last.saturating_sub(peer.matched)).unwrap_or(i64::MAX),
                None if own && view.leads() => 0,
                None => -1,
            };
            MemberStatus {
                id: id.0,
                // Of one that has not told the cluster yet, what it tells everybody.
                name: match seen {
                    Some(seen) if told.name.is_empty() => seen.node.name.clone(),
                    _ => told.name.clone(),
                },
                peer_url: told.peer_address,
                client_url: told.client_url,
                voter: member.voter,
                leader: view.leader == Some(id),
                state: state(own, view, peer, reached, &told.name).to_owned(),
                lag,
                version: told.version,
                error: connection
                    .and_then(|status| status.last_error.clone())
                    .unwrap_or_default(),
            }
        });
        members.collect()
    }
}

fn state(own: bool, view: &View, peer: Option<&PeerStatus>, reached: bool, name: &str) -> &'static str {
    let recovering = if own {
        view.recovering
    } else {
        peer.is_some_and(|peer| peer.recovering)
    };
    let never_met = match peer {
        Some(peer) => peer.incarnation == consensus::Incarnation::UNKNOWN,
        None => name.is_empty() && !own,
    };
    match () {
        () if never_met => "unstarted",
        () if !reached || (!own && peer.is_some_and(|peer| !peer.active && !peer.recovering)) => {
            "unreachable"
        }
        () if recovering => "recovering",
        () => "started",
    }
}
