//! The data directory: one daemon at a time; a disk that is full; the folder `raft/` and what is left of others: damage of every kind, what people are told to do
//! about it, and that it works.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says with a panic what failed, and on stdout why it was skipped"
)]

mod damage;
mod full;
mod in_use;
mod orphans;

use std::time::Duration;

use testkit::Qu;

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// Names in the node's directory that begin so, in order.
fn named(node: &Qu, beginning: &str) -> Vec<String> {
    let files = std::fs::read_dir(node.config_dir()).unwrap().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}
