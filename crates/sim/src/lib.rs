//! Whole clusters in one thread, from a seed.
//!
//! A system whose decisions are state machines is tested by playing its machine room: [`Queue`] is time, [`Network`] and [`Disk`] are
//! what fails, [`Rng`] decides when, [`history`] judges what clients saw, and [`seeds`] runs many schedules, keeps the seeds that
//! failed and prints how to replay one. The same seed always gives the same schedule, so a failure found once can be looked at as often
//! as needed.
//!
//! Where a model is small enough, [`explore`] plays not some schedules but all of them.
//!
//! This crate knows no system. Each brings its own cluster: a loop that takes the next event from the queue, hands it to a node, and
//! carries out what the node wants done. `crates/consensus/src/simulation` is the one to read first.
//!
//! **Invariant:** nothing here reads a clock or any randomness but the seed. (Only [`seeds`] reads the environment and a file.)

mod disk;
pub mod explore;
pub mod history;
mod network;
mod queue;
mod rng;
pub mod seeds;

pub use disk::{Disk, Full};
pub use network::{Faults, Network};
pub use queue::Queue;
pub use rng::Rng;
