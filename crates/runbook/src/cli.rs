//! `mainstay runbook list|show|check|run`: the argument tree and the exit codes.
//!
//! Results go to stdout, problems of the call to stderr. Exit codes: 0 done (for `run`: every step passed), 1 failed,
//! 64 wrong usage, which includes a page or an alert that does not exist and everything else that is wrong before a step
//! could run.

mod check;
mod list;
mod run;
mod show;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::library::{FOLDER_VARIABLE, Library};
use crate::parse::Parsed;

/// Wrong usage, as in sysexits.h.
pub const EXIT_USAGE: u8 = 64;

/// Read, check and carry out runbooks
#[derive(Debug, Parser)]
#[command(
    name = "runbook",
    bin_name = "mainstay runbook",
    version,
    arg_required_else_help = true
)]
struct Arguments {
    /// Folder of the runbooks [default: ./docs/runbooks, then /usr/share/mainstay/runbooks]
    #[arg(long, global = true, value_name = "DIR", env = FOLDER_VARIABLE)]
    dir: Option<PathBuf>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the runbooks with their alerts and steps
    List(list::Arguments),
    /// Show a runbook on the terminal
    Show(show::Arguments),
    /// Look for mistakes in runbooks
    Check(check::Arguments),
    /// Carry out a runbook, step by step
    Run(run::Arguments),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Why a command did not do what it was asked.
enum Failure {
    /// The call was wrong; nothing was done.
    Usage(String),
    /// It was right but did not work out; the message is for stderr.
    Failed(anyhow::Error),
    /// It did not work out and everything was said already.
    Said,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line; `args[0]` is the program's name. `programs` are the names under which the running binary is
/// other programs; steps that run outside a lab find them by these names.
pub fn main(args: Vec<OsString>, programs: &[&str]) -> ExitCode {
    let parsed = terminal::without_empty_variables(command())
        .try_get_matches_from(args)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print(); // with stdout and stderr gone there is nobody left to tell
            return if error.use_stderr() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let done = match arguments.verb {
        Verb::List(list) => list.run(arguments.dir),
        Verb::Show(show) => show.run(arguments.dir),
        Verb::Check(check) => check.run(arguments.dir),
        Verb::Run(run) => run.run(arguments.dir, programs),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::FAILURE,
        Err(Failure::Failed(error)) => {
            terminal::error(&terminal::chain(&error));
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => {
            terminal::error(&message);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The folder of runbooks. One that is not there is wrong usage: the call could name another.
fn library(dir: Option<PathBuf>) -> Result<Library, Failure> {
    Library::find(dir).map_err(usage)
}

/// The page of a name, of an alert, or at a path ending in `.md`, which needs no folder of runbooks to exist.
fn read(dir: Option<PathBuf>, name: &str) -> Result<Parsed, Failure> {
    let path = Path::new(name);
    let library = if dir.is_none() && path.extension().is_some_and(|extension| extension == "md") {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        library(Some(folder.unwrap_or(Path::new(".")).to_owned()))?
    } else {
        library(dir)?
    };
    library.read(name).map_err(usage)
}

fn usage(error: anyhow::Error) -> Failure {
    Failure::Usage(terminal::chain(&error))
}
