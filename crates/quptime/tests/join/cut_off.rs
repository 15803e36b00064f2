//! A node that is left behind by all others.

use std::time::Duration;

use testkit::{QuCluster, happens_within, wait_until};

use super::LIMIT;

/// Longer than a node asks around before it takes silence for absence (`machine/entrance`).
const PATIENCE: Duration = Duration::from_secs(34);

#[test]
fn the_first_node_of_a_cluster_never_goes_on_alone() {
    // When it started its file listed nobody else. It has not started again since, and must know better all the same.
    let mut cluster = QuCluster::start(3).unwrap();
    let version = cluster.nodes[0].version();
    for node in &mut cluster.nodes[1..] {
        node.kill9().unwrap();
    }
    let first = &cluster.nodes[0];
    wait_until(LIMIT, "the loss of quorum to be noticed", || !first.has_quorum());
    let goes_on = happens_within(PATIENCE, || first.has_quorum());
    assert!(!goes_on, "{}", first.log());
    let output = first
        .run(&["check", "add", "tcp", "alone", "127.0.0.1:1"])
        .unwrap();
    assert_eq!(output.code, 4, "{output:?}");
    assert_eq!(first.version(), version);

    for node in &mut cluster.nodes[1..] {
        node.start().unwrap();
    }
    cluster.settled().unwrap();
    assert_eq!(cluster.nodes[2].version(), version);
}
