//! Nodes that come and go, and strangers at the port between nodes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod cut_off;
mod edits;
mod evicted;
mod joining;
mod leaving;
mod strange_master;
mod strangers;

use std::time::Duration;

use testkit::{QU_SECRET, Qu, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// A node that leads itself.
fn alone(number: u64, secret: &str) -> Qu {
    let mut node = Qu::init(number, secret).unwrap();
    node.start().unwrap();
    // The file that says whom it trusts comes last.
    let id = node.id();
    wait_until(LIMIT, "the node's files", || files(&node).1.contains(&id));
    node
}

/// What a node knows of others, on disk.
fn files(node: &Qu) -> (String, String) {
    let trust = std::fs::read_to_string(node.config_dir().join("trust.yaml")).unwrap_or_default();
    (node.cluster_text(), trust)
}

fn pair() -> (Qu, Qu) {
    (alone(1, QU_SECRET), alone(2, QU_SECRET))
}
