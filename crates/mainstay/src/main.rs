//! The one binary: every program of the fleet under its own name.
//!
//! The name it was started under picks the program (`chainfire-client` is a link to `mainstay`); under any other name the
//! first argument does (`mainstay chainfire-client ...`). Everything else is in the programs' own crates; the complete list
//! is [`applets::TABLE`].

mod applets;
mod completions;
mod help;
mod man;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Servers allocate on many threads and free on others, which the C library's allocator does slowly. `override` makes it
/// RocksDB's allocator too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong usage, as in sysexits.h.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let link = args
        .first()
        .and_then(|path| Path::new(path).file_name())
        .and_then(OsStr::to_str);
    if let Some(applet) = link.and_then(applets::find).filter(|applet| applet.is_program()) {
        return (applet.main)(args);
    }
    let Some(word) = args.get(1).map(|word| word.to_string_lossy().into_owned()) else {
        return help::refuse(&help::overview());
    };
    match word.as_str() {
        // `help put` is `put --help`, as in other programs of many commands.
        "help" if args.len() > 2 => {
            let mut asked = args.split_off(2);
            asked.push("--help".into());
            return start(asked);
        }
        "--help" | "-h" | "help" => terminal::out(&help::overview()),
        "--version" | "-V" => terminal::out(&help::version()),
        "--list" => terminal::out(&help::list()),
        _ => return start(args.split_off(1)),
    }
    ExitCode::SUCCESS
}

/// Runs the applet that the first word names.
fn start(words: Vec<OsString>) -> ExitCode {
    let name = words
        .first()
        .map(|word| word.to_string_lossy())
        .unwrap_or_default();
    match applets::find(&name) {
        Some(applet) => (applet.main)(words),
        None => help::unknown(&name),
    }
}

/// Parses a subcommand's arguments; clap has said everything when there is an exit code instead.
fn parse<T: clap::Parser>(args: Vec<OsString>) -> Result<T, ExitCode> {
    T::try_parse_from(args).map_err(|error| {
        let _ = error.print(); // with stdout and stderr gone there is nobody left to tell
        if error.use_stderr() {
            ExitCode::from(EXIT_USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })
}
