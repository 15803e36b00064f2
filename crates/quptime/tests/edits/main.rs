//! Edits of `cluster.yaml` by hand against a model: whoever edits what on which node, running or stopped, with or without quorum, all nodes end with
//! the same bytes, nothing valid is lost, and what makes no sense changes nothing.
//!
//! `random` plays situations at random on three real daemons. `MAINSTAY_EDITS_SECONDS` (25) says for how long, `MAINSTAY_EDITS_SEED` (1,
//! printed) which ones come. The seed fixes what is done, not how daemons meet, so repeat it, and keep the directory of a failed run.
//! `files` and `starts` hold what is worth a test by name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "people take their time between two keys, and a run lasts as long as it was asked to"
)]

mod files;
mod model;
mod random;
mod situations;
mod starts;

use std::path::PathBuf;
use std::time::Duration;

use testkit::{Qu, QuCluster, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// Waits until all running nodes have one version and one file, and returns the file.
#[track_caller]
fn equal(cluster: &QuCluster) -> String {
    cluster.settled().unwrap();
    let mut text = String::new();
    wait_until(LIMIT, "all files to be equal", || {
        let mut running = cluster.nodes.iter().filter(|node| node.is_running());
        let first = running.next().unwrap();
        text = first.cluster_text();
        let version = format!("version: {}\n", first.version());
        text.starts_with(&version) && running.all(|node| node.cluster_text() == text)
    });
    text
}

/// What `qu status` of a node says; empty if it does not answer.
fn status(node: &Qu) -> String {
    let output = node.run(&["status", "--no-wait"]);
    output.map(|output| output.stdout).unwrap_or_default()
}

/// Waits until `qu status` of a node has this in it.
#[track_caller]
fn says(node: &Qu, text: &str) {
    wait_until(LIMIT, &format!("status to say {text:?}"), || {
        status(node).contains(text)
    });
}

/// Files beside `cluster.yaml` whose names begin so.
fn kept(node: &Qu, beginning: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(node.config_dir()).unwrap().flatten();
    let named = files.filter(|file| file.file_name().to_string_lossy().starts_with(beginning));
    named.map(|file| file.path()).collect()
}

/// Puts a new file in the place of the old one, as most editors do.
fn replace(node: &Qu, text: &str) {
    let new = node.config_dir().join("cluster.yaml.edited");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, node.cluster_file()).unwrap();
}
