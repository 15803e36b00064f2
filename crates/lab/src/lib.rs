//! The lab: many hosts on one machine, for people (`mainstay up`), tests, benchmarks and runbooks.
//!
//! A [`Topology`] says in plain data which hosts there are and what runs on them. [`Lab::up`] starts it in one of two
//! forms behind one API: `process` (a host is a loopback address and a directory) and `machine` (a host is a
//! systemd-nspawn container). What runs are real programs, each a process of its own with its own configuration,
//! data and log.
//!
//! **Invariants**
//! - A process is signalled only after its number *and* start time have been checked ([`pid`]).
//! - Whatever is known about a running lab is in its state file ([`state`]), so that any program can use or stop it.
//! - Data and logs are deleted only for a scoped lab whose test has passed, or on an explicit `--fresh --yes`.
//!
//! The crate uses threads and processes and no async runtime, but for the signals of the foreground command.

mod host;
mod lab;
mod machine;
mod process;
mod registry;
mod starting;

pub mod address;
pub mod applets;
pub mod cli;
pub mod pid;
pub mod ready;
pub mod services;
pub mod state;
pub mod topology;
pub mod wait;

pub use address::AddressBlock;
pub use host::{Condition, Host, Output};
pub use lab::{Lab, Options, Ownership, clear_abandoned, stop_from_outside};
pub use machine::missing as machines_missing;
pub use process::tail;
pub use topology::{ConfigFile, Form, HostSpec, Program, Readiness, ServiceSpec, Topology};
