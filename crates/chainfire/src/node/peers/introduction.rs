//! What members tell each other before anything else, and whom they listen to.
//!
//! Members of one cluster share its *instance*, a number drawn when it was founded. A node that knows none takes over that of the
//! first member it meets. Two that know different ones never mix: a node that lost its data and founded a cluster of its own, because its
//! settings say `bootstrap = true`, stops when a member of the old one meets it, and says why.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Change, NodeId};
use prost::Message as _;
use service::Shutdown;

use super::Peers;
use crate::node::founding::{self, Group};
use crate::node::{Node, client_url, peer_address};
use crate::wire::logpb;

/// What a member says about itself in the handshake. Its fields are never renumbered: members may be a release apart.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Extra {
    /// Life of its data directory.
    #[prost(uint64, tag = "1")]
    pub(super) life: u64,
    /// Life of the cluster, 0 if it belongs to none.
    #[prost(uint64, tag = "2")]
    pub(super) instance: u64,
    /// [`Group::encode`], empty if it belongs to none.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) group: Bytes,
    /// It holds nothing and belongs to no cluster.
    #[prost(bool, tag = "4")]
    pub(super) empty: bool,
    /// Where it is reached by gossip, `host:port`; empty if it does not gossip.
    #[prost(string, tag = "6")]
    pub(super) gossip: String,
    /// It was restored together with others: the token that it has in common with them.
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) token: Bytes,
}

impl Extra {
    pub(super) fn of(peers: &Peers) -> Extra {
        let group = peers.group.lock();
        let appended = peers.node().map_or(0, |node| node.raft.appended());
        Extra {
            life: peers.own_life().0,
            instance: group.as_ref().map_or(0, |group| group.instance),
            group: group.as_ref().map(Group::encode).unwrap_or_default().into(),
            empty: group.is_none() && appended == 0,
            gossip: peers.own_gossip.clone(),
            token: match &peers.together {
                Some(together) => Bytes::copy_from_slice(&together.token),
                None => Bytes::new(),
            },
        }
    }

    pub(super) fn group(&self) -> Option<Group> {
        Group::decode(&self.group)
    }
}

/// Meets a member: takes over which cluster this is, or refuses it because it belongs to another.
pub(super) fn meet(peers: &Peers, other: NodeId, extra: &Extra) -> Result<(), String> {
    let Some(theirs) = extra.group() else {
        return Ok(());
    };
    let mut group = peers.group.lock();
    match &*group {
        // Restored together with others, it belongs to what they found with it, and to nothing else that it may meet.
        None if peers.is_stranger(extra, &theirs.first) => Err(format!(
            "node {other} belongs to a cluster (instance {}) that was founded without the restored node {}: was it restored \
             from the same snapshot with the same --initial-members?",
            theirs.instance, peers.own
        )),
        None => {
            theirs
                .save(&peers.store)
                .map_err(|error| format!("note the cluster: {error}"))?;
            tracing::info!(
                target: "chainfire_raft",
                node_id = other.0,
                instance = theirs.instance,
                "Belongs to the cluster of this node from now on"
            );
            let first = theirs.first.clone();
            if first.member(peers.own).is_none() && !peers.initial.is_empty() {
                tracing::warn!(
                    target: "chainfire_raft",
                    node_id = other.0,
                    "The cluster of this node was founded without us: are cluster.initial_members the same on all nodes?"
                );
            }
            *group = Some(theirs);
            drop(group);
            if let Some(node) = peers.node() {
                node.raft.founded(first);
            }
            Ok(())
        }
        Some(ours) if ours.instance == theirs.instance => Ok(()),
        Some(ours) => {
            let (instance, other_instance) = (ours.instance, theirs.instance);
            drop(group);
            stop_if_younger(peers, other, instance, other_instance);
            Err(format!(
                "node {} belongs to another life of the cluster (instance {other_instance}) than node {} (instance {instance})",
                other, peers.own
            ))
        }
    }
}

/// Of two clusters under one number the younger was founded by mistake, if nobody else has joined it yet, and no operator made it of
/// what another one had.
fn stop_if_younger(peers: &Peers, other: NodeId, ours: u64, theirs: u64) {
    let Some(node) = peers.node() else { return };
    let alone = node.raft.view().configuration.members().count() <= 1;
    if ours > theirs && alone && !founding::is_remade(&peers.store) {
        node.raft.end(
            1,
            &format!(
                "node {other} belongs to an older cluster with the number {} (instance {theirs}) than the one that this node has founded \
                 (instance {ours}), so this node stops. If it lost its data and was started with cluster.bootstrap = true: wipe {}, set \
                 cluster.bootstrap = false, start it, and run member-add for node {}. If it is a cluster of its own: give one of the two \
                 another cluster.id, and wipe nothing",
                node.config.cluster.id,
                node.store.path().display(),
                peers.own,
            ),
        );
    }
}

/// How often it is looked whether the cluster knows this node's name and addresses, once it does. (They may be set anew by others.)
const LOOK: Duration = Duration::from_secs(1);

/// Keeps the cluster told of this node's name and addresses.
pub(super) fn keep_published(node: &Arc<Node>, shutdown: &Shutdown) {
    let (node, shutdown) = (node.clone(), shutdown.clone());
    let publish = async move {
        let mut changes = node.raft.watch();
        loop {
            // Looked at below: what changes later wakes this up again.
            changes.mark_unchanged();
            if publish(&node).await {
                tokio::time::sleep(LOOK).await;
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.wait() => {}
            () = publish => {}
        }
    });
}

/// Tells the cluster if need be; true if it knows.
async fn publish(node: &Node) -> bool {
    let view = node.raft.view();
    let own = node.peers.own;
    let Some(member) = view.configuration.member(own).filter(|_| !view.recovering) else {
        return false;
    };
    // Where others reach it was decided when it was added, if it was.
    let address = super::address_of(&member.context).unwrap_or_else(|| peer_address(&node.config));
    // A learner that is to become a voter stays one until it is.
    let told = logpb::Member::decode(member.context.clone()).unwrap_or_default();
    let wants_vote = told.wants_vote && !member.voter;
    let context = founding::own_context(&node.config, &address, &client_url(&node.config), wants_vote);
    if member.context == context {
        return true;
    }
    if view.leader.is_some() {
        let change = Change::SetContext { node: own, context };
        if let Err(error) = node.change(change).await {
            tracing::debug!(target: "chainfire_raft", error = %error, "Name not published yet");
        }
    }
    false
}
