//! A node that was away for long, and one that lost everything but the files of a backup.

use testkit::wait_until;

use super::{LIMIT, cluster, equal};

/// Versions that are missed: more than anybody keeps in messages under way.
const VERSIONS: u64 = 300;

#[test]
fn a_node_that_was_away_for_hundreds_of_versions_has_the_same_file_again() {
    let mut cluster = cluster();
    cluster.nodes[2].sigterm().unwrap();
    cluster.settled().unwrap();
    let version = cluster.nodes[0].version();
    for round in 0..VERSIONS {
        let node = &cluster.nodes[usize::try_from(round % 2).unwrap()];
        let timeout = format!("{}s", 1 + round % 9);
        let said = node
            .run(&["check", "edit", "port", "--timeout", &timeout])
            .unwrap()
            .ok();
        let end = format!("(cluster version now {})\n", version + round + 1);
        assert!(said.ends_with(&end), "{said}");
    }
    let before = cluster.nodes[2].cluster_text();
    cluster.nodes[2].start().unwrap();
    wait_until(LIMIT, "the node to catch up", || {
        cluster.nodes[2].version() == version + VERSIONS
    });
    let text = equal(&cluster);
    assert_ne!(text, before);
    assert!(
        text.starts_with(&format!("version: {}\n", version + VERSIONS)),
        "{text}"
    );
    for node in &cluster.nodes {
        let log = node.log();
        assert!(
            !log.contains("replicate: pull from:") && !log.contains("manual-edit"),
            "{log}"
        );
    }
}
