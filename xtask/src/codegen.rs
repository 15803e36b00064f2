//! `cargo xtask codegen [--check]`: runs the generator crate, which turns `proto/*.proto` into the Rust committed in `src/gen/`.
//!
//! The generator is a program of its own because it needs a protobuf compiler (in Rust), which everyone would otherwise wait for
//! before the first `cargo xtask` does anything.

use std::process::ExitCode;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// The command. Arguments go to the generator, which judges them.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut generator = process::cargo(workspace);
    generator
        .args(["run", "--quiet", "--package", "codegen", "--"])
        .args(arguments);
    process::replace_with(&mut generator)
}
