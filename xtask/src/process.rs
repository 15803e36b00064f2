//! Running other programs: say what is run, run it, judge its status.
//!
//! Children inherit stderr, and stdout unless it is asked for. Nothing is retried and nothing runs in the background.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A cargo call in the checkout, with the cargo that runs this program and the workspace's target folder.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace.root())
        .env("CARGO_TARGET_DIR", workspace.target_dir());
    command
}

/// Runs `command` to its end; an exit status other than 0 is an error that names the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command
        .status()
        .with_context(|| format!("run `{line}`: cannot start"))?;
    if !status.success() {
        bail!("run `{line}`: {status}");
    }
    Ok(())
}

/// Runs `command` and gives what it wrote to stdout, without the line end.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run `{line}`: cannot start"))?;
    if !output.status.success() {
        bail!("run `{line}`: {}", output.status);
    }
    let text =
        String::from_utf8(output.stdout).with_context(|| format!("run `{line}`: output is not UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

/// Whether `command` can be started and exits 0; it prints nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains([' ', '"', '\'', '$', '(', ')', '*', '|', '&', ';']) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.into_owned()
    }
}

/// Turns this process into `command`, so that signals reach it directly and its exit status is ours. Comes back only if it cannot be
/// started.
pub(crate) fn replace_with(command: &mut Command) -> Result<ExitCode> {
    let line = describe(command);
    Err(command.exec()).with_context(|| format!("run `{line}`: cannot start"))
}
