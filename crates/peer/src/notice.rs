//! What happens to connections, told to whoever words it.
//!
//! A transport makes [`Notice`]s and thins them (whatever others can cause comes with the number of those that were held back); its user
//! chooses the [`Sink`] that makes lines of them. [`log_lines!`](crate::log_lines) is a ready one for a log target of the user's; lines
//! about a peer that cannot be connected to then end with its address, for operators count them by their last field.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use consensus::NodeId;
use pki::{Trouble, Unverified};

use crate::handler::Version;
use crate::handshake::Cause;

/// Something shown, such as an address.
#[derive(Clone, Copy)]
pub struct Shown<'a>(pub &'a dyn fmt::Display);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// See the module. `held_back` is the number of notices of the same kind that were thinned out before this one.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// A peer cannot be connected to. Told for the first failure after a success, then each half minute.
    NotConnected {
        /// Whom.
        node: NodeId,
        /// Why.
        reason: &'a str,
        /// If the peer says no, what for.
        refused: Option<Cause>,
        /// See the type.
        held_back: Option<u64>,
        /// Where it was dialled.
        address: &'a str,
    },
    /// A connection is in use.
    Connected {
        /// To whom.
        node: NodeId,
        /// Of the protocol it speaks.
        version: Version,
        /// Where.
        address: Shown<'a>,
    },
    /// The connection in use is gone.
    Disconnected {
        /// To whom.
        node: NodeId,
        /// Why.
        reason: &'a str,
        /// Where.
        address: Shown<'a>,
    },
    /// Somebody says that he belongs to another cluster, or is told so.
    OtherCluster {
        /// Where.
        peer: Shown<'a>,
        /// Who he says he is.
        node: NodeId,
        /// See the type.
        held_back: Option<u64>,
        /// His cluster.
        cluster: u64,
        /// Ours.
        own_cluster: u64,
    },
    /// Somebody speaks another version of the protocol.
    OtherVersion {
        /// Where.
        peer: Shown<'a>,
        /// Who he says he is.
        node: NodeId,
        /// See the type.
        held_back: Option<u64>,
        /// His.
        version: Version,
        /// Ours.
        own_version: Version,
    },
    /// A handshake ended with a refusal of another kind.
    Refused {
        /// Where.
        peer: Shown<'a>,
        /// Who he says he is.
        node: NodeId,
        /// See the type.
        held_back: Option<u64>,
        /// What for.
        cause: Cause,
        /// In words.
        reason: &'a str,
    },
    /// A peer in use does not keep to the protocol.
    BadPeer {
        /// Who.
        node: NodeId,
        /// See the type.
        held_back: Option<u64>,
        /// What is wrong.
        error: &'a str,
    },
    /// Somebody came with something else than the protocol.
    Garbage {
        /// Who.
        peer: SocketAddr,
        /// See the type.
        held_back: Option<u64>,
        /// What is wrong.
        error: Shown<'a>,
    },
    /// A handshake was not finished in time.
    Abandoned {
        /// Whose.
        peer: SocketAddr,
        /// See the type.
        held_back: Option<u64>,
        /// Why it was given up.
        error: &'a str,
    },
    /// Plain text came where TLS is wanted.
    PlainToTls {
        /// Whose.
        peer: SocketAddr,
        /// See the type.
        held_back: Option<u64>,
    },
    /// TLS came where plain text is wanted.
    TlsToPlain {
        /// Whose.
        peer: SocketAddr,
        /// See the type.
        held_back: Option<u64>,
    },
    /// The other end did not like our certificate.
    CertificateRefused {
        /// Who.
        peer: SocketAddr,
        /// Its reason.
        reason: &'a str,
        /// See the type.
        held_back: Option<u64>,
    },
    /// We did not like the certificate of the other end.
    Unverified {
        /// Whose.
        peer: SocketAddr,
        /// Why.
        reason: &'a Unverified,
        /// See the type.
        held_back: Option<u64>,
    },
    /// TLS did not come about for another reason.
    TlsFailed {
        /// With whom.
        peer: SocketAddr,
        /// Why.
        reason: &'a Trouble,
        /// See the type.
        held_back: Option<u64>,
    },
    /// The connection ended in the TLS handshake. Not thinned, and hardly ever worth a line.
    TlsBrokenOff {
        /// Whose.
        peer: SocketAddr,
        /// How.
        error: Shown<'a>,
    },
    /// A call of a stranger was refused, by the handler or because too many before it were.
    StrangerFailed {
        /// Whose.
        peer: SocketAddr,
        /// See the type.
        held_back: Option<u64>,
        /// Why.
        reason: &'a str,
    },
    /// The listener gives no connections.
    NotAccepting {
        /// See the type.
        held_back: Option<u64>,
        /// Why.
        error: Shown<'a>,
    },
    /// What the handler wants others to be told is too long and was cut.
    IntroductionCut {
        /// Its bytes.
        length: usize,
    },
    /// New certificate files are in use.
    Reloaded {
        /// Whose certificate it is.
        subject: &'a str,
        /// Until when it is good.
        not_after: Shown<'a>,
    },
    /// New certificate files cannot be used.
    NotReloaded {
        /// Why.
        error: Shown<'a>,
    },
    /// Looking at the certificate files failed altogether.
    NotLooked {
        /// Why.
        error: Shown<'a>,
    },
}

/// Where notices go. It is called by the tasks of the transport and must not block.
#[derive(Clone)]
pub struct Sink(Arc<dyn Fn(Notice<'_>) + Send + Sync>);

impl Sink {
    /// Calls `tell` with each notice.
    pub fn new(tell: impl Fn(Notice<'_>) + Send + Sync + 'static) -> Sink {
        Sink(Arc::new(tell))
    }

    pub(crate) fn tell(&self, notice: Notice<'_>) {
        (self.0)(notice);
    }
}

impl Default for Sink {
    /// Lines with the target `peer`.
    fn default() -> Sink {
        crate::log_lines!("peer")
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

#[doc(hidden)]
pub use tracing;

/// A [`Sink`] that writes a log line for each notice, with a target of the user's: `peer::log_lines!("my_network")`.
#[macro_export]
macro_rules! log_lines {
    ($target:literal) => {{
        use $crate::notice::{Notice, tracing};
        $crate::Sink::new(|notice| match notice {
            Notice::NotConnected { node, reason, held_back, address, .. } => tracing::error!(
                target: $target, node_id = node.0, error = reason, held_back, addr = address,
                "Failed to connect to peer"
            ),
            Notice::Connected { node, version, address } => tracing::info!(
                target: $target, node_id = node.0, version = %version, addr = %address, "Connected to peer"
            ),
            Notice::Disconnected { node, reason, address } => tracing::warn!(
                target: $target, node_id = node.0, error = reason, addr = %address, "Connection to peer lost"
            ),
            Notice::OtherCluster { peer, node, held_back, cluster, own_cluster } => tracing::warn!(
                target: $target, peer = %peer, node_id = node.0, held_back, cluster, own_cluster,
                "Peer belongs to another cluster"
            ),
            Notice::OtherVersion { peer, node, held_back, version, own_version } => tracing::warn!(
                target: $target, peer = %peer, node_id = node.0, held_back, version = %version,
                own_version = %own_version, "Peer speaks another protocol version"
            ),
            Notice::Refused { peer, node, held_back, reason, .. } => tracing::warn!(
                target: $target, peer = %peer, node_id = node.0, held_back, reason, "Peer refused"
            ),
            Notice::BadPeer { node, held_back, error } => tracing::warn!(
                target: $target, node_id = node.0, held_back, error, "Bad bytes from peer"
            ),
            Notice::Garbage { peer, held_back, error } => tracing::warn!(
                target: $target, peer = %peer, held_back, error = %error, "Bad bytes on the port of members"
            ),
            Notice::Abandoned { peer, held_back, error } => tracing::warn!(
                target: $target, peer = %peer, held_back, error, "Handshake with peer given up"
            ),
            Notice::PlainToTls { peer, held_back } => tracing::warn!(
                target: $target, peer = %peer, held_back,
                "Plain text sent to the TLS port of members, want TLS there too"
            ),
            Notice::TlsToPlain { peer, held_back } => tracing::warn!(
                target: $target, peer = %peer, held_back,
                "TLS sent to the plain-text port of members, want TLS here too"
            ),
            Notice::CertificateRefused { peer, reason, held_back } => tracing::warn!(
                target: $target, peer = %peer, reason, held_back, "tls: bad certificate"
            ),
            Notice::Unverified { peer, reason, held_back } => tracing::warn!(
                target: $target, peer = %peer, reason = %reason, held_back, "certificate verify failed"
            ),
            Notice::TlsFailed { peer, reason, held_back } => tracing::warn!(
                target: $target, peer = %peer, reason = %reason, held_back, "TLS handshake with peer failed"
            ),
            Notice::TlsBrokenOff { peer, error } => tracing::debug!(
                target: $target, peer = %peer, error = %error, "TLS handshake with peer broken off"
            ),
            Notice::StrangerFailed { peer, held_back, reason } => tracing::warn!(
                target: $target, peer = %peer, held_back, reason, "Call of a stranger refused"
            ),
            Notice::NotAccepting { held_back, error } => tracing::error!(
                target: $target, held_back, error = %error, "Accepting connections of peers failed"
            ),
            Notice::IntroductionCut { length } => tracing::error!(
                target: $target, length, "The introduction of this member is too long and was cut"
            ),
            Notice::Reloaded { subject, not_after } => tracing::info!(
                target: $target, subject = %subject, not_after = %not_after, "Certificate for members reloaded"
            ),
            Notice::NotReloaded { error } => tracing::warn!(
                target: $target, error = %error, "New certificate for members refused, the old one stays in use"
            ),
            Notice::NotLooked { error } => tracing::error!(
                target: $target, error = %error, "Looking at certificates failed"
            ),
            // Notices that come later are lines once somebody has worded them.
            #[allow(unreachable_patterns, reason = "only other crates need it")]
            _ => {}
        })
    }};
}
