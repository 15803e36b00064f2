//! Everything in qu that decides over time, without clock, network, disk or randomness.
//!
//! [`entrance`] comes first: how a node gets into its group at all, the file against the log.
//!
//! Replicated, so the same on every node after the same entries of the log:
//! - [`state`] with [`command`]: configuration, states of checks, deliveries. Applying is plain: whatever a rule decides is decided by
//!   the master beforehand and stands in the command, so nodes of different versions never come to different states.
//!
//! The master's own, begun anew when the role changes:
//! - [`mastery`]: all of what it does, of which the rest are parts; [`role`] follows who it is;
//! - [`rounds`]: reports of nodes to one verdict per check;
//! - [`announce`]: which messages a change of state gives;
//! - [`dispatch`]: which message is sent when, at most once at a time;
//! - [`preference`]: whether the role should be handed to a preferred node;
//! - [`impaired`]: nodes that find everything broken while nobody else does;
//! - [`enroll`]: what becomes of hosts that show a token;
//! - [`retell`]: channels that forget what they are not told again.
//!
//! Each node's own, with or without a master: [`fallback`], and [`twins`], processes that run as one node.

pub mod announce;
pub mod command;
pub mod dispatch;
pub mod enroll;
pub mod entrance;
pub mod fallback;
pub mod impaired;
pub mod mastery;
pub(crate) mod mutation;
pub mod preference;
pub mod retell;
pub mod role;
pub mod rounds;
#[cfg(test)]
mod simulation;
pub mod state;
pub mod twins;

/// Milliseconds since 1970, or since any other moment that all inputs of one machine share.
pub type Millis = u64;
