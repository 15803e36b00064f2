//! Nodes that start with a file, or a folder, that somebody had his hands on.

use testkit::wait_until;

use super::random::cluster;
use super::{LIMIT, equal, kept, replace};

#[test]
fn just_a_majority_starts_although_a_file_was_edited() {
    let (mut cluster, _) = cluster(2);
    let old = equal(&cluster);
    cluster.nodes[0]
        .run(&["check", "edit", "c2", "--timeout", "9s"])
        .unwrap()
        .ok();
    equal(&cluster);
    for node in &mut cluster.nodes {
        node.sigterm().unwrap();
    }
    // An editor that was open since before the last change, saved while nothing runs.
    replace(&cluster.nodes[1], &old.replace("127.0.0.1:1\n", "127.0.0.1:4\n"));
    cluster.nodes[1].start().unwrap();
    cluster.nodes[2].start().unwrap();
    wait_until(LIMIT, "the edit to be applied", || {
        cluster.nodes[2].cluster_text().contains("target: 127.0.0.1:4\n")
    });
    cluster.nodes[0].start().unwrap();
    let text = equal(&cluster);
    assert!(
        text.contains("target: 127.0.0.1:4\n") && text.contains("timeout: 9s\n"),
        "{text}"
    );
    assert!(cluster.nodes[1].log().contains("StartsWithEdit"));
    for node in &cluster.nodes {
        assert!(
            kept(node, "cluster.yaml.").is_empty(),
            "{:?}",
            kept(node, "cluster.yaml.")
        );
    }
}
