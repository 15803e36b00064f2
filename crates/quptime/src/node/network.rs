//! What arrives from other nodes, and what the core sends to them.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use consensus::{Configuration, Event, Message, Position, Snapshot, Term};
use flate2::Compression;
use peer::handler::{BoxFuture, Handler, Introduction};
use peer::http::WebStream;
use peer::stranger::StrangerInfo;

use super::shared::Shared;
use super::wire::{self, Beat, FRAME_MAX, Found, Peers, Proposal, Reports, decode, encode, kind};
use super::{doctor, enroll, join, propose, web};
use crate::document::inventory::Inventory;
use crate::machine::Millis;
use crate::machine::command::Command;
use crate::machine::state::State;
use crate::raft::core::Network;

/// Clusters are told apart by keys and groups; to the transport all qu nodes are one.
pub const CLUSTER: u64 = u64::from_be_bytes(*b"quptime\0");

/// How long a snapshot may be on its way.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an invitation waits for this node's own group, which it would end; the inviter waits longer.
const SETTLE_WAIT: Duration = Duration::from_secs(8);
/// A snapshot unpacks to at most so many bytes.
const STATE_MAX: u64 = 256 << 20;

/// What the newest probe of a check found here.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived {
    /// What.
    pub result: Found,
    /// Why, if not well.
    pub detail: String,
    /// When, by the run's clock.
    pub at: Millis,
    /// How long it took.
    pub took: Millis,
    /// End of the certificate seen, UNIX seconds.
    pub certificate_end: Option<i64>,
}

/// The run as the transport sees it. The run owns the transport, so it is held weakly.
#[derive(Debug)]
pub struct Ear {
    shared: Weak<Shared>,
}

impl Ear {
    /// Of this run.
    pub fn new(shared: &Arc<Shared>) -> Ear {
        Ear {
            shared: Arc::downgrade(shared),
        }
    }
}

impl Handler for Ear {
    fn introduction(&self) -> Bytes {
        let Some(shared) = self.shared.upgrade() else {
            return Bytes::new();
        };
        Bytes::from(shared.me.to_string())
    }

    fn admit(&self, _: &Introduction) -> Result<(), String> {
        // Whoever gets here has the key of the node it says it is.
        Ok(())
    }

    fn known(&self, peer: &Introduction) -> Result<(), String> {
        let shared = self.shared.upgrade().ok_or("the node is stopping")?;
        let known = shared.known.read().get(&peer.node).cloned();
        match (known, peer.key) {
            (Some(known), Some(key)) if known.pin.is(&key) => Ok(()),
            (Some(known), Some(key)) => Err(format!(
                "the key {key} is not that of node {}, which has {}",
                known.node, known.pin
            )),
            _ => {
                Err("not a peer of this cluster; it was removed, or never added with qu node add".to_owned())
            }
        }
    }

    fn messages(&self, _: consensus::NodeId, messages: Vec<Message>) {
        if let Some(core) = self
            .shared
            .upgrade()
            .and_then(|shared| shared.core.get().cloned())
        {
            core.messages(messages);
        }
    }

    fn request(&self, from: consensus::NodeId, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        let shared = self.shared.upgrade();
        Box::pin(async move {
            let shared = shared.ok_or("the node is stopping")?;
            answer(&shared, from, kind, body).await
        })
    }

    fn stranger(&self, stranger: StrangerInfo, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        let shared = self.shared.upgrade();
        Box::pin(async move {
            let shared = shared.ok_or("the node is stopping")?;
            match kind {
                kind::JOIN => {
                    shared.settled(SETTLE_WAIT).await;
                    join::invited(&shared, &stranger, decode(&body)?).map(|said| encode(&said))
                }
                kind::SUBMIT => {
                    let said = enroll::submitted(&shared, &stranger, decode(&body)?).await;
                    said.map(|said| encode(&said))
                }
                _ => Err("this call is not known here".to_owned()),
            }
        })
    }

    fn http(&self, stream: WebStream, _: SocketAddr) -> Option<BoxFuture<()>> {
        let shared = self.shared.upgrade()?;
        Some(Box::pin(web::serve_health(shared, stream)))
    }
}

async fn answer(
    shared: &Arc<Shared>,
    from: consensus::NodeId,
    kind: u8,
    body: Bytes,
) -> Result<Bytes, String> {
    let sender = shared.node_of(from).ok_or("not a peer of this cluster")?;
    if kind != kind::BEAT && !shared.is_member(sender) {
        return Err("not a peer of this cluster; it was removed".to_owned());
    }
    match kind {
        kind::BEAT => {
            let beat: Beat = decode(&body)?;
            // A node speaks for itself alone.
            if beat.node == sender {
                shared.hear(beat);
            }
            Ok(encode(&shared.beat()))
        }
        kind::PROPOSE => {
            let mut proposal: Proposal = decode(&body)?;
            // A node speaks for itself alone: what is logged is who it was.
            if let Command::Configure(configure) = &mut proposal.command {
                configure.by = sender;
            }
            Ok(encode(&propose::as_master(shared, proposal.command).await))
        }
        kind::REPORTS => {
            let reports: Reports = decode(&body)?;
            // If too many wait they are dropped; nodes look again soon.
            drop(shared.reports.try_send((sender, reports.reports)));
            Ok(Bytes::new())
        }
        kind::LOOK_AGAIN => {
            let checks: Vec<String> = decode(&body)?;
            if shared.master() == Some(sender) {
                drop(shared.look_again.try_send(checks));
            }
            Ok(Bytes::new())
        }
        kind::SNAPSHOT => take_snapshot(shared, body),
        kind::CHECKS => {
            let table = super::status::own_table(shared).await;
            table
                .map(|table| encode(&table))
                .ok_or_else(|| "not the master".to_owned())
        }
        kind::STATEMENT => Ok(encode(&super::enter::statement(shared))),
        kind::TEST_ALERT => {
            let asked: super::send::TestCall = decode(&body)?;
            super::send::test_here(shared, &asked)
                .await
                .map(|said| encode(&said))
        }
        kind::PEERS => {
            let document = shared.document();
            Ok(encode(&Peers {
                version: document.version,
                peers: document.peers.clone(),
            }))
        }
        kind::INVENTORY => Ok(encode(&Inventory::of(&shared.document()))),
        kind::ENROLL => Ok(encode(&enroll::as_master(shared, &decode(&body)?).await)),
        kind::DOCTOR => Ok(encode(&doctor::examine(shared))),
        _ => Err(format!(
            "requests of kind {kind} are not known here; is this node older?"
        )),
    }
}

fn take_snapshot(shared: &Shared, body: Bytes) -> Result<Bytes, String> {
    let core = shared.core.get().ok_or("not in a group")?;
    let (group, position, state) = unpack_snapshot(body)?;
    if shared.group.get() != Some(&group) {
        return Err("a snapshot of another group".to_owned());
    }
    core.content(position, state);
    Ok(Bytes::new())
}

/// A snapshot as it goes over the wire: group, position, configuration, deflated state.
pub fn pack_snapshot(group: u64, snapshot: &Snapshot, content: &[u8]) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    out.put_u64(group);
    out.put_u64(snapshot.position.index);
    out.put_u64(snapshot.position.term.0);
    let configuration = snapshot.configuration.encode();
    out.put_u32(configuration.len() as u32);
    out.extend_from_slice(&configuration);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
    let packed = deflate.write_all(content).and_then(|()| deflate.finish());
    out.extend_from_slice(&packed.map_err(|error| error.to_string())?);
    if out.len() > FRAME_MAX {
        return Err(format!(
            "the state has {} bytes packed; at most {FRAME_MAX} are carried",
            out.len()
        ));
    }
    Ok(out.freeze())
}

/// Reads what [`pack_snapshot`] made.
///
/// # Errors
/// It is not that.
pub fn unpack_snapshot(mut body: Bytes) -> Result<(u64, Position, State), String> {
    let short = |_| "a snapshot that is cut off".to_owned();
    let group = body.try_get_u64().map_err(short)?;
    let index = body.try_get_u64().map_err(short)?;
    let term = Term(body.try_get_u64().map_err(short)?);
    let length = body.try_get_u32().map_err(short)? as usize;
    if body.len() < length {
        return Err("a snapshot that is cut off".to_owned());
    }
    // The message that follows has it as well; here it only has to be one.
    Configuration::decode(body.split_to(length)).map_err(|error| error.to_string())?;
    let mut state = Vec::new();
    let mut inflate = flate2::read::DeflateDecoder::new(body.reader()).take(STATE_MAX);
    inflate
        .read_to_end(&mut state)
        .map_err(|error| error.to_string())?;
    let state = decode(&state)?;
    Ok((group, Position { term, index }, state))
}

/// What the core sends.
#[derive(Debug)]
pub struct Mouth {
    shared: Weak<Shared>,
    runtime: tokio::runtime::Handle,
}

impl Mouth {
    /// Of this run, on the current runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(shared: &Arc<Shared>) -> Mouth {
        Mouth {
            shared: Arc::downgrade(shared),
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

impl Network for Mouth {
    fn send(&self, message: Message) {
        if let Some(shared) = self.shared.upgrade()
            && let Some(transport) = shared.transport.get()
        {
            transport.send(message);
        }
    }

    fn send_snapshot(&self, to: consensus::NodeId, snapshot: Snapshot, content: Vec<u8>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        self.runtime.spawn(async move {
            let sent = send_snapshot(&shared, to, &snapshot, &content).await;
            let Some(core) = shared.core.get() else { return };
            match sent {
                Ok(()) => core.snapshot_arrived(to, snapshot),
                Err(error) => {
                    tracing::debug!(target: "quptime", error, "snapshot not taken");
                    core.snapshot_failed(to);
                }
            }
        });
    }

    fn tell(&self, event: &Event) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let name = |number: consensus::NodeId| {
            shared
                .node_of(number)
                .map_or_else(|| number.to_string(), |node| node.to_string())
        };
        match event {
            Event::Removed => tracing::warn!(target: "quptime", "{}", propose::REMOVED),
            Event::Admitted(_) => tracing::info!(target: "quptime", "admitted to the group"),
            Event::LifeSeen(node, _) => {
                tracing::info!(target: "quptime", node = name(*node), "a node came back without its memory");
            }
            Event::Reborn(_, why) => {
                tracing::warn!(target: "quptime", why = ?why, "the own memory does not count any more");
            }
            Event::Impossible(what) => {
                tracing::error!(target: "quptime", what, "group conflict: a message that no loss explains was ignored");
            }
            Event::Forgot(node, _) => {
                tracing::error!(target: "quptime", node = name(*node), "a node lost what it had acknowledged; it is sent again");
            }
            Event::Role(..)
            | Event::Leader(..)
            | Event::ElectionTimeout
            | Event::Configuration(..)
            | Event::RecoveryElection(_) => {}
        }
    }
}

async fn send_snapshot(
    shared: &Shared,
    to: consensus::NodeId,
    snapshot: &Snapshot,
    content: &[u8],
) -> Result<(), String> {
    let group = shared.group.get().copied().unwrap_or(0);
    let body = pack_snapshot(group, snapshot, content)?;
    let transport = shared.transport.get().ok_or("not started")?;
    let sent = transport
        .request(to, wire::kind::SNAPSHOT, body, SNAPSHOT_TIMEOUT)
        .await;
    sent.map(drop).map_err(|error| error.to_string())
}
