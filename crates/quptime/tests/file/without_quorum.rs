//! An edit that is made while nobody can decide.

use testkit::wait_until;

use super::{LIMIT, cluster, edit, equal, says};

#[test]
fn an_edit_without_quorum_waits_and_is_applied_afterwards() {
    let mut cluster = cluster();
    let version = cluster.nodes[2].version();
    for index in [0, 1] {
        cluster.nodes[index].kill9().unwrap();
    }
    wait_until(LIMIT, "no quorum", || !cluster.nodes[2].has_quorum());
    edit(&cluster.nodes[2], |text| {
        text.replace("target: 127.0.0.1:1\n", "target: 127.0.0.1:7\n")
    });
    says(
        &cluster.nodes[2],
        "hand edit: waits: 1 changes, no quorum (live 1, need 2)",
    );
    assert_eq!(cluster.nodes[2].version(), version);
    // It survives a restart of its node.
    cluster.nodes[2].sigterm().unwrap();
    cluster.nodes[2].start().unwrap();
    assert!(cluster.nodes[2].cluster_text().contains("target: 127.0.0.1:7\n"));
    for index in [0, 1] {
        cluster.nodes[index].start().unwrap();
    }
    wait_until(LIMIT, "the edit to be applied", || {
        cluster.nodes[0].version() == version + 1
    });
    let text = equal(&cluster);
    assert!(text.contains("target: 127.0.0.1:7\n"), "{text}");
    assert_eq!(text.matches("name: port\n").count(), 1, "{text}");
}

/// The group would be without a majority afterwards; the edit is tried again until it would not.
#[test]
fn a_removal_that_would_leave_too_few_waits_until_they_are_back() {
    let mut cluster = cluster();
    let version = cluster.nodes[0].version();
    let gone = cluster.nodes[2].id();
    cluster.nodes[1].kill9().unwrap();
    // It counts as live until it has not been heard for a while.
    cluster.nodes[0].wait_log("peer dead").unwrap();
    edit(&cluster.nodes[0], |text| {
        let entry = text.find(&format!("  - node_id: {gone}\n")).expect("a peer");
        let lines = text[entry..].split_inclusive('\n');
        // Its first line, and those that are indented below it.
        let own = lines
            .enumerate()
            .take_while(|(at, line)| *at == 0 || line.starts_with("    "));
        let end = entry + own.map(|(_, line)| line.len()).sum::<usize>();
        format!("{}{}", &text[..entry], &text[end..])
    });
    says(
        &cluster.nodes[0],
        "hand edit: waits: 1 changes, only 1 of the 2 nodes that would remain are live, and 2 are needed",
    );
    assert_eq!(cluster.nodes[0].version(), version);
    cluster.nodes[1].start().unwrap();
    wait_until(LIMIT, "the removal", || {
        cluster.nodes[0].version() == version + 1 && !cluster.nodes[0].cluster_text().contains(&gone)
    });
}

#[test]
fn without_quorum_a_node_says_what_it_finds_itself() {
    let mut cluster = cluster();
    let node = &cluster.nodes[2];
    node.run(&["check", "edit", "port", "--interval", "1s"])
        .unwrap()
        .ok();
    let with_quorum = node.run(&["status", "--no-wait"]).unwrap().ok();
    assert!(!with_quorum.contains("HERE"), "{with_quorum}");
    for index in [0, 1] {
        cluster.nodes[index].kill9().unwrap();
    }
    let node = &cluster.nodes[2];
    wait_until(LIMIT, "what this node finds, beside the verdict", || {
        let json = node.run(&["status", "--no-wait", "--json"]).unwrap().stdout;
        let status: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let here = &status["checks"][0]["here"];
        here["result"] == "down" && here["at"].as_str().is_some_and(|at| at.ends_with('Z'))
    });
    let text = node.run(&["status", "--no-wait"]).unwrap().stdout;
    assert!(
        text.contains("  HERE\n") && text.contains("  down: connect: connection refused\n"),
        "{text}"
    );
}

#[test]
fn an_edit_that_is_taken_back_before_quorum_is_forgotten() {
    let mut cluster = cluster();
    let (version, good) = (cluster.nodes[2].version(), cluster.nodes[2].cluster_text());
    for index in [0, 1] {
        cluster.nodes[index].kill9().unwrap();
    }
    wait_until(LIMIT, "no quorum", || !cluster.nodes[2].has_quorum());
    edit(&cluster.nodes[2], |text| {
        text.replace("target: 127.0.0.1:1\n", "target: 127.0.0.1:7\n")
    });
    says(&cluster.nodes[2], "hand edit: waits: ");
    edit(&cluster.nodes[2], |_| good.clone());
    wait_until(LIMIT, "the edit to be forgotten", || {
        let said = cluster.nodes[2].run(&["status", "--no-wait"]).unwrap().stdout;
        said.contains("CHECKS") && !said.contains("hand edit")
    });
    cluster.nodes[0].start().unwrap();
    cluster.nodes[1].start().unwrap();
    cluster.settled().unwrap();
    // Any change that was still under way would come before this one.
    cluster.nodes[2].run(&["check", "disable", "port"]).unwrap().ok();
    let text = equal(&cluster);
    assert_eq!(cluster.nodes[2].version(), version + 1);
    assert!(text.contains("target: 127.0.0.1:1\n"), "{text}");
}
