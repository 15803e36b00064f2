//! What a transport is told at its start, and the bounds on what it holds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consensus::NodeId;
use pki::pinned::{self, Fingerprint, Identity};
use pki::{ClientAuth, Paths, Reloadable};
use rustls::{ClientConfig, ServerConfig};
use service::clock::{SharedClock, SystemClock};
use tokio::net::TcpListener;

use crate::notice::Sink;

/// Bytes that [`crate::Handler::introduction`] may have.
pub const EXTRA_MAX: usize = 4 << 10;

/// Keeps a client of another protocol from being taken for a member by mistake, or by a third party.
const ALPN: &[&[u8]] = &[b"mainstay-peer"];

/// With pinned keys a web client may finish the handshake as well, and be answered by [`crate::Handler::http`].
const ALPN_PINNED_SERVER: &[&[u8]] = &[b"mainstay-peer", b"http/1.1"];

/// Everything that [`crate::Transport::start`] needs. [`Settings::new`] gives the defaults.
#[derive(Debug)]
pub struct Settings {
    /// The cluster; members of others are refused.
    pub cluster: u64,
    /// This member.
    pub node: NodeId,
    /// Where peers come in; without it nobody does, and this member only dials.
    pub listener: Option<TcpListener>,
    /// Without it everything is plain text.
    pub tls: Option<Tls>,
    /// Bounds.
    pub limits: Limits,
    /// For log lines and certificates. Timers are tokio's.
    pub clock: SharedClock,
    /// Who words what happens.
    pub sink: Sink,
}

impl Settings {
    /// Plain text, default bounds, the machine's clock.
    pub fn new(cluster: u64, node: NodeId, listener: impl Into<Option<TcpListener>>) -> Settings {
        Settings {
            cluster,
            node,
            listener: listener.into(),
            tls: None,
            limits: Limits::default(),
            clock: SystemClock::shared(),
            sink: Sink::default(),
        }
    }
}

/// Bounds. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages without entries that wait for one peer.
    pub urgent_bytes: usize,
    /// Messages with entries that wait for one peer. Four times what a leader sends ahead.
    pub entries_bytes: usize,
    /// Requests that wait for one peer.
    pub requests_bytes: usize,
    /// One message, request or answer. What is larger is dropped or refused here and closes the connection there, so it must be the
    /// same on all members.
    pub frame_bytes: usize,
    /// Requests of one peer that are being answered at once; one more is refused.
    pub requests_served: usize,
    /// From the first byte of a frame to its last. Bytes that trickle in keep a connection from being silent, not from this.
    pub frame_timeout: Duration,
    /// Connections that have not finished their handshake; one more ends the oldest.
    pub handshakes: usize,
    /// From the accepted or dialled connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the first packet to the connection, for each address of a name.
    pub connect_timeout: Duration,
    /// How often a ping is sent.
    pub ping_every: Duration,
    /// Without a byte for so long a connection is dead.
    pub silence_max: Duration,
    /// Waiting time after the first failed attempt to connect; doubles up to [`Limits::retry_max`], with jitter.
    pub retry_min: Duration,
    /// See [`Limits::retry_min`].
    pub retry_max: Duration,
    /// Members known at once, named or come by themselves.
    pub peers: usize,
    /// Directories received at once.
    pub transfers: usize,
    /// Files of one directory.
    pub files: usize,
    /// Connections of strangers (see [`crate::stranger`]) and of web clients at once; one more ends the oldest of whoever has most.
    pub strangers: usize,
    /// From the end of its handshake to the end of such a connection, whatever happens on it.
    pub stranger_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            urgent_bytes: 8 << 20,
            entries_bytes: 64 << 20,
            requests_bytes: 64 << 20,
            frame_bytes: 32 << 20,
            requests_served: 1024,
            frame_timeout: Duration::from_mins(1),
            handshakes: 256,
            handshake_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            ping_every: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(2),
            peers: 1024,
            transfers: 4,
            files: 65_536,
            strangers: 64,
            stranger_lifetime: Duration::from_mins(1),
        }
    }
}

/// Where a peer is, and which key it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`. Names are looked up at each attempt.
    pub address: String,
    /// With pinned keys: the only one that this peer may have, whoever dials. Means nothing with authorities or plain text.
    pub pin: Option<Fingerprint>,
}

impl From<String> for Address {
    fn from(address: String) -> Address {
        Address { address, pin: None }
    }
}

impl From<&str> for Address {
    fn from(address: &str) -> Address {
        address.to_owned().into()
    }
}

impl From<&String> for Address {
    fn from(address: &String) -> Address {
        address.clone().into()
    }
}

/// How members know each other. TLS between them is always mutual.
#[derive(Debug, Clone)]
pub struct Tls {
    pub(crate) by: By,
}

#[derive(Debug, Clone)]
pub(crate) enum By {
    /// Certificate, key and authorities, exchanged while in use.
    Authority(Arc<Reloadable>),
    /// The own key, and fingerprints of those of others.
    Pinned {
        identity: Identity,
        server: Arc<ServerConfig>,
    },
}

impl Tls {
    /// By an authority, whose certificates the others show. Reads the files. Afterwards the transport looks at them every second and
    /// takes new ones.
    pub fn load(
        certificate: &Path,
        key: &Path,
        authorities: &Path,
        now_unix_s: u64,
    ) -> Result<Tls, pki::Error> {
        let paths = Paths {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            authorities: Some(authorities.to_owned()),
        };
        let files = Reloadable::load(paths, ClientAuth::Machines, ALPN, now_unix_s)?;
        Ok(Tls {
            by: By::Authority(Arc::new(files)),
        })
    }

    /// By pinned keys. A member is who has the key of its [`Address`] or is [known](crate::Handler::known); everybody else is a
    /// [stranger](crate::stranger).
    pub fn pinned(identity: Identity) -> Tls {
        let server = pinned::server_config(&identity, ALPN_PINNED_SERVER);
        Tls {
            by: By::Pinned { identity, server },
        }
    }

    /// The files of an authority and what is made of them: warnings to tell at the start, and [`Reloadable::reload`] for a signal.
    pub fn files(&self) -> Option<&Arc<Reloadable>> {
        match &self.by {
            By::Authority(files) => Some(files),
            By::Pinned { .. } => None,
        }
    }

    /// The own key, if keys are pinned.
    pub fn identity(&self) -> Option<&Identity> {
        match &self.by {
            By::Authority(_) => None,
            By::Pinned { identity, .. } => Some(identity),
        }
    }

    /// For the next connection that comes in.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        match &self.by {
            By::Authority(files) => files.server(),
            By::Pinned { server, .. } => server.clone(),
        }
    }

    /// For the next connection to a peer with this pin; nothing if there are no authorities to verify it by.
    pub(crate) fn client(&self, pin: Option<Fingerprint>) -> Option<Arc<ClientConfig>> {
        match &self.by {
            By::Authority(files) => files.client(),
            By::Pinned { identity, .. } => Some(pinned::client_config(identity, pin, ALPN)),
        }
    }
}
