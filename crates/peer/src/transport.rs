//! The transport itself: what users call.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Message, NodeId};

use crate::error::{AskError, BulkError, RequestError};
use crate::handler::{Handler, Introduction};
use crate::settings::Settings;

/// See the crate. Clones are the same transport; it runs until [`Transport::stop`].
#[derive(Debug, Clone)]
pub struct Transport {
    node: NodeId,
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
    /// Messages for members that are not known.
    pub unaddressed: u64,
}

impl Transport {
    /// Starts on the current tokio runtime: takes connections at once, dials nobody before [`Transport::set_addresses`].
    pub fn start(settings: Settings, handler: Arc<dyn Handler>) -> Transport {
        let _ = handler;
        Transport { node: settings.node }
    }

    /// Ends all connections and tasks. Nothing is told to the handler after it returns.
    pub async fn stop(&self) {}

    /// Whom to keep connections to: `host:port` by id. Names are looked up at each attempt. Members that were named before and are
    /// not any more are disconnected; those that came by themselves are left alone. This member's own address is ignored.
    pub fn set_addresses(&self, addresses: BTreeMap<NodeId, String>) {
        let _ = addresses;
    }

    /// Puts a message for its receiver into a queue. If the queue is full, or nobody is there to take it, it is dropped and counted.
    /// While a first attempt to connect is under way it waits for its end.
    pub fn send(&self, message: Message) {
        let _ = message;
    }

    /// Sends a request and waits for its answer. Fails at once if no connection is up: it may be asked of another member.
    pub async fn request(
        &self,
        to: NodeId,
        kind: u8,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        let _ = (kind, body, timeout);
        Err(RequestError::NotSent {
            to: to.0,
            reason: "not connected".to_owned(),
        })
    }

    /// Asks who is at an address: the handshake and nothing else. Whoever it is must belong to this cluster.
    pub async fn ask(&self, address: &str, timeout: Duration) -> Result<Introduction, AskError> {
        let _ = timeout;
        Err(AskError::Unreachable {
            address: address.to_owned(),
            reason: "unreachable".to_owned(),
        })
    }

    /// Sends the plain files of one directory over a connection of its own. It must not change meanwhile. After [`BulkError::Cut`] the
    /// same call goes on from what has arrived. `bytes_per_second` bounds the rate.
    pub async fn send_directory(
        &self,
        to: NodeId,
        header: Bytes,
        dir: &Path,
        bytes_per_second: Option<u64>,
    ) -> Result<(), BulkError> {
        let _ = (header, dir, bytes_per_second);
        Err(BulkError::Unreachable {
            to: to.0,
            reason: "unreachable".to_owned(),
        })
    }

    /// How it stands with every peer that is named or connected, by id.
    pub fn statuses(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// What happened that belongs to no peer.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}
