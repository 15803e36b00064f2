//! `qu node remove`, of nodes that live and of nodes that are dead.

use testkit::{QuCluster, wait_until};

use super::LIMIT;

#[test]
fn a_removed_node_knows_it_and_is_not_heard_any_more() {
    let mut cluster = QuCluster::start(3).unwrap();
    let gone = cluster.nodes[2].id();
    let said = cluster.nodes[1].run(&["node", "remove", &gone]).unwrap().ok();
    assert!(
        said.starts_with(&format!(
            "node {gone} removed, quorum is now 2 (cluster version now "
        )),
        "{said}"
    );
    wait_until(LIMIT, "the removed node to know", || {
        cluster.nodes[2].field("master").as_deref() == Some("(none — removed from cluster)")
    });
    for node in &cluster.nodes[..2] {
        wait_until(LIMIT, "nobody to trust it", || {
            let trust = std::fs::read_to_string(node.config_dir().join("trust.yaml")).unwrap();
            !trust.contains(&gone) && !node.cluster_text().contains(&gone)
        });
        assert_eq!(node.field("quorum").as_deref(), Some("true (need 2)"));
    }
    let status = cluster.nodes[2].run(&["status"]).unwrap();
    assert_eq!(status.code, 3, "{status:?}");
    let refused = cluster.nodes[2]
        .run(&["check", "add", "tcp", "a", "127.0.0.1:1"])
        .unwrap();
    assert_ne!(refused.code, 0, "{refused:?}");

    // Its key is that of a stranger, also after it starts again, and it does not count for quorum.
    cluster.nodes[2].restart().unwrap();
    wait_until(LIMIT, "the removed node to know it still", || {
        cluster.nodes[2].field("master").as_deref() == Some("(none — removed from cluster)")
    });
    cluster.nodes[0].wait_log("not a peer of this cluster").unwrap();
    cluster.nodes[1].kill9().unwrap();
    wait_until(LIMIT, "the first node to be alone", || {
        !cluster.nodes[0].has_quorum()
    });
    let refused = cluster.nodes[0]
        .run(&["check", "add", "tcp", "a", "127.0.0.1:1"])
        .unwrap();
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("(live 1, need 2)"), "{refused:?}");
}

#[test]
fn a_removed_node_gets_nothing_that_is_set_afterwards() {
    let cluster = QuCluster::start(4).unwrap();
    let master = cluster.master().unwrap();
    let by = &cluster.nodes[(master + 1) % 4];
    // A follower, and then the master.
    for gone in [(master + 2) % 4, master] {
        // Nodes may be named as people see them.
        let address = cluster.nodes[gone].peer_address();
        let refused = by.run(&["node", "remove", &address]).unwrap();
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(
            refused
                .stderr
                .contains("not removed: there is no terminal to answer at; write the whole id"),
            "{refused:?}"
        );
        by.run(&["node", "remove", "--yes", &address]).unwrap().ok();
        let names: Vec<String> = (0..5).map(|number| format!("after-{gone}-{number}")).collect();
        for name in &names {
            by.run(&["check", "add", "tcp", name, "127.0.0.1:1"])
                .unwrap()
                .ok();
        }
        let knows = |node: &testkit::Qu| {
            let log = std::fs::read(node.config_dir().join("raft/log")).unwrap();
            let log = String::from_utf8_lossy(&log).into_owned();
            names.iter().filter(|name| log.contains(*name)).count()
        };
        assert_eq!(knows(by), names.len(), "it is looked for in the right place");
        wait_until(LIMIT, "the removed node to know it", || {
            cluster.nodes[gone].field("master").as_deref() == Some("(none — removed from cluster)")
        });
        assert_eq!(knows(&cluster.nodes[gone]), 0, "node {gone} was removed before");
        let said = cluster.nodes[gone].run(&["status"]).unwrap();
        assert!(
            said.stdout
                .contains("to join again, stop the daemon, empty its directory and run qu enroll join"),
            "{said:?}"
        );
    }
    // Nodes that know the secret can be fetched as they are, too.
    let address = cluster.nodes[master].peer_address();
    by.run(&["node", "add", "-y", "--discard-remote-config", &address])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the node to be back", || {
        cluster.nodes[master].has_quorum()
    });
}

#[test]
fn a_dead_node_is_removed_and_quorum_shrinks() {
    let mut cluster = QuCluster::start(3).unwrap();
    cluster.nodes[2].kill9().unwrap();
    // With one of the two that remain there would be no quorum; but both live.
    let gone = cluster.nodes[2].id();
    cluster.nodes[0].run(&["node", "remove", &gone]).unwrap().ok();
    // Three at first, two now: the last is refused, since the other could not go on alone.
    wait_until(LIMIT, "both to agree", || {
        cluster.nodes[..2]
            .iter()
            .all(|node| node.field("quorum").as_deref() == Some("true (need 2)"))
    });
    let version = cluster.nodes[0].version();
    let other = cluster.nodes[1].id();
    let said = cluster.nodes[0].run(&["node", "remove", &other]).unwrap().ok();
    assert!(said.contains("quorum is now 1"), "{said}");
    assert_eq!(cluster.nodes[0].version(), version + 1);
    wait_until(LIMIT, "the first to go on alone", || {
        cluster.nodes[0].field("quorum").as_deref() == Some("true (need 1)")
    });
    cluster.nodes[0]
        .run(&["check", "add", "tcp", "a", "127.0.0.1:1"])
        .unwrap()
        .ok();
}

#[test]
fn what_would_cost_quorum_is_refused() {
    let mut cluster = QuCluster::start(3).unwrap();
    cluster.nodes[2].kill9().unwrap();
    let dead = cluster.nodes[2].id();
    wait_until(LIMIT, "the dead node to be seen as dead", || {
        let said = cluster.nodes[0].run(&["node", "list"]).unwrap().stdout;
        said.lines()
            .any(|line| line.contains(&dead) && line.contains(" false "))
    });
    // What would remain is the first and the dead one.
    let living = cluster.nodes[1].id();
    let version = cluster.nodes[0].version();
    // The master judges, whoever is asked.
    for (asked, removed) in [(0, 1), (1, 0)] {
        let removed = cluster.nodes[removed].id();
        let refused = cluster.nodes[asked].run(&["node", "remove", &removed]).unwrap();
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("--force"), "{refused:?}");
    }
    assert_eq!(cluster.nodes[0].version(), version);
    // Without quorum nothing can be insisted on.
    cluster.nodes[1].kill9().unwrap();
    wait_until(LIMIT, "the last node to be alone", || {
        cluster.nodes[0].field("master").as_deref() == Some("(none — no quorum)")
    });
    for more in [&[][..], &["--force"]] {
        let refused = cluster.nodes[0]
            .run(&[&["node", "remove", "--yes", &living[..8]], more].concat())
            .unwrap();
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains("qu-lost-quorum"), "{refused:?}");
        assert!(!refused.stderr.contains("--force"), "{refused:?}");
    }
}

#[test]
fn the_last_node_stays_whatever_somebody_insists_on() {
    let node = super::alone(1, testkit::QU_SECRET);
    let id = node.id();
    for remove in [
        &["node", "remove", &id] as &[&str],
        &["node", "remove", "--force", &id],
    ] {
        let refused = node.run(remove).unwrap();
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(
            refused.stderr.contains("the last node cannot be removed"),
            "{refused:?}"
        );
    }
    node.run(&["check", "add", "tcp", "a", "127.0.0.1:1"])
        .unwrap()
        .ok();
}
