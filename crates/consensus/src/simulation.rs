//! Whole groups in one thread: the tests that this crate stands on.
//!
//! - `node`: one member: a replica, its disk, its state machine, and the order in which a [`crate::Ready`] is carried out.
//! - `ledger`: what must hold after every step.
//! - `cluster`: members, network, clients and faults, driven by a queue of events.
//! - `schedules`: random schedules from seeds, in profiles (plain faults, membership, lost disks, recovery elections, founding).
//! - `stage` and `scenarios`: small plays with every message under control: each counterexample to a weaker rule, by name.
//! - `exhaustive`: real replicas in every schedule within small bounds, instead of samples.
//! - `mutations`: for each clause of the protocol, that a schedule, a scenario or a search fails without it.

mod cluster;
mod exhaustive;
mod ledger;
mod mutations;
mod node;
mod scenarios;
mod schedules;
mod stage;
