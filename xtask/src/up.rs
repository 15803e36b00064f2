//! `cargo xtask up`: from a fresh checkout to a running lab.
//!
//! Sets up the machine, builds `mainstay` and becomes `mainstay up`; all arguments but `--release` go to it, and so does Ctrl-C. The build is the
//! development one by default: it is the same that `cargo xtask test` uses, so the two commands pay for it once, and a change is
//! running again within seconds, where the release build takes minutes for each. RocksDB, which does the heavy work, is optimised in
//! both. `--release` is for looking at speed.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::packages;
use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    // A `--` of the kind cargo wants is not one for `mainstay up`.
    let (release, passed_on): (Vec<&String>, Vec<&String>) = arguments
        .iter()
        .filter(|word| *word != "--")
        .partition(|word| *word == "--release");
    let release = !release.is_empty();
    toolchain::ensure(workspace)?;
    packages::ensure(packages::LAB)?;

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
