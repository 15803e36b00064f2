//! `cargo xtask bench SYSTEM`: builds the release programs and has the load generator measure ours and the named rival.
//!
//! The measuring itself is in `crates/load`; further arguments go to it unchanged. A benchmark is never a test: it prints numbers
//! and ratios, and nothing fails because a machine is slow.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::packages;
use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// Systems with a benchmark, each with the packages of the rival.
const SYSTEMS: &[(&str, &[&str])] = &[
    ("chainfire", packages::BENCH_CHAINFIRE),
    ("qu", packages::BENCH_QU),
];

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let known = || {
        SYSTEMS
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(system) = arguments.first() else {
        return Ok(crate::wrong_usage(
            "bench",
            &format!("which system? one of: {}", known()),
        ));
    };
    let Some((_, packages)) = SYSTEMS.iter().find(|(name, _)| name == system) else {
        return Ok(crate::wrong_usage(
            "bench",
            &format!("no benchmark for \"{system}\"; one of: {}", known()),
        ));
    };
    toolchain::ensure(workspace)?;
    crate::packages::ensure(packages)?;
    process::run(process::cargo(workspace).args(["build", "--release", "-p", "mainstay", "-p", "load"]))?;
    let mut load = Command::new(workspace.target_dir().join("release/load"));
    process::replace_with(load.current_dir(workspace.root()).args(arguments))
}
