//! `cluster.yaml` as an interface: edited by hand on a running node, equal on all nodes, private, and caught up by who was away.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod catching_up;
mod edits;
mod large;
mod surgery;
mod without_quorum;

use std::time::Duration;

use testkit::{Qu, QuCluster, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// Three nodes with one check and one alert.
fn cluster() -> QuCluster {
    let cluster = QuCluster::start(3).unwrap();
    let first = &cluster.nodes[0];
    first
        .run(&["alert", "add", "webhook", "hook", "--url", "http://127.0.0.1:1/"])
        .unwrap()
        .ok();
    first
        .run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    equal(&cluster);
    cluster
}

/// Waits until all running nodes have one version and one file, and returns the file.
#[track_caller]
fn equal(cluster: &QuCluster) -> String {
    cluster.settled().unwrap();
    let running: Vec<&Qu> = cluster.nodes.iter().filter(|node| node.is_running()).collect();
    let mut text = String::new();
    wait_until(LIMIT, "all files to be equal", || {
        text = running[0].cluster_text();
        let version = format!("version: {}\n", running[0].version());
        text.starts_with(&version) && running.iter().all(|node| node.cluster_text() == text)
    });
    text
}

/// Changes the file as an editor does: a new file in the place of the old one.
fn edit(node: &Qu, change: impl FnOnce(String) -> String) {
    let new = node.config_dir().join("cluster.yaml.edited");
    std::fs::write(&new, change(node.cluster_text())).unwrap();
    std::fs::rename(new, node.cluster_file()).unwrap();
}

/// Waits until `qu status` of a node has this in it.
#[track_caller]
fn says(node: &Qu, text: &str) {
    wait_until(LIMIT, &format!("status to say {text:?}"), || {
        node.run(&["status", "--no-wait"]).unwrap().stdout.contains(text)
    });
}
