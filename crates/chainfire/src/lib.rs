//! Chainfire: a replicated, ordered, multi-version key-value store that etcd v3 clients use unchanged.
//!
//! How a write travels: a server task ([`server`]) checks it and puts it into the one proposal queue of the leader; its driver
//! ([`raft`]) gets all that wait agreed on and makes them durable ([`log`]) with one sync; the apply thread carries them out in log order
//! against the multi-version store ([`mvcc`]), leases ([`lease`]) and authentication ([`auth`]); watchers ([`watch`]) are told, then
//! the clients answered. Reads go straight to [`mvcc`], once it is known that nothing newer was acknowledged.

pub mod auth;
pub mod client;
pub mod config;
pub mod error;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod mvcc;
pub mod node;
pub mod raft;
mod recover;
pub mod repair;
pub mod server;
pub mod server_cli;
pub mod state_machine;
pub mod watch;
pub mod wire;
