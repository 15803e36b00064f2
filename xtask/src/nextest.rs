//! Running the workspace's tests with nextest, which gives every test its own process and a time limit.
//!
//! The nextest on the path is used; a machine without it gets one built into the cache folder, once. Where that is impossible the
//! tests run with plain `cargo test`, and the run says so.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::counts::Counts;
use crate::process;
use crate::tools;
use crate::workspace::Workspace;

/// Names the Debian package made from this build.
const DEB_VARIABLE: &str = "MAINSTAY_TEST_DEB";

/// Which tests to run.
pub(crate) struct Selection<'a> {
    /// Only the tests inside the crates, not those in `tests/`.
    pub(crate) unit_only: bool,
    /// Part of a test's name, or a nextest filter expression.
    pub(crate) filter: Option<&'a str>,
    /// The Debian package for the tests that install it.
    pub(crate) deb: Option<&'a Path>,
    /// Keep cargo's own messages down.
    pub(crate) quiet: bool,
}

/// Builds and runs the selected tests of the whole workspace.
pub(crate) fn run(workspace: &Workspace, selection: &Selection<'_>) -> Result<Counts> {
    let report = workspace.target_dir().join("nextest/ci/junit.xml");
    if report.exists() {
        fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
    }

    let nextest = tools::find_or_install(workspace, "cargo-nextest", &["nextest", "--version"]);
    let mut command = if let Some(program) = &nextest {
        let mut command = Command::new(program);
        command
            .current_dir(workspace.root())
            .env("CARGO_TARGET_DIR", workspace.target_dir());
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--profile",
            "ci",
            "--no-tests",
            "pass",
        ]);
        if selection.quiet {
            command.arg("--cargo-quiet");
        }
        command
    } else {
        eprintln!("cargo-nextest cannot be had on this machine; running the tests with `cargo test`");
        let mut command = process::cargo(workspace);
        command.args(["test", "--workspace", "--no-fail-fast", "--quiet"]);
        command
    };
    // Documentation examples are a stage of their own.
    command.args(["--lib", "--bins"]);
    if !selection.unit_only {
        command.arg("--tests");
    }
    match selection.filter {
        Some(filter) if nextest.is_some() && filter.contains('(') => {
            command.args(["-E", filter]);
        }
        Some(filter) => {
            command.arg(filter);
        }
        None => {}
    }
    if let Some(deb) = selection.deb {
        command.env(DEB_VARIABLE, deb);
    }
    let mut counts = if nextest.is_some() {
        counted(&mut command, Output::Shown, Counts::from_nextest)?
    } else {
        counted(&mut command, Output::ShownOnFailure, Counts::from_cargo_test)?
    };

    if nextest.is_some() && report.exists() {
        let xml = fs::read_to_string(&report).with_context(|| format!("read {}", report.display()))?;
        let skips = skips(&xml);
        for skip in &skips {
            eprintln!("skipped: {skip}");
        }
        counts.skip(skips.len() as u64);
        for name in unsteady(&xml) {
            eprintln!("unsteady: {name}: failed, then passed when it was tried again; find out why");
        }
    }
    Ok(counts)
}

/// The passed tests that found that this machine cannot run them, each with its reason: a line of their output begins with
/// `skipped: `. Read from nextest's report in JUnit form.
fn skips(xml: &str) -> Vec<String> {
    let mut skips = Vec::new();
    for case in xml.split("<testcase ").skip(1) {
        let case = case.split("</testcase>").next().unwrap_or(case);
        if case.contains("<failure") || case.contains("<error") {
            continue;
        }
        let name = case
            .split_once("name=\"")
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or("a test");
        let Some((_, output)) = case.split_once("<system-out>") else {
            continue;
        };
        // On a machine with one processor the test's name comes first, on the same line.
        let reason_of = |line: &'_ str| -> Option<String> {
            let text = line
                .split_once(" ... ")
                .filter(|(head, _)| head.starts_with("test "))
                .map_or(line, |(_, text)| text);
            text.strip_prefix("skipped: ").map(str::to_owned)
        };
        if let Some(reason) = output.lines().find_map(reason_of) {
            let reason = reason.trim_end_matches("</system-out>");
            skips.push(format!("{name}: {reason}"));
        }
    }
    skips
}

/// The tests that failed and then passed. Only tests of real processes are tried again (`.config/nextest.toml`).
fn unsteady(xml: &str) -> Vec<String> {
    let cases = xml.split("<testcase ").skip(1);
    cases
        .filter_map(|case| case.split_once("</testcase>").map(|(case, _)| case))
        .filter(|case| case.contains("<flakyFailure") || case.contains("<flakyError"))
        .filter_map(|case| Some(case.split_once("name=\"")?.1.split('"').next()?.to_owned()))
        .collect()
}

/// Runs the examples in documentation comments.
pub(crate) fn run_doc_tests(workspace: &Workspace) -> Result<Counts> {
    let mut command = process::cargo(workspace);
    command.args(["test", "--workspace", "--doc", "--no-fail-fast", "--quiet"]);
    counted(&mut command, Output::ShownOnFailure, Counts::from_cargo_test)
}

/// What becomes of the output of a test run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// nextest: the results are on stderr and shown as they come.
    Shown,
    /// `cargo test`: the results are on stdout; most of them say that nothing was run, so they are shown only if something failed.
    ShownOnFailure,
}

/// Runs `command`, passes on the stream that carries the results (nextest: stderr, `cargo test`: stdout), and adds up every line
/// that `read` understands. A run that fails without a failed test (it did not build, say) is an error.
fn counted(command: &mut Command, output: Output, read: fn(&str) -> Option<Counts>) -> Result<Counts> {
    let line = process::describe(command);
    let on_stderr = output == Output::Shown;
    if on_stderr {
        command.stderr(Stdio::piped());
    } else {
        command.stdout(Stdio::piped());
    }
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("run `{line}`: cannot start"))?;
    let mut results: Box<dyn std::io::Read> = if on_stderr {
        Box::new(child.stderr.take().expect("stderr was asked for as a pipe"))
    } else {
        Box::new(child.stdout.take().expect("stdout was asked for as a pipe"))
    };
    let mut counts = Counts::default();
    let mut seen = false;
    let mut reader = BufReader::new(&mut results);
    let mut buffer = Vec::new();
    let mut held = Vec::new();
    while reader
        .read_until(b'\n', &mut buffer)
        .with_context(|| format!("read from `{line}`"))?
        > 0
    {
        if output == Output::Shown {
            std::io::stderr()
                .write_all(&buffer)
                .context("pass on test output")?;
        } else {
            held.extend_from_slice(&buffer);
        }
        if let Some(more) = read(&String::from_utf8_lossy(&buffer)) {
            counts += more;
            seen = true;
        }
        buffer.clear();
    }
    let status = child.wait().with_context(|| format!("wait for `{line}`"))?;
    if !status.success() {
        std::io::stderr()
            .write_all(&held)
            .context("pass on test output")?;
    }
    if !status.success() && counts.failed == 0 {
        bail!("run `{line}`: {status}, and no failed test was reported");
    }
    if status.success() && !seen && on_stderr {
        bail!("run `{line}`: no summary line was found in its output");
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::{skips, unsteady};

    #[test]
    fn a_test_that_passed_at_the_second_try_is_named() {
        let xml = "<testcase name=\"steady\" time=\"1\"></testcase>\
            <testcase name=\"shaky\" time=\"1\"><flakyFailure type=\"test failure\"/></testcase>\
            <testcase name=\"broken\" time=\"1\"><failure type=\"test failure\"/><rerunFailure/></testcase>";
        assert_eq!(unsteady(xml), ["shaky"]);
    }

    #[test]
    fn only_passed_tests_that_say_so_are_skipped() {
        let case =
            |name: &str, inner: &str| format!("<testcase name=\"{name}\" time=\"0.1\">{inner}</testcase>\n");
        let output = |text: &str| format!("<system-out>\nrunning 1 test\n{text}\n</system-out>");
        let xml = [
            case("a", &output("skipped: needs root")),
            case("one-cpu", &output("test one-cpu ... skipped: needs nspawn")),
            case("b", &output("nothing skipped: here")),
            case("c", &format!("<failure/>{}", output("skipped: but failed"))),
            case("d", ""),
        ]
        .concat();
        assert_eq!(skips(&xml), ["a: needs root", "one-cpu: needs nspawn"]);
    }
}
