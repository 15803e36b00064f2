//! Exit codes that need a cluster, and whom a status names.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use testkit::{QuCluster, wait_until};

use super::{LIMIT, refused};

/// Asks a daemon the way the commands do.
fn ask(socket: &std::path::Path, request: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn without_quorum_status_is_3_and_changes_are_4() {
    let mut cluster = QuCluster::start(3).unwrap();
    cluster.nodes[1]
        .run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    cluster.settled().unwrap();
    let version = cluster.nodes[2].version();
    // What was decided: current with quorum, perhaps old without it, and no failure either way.
    let lists = [
        &["incidents"][..],
        &["incidents", "--ended"],
        &["incidents", "--json"],
        &["deliveries"],
        &["cluster", "log"],
    ];
    for args in lists {
        // A busy machine may elect another master at any time.
        wait_until(LIMIT, "a list without a note", || {
            let said = cluster.nodes[2].run(args).unwrap();
            assert_eq!(said.code, 0, "{args:?}: {said:?}");
            said.stderr.is_empty()
        });
    }
    for index in [0, 1] {
        cluster.nodes[index].kill9().unwrap();
    }
    let left = &cluster.nodes[2];
    wait_until(LIMIT, "the last node to be without quorum", || {
        left.field("master").as_deref() == Some("(none — no quorum)")
    });
    let status = left.run(&["status"]).unwrap();
    assert_eq!((status.code, status.stderr.as_str()), (3, ""), "{status:?}");
    // Complete, although the exit code is not 0.
    for part in [
        "quorum     false (need 2)\n",
        "\nPEERS\n",
        "\nCHECKS\n",
        " port ",
        "(stale)",
    ] {
        assert!(
            status.stdout.contains(part),
            "{part:?} is not in\n{}",
            status.stdout
        );
    }
    assert_eq!(left.run(&["status", "--json"]).unwrap().code, 3);
    for args in lists {
        let said = left.run(args).unwrap();
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        let note = "no quorum: what is shown is the last that this node knows, and may be old\n";
        assert!(said.stderr.ends_with(note), "{args:?}: {said:?}");
    }
    for args in [
        &["check", "add", "tcp", "other", "127.0.0.1:1"][..],
        &["check", "remove", "port"],
        &["alert", "add", "webhook", "hook", "--url", "http://127.0.0.1:1/"],
        &["cluster", "resolvers", "set", "127.0.0.53"],
    ] {
        let said = refused(left.run(args).unwrap(), 4);
        assert_eq!(said, "no quorum, change refused (live 1, need 2)", "{args:?}");
    }
    assert_eq!(left.version(), version);
}

#[test]
fn an_edit_of_what_somebody_else_changed_is_5() {
    // The command reads and writes at once, so nobody could come between; here the writing comes late.
    let node = super::single();
    node.run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    let socket = node.dir().join("qu.sock");
    let seen = ask(&socket, &json!("document"));
    let before = &seen["document"]["checks"][0];
    assert_eq!(before["name"], "port", "{seen}");
    node.run(&["check", "edit", "port", "--timeout", "3s"])
        .unwrap()
        .ok();
    let version = node.version();
    let mut after = before.clone();
    after["target"] = "127.0.0.1:2".into();
    let change = json!({
        "key": {"section": "checks", "id": before["id"]},
        "base": {"check": before},
        "wanted": {"check": after},
    });
    let answer = ask(
        &socket,
        &json!({"configure": {"changes": [change], "what": "test", "force": false}}),
    );
    assert_eq!(answer["error"]["exit_code"], 5, "{answer}");
    let text = answer["error"]["text"].as_str().unwrap();
    assert!(
        text.contains("changed by somebody else in the meantime") && text.contains("port"),
        "{text}"
    );
    assert_eq!(node.version(), version);
}

#[test]
fn a_healthy_cluster_agrees_and_says_so() {
    let cluster = QuCluster::start(3).unwrap();
    cluster.nodes[2]
        .run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    cluster.settled().unwrap();
    let master = cluster.nodes[cluster.master().unwrap()].id();
    for node in &cluster.nodes {
        wait_until(LIMIT, "everybody to be heard", || {
            let said = node.run(&["status"]).unwrap().ok();
            said.matches(" true ").count() >= 4
        });
        let said = node.run(&["status"]).unwrap().ok();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], format!("node       {}", node.id()));
        assert!(
            lines[1]
                .strip_prefix("term       ")
                .unwrap()
                .parse::<u64>()
                .is_ok(),
            "{said}"
        );
        assert_eq!(lines[2], format!("master     {master}"));
        assert_eq!(lines[3], "quorum     true (need 2)");
        assert_eq!(lines[4], format!("config ver {}", cluster.nodes[0].version()));
        assert!(lines.contains(&"(*: this node)"), "{said}");
        let own = said.lines().find(|line| line.starts_with("*  ")).unwrap();
        assert!(
            own.contains(&node.id()) && own.contains(&node.peer_address()),
            "{said}"
        );
        let json: Value = serde_json::from_str(&node.run(&["status", "--json"]).unwrap().ok()).unwrap();
        assert_eq!(json["master"], master);
        assert_eq!(json["peers"].as_array().unwrap().len(), 3);
        // Neither of the two prefixes that operators search for.
        let log = node.log();
        assert!(
            !log.contains("propose to master:") && !log.contains("replicate: pull from:"),
            "{log}"
        );
    }
}
