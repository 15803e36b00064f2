//! `cargo xtask up`: from a fresh checkout to a running lab.
//!
//! Sets up the machine, builds `mainstay` and becomes `mainstay up`; arguments after `--` go to it, and so does Ctrl-C. The build is the
//! development one by default: it is the same that `cargo xtask test` uses, so the two commands pay for it once, and a change is
//! running again within seconds, where the release build takes minutes for each. RocksDB, which does the heavy work, is optimised in
//! both. `--release` is for looking at speed.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let (own, passed_on) = match arguments.iter().position(|word| word == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let release = match own {
        [] => false,
        [flag] if flag == "--release" => true,
        [word, ..] => {
            let what = format!("unexpected argument \"{word}\"; arguments for `mainstay up` come after --");
            return Ok(crate::wrong_usage("up", &what));
        }
    };
    toolchain::ensure(workspace)?;

    // The whole workspace rather than one package: with another selection cargo resolves other features, and `cargo xtask test`
    // would build half of the third-party crates again.
    let mut build = process::cargo(workspace);
    build.args(["build", "--workspace"]);
    if release {
        build.arg("--release");
    }
    process::run(&mut build)?;

    let folder = if release { "release" } else { "debug" };
    let program = workspace.target_dir().join(folder).join("mainstay");
    let mut lab = Command::new(program);
    lab.current_dir(workspace.root()).arg("up").args(passed_on);
    process::replace_with(&mut lab)
}
