//! Command line of the lab: `mainstay lab ...`, and `mainstay up`, `down`, `status` for the lab most people want.
//!
//! Entry functions take all words, the program name first. Data goes to standard output, progress and errors to
//! standard error. Exit codes: 0 done, 1 failed, 64 wrong usage; `lab run` answers with the code of its command.

mod control;
mod display;
mod up;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use terminal::OutputFormat;

use crate::services::chainfire::NODES_MAX;
use crate::services::sink;
use crate::state;
use crate::topology::Form;

/// Starts many hosts on one machine and works with them
#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "mainstay lab", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a lab and stay until Ctrl-C
    Up(UpArgs),
    /// Stop a lab; its data and logs stay
    Down(DownArgs),
    /// Show hosts and services of a lab
    Status(StatusArgs),
    /// List the labs of this user
    List(ListArgs),
    /// Print the log of a service
    Logs(LogsArgs),
    /// Run a command on a host
    Run(RunArgs),
    /// Start a service and wait until it is ready
    Start(StartArgs),
    /// Stop a service with SIGTERM
    Stop(ServiceArgs),
    /// End a service with SIGKILL
    Kill(ServiceArgs),
    /// Cut the power of a host: SIGKILL to everything on it
    KillPower(HostArgs),
    /// Boot a host again after its power was cut
    Boot(HostArgs),
    /// Drop all packets between two hosts
    Cut(CutArgs),
    /// Undo every cut
    Heal(PlaceArgs),
    /// Append what is posted to a file, for alerts of a lab
    #[command(hide = true)]
    Sink(SinkArgs),
}

/// Where the lab is. `MAINSTAY_LAB=` without a value names none, see [`run`].
#[derive(Debug, Clone, Args)]
struct PlaceArgs {
    /// Directory of the lab [default: ${XDG_STATE_HOME:-~/.local/state}/mainstay/lab]
    #[arg(long, value_name = "DIR", env = "MAINSTAY_LAB")]
    dir: Option<PathBuf>,
}

impl PlaceArgs {
    fn dir(&self) -> Result<PathBuf> {
        self.dir.clone().map_or_else(state::default_dir, Ok)
    }
}

/// Start a lab on this machine and stay until Ctrl-C
#[derive(Debug, Parser)]
#[command(name = "up", bin_name = "mainstay up", max_term_width = 110)]
struct UpArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Number of hosts, each with a Chainfire; several form one cluster, and three or five of them survive the loss of one or two.
    /// From three on, qu watches them
    #[arg(long, default_value_t = 1, value_parser = node_count(), conflicts_with = "topology")]
    nodes: u32,
    /// Topology to start instead: a TOML or JSON file
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// How hosts come about
    #[arg(long, value_enum, default_value_t = Form::Process)]
    form: Form,
    /// Third number of the hosts' addresses: 127.0.BLOCK.11 and on, for a lab beside another one
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    block: u8,
    /// Leave the lab running in the background; `mainstay down` stops it
    #[arg(long)]
    detach: bool,
    /// Delete data and logs of earlier runs first; wants --yes when there are any
    #[arg(long)]
    fresh: bool,
    /// Confirm --fresh
    #[arg(long)]
    yes: bool,
}

fn node_count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(NODES_MAX))
}

/// Stop the lab; its data and logs stay
#[derive(Debug, Parser)]
#[command(name = "down", bin_name = "mainstay down", max_term_width = 110)]
struct DownArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Stop every lab of this user, and clear what killed labs have left
    #[arg(long, conflicts_with = "dir")]
    all: bool,
}

/// Show hosts and services of the lab
#[derive(Debug, Parser)]
#[command(name = "status", bin_name = "mainstay status", max_term_width = 110)]
struct StatusArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// How listings are printed.
#[derive(Debug, Clone, Copy, Args)]
struct OutputArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct ServiceArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Name of the host, such as node1
    host: String,
    /// Name of the service, such as chainfire
    service: String,
}

#[derive(Debug, Args)]
struct StartArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Return at once: a member of a cluster is ready only when a majority of them runs
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
struct HostArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Name of the host, such as node1
    host: String,
}

#[derive(Debug, Args)]
struct CutArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only packets from the first host to the second
    #[arg(long)]
    one_way: bool,
    /// Name of the first host
    #[arg(value_name = "HOST")]
    a: String,
    /// Name of the second host
    #[arg(value_name = "OTHER")]
    b: String,
}

#[derive(Debug, Args)]
struct SinkArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// File to append to
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct LogsArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Only the last lines, this many
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Name of the host, such as node1
    host: String,
    /// Program and arguments, also after --; a single word is run by the shell
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    words: Vec<String>,
}

/// Argument tree of `mainstay lab`.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Argument tree of `mainstay up`.
pub fn up_command() -> clap::Command {
    UpArgs::command()
}

/// Argument tree of `mainstay down`.
pub fn down_command() -> clap::Command {
    DownArgs::command()
}

/// Argument tree of `mainstay status`.
pub fn status_command() -> clap::Command {
    StatusArgs::command()
}

/// `mainstay lab ...`; the first word is the program name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    run::<Cli>(command(), args, |cli| dispatch(cli.command))
}

/// `mainstay up ...`; the first word is the program name.
pub fn up_main(args: Vec<OsString>) -> ExitCode {
    run::<UpArgs>(up_command(), args, up::up)
}

/// `mainstay down ...`; the first word is the program name.
pub fn down_main(args: Vec<OsString>) -> ExitCode {
    run::<DownArgs>(down_command(), args, control::down)
}

/// `mainstay status ...`; the first word is the program name.
pub fn status_main(args: Vec<OsString>) -> ExitCode {
    run::<StatusArgs>(status_command(), args, control::status)
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(args) => up::up(args),
        Verb::Down(args) => control::down(args),
        Verb::Status(args) => control::status(args),
        Verb::List(args) => control::list(args.output),
        Verb::Logs(args) => control::logs(args),
        Verb::Run(args) => control::run(args),
        Verb::Start(args) => control::start(args),
        Verb::Stop(args) => control::stop(args),
        Verb::Kill(args) => control::kill(args),
        Verb::KillPower(args) => control::kill_power(args),
        Verb::Boot(args) => control::boot(args),
        Verb::Cut(args) => control::cut(args),
        Verb::Heal(args) => control::heal(args),
        Verb::Sink(args) => sink::serve(args.listen, &args.file).map(|()| ExitCode::SUCCESS),
    }
}

/// Parses, calls, and turns an error into one line and an exit code.
fn run<T: FromArgMatches>(
    command: clap::Command,
    args: Vec<OsString>,
    call: impl FnOnce(T) -> Result<ExitCode>,
) -> ExitCode {
    /// Wrong usage, as in sysexits.h.
    const EX_USAGE: u8 = 64;
    let parsed = terminal::without_empty_variables(command)
        .try_get_matches_from(args)
        .and_then(|matches| T::from_arg_matches(&matches));
    let value = match parsed {
        Ok(value) => value,
        Err(error) => {
            // Help and version are answers, not errors; printing fails only when nobody reads.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    call(value).unwrap_or_else(|error| {
        display::error(&error);
        ExitCode::FAILURE
    })
}
