//! Three of five nodes are gone for good, and the two that are left go on without them.

use testkit::{Qu, QuCluster, wait_until};

use super::{LIMIT, edit, equal, says};

/// The file without these peers, with a higher version.
fn shrunk(text: &str, gone: &[String]) -> String {
    let mut is_gone = false;
    let lines = text.split_inclusive('\n').filter_map(|line| {
        if let Some(id) = line.strip_prefix("  - node_id: ") {
            is_gone = gone.iter().any(|gone| gone == id.trim());
        } else if !line.starts_with("    ") {
            is_gone = false;
        }
        let version = line
            .strip_prefix("version: ")
            .map(|text| text.trim().parse::<u64>());
        match version {
            Some(version) => Some(format!("version: {}\n", version.unwrap() + 10)),
            None => (!is_gone).then(|| line.to_owned()),
        }
    });
    lines.collect()
}

#[test]
fn two_survivors_of_five_go_on_once_their_files_are_the_same() {
    let mut cluster = QuCluster::start(5).unwrap();
    let first = &cluster.nodes[0];
    first
        .run(&["check", "add", "tcp", "port", "127.0.0.1:1", "--interval", "2s"])
        .unwrap()
        .ok();
    let before = equal(&cluster);
    let version = cluster.nodes[0].version();
    let gone: Vec<String> = cluster.nodes[..3].iter().map(Qu::id).collect();
    for node in &mut cluster.nodes {
        node.kill9().unwrap();
    }
    let after = shrunk(&before, &gone);
    assert_eq!(after.matches("node_id: ").count(), 2, "{after}");

    // One of the two is not quite the same: nobody begins, and says who differs in what.
    edit(&cluster.nodes[3], |_| after.clone());
    edit(&cluster.nodes[4], |_| {
        after.replace("name: port\n", "name: gate\n")
    });
    for node in &mut cluster.nodes[3..] {
        node.spawn().unwrap();
    }
    for (node, other) in [(3, 4), (4, 3)] {
        let line = format!(
            "cluster.yaml of {} is another one: check {} is not the same",
            cluster.nodes[other].id(),
            if node == 3 { "port" } else { "gate" }
        );
        says(&cluster.nodes[node], &line);
        assert!(cluster.nodes[node].log().contains(&line));
    }
    assert!(!cluster.nodes[3].has_quorum() && !cluster.nodes[4].has_quorum());

    // The same on both.
    cluster.nodes[4].sigterm().unwrap();
    edit(&cluster.nodes[4], |_| after.clone());
    cluster.nodes[4].start().unwrap();
    let text = equal(&cluster);
    assert!(cluster.nodes[3].version() >= version + 10);
    assert_eq!(text.matches("node_id: ").count(), 2, "{text}");
    wait_until(LIMIT, "the check to be watched", || {
        let row = cluster.nodes[4].check("port");
        row.is_some_and(|row| row.contains(" down "))
    });
    cluster.nodes[3].run(&["check", "disable", "port"]).unwrap().ok();

    // One of those that were gone comes back: it neither disturbs the others nor counts as one of them.
    cluster.nodes[0].spawn().unwrap();
    let refused = "not a peer of this cluster; it was removed, or never added with qu node add";
    wait_until(LIMIT, "the returned one to be refused", || {
        let log = cluster.nodes[0].log();
        log.rsplit("row=NormalStart")
            .next()
            .unwrap_or_default()
            .contains(refused)
    });
    assert!(!cluster.nodes[0].has_quorum());
    assert!(cluster.nodes[3].has_quorum() && cluster.nodes[4].has_quorum());
    wait_until(LIMIT, "the same file at both", || {
        cluster.nodes[3].cluster_text() == cluster.nodes[4].cluster_text()
    });
}
