//! `cargo xtask codegen [--check]`: runs the generator crate, which turns `proto/*.proto` into the Rust committed in `src/gen/`, and
//! asks the server for the page of its settings, which is committed in `docs/reference/`.
//!
//! The generator is a program of its own because it needs a protobuf compiler (in Rust), which everyone would otherwise wait for
//! before the first `cargo xtask` does anything. That the page is current is a unit test of the server, so `--check` does not look.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::process;
use crate::workspace::Workspace;

const SETTINGS: &str = "docs/reference/chainfire-config.md";

/// The command. Arguments go to the generator, which judges them.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut generator = process::cargo(workspace);
    generator
        .args(["run", "--quiet", "--package", "codegen", "--"])
        .args(arguments);
    if !arguments.is_empty() {
        return process::replace_with(&mut generator);
    }
    process::run(&mut generator)?;
    // The same selection as in `cargo xtask test`, so that nothing is built twice.
    process::run(process::cargo(workspace).args(["build", "--quiet", "--workspace"]))?;
    let program = workspace.target_dir().join("debug/mainstay");
    let page = process::read(Command::new(program).args(["chainfire", "--config-reference"]))?;
    let page = page.trim_end().to_owned() + "\n";
    let path = workspace.path(SETTINGS);
    if fs::read_to_string(&path).ok().as_ref() != Some(&page) {
        fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        println!("wrote {SETTINGS}");
    }
    Ok(ExitCode::SUCCESS)
}
