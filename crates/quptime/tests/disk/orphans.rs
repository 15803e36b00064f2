//! Folders of groups that a node has left.

use testkit::{QuCluster, wait_until};

use super::{LIMIT, named};

#[test]
fn the_newest_three_stay_once_the_group_runs() {
    let mut cluster = QuCluster::start(3).unwrap();
    for node in &mut cluster.nodes {
        node.sigterm().unwrap();
    }
    let folder = |day: u32| format!("raft.orphan-202601{day:02}T000000Z");
    for day in 1..=5 {
        let path = cluster.nodes[0].config_dir().join(folder(day));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("log"), "what once was").unwrap();
    }
    // Alone it is in no group that runs, and what it once had may be the only copy.
    cluster.nodes[0].start().unwrap();
    wait_until(LIMIT, "the node to answer without quorum", || {
        cluster.nodes[0].field("quorum").is_some()
    });
    assert!(!cluster.nodes[0].has_quorum());
    assert_eq!(named(&cluster.nodes[0], "raft.orphan-").len(), 5);
    cluster.nodes[1].start().unwrap();
    wait_until(LIMIT, "the oldest two to be removed", || {
        named(&cluster.nodes[0], "raft.orphan-") == [folder(3), folder(4), folder(5)]
    });
    let log = cluster.nodes[0].log();
    for day in [1, 2] {
        let told = log.lines().find(|line| line.contains(&folder(day)));
        assert!(
            told.is_some_and(|line| line.contains("removed the folder of a group that this node has left")),
            "{log}"
        );
    }
}
