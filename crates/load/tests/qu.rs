//! The benchmark of qu, small: it runs, measures both systems and judges. Its figures mean nothing here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

use std::process::Command;

/// Runs scenarios and yields the report.
#[track_caller]
fn bench(arguments: &[&str]) -> String {
    let dir = testkit::TestDir::new("bench").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["qu", "--quick", "--dir"])
        .arg(dir.path())
        .arg("--mainstay")
        .arg(testkit::mainstay_binary().unwrap())
        .args(arguments)
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{errors}");
    said
}

#[test]
fn checks_are_measured_beside_the_rival() {
    let report = bench(&["--only", "checks", "--checks", "40"]);
    for text in [
        "checks-40: ",
        "\nblackbox ",
        "\nqu ",
        "\nratio ",
        "CPU at most 0.5 x blackbox: ",
        "RSS at most 100 MiB: ",
    ] {
        assert!(report.contains(text), "{text:?} in\n{report}");
    }
}

#[test]
fn alerts_deaths_and_returns_are_measured() {
    let report = bench(&[
        "--only", "alert", "--only", "master", "--only", "catch", "--kills", "1",
    ]);
    for text in [
        "hand-over p99 at most 1000 ms: ",
        "first verdict p99 at most 6000 ms: ",
        "catch-up at most 1.5 s: ",
    ] {
        assert!(report.contains(text), "{text:?} in\n{report}");
    }
}
