//! Chainfire for two minutes, qu for a short one; and the instrument itself on Debian's etcd: a correct system passes, and one that is not
//! is caught.

#![allow(
    clippy::print_stdout,
    reason = "a test that cannot run here says so where the counter reads it"
)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// How long a run may take to come up, and its processes to go.
const LIMIT: Duration = Duration::from_secs(30);

/// Exit status of `trial` where the machine has no namespaces.
const CANNOT: i32 = 3;

fn trial(dir: &Path, arguments: &[&str]) -> Option<Output> {
    trial_of("chainfire", dir, arguments)
}

fn trial_of(subject: &str, dir: &Path, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_trial"))
        .args([subject, "--dir"])
        .arg(dir)
        .args(arguments)
        .output()
        .expect("trial starts");
    if output.status.code() == Some(CANNOT) {
        let text = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        println!("skipped: {text}");
        return None;
    }
    Some(output)
}

/// Another seed each time; the report names it, and a failed run stays where it says.
#[test]
fn chainfire_under_faults_is_linearizable() {
    let mut dir = testkit::TestDir::new("trial").unwrap();
    let mainstay = testkit::mainstay_binary().unwrap();
    let mainstay = mainstay.to_str().unwrap();
    let Some(output) = trial(dir.path(), &["--mainstay", mainstay, "--minutes", "2"]) else {
        return;
    };
    if !output.status.success() {
        dir.keep();
    }
    let report = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}\n{progress}");
}

/// Another seed each time, as above. Messages may take a while to be told in the end: some have failed and wait for their next attempt.
#[test]
fn qu_under_faults_tells_everything_once() {
    let mut dir = testkit::TestDir::new("trial-qu").unwrap();
    let mainstay = testkit::mainstay_binary().unwrap();
    let mainstay = mainstay.to_str().unwrap();
    let arguments = ["--mainstay", mainstay, "--minutes", "0.5", "--targets", "12"];
    let Some(output) = trial_of("qu", dir.path(), &arguments) else {
        return;
    };
    if !output.status.success() {
        dir.keep();
    }
    let report = String::from_utf8_lossy(&output.stdout);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}\n{progress}");
}

/// Whoever stops the program stops the cluster: nobody would look for it in a namespace.
#[test]
fn a_run_that_is_stopped_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let member = dir.path().join("etcd-1/member-1/data").display().to_string();
    let runs = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&member)
        })
    };
    for signal in ["TERM", "KILL"] {
        let mut outer = Command::new(env!("CARGO_BIN_EXE_trial"))
            .args(["chainfire", "--system", "etcd", "--seed", "1", "--dir"])
            .arg(dir.path())
            .spawn()
            .unwrap();
        let mut cannot = false;
        testkit::wait_until(LIMIT, "a member to run", || {
            cannot = outer.try_wait().unwrap().is_some();
            cannot || runs()
        });
        if cannot {
            assert_eq!(outer.wait().unwrap().code(), Some(CANNOT));
            println!("skipped: no network namespaces");
            return;
        }
        let status = Command::new("kill")
            .args([format!("-{signal}"), outer.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        outer.wait().unwrap();
        testkit::wait_until(LIMIT, "the members to be gone", || !runs());
    }
}

/// The seed fixes what is chosen; a quarter of a minute has a handful of faults.
#[test]
fn etcd_under_faults_is_linearizable() {
    let dir = tempfile::tempdir().unwrap();
    let Some(output) = trial(
        dir.path(),
        &["--system", "etcd", "--minutes", "0.25", "--seed", "1"],
    ) else {
        return;
    };
    assert!(output.status.success(), "{output:#?}");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("PASS  etcd seed 1"), "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A member that is cut off or was stopped answers from its own copy, which is old: that is what linearizable reads must never do.
#[test]
fn reads_of_a_members_own_copy_are_caught() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "--system",
        "etcd",
        "--minutes",
        "0.25",
        "--seed",
        "1",
        "--serializable-reads",
        "--faults",
        "partition,pause",
    ];
    let Some(output) = trial(dir.path(), &arguments) else {
        return;
    };
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    let report = String::from_utf8_lossy(&output.stdout);
    for found in ["FOUND  not linearizable", "FOUND  went back", "FAIL  etcd seed 1"] {
        assert!(report.contains(found), "{found}: {report}");
    }
    let run = dir.path().join("etcd-1");
    let histories = std::fs::read_dir(run)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with("history-of-key-"))
        .count();
    assert!(histories > 0);
}
