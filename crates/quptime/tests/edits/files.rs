//! What is in the place of the file, and when it is written.

use testkit::{Qu, wait_until};

use super::random::cluster;
use super::{LIMIT, equal, kept, replace, says, status};

/// The node goes on, says so, and takes the file when there is one again.
#[track_caller]
fn recovers(node: &Qu, good: &str, timeout: &str, text: &str) {
    says(node, text);
    node.run(&["check", "edit", "c1", "--timeout", timeout])
        .unwrap()
        .ok();
    let told = node.log().matches("manual-edit: not applied: ").count();
    let path = node.cluster_file();
    if path.is_dir() {
        std::fs::remove_dir(&path).unwrap();
    } else {
        std::fs::remove_file(&path).unwrap();
    }
    replace(node, good);
    wait_until(LIMIT, "the node to write its file again", || {
        !status(node).contains("hand edit")
            && node
                .cluster_text()
                .contains(&format!("version: {}\n", node.version()))
    });
    assert_eq!(
        node.log().matches("manual-edit: not applied: ").count(),
        told,
        "told once"
    );
}

#[test]
fn pipes_directories_loops_and_odd_texts_end_no_daemon() {
    let (cluster, _) = cluster(2);
    let node = &cluster.nodes[1];
    let path = node.cluster_file();

    let good = equal(&cluster);
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    recovers(
        node,
        &good,
        "11s",
        "hand edit: not applied: it is not a file; put a file in its place",
    );

    let good = equal(&cluster);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    recovers(node, &good, "12s", "hand edit: not applied: it is not a file");

    let good = equal(&cluster);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("cluster.yaml", &path).unwrap();
    recovers(node, &good, "13s", "hand edit: not applied: read ");

    let good = equal(&cluster);
    std::fs::File::create(&path)
        .unwrap()
        .set_len((16 << 20) + 1)
        .unwrap();
    recovers(
        node,
        &good,
        "14s",
        "hand edit: not applied: the file has 16777217 bytes; at most 16777216 are read",
    );

    let good = equal(&cluster);
    let mut bytes = good.clone().into_bytes();
    bytes.extend(b"# \xff\n");
    std::fs::write(&path, bytes).unwrap();
    let lines = good.lines().count();
    recovers(
        node,
        &good,
        "15s",
        &format!("hand edit: not applied: line {}: it is not UTF-8 text", lines + 1),
    );

    let good = equal(&cluster);
    let version = format!("version: {}\n", node.version());
    replace(
        node,
        &good.replacen(&version, "version: 18446744073709551615\n", 1),
    );
    recovers(
        node,
        &good,
        "16s",
        "hand edit: not applied: line 1: version 18446744073709551615 is too high",
    );
    equal(&cluster);
}

#[test]
fn what_looks_cut_off_waits_until_it_is_whole_and_removals_at_the_end_are_meant() {
    let (cluster, _) = cluster(2);
    let node = &cluster.nodes[2];
    let good = equal(&cluster);
    let version = node.version();
    for (text, why) in [
        (String::new(), "the file is empty"),
        (
            good[..=good.find("\nalerts:").unwrap()].to_owned(),
            "sections are missing at the end",
        ),
        (
            good.trim_end().replace("127.0.0.1:2", "127.0.0.1:3"),
            "the last line does not end with a line break",
        ),
    ] {
        replace(node, &text);
        says(
            node,
            &format!("hand edit: waits: it looks cut off: {why}; save it whole"),
        );
        assert_eq!(node.cluster_text(), text, "what is there stays");
    }
    assert_eq!(node.version(), version);
    // The last alert goes.
    let last = good.rfind("\n  - id: ").unwrap() + 1;
    replace(node, &good[..last]);
    says(
        node,
        "hand edit: waits: what stood last is missing; it is removed if the file stays so",
    );
    wait_until(LIMIT, "the last alert to be removed", || {
        node.version() == version + 1
    });
    let text = equal(&cluster);
    assert_eq!(text.matches("type: webhook\n").count(), 1, "{text}");
}

#[test]
fn commands_return_when_the_file_shows_the_change_and_rejections_are_told_until_the_next() {
    let (cluster, _) = cluster(2);
    let node = &cluster.nodes[1];
    for round in 0..12 {
        let node = &cluster.nodes[round % 3];
        let name = format!("added{round}");
        let added = node.run(&["check", "add", "tcp", &name, "127.0.0.1:9", "--interval", "1h"]);
        added.unwrap().ok();
        let text = node.cluster_text();
        assert!(text.contains(&format!("    name: {name}\n")), "{text}");
    }
    let old = equal(&cluster);
    node.run(&["check", "edit", "c1", "--target", "127.0.0.1:5"])
        .unwrap()
        .ok();
    equal(&cluster);
    replace(node, &old.replace("127.0.0.1:1\n", "127.0.0.1:6\n"));
    says(
        node,
        "hand edit: rejected: check c1 changed meanwhile; the edit is kept in ",
    );
    assert_eq!(kept(node, "cluster.yaml.rejected-").len(), 1);
    cluster.nodes[0]
        .run(&["check", "edit", "c2", "--timeout", "5s"])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the rejection to be forgotten", || {
        !status(node).contains("hand edit")
    });
    let text = equal(&cluster);
    assert!(
        text.contains("target: 127.0.0.1:5\n") && text.contains("timeout: 5s\n"),
        "{text}"
    );
}
