//! Raft for many groups per process, as a pure state machine.
//!
//! A [`Replica`] is one member's part in one group. It has no clock, network, disk or thread: ticks, messages, proposals, reads and
//! completed writes go in, a [`Ready`] comes out, and the same inputs always give the same outputs. So a whole cluster can be played
//! through in one thread, thousands of times, with every fault a machine room has; that is how this crate is tested
//! (`src/simulation`).
//!
//! What it does: pre-vote and check-quorum; linearizable reads confirmed by a round that began after the read arrived; leader transfer;
//! learners and their promotion; membership changes in steps of one voter, in force when appended; snapshots described here and carried
//! by the user; flow control in bytes; and members that lost their disk (see [`machine`], which explains the rule before the code).
//!
//! What it does not do: forward proposals to the leader, encode messages, keep time, store anything.
//!
//! Reading order: [`types`], [`entry`], [`configuration`], `log`, `message`, `progress`, then [`machine`] and its parts.

pub mod configuration;
pub mod entry;
mod log;
pub mod machine;
mod message;
mod mutation;
mod progress;
mod random;
mod ready;
mod settings;
pub mod types;
pub mod wire;

#[cfg(test)]
mod simulation;

pub use configuration::{Change, Configuration, Member};
pub use entry::{Entry, Kind};
pub use log::Snapshot;
pub use machine::{Replica, Restored};
pub use message::{Body, Message, ReadId};
pub use mutation::Mutation;
pub use ready::{Event, Fetch, Missing, PeerStatus, ReadState, Ready, Rebirth, RoleName, Status};
pub use settings::Settings;
pub use types::{Fence, GroupId, HardState, Incarnation, Index, NodeId, Position, Refusal, Term, Vote};
