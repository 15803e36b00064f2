//! `mainstay man [NAME] [--dir DIR]`: manual pages made from the argument trees, one per program and subcommand.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use clap_mangen::Man;

use crate::{applets, help};

/// Print a manual page, or write all of them to a folder
#[derive(Debug, Parser)]
#[command(name = "man", bin_name = "mainstay man")]
struct Arguments {
    /// The program or subcommand whose page to print; mainstay itself if absent
    #[arg(conflicts_with = "dir")]
    name: Option<String>,

    /// Write the pages of everything to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The argument tree.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Prints or writes the pages.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let Arguments { name, dir } = match crate::parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let done = match (dir, name.as_deref()) {
        (Some(dir), _) => {
            write_all(&dir).map_err(|error| format!("write manual pages to {}: {error}", dir.display()))
        }
        (None, None | Some("mainstay")) => print(help::root(false)),
        (None, Some(name)) => match applets::find(name) {
            Some(applet) if applet.is_program() => print((applet.command)().name(applet.name)),
            Some(applet) => print(own(applet.name)),
            None => return help::unknown(name),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The tree of an own subcommand as part of `mainstay`'s, so that its page is called `mainstay-NAME`.
fn own(name: &str) -> clap::Command {
    let mut root = help::root(false);
    root.build();
    root.find_subcommand(name)
        .expect("every own subcommand is in the root's tree")
        .clone()
}

fn print(tree: clap::Command) -> Result<(), String> {
    let mut text = Vec::new();
    Man::new(tree)
        .render(&mut text)
        .map_err(|error| format!("make manual page: {error}"))?;
    terminal::out_bytes(&text);
    Ok(())
}

/// `NAME.1` for each tree and `NAME-SUBCOMMAND.1` for each branch of it.
fn write_all(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(help::root(false), dir)?;
    for applet in applets::programs() {
        clap_mangen::generate_to((applet.command)().name(applet.name), dir)?;
    }
    Ok(())
}
