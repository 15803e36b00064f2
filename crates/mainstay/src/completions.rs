//! `mainstay completions SHELL [PROGRAM]`: completions made from the argument trees.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use clap_complete::Shell;

use crate::{applets, help};

/// Print shell completions for mainstay, or for one of its programs
#[derive(Debug, Parser)]
#[command(name = "completions", bin_name = "mainstay completions")]
struct Arguments {
    /// The shell that will read them
    shell: Shell,

    /// The program; mainstay itself if absent
    program: Option<String>,
}

/// The argument tree.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Prints the completions to stdout.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let Arguments { shell, program } = match crate::parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let mut tree = match program.as_deref() {
        None | Some("mainstay") => help::root(true),
        Some(name) => match applets::find(name).filter(|applet| applet.is_program()) {
            Some(applet) => (applet.command)().name(applet.name),
            None => return help::unknown(name),
        },
    };
    let name = tree.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut tree, name, &mut text);
    terminal::out_bytes(&text);
    ExitCode::SUCCESS
}
