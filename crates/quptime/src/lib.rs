//! qu: uptime checks decided by quorum, alerts sent once.
//!
//! The same daemon runs on several hosts. Every node makes every check; the master folds the reports into one verdict per check and
//! sends the alerts. Configuration, states and deliveries are one replicated state ([`machine`]), agreed on by Raft ([`raft`]);
//! `cluster.yaml` is its readable and editable copy ([`document`]).
//!
//! Reading order: [`document`], [`machine`], [`raft`], then the daemon ([`node`]) and its commands ([`cli`] over [`api`]).

pub mod api;
pub mod channel;
pub mod cli;
pub mod document;
pub mod duration;
pub mod home;
pub mod identity;
pub mod machine;
pub mod message;
pub mod node;
pub mod raft;
pub mod secret;
pub mod target;
pub mod token;
mod tui;
