//! The workspace's own automation: `cargo xtask COMMAND`.
//!
//! One file per command. Two of them are all a newcomer needs: `up` (a running lab) and `test` (everything CI runs); both begin
//! with `setup`, which installs what the machine lacks. The crate has hardly any dependency and never links one of the systems, so
//! it builds in seconds on a fresh machine; whatever needs the systems is run as a separate program.
//!
//! Invariants: a command exits 0 only if everything it promises was done; progress goes to stderr, results to stdout; wrong usage
//! exits 64.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these commands talk to a person at a terminal or to the CI log"
)]

mod bench;
mod codegen;
mod counts;
mod dist;
mod fuzz;
mod nextest;
mod packages;
mod process;
mod seeds;
mod stages;
mod test;
mod tidy;
mod toolchain;
mod tools;
mod trial;
mod up;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;

/// Exit status for wrong usage (`EX_USAGE` of sysexits.h), as in every program of this workspace.
const EXIT_USAGE: u8 = 64;

/// One command: its name, the arguments it takes, what it does, and the function behind it.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&Workspace, &[String]) -> Result<ExitCode>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "up",
        arguments: "[--release] [ARGUMENTS OF `mainstay up`]",
        about: "set up this machine, build, and run a lab in the foreground until Ctrl-C",
        run: up::run,
    },
    Command {
        name: "test",
        arguments: "[--quick] [--filter TEXT]",
        about: "everything CI runs; --quick: type check and unit tests; --filter: only these tests",
        run: test::run,
    },
    Command {
        name: "setup",
        arguments: "",
        about: "install what building needs, build RocksDB once for this machine, write .cargo/local.toml",
        run: toolchain::run,
    },
    Command {
        name: "codegen",
        arguments: "[--check]",
        about: "make the committed Rust from the .proto files; --check: only say whether it is current",
        run: codegen::run,
    },
    Command {
        name: "tidy",
        arguments: "",
        about: "check the conventions that no compiler knows: layers, headers, file lengths, leaked paths",
        run: tidy::run,
    },
    Command {
        name: "dist",
        arguments: "[--profile release|dev]",
        about: "the tarball and the .deb, in target/dist/",
        run: dist::run,
    },
    Command {
        name: "seeds",
        arguments: "[000|001|002|003|004 [TEXT]]",
        about: "try every command line of the seeds and report line by line",
        run: seeds::run,
    },
    Command {
        name: "fuzz",
        arguments: "[SECONDS [TARGET]]",
        about: "build every fuzz target and run each for this long (60)",
        run: fuzz::run,
    },
    Command {
        name: "bench",
        arguments: "SYSTEM [ARGUMENTS OF `load`]",
        about: "run ours and the named rival alternately on the same disk and print the ratios",
        run: bench::run,
    },
    Command {
        name: "trial",
        arguments: "SYSTEM [ARGUMENTS OF `trial`]",
        about: "a real cluster under faults, with a judge: chainfire, qu",
        run: trial::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next();
    let rest: Vec<String> = arguments.collect();
    match name.as_deref() {
        Some("help" | "--help" | "-h") => {
            println!("{}", usage());
            ExitCode::SUCCESS
        }
        Some(name) => match COMMANDS.iter().find(|command| command.name == name) {
            Some(command)
                if rest.iter().any(|a| a == "--help" || a == "-h") && !rest.iter().any(|a| a == "--") =>
            {
                println!(
                    "cargo xtask {} {}\n\n{}",
                    command.name, command.arguments, command.about
                );
                ExitCode::SUCCESS
            }
            Some(command) => run(command, &rest),
            None => {
                eprintln!("xtask: no command \"{name}\"\n\n{}", usage());
                ExitCode::from(EXIT_USAGE)
            }
        },
        None => {
            eprintln!("{}", usage());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run(command: &Command, arguments: &[String]) -> ExitCode {
    let outcome = Workspace::open().and_then(|workspace| (command.run)(&workspace, arguments));
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask {}: {error:#}", command.name);
        ExitCode::FAILURE
    })
}

fn usage() -> String {
    let commands = COMMANDS.iter().map(|command| {
        format!(
            "  {:<8} {}\n           {}\n",
            command.name, command.arguments, command.about
        )
    });
    format!(
        "usage: cargo xtask COMMAND [ARGUMENTS]\n\n{}",
        commands.collect::<Vec<_>>().join("\n")
    )
}

/// Reports wrong usage of `command` on stderr; the caller returns the status.
fn wrong_usage(command: &str, what: &str) -> ExitCode {
    eprintln!("xtask {command}: {what}; see `cargo xtask help`");
    ExitCode::from(EXIT_USAGE)
}
