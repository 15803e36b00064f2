//! `cargo xtask trial SYSTEM`: real processes of a cluster under faults, and a judge.
//!
//! Everything is in `crates/trial`; further arguments go to it unchanged. The programs are built as for tests, with their assertions.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::packages;
use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// Systems that can be tried, each with the packages that it takes.
const SYSTEMS: &[(&str, &[&str])] = &[
    ("chainfire", packages::TRIAL_CHAINFIRE),
    ("qu", packages::TRIAL_QU),
];

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let Some((_, packages)) = arguments
        .first()
        .and_then(|system| SYSTEMS.iter().find(|(name, _)| name == system))
    else {
        let known: Vec<&str> = SYSTEMS.iter().map(|(name, _)| *name).collect();
        return Ok(crate::wrong_usage(
            "trial",
            &format!("which system? one of: {}", known.join(", ")),
        ));
    };
    toolchain::ensure(workspace)?;
    packages::ensure(packages)?;
    process::run(process::cargo(workspace).args(["build", "-p", "mainstay", "-p", "trial"]))?;
    let mut trial = Command::new(workspace.target_dir().join("debug/trial"));
    process::replace_with(trial.current_dir(workspace.root()).args(arguments))
}
