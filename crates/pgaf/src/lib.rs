//! PostgreSQL that fails over by itself: what it decides.
//!
//! A *group* is one primary and its standbys. Two things in the store say who is who. The *lock* names the primary and lives as long as
//! its keeper renews it; it orders primaries and says when one may be presumed dead. The [`Record`] says who may be promoted without
//! losing a row that a client was told is safe. The lock is a matter of time, and clocks lie; the record is a matter of what has been
//! written where, and does not. So nothing that protects rows rests on the lock.
//!
//! - [`names`]: whose confirmation a commit waits for (`synchronous_standby_names`).
//! - [`record`]: who may have to be asked before somebody is promoted, and how it follows the names.
//! - [`change`]: the order of steps in which names and record change.
//! - [`election`]: who is promoted, from what members report after they have cut themselves off.
//! - [`promise`]: what a node that has reported must not do any more.
//! - [`state`]: the states of a node, and which may follow which.
//! - [`decide`](decide()): what the elected monitor assigns next.
//! - [`store`]: where all of it lies.
//! - [`database`], [`probe`]: what a keeper asks of its PostgreSQL, and a monitor of everybody's.
//! - [`postgres`]: both of these with a real server.
//! - [`layout`], [`group`], [`mirror`]: what lies where in the store, how a group is read, and how one keeps up with it.
//! - [`monitor`]: the elected one carries out what is decided.
//! - [`keeper`]: beside each PostgreSQL, does what is assigned.
//! - [`cli`], [`config`]: the program `pg_autoctl` and its files.
//! - [`settings`]: how patient the monitor is, and which values fit each other.
//!
//! Everything that decides is pure: no clock, no network, no disk. `model` (tests) plays it with crashes, delayed writes, stale reads and
//! processes that freeze and wake, all schedules of small groups and random ones of larger groups, and then again with one rule taken
//! away at a time, which has to be noticed.

pub mod change;
pub mod cli;
pub mod config;
pub mod database;
pub mod decide;
pub mod election;
pub mod group;
pub mod keeper;
pub mod layout;
pub mod mirror;
#[cfg(test)]
mod model;
pub mod monitor;
pub mod names;
pub mod postgres;
pub mod probe;
pub mod promise;
pub mod record;
pub mod settings;
pub mod state;
pub mod store;

pub use change::{Change, Work};
pub use decide::decide;
pub use election::{Open, Report, Winner};
pub use names::Names;
pub use promise::Promise;
pub use record::{Kind, Position, Record};
pub use state::NodeState;

/// A node's number in its formation: from 1, given once, never used again.
pub type NodeId = u32;
