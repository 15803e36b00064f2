//! `qu node add`: who is taken, who is not, and what is left behind when nobody is.

use std::process::Stdio;

use testkit::{QU_SECRET, Qu, QuCluster, wait_until};

use super::{LIMIT, alone, files, pair};

#[test]
fn two_nodes_added_without_a_pause_become_voters() {
    // The second command begins while the first node is still catching up.
    let cluster = QuCluster::start(3).unwrap();
    for node in &cluster.nodes {
        assert_eq!(node.field("quorum").as_deref(), Some("true (need 2)"));
        let said = node.run(&["trust", "list"]).unwrap().ok();
        for other in &cluster.nodes {
            assert!(said.contains(&other.id()), "{said}");
            assert!(node.cluster_text().contains(&other.peer_address()));
        }
    }
    let text = cluster.nodes[0].cluster_text();
    for node in &cluster.nodes[1..] {
        wait_until(LIMIT, "equal files", || node.cluster_text() == text);
    }
}

#[test]
fn the_operator_sees_the_key_and_is_asked() {
    let (first, second) = pair();
    let before = (files(&first), files(&second));
    let add = ["node", "add", &second.peer_address()];
    let shown = format!("node id      {}\nfingerprint  sha256:", second.id());
    for answer in ["n\n", "", "\n", "perhaps\n"] {
        let output = first.run_with(&add, answer).unwrap();
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stdout.starts_with(&shown), "{output:?}");
        assert!(output.stderr.contains("[y/N]"), "{output:?}");
        // Where nobody can answer, how it goes without is said.
        let end = if answer.is_empty() {
            "error: not added: there is no terminal to answer at; say --yes to go on without being asked\n"
        } else {
            "error: not added\n"
        };
        assert!(output.stderr.ends_with(end), "{output:?}");
        assert_eq!((files(&first), files(&second)), before);
    }
    let version = first.version();
    let output = first.run_with(&add, "y\n").unwrap().ok();
    assert!(output.contains("\nsecret proof succeeded\n"), "{output}");
    let end = format!("(cluster version now {})\n", version + 1);
    assert!(
        output.contains(&second.id()) && output.ends_with(&end),
        "{output}"
    );
    wait_until(LIMIT, "the other node to be a member", || {
        second.field("master") == Some(first.id())
            && second.field("quorum").as_deref() == Some("true (need 2)")
    });
}

#[test]
fn who_asks_a_node_that_was_just_added_sees_what_the_cluster_has() {
    let (first, second) = pair();
    for name in ["rack 7", "rack 8"] {
        first.run(&["enroll", "create", "--name", name]).unwrap().ok();
    }
    let list = first.run(&["enroll", "list"]).unwrap();
    assert_eq!(list.stdout.lines().count(), 3, "{list:?}");
    let add = ["node", "add", "-y", &second.peer_address()];
    first.run(&add).unwrap().ok();
    assert_eq!(second.run(&["enroll", "list"]).unwrap(), list);
    // A node that comes back does not show what was, either.
    let mut second = second;
    second.kill9().unwrap();
    second.start().unwrap();
    assert_eq!(second.run(&["enroll", "list"]).unwrap(), list);
}

#[test]
fn another_secret_is_refused_and_nothing_is_stored() {
    let (first, other) = (alone(1, QU_SECRET), alone(2, "another secret"));
    let before = (files(&first), files(&other));
    let output = first.run(&["node", "add", "-y", &other.peer_address()]).unwrap();
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.starts_with("error: "), "{output:?}");
    assert!(
        output.stderr.contains("cluster secret does not match"),
        "{output:?}"
    );
    assert!(!output.stdout.contains("proof succeeded"), "{output:?}");
    assert_eq!((files(&first), files(&other)), before);
    for node in [&first, &other] {
        assert!(node.has_quorum());
        assert_eq!(node.version(), 1);
        assert!(!node.log().contains(QU_SECRET) && !node.log().contains("another secret"));
    }
}

#[test]
fn a_node_with_something_to_lose_is_only_taken_on_demand() {
    let (first, second) = pair();
    second
        .run(&["check", "add", "tcp", "own", "127.0.0.1:1"])
        .unwrap()
        .ok();
    first
        .run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the checks to be in the files", || {
        first.cluster_text().contains("name: port\n") && second.cluster_text().contains("name: own\n")
    });
    let before = (files(&first), files(&second));
    let output = first.run(&["node", "add", "-y", &second.peer_address()]).unwrap();
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("--discard-remote-config"), "{output:?}");
    assert_eq!((files(&first), files(&second)), before);
    first
        .run(&[
            "node",
            "add",
            "-y",
            "--discard-remote-config",
            &second.peer_address(),
        ])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the other node to take over the configuration", || {
        second.has_quorum() && second.check("port").is_some() && second.check("own").is_none()
    });
    wait_until(LIMIT, "equal files", || {
        second.cluster_text() == first.cluster_text()
    });
}

#[test]
fn a_member_of_another_cluster_is_not_taken() {
    let (first, third) = (alone(1, QU_SECRET), alone(3, QU_SECRET));
    let second = alone(2, QU_SECRET);
    first
        .run(&["node", "add", "-y", &second.peer_address()])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the second node to be a member", || {
        second.field("master") == Some(first.id())
    });
    let output = third.run(&["node", "add", "-y", &second.peer_address()]).unwrap();
    assert_eq!(output.code, 1, "{output:?}");
    assert!(
        output.stderr.contains("belongs to a cluster already"),
        "{output:?}"
    );
    assert_eq!(third.version(), 1);
    assert!(second.has_quorum());
}

/// One newcomer, two clusters that want it at the same time: exactly one of them has it, and the other one says that it does not.
#[test]
fn one_of_two_clusters_gets_a_newcomer() {
    let (first, third) = (alone(1, QU_SECRET), alone(3, QU_SECRET));
    let second = alone(2, QU_SECRET);
    let address = second.peer_address();
    let add = |node: &Qu| {
        let mut command = node.command(&["node", "add", "-y", &address]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let adds = [add(&first), add(&third)];
    let outputs = adds.map(|child| child.wait_with_output().unwrap());
    let taken = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(taken, 1, "{outputs:?}");
    let (winner, loser) = if outputs[0].status.success() {
        (&first, &third)
    } else {
        (&third, &first)
    };
    // Whoever of the two has the smaller id is master in the end.
    wait_until(LIMIT, "the newcomer to be a member", || {
        second.has_quorum() && second.cluster_text().contains(&winner.id())
    });
    assert!(!loser.cluster_text().contains(&second.id()), "{outputs:?}");
    assert_eq!(loser.version(), 1);
}

#[test]
fn addresses_without_a_node_are_named() {
    let first = alone(1, QU_SECRET);
    let nobody = Qu::bare().unwrap();
    let output = first.run(&["node", "add", "-y", &nobody.peer_address()]).unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(output.stderr.contains(&nobody.peer_address()), "{output:?}");
    let output = first.run(&["node", "add", "-y", "no-port"]).unwrap();
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("write host:port"), "{output:?}");
    assert_eq!(first.version(), 1);
}

/// From its promise on a newcomer takes no change for the group that it gives up; what it takes is in the cluster.
#[test]
fn nothing_that_was_added_at_a_newcomer_is_lost() {
    let (first, newcomer) = pair();
    let address = newcomer.peer_address();
    let added: Vec<String> = std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            newcomer.wait_log("joining a cluster").unwrap();
            let names = (0..8).map(|number| format!("extra{number}"));
            names
                .filter(|name| {
                    let add = ["check", "add", "tcp", name.as_str(), "127.0.0.1:1"];
                    newcomer.run(&add).unwrap().code == 0
                })
                .collect()
        });
        first.run(&["node", "add", "--yes", &address]).unwrap().ok();
        // It is a member now.
        newcomer
            .run(&["check", "add", "tcp", "afterwards", "127.0.0.1:1"])
            .unwrap()
            .ok();
        adding.join().unwrap()
    });
    for name in added.iter().map(String::as_str).chain(["afterwards"]) {
        wait_until(LIMIT, &format!("{name} at the first node"), || {
            first.cluster_text().contains(&format!("name: {name}\n"))
        });
    }
}
