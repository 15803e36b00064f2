//! The transport itself: what users call.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Message, NodeId};
use pki::Reloadable;
use pki::pinned::Fingerprint;

use crate::error::{AskError, BulkError, RequestError};
use crate::handler::{Handler, Introduction};
use crate::handshake::{Cause, Purpose};
use crate::link::Outcome;
use crate::settings::{Address, Settings};
use crate::shared::Shared;
use crate::stranger::Stranger;
use crate::{accept, bulk, dial};

/// How often the files of TLS are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the crate. Clones are the same transport; it runs until [`Transport::stop`].
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("own", &self.shared.own)
            .finish_non_exhaustive()
    }
}

/// How it stands with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub node: NodeId,
    /// Where it is dialled; nothing if it came by itself.
    pub address: Option<String>,
    /// Whether a connection is up.
    pub connected: bool,
    /// Of the last ping of this connection.
    pub round_trip: Option<Duration>,
    /// Messages that were not sent: too many waited, or nobody was there.
    pub dropped: u64,
    /// Over all connections.
    pub sent_bytes: u64,
    /// Over all connections.
    pub received_bytes: u64,
    /// Why the last connection ended or did not come about.
    pub last_error: Option<String>,
    /// If the last attempt ended with the peer saying no: what for. [`Cause::UnknownKey`] is what a removed member with pinned keys gets.
    pub refused: Option<Cause>,
}

/// What happened that belongs to no peer. Only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that brought something else than this protocol, or broke it.
    pub bad_connections: u64,
    /// Peers refused: another cluster, another version, not admitted.
    pub refused: u64,
    /// Handshakes given up: too slow, or crowded out by newer ones.
    pub abandoned: u64,
    /// Handshakes in which TLS failed.
    pub tls_failures: u64,
    /// Calls of strangers that came to nothing.
    pub strangers_failed: u64,
    /// Messages for members that are not known.
    pub unaddressed: u64,
}

impl Transport {
    /// Starts on the current tokio runtime: takes connections at once, dials nobody before [`Transport::set_addresses`].
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(settings: Settings, handler: Arc<dyn Handler>) -> Transport {
        let shared = Shared::new(&settings, handler);
        if let Some(listener) = settings.listener {
            shared.tasks.spawn(accept::run(shared.clone(), listener));
        }
        if let Some(files) = settings.tls.as_ref().and_then(|tls| tls.files()) {
            shared.tasks.spawn(keep_current(shared.clone(), files.clone()));
        }
        Transport { shared }
    }

    /// Ends all connections and tasks. Nothing is told to the handler after it returns, and the port is free.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Whom to keep connections to: `host:port` by id, with pinned keys and the key of each. Members that were named before and are
    /// not any more, or have another key, are disconnected; those that came by themselves are left alone. This member's own address
    /// is ignored.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn set_addresses<A: Into<Address>>(&self, addresses: BTreeMap<NodeId, A>) {
        let shared = &self.shared;
        let mut addresses: BTreeMap<NodeId, Address> = addresses
            .into_iter()
            .map(|(node, address)| (node, address.into()))
            .collect();
        addresses.remove(&shared.own.node);
        if shared.stop.is_cancelled() {
            return;
        }
        for (peer, until) in shared.peers.name(addresses, &shared.limits) {
            shared.tasks.spawn(dial::keep(shared.clone(), peer, until));
        }
    }

    /// Puts a message for its receiver into a queue. If the queue is full, or nobody is there to take it, it is dropped and counted.
    /// While an attempt to connect is under way it waits for its end.
    pub fn send(&self, message: Message) {
        match self.shared.peers.get(message.to) {
            Some(peer) => peer.send(message),
            None => {
                self.shared.tell.unaddressed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Sends a request and waits for its answer. Fails at once if no connection is up: it may be asked of another member. Dropping the
    /// future gives the answer up, not the request.
    pub async fn request(
        &self,
        to: NodeId,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let not_sent = |reason: String| RequestError::NotSent { to: to.0, reason };
        let link = self.shared.peers.get(to).and_then(|peer| peer.link());
        let link = link.ok_or_else(|| not_sent("not connected".to_owned()))?;
        let asked = link.ask(kind, body, &self.shared.limits).map_err(not_sent)?;
        match asked.answer(timeout).await {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Refused(text) => Err(RequestError::Refused(text)),
            Outcome::NotSent(reason) => Err(not_sent(reason)),
            Outcome::Unknown(reason) => Err(RequestError::Unknown { to: to.0, reason }),
        }
    }

    /// Asks who is at an address: the handshake and nothing else. Whoever it is must belong to this cluster. May be this member itself.
    ///
    /// With pinned keys the other end answers only if it knows this one's key; here any key will do if the address has no pin.
    pub async fn ask(
        &self,
        address: impl Into<Address>,
        timeout: Duration,
    ) -> Result<Introduction, AskError> {
        let at: Address = address.into();
        let address = at.address.as_str();
        let unreachable = |reason: String| AskError::Unreachable {
            address: address.to_owned(),
            reason,
        };
        let reached = tokio::time::timeout(timeout, dial::reach(&self.shared, &at, Purpose::Ask, None));
        let reached = tokio::select! {
            reached = reached => reached,
            () = self.shared.stop.cancelled() => return Err(unreachable("the transport stops".to_owned())),
        };
        match reached {
            Ok(Ok((theirs, open))) => Ok(theirs.introduction(open.proof.key)),
            Ok(Err(dial::Failure::Refused(refusal) | dial::Failure::Unwanted(_, refusal))) => {
                Err(AskError::Refused {
                    address: address.to_owned(),
                    reason: refusal.text,
                })
            }
            Ok(Err(failure)) => Err(unreachable(failure.to_string())),
            Err(_) => Err(unreachable(format!("timeout after {timeout:?}"))),
        }
    }

    /// Calls somebody who need not know this member, nor be known here: the handshake, and then what [`Stranger::request`] says.
    /// Without a pin any key will do, and [`Stranger::key`] tells which it is. Only with pinned keys.
    pub async fn call_stranger(&self, address: &str, pin: Option<Fingerprint>) -> Result<Stranger, AskError> {
        let unreachable = |reason: String| AskError::Unreachable {
            address: address.to_owned(),
            reason,
        };
        if !self.shared.is_pinned() {
            return Err(unreachable(
                "strangers are called with pinned keys only".to_owned(),
            ));
        }
        let at = Address {
            address: address.to_owned(),
            pin,
        };
        let reached = tokio::select! {
            reached = dial::reach(&self.shared, &at, Purpose::Stranger, None) => reached,
            () = self.shared.stop.cancelled() => return Err(unreachable("the transport stops".to_owned())),
        };
        match reached {
            Ok((theirs, open)) => Stranger::new(self.shared.clone(), &theirs, open).map_err(unreachable),
            Err(dial::Failure::Refused(refusal) | dial::Failure::Unwanted(_, refusal)) => {
                Err(AskError::Refused {
                    address: address.to_owned(),
                    reason: refusal.text,
                })
            }
            Err(failure) => Err(unreachable(failure.to_string())),
        }
    }

    /// Sends the plain files of one directory over a connection of its own. It must not change meanwhile. After [`BulkError::Cut`] the
    /// same call goes on from what has arrived. `bytes_per_second` bounds the rate. With or without it, the rate is lowered while messages
    /// to this member are held up, and raised again when they are not.
    pub async fn send_directory(
        &self,
        to: NodeId,
        header: Bytes,
        dir: &Path,
        bytes_per_second: Option<u64>,
    ) -> Result<(), BulkError> {
        // Boxed: it is large, and its callers should not be.
        let sent = Box::pin(bulk::send(&self.shared, to, header, dir, bytes_per_second));
        tokio::select! {
            result = sent => result,
            () = self.shared.stop.cancelled() => Err(BulkError::Cut {
                to: to.0,
                reason: "the transport stops".to_owned(),
            }),
        }
    }

    /// How it stands with every peer that is named or connected, by id.
    pub fn statuses(&self) -> Vec<PeerStatus> {
        self.shared.peers.statuses()
    }

    /// What happened that belongs to no peer.
    pub fn counts(&self) -> Counts {
        self.shared.tell.counts()
    }
}

/// Takes new certificates as they come.
async fn keep_current(shared: Arc<Shared>, files: Arc<Reloadable>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shared.stop.cancelled() => return,
        }
        let (looking, files) = (shared.clone(), files.clone());
        let looked = tokio::task::spawn_blocking(move || looking.tell.look(&files)).await;
        if let Err(error) = looked {
            shared.tell.not_looked(&error);
        }
    }
}
