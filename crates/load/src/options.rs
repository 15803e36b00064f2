//! The command line.

use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Parser, ValueEnum};

use crate::system::System;

/// Measures a system of Mainstay and its rival alternately under the same load and prints both and the ratio.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum)]
    pub(crate) subject: Subject,

    /// Members of each system's cluster, all on this machine; 3 has scenarios of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::builder::PossibleValuesParser::new(["1", "3"]).map(|text| if text == "3" { 3_u8 } else { 1 }))]
    pub(crate) nodes: u8,

    /// With --nodes 3: the members that the clients of the puts connect to.
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = ClientsOn::All)]
    pub(crate) clients_on: ClientsOn,

    /// How often `leader-kill` (with --nodes 3) or `master-kill` (of qu) kills it [default: 30, with --quick 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) kills: Option<u32>,

    /// Checks of `checks` [default: 10000, with --quick 300].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) checks: Option<u32>,

    /// Keys that `million` and `catch-up` load [default: 1000000, with --quick 100000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub(crate) keys: Option<u64>,

    /// A short look: one round, 2 s per run, 100,000 keys where it would be a million.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only scenarios of this name, or whose name begins with it (`put` means all puts). Repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,

    /// Runs of each scenario per system; the median is reported [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,

    /// The systems, in the order in which they take turns [default: the rival and ours].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) systems: Vec<System>,

    /// The `mainstay` program to measure [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) mainstay: Option<PathBuf>,

    /// Where the servers keep their data while they run; decides which disk is measured [default: `bench` beside the folder of
    /// this program].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Threads of the load generator [default: one per core, at most 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: Option<u16>,

    /// Measured seconds of each run, after the warm-up [default: 10, with --quick 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: Option<u64>,

    /// The form of the report on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// List the scenarios and stop.
    #[arg(long)]
    pub(crate) list: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Chainfire against etcd.
    Chainfire,
    /// qu against Prometheus with its blackbox exporter, where that does the same.
    Qu,
}

impl Subject {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chainfire => "chainfire",
            Self::Qu => "qu",
        }
    }

    /// The rival and ours.
    pub(crate) fn systems(self) -> [System; 2] {
        match self {
            Self::Chainfire => [System::Etcd, System::Chainfire],
            Self::Qu => [System::Blackbox, System::Qu],
        }
    }
}

/// Where clients of a cluster connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientsOn {
    /// Spread evenly over the members, as balancing client libraries do.
    All,
    /// All of them on the leader.
    Leader,
}

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people, each printed when its scenario is done.
    Table,
    /// One JSON document at the end.
    Json,
}
