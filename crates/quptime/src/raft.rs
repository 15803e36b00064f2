//! The Raft group of a cluster: what is on disk, and the thread that owns it.
//!
//! [`disk`] is the folder `raft/`; [`core`] feeds [`consensus::Replica`] and carries out what it wants; [`view`] is what everybody else
//! sees of it. What travels between nodes leaves through [`core::Network`].

pub mod core;
pub mod disk;
pub mod view;
