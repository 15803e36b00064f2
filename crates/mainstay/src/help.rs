//! What `mainstay` says about itself: overview, version, list of programs, and the answer to a name it does not know.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Command;

use crate::EXIT_USAGE;
use crate::applets::{Applet, OWN, TABLE, programs};

const ABOUT: &str = "keeps a fleet of servers reachable, configured, watched and recoverable";

/// How far a word may be from a name to be taken for a slip of it.
const SLIP_MAX: usize = 2;

/// The argument tree of `mainstay` itself with its own subcommands; `programs` adds those too, as completions want them.
pub(crate) fn root(programs: bool) -> Command {
    let entries = TABLE.iter().filter(|applet| programs || !applet.is_program());
    Command::new("mainstay")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .disable_help_subcommand(true)
        .arg(
            clap::Arg::new("list")
                .long("list")
                .action(clap::ArgAction::SetTrue)
                .help("List the programs"),
        )
        .subcommands(entries.map(|applet| (applet.command)().name(applet.name).about(applet.about)))
        .after_help(format!(
            "Programs, also started through links of their names:\n\n{}",
            lines("  ", Applet::is_program)
        ))
}

/// `mainstay --help`.
pub(crate) fn overview() -> String {
    let mut text = format!("mainstay {ABOUT}\n\nUsage: mainstay COMMAND [ARGUMENTS]\n");
    let mut systems = vec![OWN];
    for applet in programs() {
        if !systems.contains(&applet.system) {
            systems.push(applet.system);
        }
    }
    for system in systems {
        put(&mut text, format_args!("\n{system}:\n"));
        text.push_str(&lines("  ", |applet| applet.system == system));
    }
    text.push_str(
        "\nOptions:\n  -h, --help     print this\n  -V, --version  print the version\n      --list     list the programs\n\
         \n`mainstay COMMAND --help` tells more of each.\n",
    );
    text
}

/// `mainstay --version`.
pub(crate) fn version() -> String {
    format!("mainstay {}\n", env!("CARGO_PKG_VERSION"))
}

/// `mainstay --list`: the names that packages and labs make links of, each with what it is for.
pub(crate) fn list() -> String {
    lines("", Applet::is_program)
}

/// Says on stderr that there is no such name and which there are.
pub(crate) fn unknown(name: &str) -> ExitCode {
    let hint = match near(name) {
        Some(known) => format!("; did you mean `{known}`?"),
        None => "; there are:".to_owned(),
    };
    terminal::error(&format_args!("no command or program `{name}`{hint}"));
    refuse(&lines("  ", |_| true))
}

/// Words that other tools use for what a command does here.
const OTHER_WORDS: [(&str, &str); 6] = [
    ("start", "up"),
    ("stop", "down"),
    ("ps", "status"),
    ("ls", "lab list"),
    ("programs", "--list"),
    ("runbooks", "runbook list"),
];

/// What somebody who typed `name` may have meant: another tool's word for it, a slip of a command's name, or a command
/// that is one level further down, such as `lab logs` or `chainfire-client put`.
fn near(name: &str) -> Option<String> {
    if let Some((_, known)) = OTHER_WORDS.iter().find(|(word, _)| *word == name) {
        return Some((*known).to_owned());
    }
    // Of a short word a slip leaves little, and then everything short looks like it.
    let slip = SLIP_MAX.min(name.chars().count() / 2);
    let slips = TABLE
        .iter()
        .map(|applet| (strsim::damerau_levenshtein(name, applet.name), applet.name))
        .filter(|(distance, _)| *distance <= slip);
    if let Some((_, known)) = slips.min() {
        return Some(known.to_owned());
    }
    TABLE.iter().find_map(|applet| {
        let command = (applet.command)();
        let found = command.find_subcommand(name)?;
        Some(format!("{} {}", applet.name, found.get_name()))
    })
}

/// Prints to stderr and ends with the code for wrong usage.
pub(crate) fn refuse(text: &str) -> ExitCode {
    let _ = std::io::stderr().write_all(text.as_bytes()); // the exit code still tells
    ExitCode::from(EXIT_USAGE)
}

/// A line for each chosen entry, descriptions below each other.
fn lines(indent: &str, chosen: impl Fn(&Applet) -> bool) -> String {
    let width = TABLE.iter().map(|applet| applet.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for applet in TABLE.iter().filter(|applet| chosen(applet)) {
        put(
            &mut text,
            format_args!("{indent}{:<width$}  {}\n", applet.name, applet.about),
        );
    }
    text
}

/// `write!` to a `String`, which cannot fail.
fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a String cannot fail");
}
