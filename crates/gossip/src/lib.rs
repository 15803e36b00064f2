//! Who is there, as members tell each other: SWIM over UDP and TCP.
//!
//! Each node publishes its ids, names and addresses ([`Node`]) and watches a few others; what anybody finds out is passed on with the
//! next messages. After a few rounds everybody knows everybody, and that somebody is gone. It is for showing and for finding each other;
//! it never decides who belongs to a cluster.
//!
//! *Carriers.* TCP alone is enough: a connection per destination, closed when idle. Where UDP works in both directions, which the nodes
//! find out by telling each other, it takes over. With TLS everything goes over TCP, mutually authenticated, for datagrams would not be;
//! without it whoever can reach the port can tell anything, as with every plain-text setting.
//!
//! What it does not do: know the state of Raft, or survive a restart; a node that comes back is told everything by the first it meets.
//!
//! Reading order: [`node`], [`envelope`] (what goes over the wire), `identity` (who says it), [`machine`] (the protocol without clock or
//! network), `ways` (which carrier), `streams` and `accept` (TCP), `driver`.

mod accept;
mod driver;
pub mod envelope;
mod identity;
pub mod machine;
pub mod node;
mod settings;
mod streams;
mod tell;
mod ways;

pub use driver::{Counts, Gossip};
pub use node::{BadNode, Node, Seen, State};
pub use settings::{Settings, Timing, Tls};
