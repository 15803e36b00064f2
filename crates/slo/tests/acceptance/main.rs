//! What is generated, judged by the programs it is for: promtool, amtool, Prometheus, and our own runner of runbooks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails here, with the line"
)]

mod commands;
mod firing;
mod history;
mod live;
mod pages;
mod random;
mod shipped;
mod town;

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Output, TestDir, mainstay_binary, require};

/// A path of the checkout; tests run in the folder of their crate.
fn root(path: &str) -> PathBuf {
    Path::new("../..").join(path)
}

/// Runs `slo` at the top of the checkout.
fn slo(arguments: &[&str]) -> Output {
    let mut command = Command::new(mainstay_binary().unwrap());
    Output::of(command.arg("slo").args(arguments).current_dir(root("."))).unwrap()
}

/// Runs a program that judges.
fn judge(program: &str, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(require(program).unwrap());
    Output::of(command.current_dir(folder).args(arguments)).unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dir() -> TestDir {
    TestDir::new("slo").unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
