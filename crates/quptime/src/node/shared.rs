//! What all parts of a run have in hand.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use peer::Transport;
use pki::pinned::{Fingerprint, Identity};
use service::clock::{Moment, SharedClock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::file::FileReport;
use super::live::Ears;
use super::network::Arrived;
use super::promised::Promised;
use super::standstill::Standstill;
use super::status::TableCall;
use super::tested::Tests;
use super::trouble::Troubles;
use super::web_listen::WebListen;
use super::wire::{Beat, PROTOCOL, Peers, Report};
use crate::document::{Digest, Document, Peer};
use crate::home::{Home, NodeFile};
use crate::identity::NodeId;
use crate::machine::twins::{Last, Process};
use crate::machine::{Millis, entrance};
use crate::raft::core::Core;
use crate::raft::view::View;

/// Between two looks whether the own group runs.
const SETTLED_EVERY: Duration = Duration::from_millis(20);

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The daemon stops.
    Stop,
    /// The next run begins: something on disk has changed that decides how a node starts.
    Again,
    /// The daemon cannot go on.
    Failed(String),
}

/// Giving up the role of master before the node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Nobody asked.
    No,
    /// Another node shall lead.
    Asked,
    /// This one does not any more, or nobody can take the role from it.
    Left,
}

/// A peer whose key is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub node: NodeId,
    /// Where.
    pub address: String,
    /// The key it must have.
    pub pin: Fingerprint,
}

/// See the module.
pub struct Shared {
    /// This node.
    pub me: NodeId,
    /// Its directory.
    pub home: Home,
    /// Its settings.
    pub settings: NodeFile,
    /// Its key.
    pub identity: Identity,
    /// Time.
    pub clock: SharedClock,
    /// This process, at its start.
    pub process: Process,
    /// When that was.
    pub process_begun: Moment,
    /// When the run began.
    pub begun: Moment,
    /// Whether this node is about to give its own group up.
    pub promised: Promised,
    /// When it did not move.
    pub standstill: Standstill,
    /// The group's core, once the node is in a group.
    pub core: OnceLock<Core>,
    /// The core's thread.
    pub thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// The group; 0 outside of any.
    pub group: OnceLock<u64>,
    /// The same as the start-up decision knows it.
    pub group_facts: OnceLock<entrance::Group>,
    /// The index after which the group begins that this node founded.
    pub founded_at: OnceLock<u64>,
    /// The start-up decision.
    pub entrance: Mutex<entrance::Entrance>,
    /// The digest of the newest configuration, which many ask for.
    pub digest: Mutex<Option<(Arc<Document>, entrance::Digest)>>,
    /// To peers.
    pub transport: OnceLock<Transport>,
    /// Who is heard.
    pub ears: Mutex<Ears>,
    /// Who is let in.
    pub known: RwLock<BTreeMap<consensus::NodeId, Known>>,
    /// Peers of a configuration that has not arrived here yet, as others told them.
    pub introduced: Mutex<Option<Peers>>,
    /// What `cluster.yaml` said at the start of the run; what counts outside of a group.
    pub document_at_start: Arc<Document>,
    /// How it stands with hand edits.
    pub file: Arc<Mutex<FileReport>>,
    /// Why the files beside `raft/log` cannot be written.
    pub unwritable: Mutex<Option<String>>,
    /// The version that `cluster.yaml` has, or would have if no edit were waiting in it.
    pub followed: watch::Sender<u64>,
    /// Somebody waits for the file to be written.
    pub follow_now: tokio::sync::Notify,
    /// Why this node is in no group yet.
    pub waiting: Mutex<Vec<String>>,
    /// Reports for the master that this node may be.
    pub reports: mpsc::Sender<(NodeId, Vec<Report>)>,
    /// Checks that shall be looked at again at once.
    pub look_again: mpsc::Sender<Vec<String>>,
    /// What the newest probe of each check found here.
    pub found: Mutex<BTreeMap<String, Arrived>>,
    /// What this node counts, over all runs.
    pub counts: Arc<Counts>,
    /// Asks for the table of checks, which this node can make while it is master.
    pub tables: mpsc::Sender<TableCall>,
    /// Errors of the last minutes, for `doctor`.
    pub troubles: Arc<Troubles>,
    /// Which alerts took a test, for `doctor`.
    pub tests: Arc<Tests>,
    /// Where pages are served, if they are wanted.
    pub web: Option<Arc<WebListen>>,
    /// Ends the run.
    pub ending: watch::Sender<Option<Ending>>,
    /// How this node sends echoes: `raw`, `ping` or `none: why`.
    pub icmp: String,
    /// To channels.
    pub sender: Result<notify::Sender, String>,
    /// Told to all tasks when the run ends.
    pub stop: CancellationToken,
    /// Told when the master hands over: no new delivery begins.
    pub handing_over: watch::Sender<bool>,
    /// How far giving up the role of master is, before the node stops.
    pub leave: watch::Sender<Leave>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

/// Whether and why there is no master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mastery {
    /// This one.
    Is(NodeId),
    /// Too few are live.
    NoQuorum,
    /// Enough are live, so there will be one soon.
    Election,
    /// This node belongs to the cluster no more.
    Removed,
}

impl Shared {
    /// Milliseconds since the run began: only for differences.
    pub fn now(&self) -> Millis {
        self.clock.now().since(self.begun).as_millis() as Millis
    }

    /// The wall clock.
    pub fn wall(&self) -> Millis {
        self.clock.unix_ms()
    }

    /// The newest look at the group; nothing outside of any.
    pub fn view(&self) -> Option<Arc<View>> {
        self.core.get().map(Core::view)
    }

    /// The configuration that counts here.
    pub fn document(&self) -> Arc<Document> {
        match self.view() {
            // A member that has not caught up yet knows its peers from the file alone.
            Some(view) if view.state.document.version > 0 => view.state.document.clone(),
            _ => self.document_at_start.clone(),
        }
    }

    /// The digest of a configuration.
    pub fn digest_of(&self, document: &Arc<Document>) -> entrance::Digest {
        let mut known = self.digest.lock();
        if let Some((of, digest)) = &*known
            && Arc::ptr_eq(of, document)
        {
            return *digest;
        }
        let digest = entrance::Digest(Digest::of(document).0);
        *known = Some((document.clone(), digest));
        digest
    }

    /// Silence after which a peer is not live.
    pub fn dead_after(&self) -> Millis {
        self.document().settings.silence().millis()
    }

    /// The node that the group knows by this number.
    pub fn node_of(&self, number: consensus::NodeId) -> Option<NodeId> {
        if number == self.me.number() {
            return Some(self.me);
        }
        self.known.read().get(&number).map(|known| known.node)
    }

    /// Whether a node is one of the cluster, as far as is known here. One that was removed may connect for a moment longer, to learn about
    /// that, and nothing else is for it.
    pub fn is_member(&self, node: NodeId) -> bool {
        let document = self.document();
        let introduced = self.introduced.lock();
        let newer = introduced.iter().filter(|peers| peers.version > document.version);
        let mut listed = newer.flat_map(|peers| &peers.peers).chain(&document.peers);
        listed.any(|peer| peer.node_id == node)
    }

    /// Whether this node is a cluster of its own, as far as its file said when the run began.
    pub fn is_alone(&self) -> bool {
        let peers = &self.document_at_start.peers;
        !peers.is_empty() && peers.iter().all(|peer| peer.node_id == self.me)
    }

    /// Comes back when this node can be asked for something: at once in a cluster, and a node that is alone when its own group runs, so that
    /// nobody is told "no quorum" in its first moments. A group that does not begin is no reason to keep silent for ever.
    pub async fn settled(&self, limit: Duration) {
        if !self.is_alone() {
            return;
        }
        let deadline = self.clock.now() + limit;
        while !matches!(self.mastery(), Mastery::Is(_)) || !self.entrance.lock().is_at_home() {
            if self.clock.now() >= deadline || self.unwritten().is_some() {
                return;
            }
            tokio::time::sleep(SETTLED_EVERY).await;
        }
    }

    /// The node that leads, as far as known here.
    pub fn master(&self) -> Option<NodeId> {
        self.master_in(&*self.view()?)
    }

    /// A node that cannot write takes no part in the group, but hears from its peers whom they follow.
    fn master_in(&self, view: &View) -> Option<NodeId> {
        if view.full.is_none() {
            return view.leader.and_then(|leader| self.node_of(leader));
        }
        let (ears, now, dead_after) = (self.ears.lock(), self.now(), self.dead_after());
        let group = self.group.get().copied();
        let others = view.members.keys().filter_map(|number| self.node_of(*number));
        let live = others.filter(|node| ears.is_live(*node, now, dead_after));
        let beats = live.filter_map(|node| Some(&ears.of(node)?.beat));
        let ours = beats.filter(|beat| Some(beat.group) == group);
        let newest = ours.max_by_key(|beat| beat.term)?;
        newest.master.filter(|master| *master != self.me)
    }

    /// What cannot be written here, if something cannot.
    pub fn unwritten(&self) -> Option<String> {
        let full = self.view().and_then(|view| view.full.clone());
        match full {
            Some(full) => Some(format!(
                "full: {full}; this node goes on when there is room, and changes nothing until then"
            )),
            None => self
                .unwritable
                .lock()
                .as_ref()
                .map(|error| format!("a file is out of date here until this is possible again: {error}")),
        }
    }

    /// Whether and why there is no master.
    pub fn mastery(&self) -> Mastery {
        let Some(view) = self.view() else {
            return Mastery::NoQuorum;
        };
        if view.leader.is_none() && self.is_refused() {
            return Mastery::Removed;
        }
        let is_peer = view.state.document.version == 0 || view.state.document.peer(self.me).is_some();
        if !is_peer || view.removed {
            Mastery::Removed
        } else if let Some(master) = self.master_in(&view) {
            Mastery::Is(master)
        } else if self.live_voters(&view) >= quorum_of(&view) {
            Mastery::Election
        } else {
            Mastery::NoQuorum
        }
    }

    /// Whether the peers that answer say that they do not know this node: it was removed while it was away.
    fn is_refused(&self) -> bool {
        let Some(transport) = self.transport.get() else {
            return false;
        };
        let peers = transport.statuses();
        let refuses = |peer: &peer::PeerStatus| peer.refused == Some(peer::handshake::Cause::UnknownKey);
        peers.iter().any(refuses) && !peers.iter().any(|peer| peer.connected)
    }

    /// Voters that are heard, this node included if it votes.
    pub fn live_voters(&self, view: &View) -> usize {
        let (ears, now, dead_after) = (self.ears.lock(), self.now(), self.dead_after());
        let lives = |number: &consensus::NodeId| {
            *number == self.me.number()
                || self
                    .node_of(*number)
                    .is_some_and(|node| ears.is_live(node, now, dead_after))
        };
        view.members
            .iter()
            .filter(|(number, voter)| **voter && lives(number))
            .count()
    }

    /// What this node says of itself.
    pub fn beat(&self) -> Beat {
        let document = self.document();
        let view = self.view();
        let (now, dead_after) = (self.now(), self.dead_after());
        let ears = self.ears.lock();
        let peers = document.peers.iter().map(|peer| peer.node_id);
        let hears = peers
            .filter(|peer| ears.is_live(*peer, now, dead_after))
            .collect();
        let twins = ears.twins(now);
        drop(ears);
        let mut digest = Digest(self.digest_of(&document).0).to_string();
        digest.truncate(16);
        Beat {
            node: self.me,
            version: document.version,
            digest,
            group: self.group.get().copied().unwrap_or(0),
            term: view.as_ref().map_or(0, |view| view.term),
            master: self.master(),
            protocol: PROTOCOL,
            schema: crate::document::schema::SCHEMA,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            clock: self.wall(),
            hears,
            process: Some(Process {
                up: self.clock.now().since(self.process_begun).as_millis() as Millis,
                last: view.as_deref().map_or((0, 0), last_of),
                ..self.process.clone()
            }),
            twins,
        }
    }

    /// A beat has come from a peer.
    pub fn hear(&self, beat: Beat) {
        let (now, wall, dead_after) = (self.now(), self.wall(), self.dead_after());
        let tells_twins = !beat.twins.is_empty();
        self.ears.lock().hear(now, wall, dead_after, beat);
        if tells_twins {
            self.leave_to_twin();
        }
    }

    /// A beat has come as an answer to one that was sent at `asked`, of [`Shared::now`].
    pub fn hear_answer(&self, asked: Millis, beat: Beat) {
        let news = self.ears.lock().answered(asked, self.now(), &beat);
        if let Some(twins) = news {
            tracing::error!(target: "quptime", "{twins}");
        }
        self.hear(beat);
    }

    /// Ends this process if enough peers found it to be the one of two that has to go.
    fn leave_to_twin(&self) {
        let (now, dead_after) = (self.now(), self.dead_after());
        let document = self.document();
        let peers = document.peers.iter().map(|peer| peer.node_id);
        let peers: Vec<NodeId> = peers.filter(|peer| *peer != self.me).collect();
        let last = self.view().as_deref().map_or((0, 0), last_of);
        let found = self
            .ears
            .lock()
            .must_go((self.process.id, last), &peers, now, dead_after);
        if let Some(twins) = found {
            let why = if twins.behind {
                "holds more"
            } else {
                "was there before"
            };
            self.end(Ending::Failed(format!(
                "another process runs as node {} and {why}: {}; this data directory, or that one, is a copy: every node needs its own (qu init \
                 or qu enroll join), or stop the other one first",
                self.me, twins.stays
            )));
        }
    }

    /// Ends the run. The first word counts.
    pub fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(ending);
            }
            first
        });
    }

    /// Others told who belongs to the cluster now. Counts until a configuration that is as new has arrived here.
    pub fn introduce(&self, peers: Peers) {
        let document = self.document();
        if peers.version <= document.version {
            return;
        }
        let is_news = self.introduced.lock().as_ref() != Some(&peers);
        if is_news {
            *self.introduced.lock() = Some(peers);
            self.trust(&document, &[]);
        }
    }

    /// Lets in and dials the peers of this document, those of a newer one that was told of, and for a while those who were there before.
    pub fn trust(&self, document: &Document, leaving: &[Known]) {
        let mut known: BTreeMap<consensus::NodeId, Known> = BTreeMap::new();
        for gone in leaving {
            known.insert(gone.node.number(), gone.clone());
        }
        let introduced = self.introduced.lock().clone();
        let newer = introduced.filter(|peers| peers.version > document.version);
        let newer = newer.map(|peers| peers.peers).unwrap_or_default();
        for peer in newer.iter().chain(&document.peers) {
            if let Some(one) = known_of(peer)
                && peer.node_id != self.me
            {
                known.insert(peer.node_id.number(), one);
            }
        }
        let addresses = known.iter().map(|(number, one)| {
            let address = peer::settings::Address {
                address: one.address.clone(),
                pin: Some(one.pin),
            };
            (*number, address)
        });
        let addresses: BTreeMap<consensus::NodeId, peer::settings::Address> = addresses.collect();
        *self.known.write() = known;
        if let Some(transport) = self.transport.get() {
            transport.set_addresses(addresses);
        }
    }
}

/// How far the log goes.
fn last_of(view: &View) -> Last {
    (view.last.term.0, view.last.index)
}

/// Voters that a majority of the group consists of.
pub fn quorum_of(view: &View) -> usize {
    view.members.values().filter(|voter| **voter).count() / 2 + 1
}

/// A peer as it is let in: by the fingerprint in the configuration, or by that of its certificate.
pub fn known_of(peer: &Peer) -> Option<Known> {
    let pin = if peer.fingerprint.is_empty() {
        Fingerprint::of_pem(&peer.cert_pem).ok()?
    } else {
        peer.fingerprint.parse().ok()?
    };
    Some(Known {
        node: peer.node_id,
        address: peer.advertise.clone(),
        pin,
    })
}
