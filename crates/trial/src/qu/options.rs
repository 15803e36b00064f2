//! The command line of `trial qu`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How the uptime monitor is tried.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Faults that are made [default: as many as there is time for].
    #[arg(long, value_name = "N")]
    pub(crate) faults: Option<u32>,

    /// How long faults are made at most, in minutes [default: 2, or no end with --faults].
    #[arg(long, value_name = "N")]
    pub(crate) minutes: Option<f64>,

    /// Decides what fails and when [default: from the time].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Targets that come and go.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=400))]
    pub(crate) targets: u16,

    /// Only these faults [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) kinds: Vec<FaultKind>,

    /// Sinks take every message at once. With `--kinds term` no message may come twice.
    #[arg(long)]
    pub(crate) fair_sinks: bool,

    /// The `mainstay` program to try [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub(crate) mainstay: Option<PathBuf>,

    /// Where data, logs and the ledger are written [default: `trial` beside the folder of this program].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Keep data and logs even if nothing was found.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Options {
    /// Minutes after which no more faults are made.
    pub(crate) fn minutes(&self) -> Option<f64> {
        const DEFAULT: f64 = 2.0;
        self.minutes.or(self.faults.is_none().then_some(DEFAULT))
    }

    /// The faults that are made.
    pub(crate) fn kinds(&self) -> Vec<FaultKind> {
        if self.kinds.is_empty() {
            FaultKind::value_variants().to_vec()
        } else {
            self.kinds.clone()
        }
    }
}

/// Kinds of faults. The victim is the master more often than not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum FaultKind {
    /// `kill -9`, and a start later.
    Kill,
    /// SIGTERM, the end awaited, and a start later: must cost nothing.
    Term,
    /// SIGSTOP, and SIGCONT later.
    Stop,
    /// Two nodes at once are killed or stopped; the third must not act alone.
    Pair,
    /// A node is killed or stopped when a sink has its message and has not answered.
    Ambush,
    /// A node and the others do not hear each other; everybody hears targets and sinks.
    Isolate,
    /// Two nodes do not hear each other, the third hears both.
    Link,
    /// One node does not hear another one, which hears it.
    OneWay,
    /// The link between two nodes comes and goes.
    Flap,
    /// A node does not reach the sinks, or does not get their answers.
    Uplink,
    /// A node does not reach the targets.
    Blind,
}

impl FaultKind {
    /// As it is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Stop => "stop",
            Self::Pair => "pair",
            Self::Ambush => "ambush",
            Self::Isolate => "isolate",
            Self::Link => "link",
            Self::OneWay => "one way",
            Self::Flap => "flap",
            Self::Uplink => "uplink",
            Self::Blind => "blind",
        }
    }
}
