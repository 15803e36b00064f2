//! The program `rocksdb_ldb`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use service::exit;

use super::{Error, Outcome, check, repair};

/// Check a Chainfire data directory that no server uses, or repair it.
///
/// `checkconsistency` reads everything, changes nothing, and prints OK or what is wrong. `repair` keeps what can be read, says
/// what it had to drop, and moves the damaged files to `lost/` in the directory; the next start of the server tells the other
/// members that this one may lack something. Stop the server first.
///
/// Exit codes: 0 nothing is wrong, or repaired; 1 something is wrong, or repair is not possible; 64 wrong usage.
#[derive(Debug, Parser)]
#[command(
    name = "rocksdb_ldb",
    version,
    after_help = "Example: rocksdb_ldb --db=/var/lib/chainfire checkconsistency\n\nEverything else that RocksDB's ldb does, \
                  Debian's `ldb` (package rocksdb-tools) does with the same directory."
)]
struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    db: PathBuf,

    /// What to do: repair or checkconsistency
    #[arg(value_name = "VERB", value_parser = ["repair", "checkconsistency"])]
    verb: String,
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program; `args` includes its name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(verb) = other_verb(&args) {
        terminal::error(&format_args!(
            "there is no `{verb}` here, only `repair` and `checkconsistency`; Debian's `ldb` (package rocksdb-tools) does the rest"
        ));
        return ExitCode::from(exit::USAGE);
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match arguments.verb.as_str() {
        "repair" => run_repair(&arguments),
        _ => run_check(&arguments),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            terminal::error(&error);
            ExitCode::from(exit::FAILED)
        }
    }
}

/// A verb that RocksDB's `ldb` may know and this program does not, whatever flags come with it.
fn other_verb(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        if arg == "--db" {
            args.next();
        } else if !arg.starts_with('-') {
            return (arg != "repair" && arg != "checkconsistency").then(|| arg.into_owned());
        }
    }
    None
}

fn run_check(arguments: &Arguments) -> Result<u8, Error> {
    let problems = check(&arguments.db)?;
    if problems.is_empty() {
        terminal::out("OK\n");
        return Ok(exit::OK);
    }
    let mut text = problems.join("\n");
    text.push('\n');
    terminal::out(&text);
    Ok(exit::FAILED)
}

fn run_repair(arguments: &Arguments) -> Result<u8, Error> {
    match repair(&arguments.db)? {
        Outcome::Clean => terminal::out("OK: nothing to repair\n"),
        Outcome::Repaired { mut notes, lost } => {
            let lost = lost.display();
            notes.push(format!(
                "OK: repaired; the damaged files are in {lost}, remove them when the node is well again\n"
            ));
            terminal::out(&notes.join("\n"));
        }
    }
    Ok(exit::OK)
}
