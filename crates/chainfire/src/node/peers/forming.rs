//! How several new nodes become a cluster.
//!
//! With `bootstrap = true` and several `initial_members`, every node asks all of them who they are, again and again. When all have
//! answered and all are empty, the one with the lowest id founds the cluster with exactly the lives that answered. The others wait: when
//! the founder tells of a cluster that was founded with their present life, they have forgotten nothing and count from then on. A node
//! whose life is not named there came later, so it waits to be admitted, as after the loss of a disk.
//!
//! Nodes that were restored from one snapshot with several first members do the same, whatever their settings say; only that all must show
//! the same token (see [`crate::node::together`]) instead of being empty.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Configuration, Incarnation, NodeId};
use prost::Message as _;
use service::Shutdown;

use super::introduction::{Extra, meet};
use crate::node::founding::{self, Group};
use crate::node::{Node, client_url, peer_address};
use crate::wire::logpb;

/// How often everybody is asked, and how long an answer may take.
const ROUND: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_secs(2);

/// Rounds between two lines that say who is missing.
const TELL_EVERY: u32 = 40;

pub(super) fn start(node: &Arc<Node>, shutdown: &Shutdown) {
    let bootstraps = node.config.cluster.bootstrap && !founding::begins_alone(&node.config);
    if let Some(group) = node.peers.group.lock().clone() {
        // A crash between noting the cluster and what follows from it, or a later start: then nothing happens.
        if founder(&group.first) == Some(node.peers.own) {
            node.raft.found(group.first);
        } else {
            node.raft.founded(group.first);
        }
        return;
    }
    if !bootstraps && node.peers.together.is_none() {
        return;
    }
    let (node, shutdown) = (node.clone(), shutdown.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.wait() => {}
            () = form(&node) => {}
        }
    });
}

/// The one who founds: the lowest id.
fn founder(first: &Configuration) -> Option<NodeId> {
    first.members().next().map(|(node, _)| node)
}

async fn form(node: &Node) {
    let peers = &node.peers;
    let mut rounds = 0u32;
    loop {
        let answers = ask_all(node).await;
        for (other, answer) in &answers {
            if let Some(extra) = answer
                && let Err(reason) = meet(peers, *other, extra)
            {
                tracing::warn!(target: "chainfire_network", node_id = other.0, reason, "Not of this cluster");
            }
        }
        if peers.group.lock().is_some() {
            *peers.forming.lock() = None;
            return;
        }
        let missing: Vec<String> = answers
            .iter()
            .filter(|(_, answer)| answer.is_none())
            .map(|(other, _)| other.to_string())
            .collect();
        let alike = |extra: &Extra| match &peers.together {
            Some(together) => extra.token == together.token[..],
            None => extra.empty,
        };
        let strange: Vec<String> = answers
            .iter()
            .filter(|(_, answer)| answer.as_ref().is_some_and(|extra| !alike(extra)))
            .map(|(other, _)| other.to_string())
            .collect();
        let all_alike = missing.is_empty() && strange.is_empty();
        let lowest = answers.iter().all(|(other, _)| peers.own < *other);
        *peers.forming.lock() = Some(obstacle(&missing, &strange, peers.together.is_some()));
        if all_alike && lowest {
            match found(node, &answers) {
                Ok(()) => {
                    *peers.forming.lock() = None;
                    return;
                }
                Err(error) => {
                    tracing::error!(target: "chainfire_raft", error = %error, "Cluster not founded");
                }
            }
        } else if rounds.is_multiple_of(TELL_EVERY) && !missing.is_empty() {
            tracing::info!(target: "chainfire_raft", missing = missing.join(","), "Waiting for the other first members");
        } else if rounds.is_multiple_of(TELL_EVERY) && !strange.is_empty() {
            let strange = strange.join(",");
            if peers.together.is_some() {
                tracing::warn!(target: "chainfire_raft", nodes = strange, "{NOT_TOGETHER}");
            } else {
                tracing::warn!(target: "chainfire_raft", nodes = strange, "{NOT_EMPTY}");
            }
        }
        rounds += 1;
        tokio::time::sleep(ROUND).await;
    }
}

const NOT_TOGETHER: &str =
    "Members were not restored from the same snapshot with the same --initial-members and --bump-revision";
const NOT_EMPTY: &str = "First members hold data already";

/// What the cluster waits for, for `status`.
fn obstacle(missing: &[String], strange: &[String], together: bool) -> String {
    if !missing.is_empty() {
        return format!(
            "waiting for the other first members: no answer from node {}",
            missing.join(", ")
        );
    }
    if !strange.is_empty() {
        let what = if together { NOT_TOGETHER } else { NOT_EMPTY };
        return format!("{what}: node {}", strange.join(", "));
    }
    "the first members have met and the lowest of them founds the cluster".to_owned()
}

/// Asks all other first members who they are.
async fn ask_all(node: &Node) -> Vec<(NodeId, Option<Extra>)> {
    let Some(transport) = node.peers.transport.get() else {
        return Vec::new();
    };
    let asked = node.peers.initial.iter().map(async |(other, address)| {
        let answer = transport.ask(address, ANSWER).await.ok();
        // Another node may have been given that address meanwhile.
        let extra = answer
            .filter(|answer| answer.node == *other)
            .and_then(|answer| Extra::decode(answer.extra).ok());
        (*other, extra)
    });
    futures::future::join_all(asked).await
}

fn found(node: &Node, answers: &[(NodeId, Option<Extra>)]) -> Result<(), crate::log::Error> {
    let peers = &node.peers;
    let own = (
        peers.own,
        peers.own_life(),
        founding::own_context(&node.config, &own_address(node), &client_url(&node.config), false),
    );
    let others = answers.iter().filter_map(|(other, answer)| {
        let address = peers.initial.get(other)?;
        let context: Bytes = logpb::Member {
            peer_address: address.clone(),
            ..logpb::Member::default()
        }
        .encode_to_vec()
        .into();
        Some((*other, Incarnation(answer.as_ref()?.life), context))
    });
    let first = Configuration::of_voters(others.chain([own]));
    let group = Group {
        instance: peers.own_life().0,
        first: first.clone(),
    };
    let mut noted = peers.group.lock();
    if noted.is_some() {
        return Ok(());
    }
    group.save(&peers.store)?;
    *noted = Some(group);
    drop(noted);
    node.raft.found(first);
    tracing::info!(target: "chainfire_raft", voters = answers.len() + 1, "Cluster founded");
    Ok(())
}

/// Where the others reach this node: as the list of the first members says.
fn own_address(node: &Node) -> String {
    if let Some(together) = &node.peers.together
        && let Some(address) = together.members.get(&node.peers.own)
    {
        return address.clone();
    }
    let members = node.config.cluster.initial_members.iter();
    let own = members.filter(|member| member.id == node.config.node.id);
    own.map(|member| member.peer_url.clone())
        .next()
        .unwrap_or_else(|| peer_address(&node.config))
}
