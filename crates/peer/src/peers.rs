//! The peers, and which connection to each of them is the one in use.
//!
//! Either end may dial, so two connections can cross. Whoever begins a handshake first reserves the place:
//!
//! - the dialling end when its TCP connection is up, unless a connection is in use or the peer's attempt is under way;
//! - the accepting end when it reads the hello. If the own attempt is under way as well, the one dialled by the lower id goes on, at
//!   both ends.
//!
//! A connection is in use once its reservation still holds at the end of the handshake. A peer whose transport was started anew
//! (another *instance*) or that dials again replaces what is there: it would not dial if it still had a connection.
//!
//! **Invariant:** at most one connection per peer is in use; the handler hears `connected` and `disconnected` in turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consensus::{Message, NodeId};
use parking_lot::Mutex;
use pki::pinned::Fingerprint;
use service::clock::Moment;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::handler::Handler;
use crate::handshake::Cause;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::settings::{Address, Limits};
use crate::tell::Thinned;
use crate::transport::PeerStatus;

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    state: Mutex<State>,
    /// What the handler was told last. Held while it is told.
    told: Mutex<bool>,
    /// Whether neither a connection nor an attempt of the peer is there.
    free: watch::Sender<bool>,
    pub(crate) dropped: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Where to dial; nothing if it came by itself.
    address: Option<Address>,
    /// Ends the task that dials.
    dialling: Option<CancellationToken>,
    link: Option<Arc<Link>>,
    reserved: Option<Reservation>,
    outbox: Outbox,
    last_error: Option<String>,
    /// If the last attempt ended with the peer saying no.
    refused: Option<Cause>,
    thinned: Thinned,
    /// How long the last connection was in use.
    lived: Duration,
}

impl State {
    /// Neither named nor connected nor about to be.
    fn is_idle(&self) -> bool {
        self.address.is_none() && self.link.is_none() && self.reserved.is_none()
    }

    fn pin(&self) -> Option<Fingerprint> {
        self.address.as_ref()?.pin
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reservation {
    number: u64,
    by_us: bool,
}

/// A place among the connections of one peer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    peer: Arc<Peer>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.peer.state.lock();
        if state
            .reserved
            .is_some_and(|reserved| reserved.number == self.number)
        {
            state.reserved = None;
            self.peer.note_free(&state);
        }
    }
}

/// Why a place was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A connection is in use.
    InUse,
    /// Another attempt is under way.
    Crossing,
}

impl Peer {
    fn new(node: NodeId, limits: &Limits) -> Arc<Peer> {
        let outbox = Outbox::new(limits.urgent_bytes, limits.entries_bytes, limits.frame_bytes);
        Arc::new(Peer {
            node,
            state: Mutex::new(State {
                address: None,
                dialling: None,
                link: None,
                reserved: None,
                outbox,
                last_error: None,
                refused: None,
                thinned: Thinned::default(),
                lived: Duration::ZERO,
            }),
            told: Mutex::new(false),
            free: watch::Sender::new(true),
            dropped: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    fn note_free(&self, state: &State) {
        let is_free = state.link.is_none() && state.reserved.is_none();
        self.free
            .send_if_modified(|free| std::mem::replace(free, is_free) != is_free);
    }

    /// Returns when the place is free, so that dialling makes sense.
    pub(crate) async fn until_free(&self) {
        let mut free = self.free.subscribe();
        // The sender lives as long as `self`.
        free.wait_for(|free| *free).await.map(drop).unwrap_or_default();
    }

    /// Returns when the place is not free any more.
    pub(crate) async fn until_taken(&self) {
        let mut free = self.free.subscribe();
        free.wait_for(|free| !*free).await.map(drop).unwrap_or_default();
    }

    pub(crate) fn address(&self) -> Option<Address> {
        self.state.lock().address.clone()
    }

    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.state.lock().link.clone()
    }

    /// Queues a message, or counts it as dropped.
    pub(crate) fn send(&self, message: Message) {
        let mut state = self.state.lock();
        // Somebody is there, or may be in a moment.
        let has_hope = state.link.is_some() || state.reserved.is_some() || state.dialling.is_some();
        if has_hope && state.outbox.push(message) {
            if let Some(link) = &state.link {
                link.wake();
            }
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Access to what waits, for the connection in use.
    pub(crate) fn with_outbox<T>(&self, take: impl FnOnce(&mut Outbox) -> T) -> T {
        take(&mut self.state.lock().outbox)
    }

    /// The own attempt gets the place.
    pub(crate) fn reserve_dialling(self: &Arc<Peer>, number: u64) -> Result<Ticket, Taken> {
        let mut state = self.state.lock();
        if state.link.is_some() {
            return Err(Taken::InUse);
        }
        if state.reserved.is_some() {
            return Err(Taken::Crossing);
        }
        state.reserved = Some(Reservation { number, by_us: true });
        self.note_free(&state);
        Ok(Ticket {
            peer: self.clone(),
            number,
        })
    }

    /// The peer's attempt gets the place, or not. `own` is this member, `instance` that of the peer.
    pub(crate) fn reserve_accepting(
        self: &Arc<Peer>,
        number: u64,
        own: NodeId,
        instance: u64,
    ) -> Result<Ticket, Taken> {
        let mut state = self.state.lock();
        if state.reserved.is_some_and(|reserved| reserved.by_us) && own < self.node {
            return Err(Taken::Crossing);
        }
        if let Some(link) = &state.link
            && link.instance == instance
            && link.dialled_by == own
            && own < self.node
        {
            // Either its hello was on the way when ours arrived, or it has lost the connection and we have not noticed yet.
            link.doubt();
            return Err(Taken::InUse);
        }
        state.reserved = Some(Reservation { number, by_us: false });
        self.note_free(&state);
        Ok(Ticket {
            peer: self.clone(),
            number,
        })
    }

    /// Takes the connection into use if its place still holds, ending the one before it.
    pub(crate) fn register(&self, ticket: Ticket, link: &Arc<Link>) -> bool {
        let mut state = self.state.lock();
        let holds = state
            .reserved
            .is_some_and(|reserved| reserved.number == ticket.number)
            // It may have got another one since.
            && state.pin().is_none_or(|pin| link.fits(pin));
        if holds {
            state.reserved = None;
            if let Some(old) = state.link.replace(link.clone()) {
                old.end("another connection took its place");
            }
            state.last_error = None;
            state.refused = None;
            state.thinned.succeeded();
            self.note_free(&state);
        }
        drop(state);
        drop(ticket);
        holds
    }

    /// The connection has ended; true if it was the one in use, and then what waited is gone with it.
    pub(crate) fn ended(&self, link: &Arc<Link>, reason: &str) -> bool {
        let mut state = self.state.lock();
        if !state
            .link
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, link))
        {
            return false;
        }
        state.link = None;
        state.lived = link.age();
        state.last_error = Some(reason.to_owned());
        let dropped = state.outbox.clear();
        self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        self.note_free(&state);
        true
    }

    /// An attempt has failed: what waited for it is dropped, for it would be stale when it arrives. True if that is worth a line.
    pub(crate) fn failed(&self, reason: &str, refused: Option<Cause>, now: Moment) -> Option<u64> {
        let mut state = self.state.lock();
        if state.link.is_none() {
            let dropped = state.outbox.clear();
            self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        }
        state.last_error = Some(reason.to_owned());
        state.refused = refused;
        state.thinned.permit(now)
    }

    /// How long the last connection was in use.
    pub(crate) fn lived(&self) -> Duration {
        self.state.lock().lived
    }

    /// Tells the handler what it does not know yet.
    pub(crate) fn tell(&self, handler: &dyn Handler) {
        let mut told = self.told.lock();
        let is_connected = self.state.lock().link.is_some();
        if is_connected == *told {
            return;
        }
        *told = is_connected;
        if is_connected {
            handler.connected(self.node);
        } else {
            handler.disconnected(self.node);
        }
    }

    fn status(&self) -> PeerStatus {
        let state = self.state.lock();
        PeerStatus {
            node: self.node,
            address: state.address.as_ref().map(|at| at.address.clone()),
            connected: state.link.is_some(),
            round_trip: state.link.as_ref().and_then(|link| link.round_trip()),
            dropped: self.dropped.load(Ordering::Relaxed),
            sent_bytes: self.sent.load(Ordering::Relaxed),
            received_bytes: self.received.load(Ordering::Relaxed),
            last_error: state.last_error.clone(),
            refused: state.refused,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    all: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

impl Peers {
    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.all.lock().get(&node).cloned()
    }

    /// The key that it must have.
    pub(crate) fn pin(&self, node: NodeId) -> Option<Fingerprint> {
        self.get(node)?.state.lock().pin()
    }

    /// The peer with this id, new if it came by itself; nothing if there are too many.
    pub(crate) fn get_or_add(&self, node: NodeId, limits: &Limits) -> Option<Arc<Peer>> {
        let mut all = self.all.lock();
        if let Some(peer) = all.get(&node) {
            return Some(peer.clone());
        }
        if all.len() >= limits.peers {
            // Attempts that came to nothing have left some.
            all.retain(|_, peer| !peer.state.lock().is_idle());
        }
        if all.len() >= limits.peers {
            return None;
        }
        let peer = Peer::new(node, limits);
        all.insert(node, peer.clone());
        Some(peer)
    }

    /// Forgets a peer that is neither named nor connected nor about to be.
    pub(crate) fn sweep(&self, peer: &Arc<Peer>) {
        let mut all = self.all.lock();
        let is_idle = peer.state.lock().is_idle();
        if is_idle && all.get(&peer.node).is_some_and(|known| Arc::ptr_eq(known, peer)) {
            all.remove(&peer.node);
        }
    }

    /// Takes the addresses over. Yields the peers that have to be dialled from now on, each with what ends that.
    pub(crate) fn name(
        &self,
        addresses: BTreeMap<NodeId, Address>,
        limits: &Limits,
    ) -> Vec<(Arc<Peer>, CancellationToken)> {
        let mut all = self.all.lock();
        let mut to_dial = Vec::new();
        for (node, address) in &addresses {
            let peer = all.entry(*node).or_insert_with(|| Peer::new(*node, limits));
            let mut state = peer.state.lock();
            if state.address.as_ref() == Some(address) {
                continue;
            }
            state.address = Some(address.clone());
            if let (Some(pin), Some(link)) = (address.pin, &state.link)
                && !link.fits(pin)
            {
                link.end("it must have another key now");
            }
            // A new address is tried at once, not after the pause that the old one has earned.
            if let Some(old) = state.dialling.replace(CancellationToken::new()) {
                old.cancel();
            }
            let until = state.dialling.clone().unwrap_or_default();
            to_dial.push((peer.clone(), until));
        }
        all.retain(|node, peer| {
            let mut state = peer.state.lock();
            if addresses.contains_key(node) || state.address.is_none() {
                return true;
            }
            if state.pin().is_some() {
                // What is under way was begun with a key that nobody knows any more.
                state.reserved = None;
                peer.note_free(&state);
            }
            state.address = None;
            if let Some(dialling) = state.dialling.take() {
                dialling.cancel();
            }
            let dropped = state.outbox.clear();
            peer.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
            if let Some(link) = &state.link {
                link.end("no longer a member");
            }
            // Connections that end give the peer up themselves.
            state.link.is_some() || state.reserved.is_some()
        });
        to_dial
    }

    pub(crate) fn statuses(&self) -> Vec<PeerStatus> {
        let all: Vec<Arc<Peer>> = self.all.lock().values().cloned().collect();
        all.iter()
            .filter(|peer| !peer.state.lock().is_idle())
            .map(|peer| peer.status())
            .collect()
    }
}
