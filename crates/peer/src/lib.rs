//! The connection between the members of a cluster.
//!
//! [`Transport`] keeps one TCP connection to each peer in use and carries over it the Raft messages of all groups, requests with
//! answers, and pings. Either end dials, so a member that knows nobody yet can be spoken to and answers over the connection it accepted.
//! Directories (snapshots) travel over connections of their own, so they never stand before a heartbeat.
//!
//! What it promises: messages of one lane arrive in order, once or not at all; what was lost is counted; a request says whether it may
//! have been carried out; a peer is who the handshake says. With TLS it is one that the authority of the cluster has certified, or, if
//! keys are pinned, one whose key is known; others may only call as [`stranger`]s, and web clients be turned away politely ([`http`]).
//!
//! What it does not do: decide who belongs to the cluster (a [`Handler`] admits), store anything but the pieces of a directory under
//! way, or repeat anything.
//!
//! Reading order: [`settings`], [`handler`], `frame` and `handshake` (what goes over the wire), `outbox` (what waits), `peers` (which
//! connection is the one in use), `link` (a connection at work), `dial` and `accept` (how it begins), `bulk`, [`stranger`], [`notice`] and
//! `tell` (what is told of it), [`transport`].

mod accept;
pub mod bulk;
mod dial;
pub mod error;
pub mod frame;
pub mod handler;
pub mod handshake;
pub mod http;
mod link;
pub mod notice;
mod outbox;
mod peers;
pub mod settings;
mod shared;
pub mod stranger;
mod stream;
mod tell;
pub mod transport;

pub use error::{AskError, BulkError, RequestError};
pub use handler::{BoxFuture, Handler, Introduction, Version};
pub use handshake::Cause;
pub use http::WebStream;
pub use notice::{Notice, Sink};
pub use settings::{Address, Limits, Settings, Tls};
pub use stranger::{Stranger, StrangerInfo};
pub use transport::{Counts, PeerStatus, Transport};
