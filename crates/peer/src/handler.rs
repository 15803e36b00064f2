//! What the user of a transport is asked and told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use consensus::{Message, NodeId};
use pki::pinned::Fingerprint;

use crate::http::WebStream;
use crate::stranger::StrangerInfo;

/// An answer that is being worked on.
pub type BoxFuture<T> = futures::future::BoxFuture<'static, T>;

/// A version of the protocol. Peers with the same major one and minor ones at most one apart understand each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Another one is another language.
    pub major: u16,
    /// The next one adds something.
    pub minor: u16,
}

impl Version {
    /// What this release speaks.
    pub const OURS: Version = Version { major: 1, minor: 0 };

    /// Whether both can talk to each other.
    pub fn understands(self, other: Version) -> bool {
        self.major == other.major && self.minor.abs_diff(other.minor) <= 1
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the other end said of itself in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Its id.
    pub node: NodeId,
    /// Its cluster, which is ours, unless it is a stranger.
    pub cluster: u64,
    /// The protocol it speaks.
    pub version: Version,
    /// Its [`Handler::introduction`].
    pub extra: Bytes,
    /// The key that it has proven to have; nothing unless keys are pinned.
    pub key: Option<Fingerprint>,
}

/// The user of a transport. All calls come from tasks of the transport, several at once, and none may block: they are answered from
/// memory or put into a queue. None may wait for [`crate::Transport::stop`].
pub trait Handler: Send + Sync + 'static {
    /// What peers are told in every handshake, at most 4 KiB ([`crate::settings::EXTRA_MAX`]; what is longer is cut off and logged).
    fn introduction(&self) -> Bytes;

    /// Whether this peer may connect, or be connected to. The text of a refusal is told to both ends. Not asked about those who only
    /// ask ([`crate::Transport::ask`]). With pinned keys those who come here are known already: `peer.key` is the pin of the address
    /// that `peer.node` has, or [`Handler::known`] has vouched for it.
    fn admit(&self, peer: &Introduction) -> Result<(), String>;

    /// With pinned keys: whether `peer.key` is the one that `peer.node` must have. Asked about peers whose address here has no pin,
    /// or that have no address, whoever dials and whatever for. The text is told to both ends.
    fn known(&self, peer: &Introduction) -> Result<(), String> {
        Err(match peer.key {
            Some(key) => format!("member {} with the key {key} is not known here", peer.node),
            None => "members show certificates here".to_owned(),
        })
    }

    /// With pinned keys: somebody whose key need not be known calls ([`crate::Transport::call_stranger`]). `Err` goes back as well, and
    /// counts as a failed attempt of his address, of which only a few are allowed. The future is dropped half-way when the time of
    /// the connection is over: what must not end so has to go on elsewhere.
    fn stranger(&self, stranger: StrangerInfo, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        let _ = (stranger, kind, body);
        Box::pin(std::future::ready(
            Err("strangers are not served here".to_owned()),
        ))
    }

    /// Somebody speaks HTTP where members are expected, after the TLS handshake if there is TLS. The future serves him; it is dropped
    /// when the time of the connection is over. `None` closes the connection, and it counts as a bad one.
    fn http(&self, stream: WebStream, from: SocketAddr) -> Option<BoxFuture<()>> {
        let _ = (stream, from);
        None
    }

    /// Somebody has asked who is here, and was told.
    fn asked(&self, peer: &Introduction) {
        let _ = peer;
    }

    /// Messages arrived, in the order in which they were sent. All of them are from `from` and for this member.
    fn messages(&self, from: NodeId, messages: Vec<Message>);

    /// A request arrived. What the future yields goes back; it is dropped half-way when the transport stops, not when the connection
    /// is lost.
    fn request(&self, from: NodeId, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>>;

    /// A connection to this peer is up. Not told again while another one takes its place.
    fn connected(&self, peer: NodeId) {
        let _ = peer;
    }

    /// The connection is gone.
    fn disconnected(&self, peer: NodeId) {
        let _ = peer;
    }

    /// Somebody wants to send a directory. The answer says where its files shall be put: an existing directory, or one that can be
    /// made, which belongs to the transport until it has arrived. What is there from an earlier attempt is gone on with, and files that
    /// the sender does not have are removed. `Err` refuses.
    fn receive(&self, from: NodeId, header: &[u8]) -> Result<PathBuf, String> {
        let _ = (from, header);
        Err("directories are not taken here".to_owned())
    }

    /// All files are there, verified and on disk. The answer goes to the sender.
    fn received(&self, from: NodeId, header: Bytes, dir: PathBuf) -> BoxFuture<Result<(), String>> {
        let _ = (from, header, dir);
        Box::pin(std::future::ready(Err(
            "directories are not taken here".to_owned()
        )))
    }
}
