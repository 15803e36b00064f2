//! The program `pg_autoctl`: its argument tree, and which file carries which command out.
//!
//! Tables and JSON go to standard output, everything else to standard error. Exit codes: 0 done, 1 wrong usage or failed, 2 bad
//! configuration, 3 wrong state, 4 trouble with PostgreSQL, 5 trouble with monitor or store, 6 not in time.
//!
//! What does not exist yet has no word here, so that it is refused as unknown rather than taken and forgotten.

mod create;
mod find;
mod perform;
mod run;
mod settings;
mod show;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::keeper::Trouble;
use crate::store;

/// Bad configuration.
const CONFIG: u8 = 2;
/// Something is not in the state for this.
const STATE: u8 = 3;
/// PostgreSQL does not do what it should.
const POSTGRES: u8 = 4;
/// Monitor or store.
const STORE: u8 = 5;
/// Not in time.
const TIMEOUT: u8 = 6;

/// PostgreSQL that fails over by itself: nodes, monitors, and what they are doing.
#[derive(Debug, Parser)]
#[command(
    name = "pg_autoctl",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a monitor, a node or a formation.
    #[command(subcommand)]
    Create(create::Create),
    /// Run the monitor or the node of a directory, in the foreground.
    Run(run::Run),
    /// Print role, state and process of a directory.
    Status(run::StatusOf),
    /// Print what there is.
    #[command(subcommand)]
    Show(show::Show),
    /// Print a setting.
    #[command(subcommand)]
    Get(settings::Get),
    /// Change a setting.
    #[command(subcommand)]
    Set(settings::Set),
    /// Have something done now.
    #[command(subcommand)]
    Perform(perform::Perform),
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program; `args` includes its name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                service::exit::FAILED
            } else {
                service::exit::OK
            });
        }
    };
    let done = match arguments.command {
        Command::Create(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Show(command) => command.run(),
        Command::Get(command) => command.run(),
        Command::Set(command) => command.run(),
        Command::Perform(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::from(service::exit::OK),
        Err(error) => {
            terminal::note(&format!("error: {}", terminal::chain(&error)));
            ExitCode::from(service::exit::code_of(&error))
        }
    }
}

/// Runs something that waits for others, in a runtime of its own.
fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let done = runtime.block_on(work);
    // Dropping it would wait for what nobody needs any more.
    runtime.shutdown_background();
    done
}

fn of_store(error: store::Error) -> anyhow::Error {
    service::exit::with_code(STORE, anyhow::Error::new(error).context("store"))
}

fn of_trouble(trouble: Trouble) -> anyhow::Error {
    let code = match &trouble {
        Trouble::Database(crate::database::Error::OtherCluster { .. }) | Trouble::Refused(_) => STATE,
        Trouble::Database(_) => POSTGRES,
        Trouble::Store(_) | Trouble::Wrong(_) => STORE,
        Trouble::File { .. } => CONFIG,
    };
    service::exit::with_code(code, trouble)
}
