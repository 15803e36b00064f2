//! Nodes that come.
//!
//! With the cluster's secret (`qu node add`): the inviter and the joiner prove to each other that they know it, over this very connection,
//! so it is worth nothing to anybody in between; the secret itself never leaves a node. The joiner gives up the group of one that it made
//! for itself and waits as a node without memory until the group lists it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peer::stranger::{Exporter, StrangerInfo};
use pki::pinned::Fingerprint;

use super::apply;
use super::promised::Given;
use super::propose::{self, Refused};
use super::shared::{Ending, Mastery, Shared};
use super::wire::{JoinAnswer, JoinCall, decode, encode, kind};
use crate::document::{Change, Document, Entry, Peer};
use crate::identity::NodeId;
use crate::secret::Secret;

/// How long the other end may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the answer to get out before the run ends.
const ANSWER_GRACE: Duration = Duration::from_millis(300);
/// What both ends say when the proof is wrong.
const MISMATCH: &str = "cluster secret does not match";

/// How long a node may take to become part of the cluster before the inviter goes on without it.
const JOIN_WAIT: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A node that was invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invited {
    /// Which.
    pub node: NodeId,
    /// The version of the configuration that lists it.
    pub version: u64,
    /// Whether it has that configuration already.
    pub joined: bool,
}

/// Who proves.
#[derive(Debug, Clone, Copy)]
enum Role {
    Inviter,
    Joiner,
}

fn proof(
    secret: &Secret,
    role: Role,
    exporter: &Exporter,
    inviter: Fingerprint,
    joiner: Fingerprint,
) -> Result<(hmac::Key, Vec<u8>), String> {
    if secret.is_empty() {
        return Err("this node has no cluster_secret in node.yaml".to_owned());
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    let mut said = match role {
        Role::Inviter => b"inviter".to_vec(),
        Role::Joiner => b"joiner".to_vec(),
    };
    said.push(0);
    said.extend(exporter);
    said.extend(inviter.as_bytes());
    said.extend(joiner.as_bytes());
    Ok((key, said))
}

fn prove(
    secret: &Secret,
    role: Role,
    exporter: &Exporter,
    inviter: Fingerprint,
    joiner: Fingerprint,
) -> Result<String, String> {
    let (key, said) = proof(secret, role, exporter, inviter, joiner)?;
    Ok(URL_SAFE_NO_PAD.encode(hmac::sign(&key, &said)))
}

fn verify(
    shown: &str,
    secret: &Secret,
    role: Role,
    exporter: &Exporter,
    inviter: Fingerprint,
    joiner: Fingerprint,
) -> Result<(), String> {
    let (key, said) = proof(secret, role, exporter, inviter, joiner)?;
    let shown = URL_SAFE_NO_PAD.decode(shown).map_err(|_| MISMATCH.to_owned())?;
    // Takes the same time wherever they differ.
    hmac::verify(&key, &said, &shown).map_err(|_| MISMATCH.to_owned())
}

/// This node as a peer.
pub fn own_peer(shared: &Shared) -> Peer {
    Peer {
        node_id: shared.me,
        advertise: shared.settings.advertise.clone(),
        fingerprint: shared.identity.fingerprint().to_string(),
        cert_pem: shared.identity.certificate_pem(),
        location: None,
    }
}

/// Who is at an address: its id and its key.
///
/// # Errors
/// Nobody, or not a node of qu.
pub async fn meet(shared: &Arc<Shared>, address: &str) -> Result<(NodeId, Fingerprint), String> {
    let transport = shared.transport.get().ok_or("not started")?;
    let called = tokio::time::timeout(ANSWER_TIMEOUT, transport.call_stranger(address, None)).await;
    let stranger = called
        .map_err(|_| format!("{address} does not answer"))?
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&stranger.introduction().extra).into_owned();
    let node = said
        .parse()
        .map_err(|_| format!("{address} is not a node of qu"))?;
    Ok((node, stranger.key()))
}

/// Invites the node at an address, whose key the operator has seen.
///
/// # Errors
/// It does not know the secret, does not want, or the cluster does not take it.
pub async fn invite(
    shared: &Arc<Shared>,
    address: &str,
    key: Fingerprint,
    discard: bool,
    uid: Option<u32>,
) -> Result<Invited, Refused> {
    let failed = Refused::Invalid;
    propose::refuse_without_room(shared)?;
    // Without quorum nothing is begun that could not be finished.
    match propose::soon_master(shared).await {
        Mastery::Is(_) => {}
        Mastery::Removed => return Err(Refused::Removed),
        Mastery::NoQuorum | Mastery::Election => return Err(propose::no_quorum(shared)),
    }
    let transport = shared
        .transport
        .get()
        .ok_or_else(|| failed("not started".to_owned()))?;
    let mut stranger = transport
        .call_stranger(address, Some(key))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let own = shared.identity.fingerprint();
    let secret = &shared.settings.cluster_secret;
    let proof = prove(secret, Role::Inviter, stranger.exporter(), own, key).map_err(failed)?;
    let mut peers = vec![own_peer(shared)];
    let document = shared.document();
    peers.extend(
        document
            .peers
            .iter()
            .filter(|peer| peer.node_id != shared.me)
            .cloned(),
    );
    let call = JoinCall::Invite {
        proof,
        peers,
        discard,
    };
    let answer = stranger
        .request(kind::JOIN, encode(&call), ANSWER_TIMEOUT)
        .await
        .map_err(|error| match error {
            peer::RequestError::Refused(text) => failed(text),
            other => failed(other.to_string()),
        })?;
    let answer: JoinAnswer = decode(&answer).map_err(failed)?;
    verify(&answer.proof, secret, Role::Joiner, stranger.exporter(), own, key).map_err(failed)?;
    let joiner = answer.peer;
    let shown: Result<Fingerprint, _> = joiner.fingerprint.parse();
    if shown.ok().is_none_or(|shown| !shown.is(&key)) {
        return Err(failed("the node shows another key than it has".to_owned()));
    }
    let node = joiner.node_id;
    let change = match document.peer(node) {
        // It was here before and comes back with another key or address.
        Some(before) if *before == joiner => {
            let joined = wait_joined(shared, node, document.version).await;
            return Ok(Invited {
                node,
                version: document.version,
                joined,
            });
        }
        Some(before) => Change::edit(Entry::Peer(before.clone()), Entry::Peer(joiner)),
        None => Change::add(Entry::Peer(joiner)),
    };
    let (done, _) = propose::configure(shared, vec![change], uid, "node add", false).await?;
    Ok(Invited {
        node,
        version: done.version,
        joined: wait_joined(shared, node, done.version).await,
    })
}

/// Waits until a node says that it has this group's configuration; until then it may still answer as what it was. Whether it has.
async fn wait_joined(shared: &Shared, node: NodeId, version: u64) -> bool {
    let deadline = shared.clock.now() + JOIN_WAIT;
    let group = shared.group.get().copied();
    loop {
        let joined = shared
            .ears
            .lock()
            .of(node)
            .is_some_and(|heard| Some(heard.beat.group) == group && heard.beat.version >= version);
        if joined || shared.clock.now() >= deadline {
            return joined;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A node that knows the secret wants this one to become part of its cluster.
///
/// # Errors
/// It does not know the secret, or this node has something to lose.
pub fn invited(shared: &Arc<Shared>, stranger: &StrangerInfo, call: JoinCall) -> Result<JoinAnswer, String> {
    let JoinCall::Invite {
        proof: shown,
        peers,
        discard,
    } = call;
    let own = shared.identity.fingerprint();
    let secret = &shared.settings.cluster_secret;
    let result = verify(
        &shown,
        secret,
        Role::Inviter,
        &stranger.exporter,
        stranger.key,
        own,
    );
    if let Err(error) = result {
        tracing::warn!(target: "quptime", from = %stranger.address, error, "an invitation was refused");
        return Err(error);
    }
    let answer = JoinAnswer {
        proof: prove(secret, Role::Joiner, &stranger.exporter, stranger.key, own)?,
        peer: own_peer(shared),
    };
    let document = shared.document();
    let is_member = document.version > 0
        && peers
            .iter()
            .any(|peer| peer.node_id != shared.me && document.peer(peer.node_id) == Some(peer));
    if is_member {
        return Ok(answer);
    }
    match shared.promised.give(stranger.key) {
        Given::Now => {}
        Given::Before => return Ok(answer),
        Given::ToAnother => {
            return Err(
                "it is joining a cluster already, which another node asked it to; see there what it says to qu status"
                    .to_owned(),
            );
        }
        Given::Busy => return Err("it is being changed at this moment; try again".to_owned()),
    }
    // What was changed before the promise shows.
    let document = shared.document();
    let entered = if discard {
        Ok(())
    } else {
        empty(shared, &document, &peers)
    };
    if let Err(error) = entered.and_then(|()| enter(shared, peers)) {
        shared.promised.take_back();
        return Err(error);
    }
    Ok(answer)
}

/// Whether this node has nothing to lose, and has promised itself to nobody but these.
fn empty(shared: &Shared, document: &Document, inviters: &[Peer]) -> Result<(), String> {
    let mut others = document.peers.iter().filter(|peer| peer.node_id != shared.me);
    if document.version == 0 && others.clone().any(|peer| !inviters.contains(peer)) {
        Err(
            "it waits for the cluster that it has promised to join; remove it there first, or insist with \
             --discard-remote-config"
                .to_owned(),
        )
    } else if document.version > 0 && others.next().is_some() {
        Err(
            "it belongs to a cluster already; remove it there first, or insist with --discard-remote-config"
                .to_owned(),
        )
    } else if !document.checks.is_empty() || !document.alerts.is_empty() {
        Err(
            "it has checks or alerts of its own; they would be lost, insist with --discard-remote-config"
                .to_owned(),
        )
    } else {
        Ok(())
    }
}

/// Promises to give the own group up and to wait for the one of these peers; the next run does it.
fn enter(shared: &Arc<Shared>, peers: Vec<Peer>) -> Result<(), String> {
    let peers = apply::promise(&shared.home, own_peer(shared), peers)?;
    tracing::info!(target: "quptime", peers, "joining a cluster");
    let shared = shared.clone();
    tokio::spawn(async move {
        tokio::time::sleep(ANSWER_GRACE).await;
        shared.end(Ending::Again);
    });
    Ok(())
}
