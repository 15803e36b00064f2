//! Environment variables that arguments may come from: one that is set to nothing counts as unset.
//!
//! `MAINSTAY_LAB= mainstay status` and an `export` of an empty text mean "none" to whoever wrote them; clap would hand on
//! an empty path. An empty value on the command line itself stays what it is: a mistake that is worth an error.

use clap::Command;

/// The same command, whose arguments ignore variables without a value.
pub fn without_empty_variables(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| {
        let empty = arg
            .get_env()
            .is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if empty { arg.env(None::<&str>) } else { arg }
    });
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, without_empty_variables)
    })
}
