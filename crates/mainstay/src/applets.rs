//! The complete list of programs and of `mainstay`'s own subcommands: one table, from which dispatch, `--list`, help,
//! completions, man pages and the links of packages and labs are made.
//!
//! Adding a program is one row. Its `command` is the argument tree that its `main` parses, nothing else, so what the help
//! says is what the program does.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{completions, man};

/// The system whose entries are `mainstay`'s own subcommands rather than programs.
pub(crate) const OWN: &str = "Mainstay";

/// A program, or a subcommand of `mainstay`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applet {
    /// File name of the program, or the subcommand's word.
    pub(crate) name: &'static str,
    /// One line: what it is for.
    pub(crate) about: &'static str,
    /// The system it belongs to.
    pub(crate) system: &'static str,
    /// Its argument tree.
    pub(crate) command: fn() -> clap::Command,
    /// Runs it; the first argument is its name.
    pub(crate) main: fn(Vec<OsString>) -> ExitCode,
}

impl Applet {
    /// Whether it is started under its own name, through a link.
    pub(crate) fn is_program(&self) -> bool {
        self.system != OWN
    }
}

/// Everything this binary can be, in the order in which it is listed.
pub(crate) static TABLE: &[Applet] = &[
    Applet {
        name: "up",
        about: "start a lab on this machine and stay until Ctrl-C",
        system: OWN,
        command: lab::cli::up_command,
        main: lab::cli::up_main,
    },
    Applet {
        name: "down",
        about: "stop the lab",
        system: OWN,
        command: lab::cli::down_command,
        main: lab::cli::down_main,
    },
    Applet {
        name: "status",
        about: "show hosts and services of the lab",
        system: OWN,
        command: lab::cli::status_command,
        main: lab::cli::status_main,
    },
    Applet {
        name: "lab",
        about: "start many hosts on one machine and work with them",
        system: OWN,
        command: lab::cli::command,
        main: lab::cli::main,
    },
    Applet {
        name: "runbook",
        about: "read, check and carry out runbooks",
        system: OWN,
        command: runbook::cli::command,
        main: |args| {
            let names: Vec<&str> = names().collect();
            runbook::cli::main(args, &names)
        },
    },
    Applet {
        name: "certs",
        about: "make certificates and look at them",
        system: OWN,
        command: pki::cli::command,
        main: pki::cli::main,
    },
    Applet {
        name: "completions",
        about: "print shell completions",
        system: OWN,
        command: completions::command,
        main: completions::main,
    },
    Applet {
        name: "man",
        about: "print or write manual pages",
        system: OWN,
        command: man::command,
        main: man::main,
    },
    Applet {
        name: "chainfire",
        about: "replicated key-value store that etcd v3 clients use unchanged",
        system: "Chainfire",
        command: chainfire::server_cli::command,
        main: chainfire::server_cli::main,
    },
    Applet {
        name: "chainfire-server",
        about: "the same as chainfire",
        system: "Chainfire",
        command: chainfire::server_cli::command,
        main: chainfire::server_cli::main,
    },
    Applet {
        name: "chainfire-client",
        about: "ask and change a Chainfire or etcd v3 cluster",
        system: "Chainfire",
        command: chainfire::client::command,
        main: chainfire::client::main,
    },
    Applet {
        name: "rocksdb_ldb",
        about: "check a Chainfire data directory that no server uses, or repair it",
        system: "Chainfire",
        command: chainfire::repair::cli::command,
        main: chainfire::repair::cli::main,
    },
    Applet {
        name: "qu",
        about: "uptime checks decided by quorum, alerts sent once",
        system: "qu",
        command: quptime::cli::command,
        main: quptime::cli::main,
    },
    Applet {
        name: "slo",
        about: "objectives, their burn-rate alerts, and what an outage makes of them",
        system: "slo",
        command: slo::cli::command,
        main: slo::cli::main,
    },
    Applet {
        name: "pg_autoctl",
        about: "PostgreSQL that fails over by itself",
        system: "pgaf",
        command: pgaf::cli::command,
        main: pgaf::cli::main,
    },
];

/// The entry of this name. A program that waits to be installed in the place of another is called `qu-new` or the like.
pub(crate) fn find(name: &str) -> Option<&'static Applet> {
    let name = if name.starts_with("qu-") { "qu" } else { name };
    TABLE.iter().find(|applet| applet.name == name)
}

/// The programs, without `mainstay`'s own subcommands.
pub(crate) fn programs() -> impl Iterator<Item = &'static Applet> {
    TABLE.iter().filter(|applet| applet.is_program())
}

/// The names that links to this binary have where it is installed: those of the programs, and its own.
fn names() -> impl Iterator<Item = &'static str> {
    programs().map(|applet| applet.name).chain(["mainstay"])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every argument below a command that has no help, as `command ARGUMENT`.
    fn without_help(command: &clap::Command, found: &mut Vec<String>) {
        let own = command
            .get_arguments()
            .filter(|argument| argument.get_help().is_none());
        found.extend(own.map(|argument| format!("{} {}", command.get_name(), argument.get_id())));
        for sub in command.get_subcommands() {
            without_help(sub, found);
        }
    }

    #[test]
    fn every_argument_says_what_it_is() {
        for applet in TABLE {
            let mut found = Vec::new();
            without_help(&(applet.command)(), &mut found);
            assert_eq!(found, Vec::<String>::new(), "{}", applet.name);
        }
    }

    #[test]
    fn every_argument_tree_is_sound() {
        for applet in TABLE {
            (applet.command)().debug_assert();
        }
    }

    #[test]
    fn names_are_unique_and_descriptions_are_one_line() {
        for (index, applet) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..index].iter().all(|other| other.name != applet.name),
                "{} twice",
                applet.name
            );
            assert!(
                !applet.about.contains('\n') && !applet.about.is_empty(),
                "{}",
                applet.name
            );
            assert_ne!(applet.name, "mainstay");
        }
    }
}
