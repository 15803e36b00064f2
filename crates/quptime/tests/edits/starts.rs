//! Nodes that start with a file, or a folder, that somebody had his hands on.

use testkit::wait_until;

use super::random::cluster;
use super::{LIMIT, equal, kept, replace};

#[test]
fn a_member_whose_log_lost_its_end_enters_anew() {
    let (mut cluster, _) = cluster(3);
    let node = &mut cluster.nodes[2];
    node.sigterm().unwrap();
    let log = node.config_dir().join("raft/log");
    let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 100).unwrap();
    node.start().unwrap();
    let again = "start-up decision, row=LostRecords\n";
    wait_until(LIMIT, "the node to be admitted with a new life", || {
        let log = cluster.nodes[2].log();
        let after = log.split_once(again);
        log.contains("raft/log has lost its end: ")
            && after.is_some_and(|(_, log)| log.contains("admitted to the group"))
    });
    assert_eq!(kept(&cluster.nodes[2], "raft.orphan-").len(), 1);
    let edited = cluster.nodes[0].run(&["check", "edit", "c1", "--timeout", "3s"]);
    edited.unwrap().ok();
    equal(&cluster);
    // It is a voter again: with it and one other there is quorum.
    cluster.nodes[1].kill9().unwrap();
    cluster.settled().unwrap();
    cluster.nodes[2]
        .run(&["check", "edit", "c2", "--timeout", "4s"])
        .unwrap()
        .ok();
}

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
