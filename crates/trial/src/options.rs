//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::nemesis::FaultKind;
use crate::qu;
use crate::system::System;

/// Runs a real cluster under faults and judges what came of it. Exit status: 0 nothing was found, 1 a
/// violation, 2 it could not be carried out, 3 no namespaces here.
#[derive(Debug, Clone, Parser)]
#[command(name = "trial", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// What is tried.
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

/// What can be tried.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Subject {
    /// The key-value store, or its rival: is what clients saw linearizable?
    Chainfire(Options),
    /// The uptime monitor: is every change told once, and to everybody?
    Qu(qu::Options),
}

/// How the key-value store is tried.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The system that runs; etcd calibrates the instrument.
    #[arg(long, value_enum, default_value_t = System::Chainfire)]
    pub(crate) system: System,

    /// How long faults are made, in minutes.
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    pub(crate) minutes: f64,

    /// Decides what clients and the nemesis choose [default: from the time].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Members of the cluster.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) nodes: u8,

    /// Clients at work at the same time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) clients: u32,

    /// Keys in use at the same time.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) keys: u32,

    /// Operations on a key before it is judged and a new one takes its place.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) per_key: u32,

    /// Bytes of a value; large ones make snapshots take their time.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) value_bytes: u16,

    /// Only these faults [default: all that the network and the system allow].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) faults: Vec<FaultKind>,

    /// Where the members live: in network namespaces (needs root), or on loopback addresses without partitions.
    #[arg(long, value_enum, default_value_t = Place::Namespaces)]
    pub(crate) network: Place,

    /// Reads ask any member's own copy but are judged as linearizable. For proof that the judge can find something: this must fail.
    #[arg(long)]
    pub(crate) serializable_reads: bool,

    /// The `mainstay` program to try [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) mainstay: Option<PathBuf>,

    /// Where data, logs and histories are written [default: `trial` beside the folder of this program].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Keep data and logs even if nothing was found.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Where members live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// Each member in a network namespace.
    Namespaces,
    /// Each member on a loopback address; nothing can be cut.
    Loopback,
}
