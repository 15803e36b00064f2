//! The program `qu`: its argument tree, and which file carries which command out.
//!
//! Commands talk to the local daemon over its socket, except `init`, `enroll join`, `serve` and `version`. Results go to standard output, everything else
//! to standard error. Exit codes: 0 done, 1 failed or no daemon, 2 wrong usage, 3 `status` without quorum, 4 refused for lack of quorum,
//! 5 somebody else changed the entry meanwhile.

mod ack;
mod alert;
mod check;
pub(crate) mod client;
mod cluster;
mod doctor;
mod enroll;
mod incidents;
mod init;
mod json;
mod maintenance;
mod node;
mod serve;
mod status;
mod trust;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Uptime checks decided by quorum, alerts sent once.
#[derive(Debug, Parser)]
#[command(
    name = "qu",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 status without quorum, 4 refused for lack of quorum, 5 edit conflict.\n\
                  Files: $QUPTIME_DIR (/etc/quptime). Socket: $QUPTIME_SOCKET (/run/quptime/quptime.sock)."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create the identity of this node and its files.
    Init(init::Init),
    /// Run the daemon in the foreground.
    Serve,
    /// Show how the cluster stands, as this node sees it.
    Status(status::StatusArgs),
    /// Show the version of the program and of what it reads and speaks.
    Version,
    /// Nodes of the cluster.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Hosts that join by themselves, each with a token that is good once.
    #[command(subcommand)]
    Enroll(enroll::EnrollCommand),
    /// Whose keys this node knows.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// What is watched.
    #[command(subcommand)]
    Check(check::CheckCommand),
    /// Who is told.
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// The configuration as a whole.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Announced work.
    #[command(subcommand)]
    Maintenance(maintenance::MaintenanceCommand),
    /// Say that somebody works on an outage: no reminders until recovery.
    Ack(ack::Ack),
    /// Outages under way, or those that are over.
    Incidents(incidents::Incidents),
    /// Messages that wait, and what became of the last ones.
    Deliveries(ack::Deliveries),
    /// Look at all nodes and say what is wrong.
    Doctor(doctor::Doctor),
    /// See and change everything on one screen.
    Tui,
    /// Not there: upgrades go through packages or `install`.
    #[command(hide = true)]
    Update,
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Wrong usage: the seed of this program says 2.
pub(crate) const USAGE: u8 = 2;

/// Letters of an argument that are repeated in an error.
const LONG: usize = 80;

/// Runs the program; `args` includes its name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(&args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() {
                USAGE
            } else {
                service::exit::OK
            };
            match shortened(&error, &args) {
                Some(text) => terminal::note(&text),
                // Nothing can be done about a terminal that is gone.
                None => drop(error.print()),
            }
            return ExitCode::from(code);
        }
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::from(service::exit::OK),
        Err(error) => {
            // A command that has printed its result, such as status, fails without a word.
            if !error.to_string().is_empty() {
                say(&error);
            }
            ExitCode::from(service::exit::code_of(&error))
        }
    }
}

/// The text of an error that would repeat a long argument whole.
fn shortened(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let texts = args.iter().filter_map(|arg| arg.to_str());
    let values = texts.map(|arg| arg.split_once('=').map_or(arg, |(_, value)| value));
    let long: Vec<&str> = values.filter(|value| value.chars().count() > LONG).collect();
    let mut text = error.to_string();
    let before = text.len();
    for value in long {
        text = text.replace(value, &terminal::brief(value));
    }
    (error.use_stderr() && text.len() < before).then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Tells an error with all its causes, in the form that the seed of this program has.
fn say(error: &anyhow::Error) {
    terminal::note(&format!("error: {}", terminal::chain(error)));
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(init) => init.run(),
        Command::Serve => serve::run(),
        Command::Status(status) => status.run(),
        Command::Version => {
            terminal::out(&format!(
                "qu {}\nschema {}\nprotocol {}\n",
                env!("CARGO_PKG_VERSION"),
                crate::document::schema::SCHEMA,
                crate::node::wire::PROTOCOL
            ));
            Ok(())
        }
        Command::Node(command) => command.run(),
        Command::Enroll(command) => command.run(),
        Command::Trust(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Alert(command) => command.run(),
        Command::Cluster(command) => command.run(),
        Command::Maintenance(command) => command.run(),
        Command::Ack(command) => command.run(),
        Command::Incidents(command) => command.run(),
        Command::Deliveries(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Tui => crate::tui::run(),
        Command::Update => {
            anyhow::bail!(
                "qu does not update itself; upgrade its package, or install a new program in its place"
            )
        }
    }
}

/// What the environment says.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// An id for a new entry.
pub(crate) fn new_id() -> String {
    format!("{:016x}", u64::from_be_bytes(crate::secret::random::<8>()))
}
