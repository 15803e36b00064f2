//! The command line of qu, judged from outside: texts, exit codes, files and their modes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod bad_input;
mod cluster;
mod health;
mod init;
mod mutations;
mod unknown;

use std::time::Duration;

use testkit::{Output, QU_SECRET, Qu};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// A node that is its own cluster and leads it.
fn single() -> Qu {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    node
}

/// Fails with this exit code, without output, and one line on standard error, which is returned.
#[track_caller]
fn refused(output: Output, code: i32) -> String {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{output:?}");
    let line = output.stderr.strip_prefix("error: ").unwrap_or_default();
    assert_eq!(line.lines().count(), 1, "{output:?}");
    line.trim_end().to_owned()
}
