//! Hosts that are let in.

use testkit::{QuCluster, wait_until};

use super::{Host, LIMIT, alone, create, list};

#[test]
fn with_auto_approval_a_token_makes_one_host_a_node() {
    let first = alone(1);
    let said = first
        .run(&["enroll", "create", "--auto-approve", "--name", "rack 7"])
        .unwrap();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!((said.code, lines.len()), (0, 2), "{said:?}");
    assert!(lines[0].starts_with("enrollment ") && lines[0].ends_with("(cluster version now 2)"));
    assert!(said.stderr.contains("shown this once"), "{said:?}");
    let token = quptime::token::Token::parse(lines[1]).unwrap();
    let listed = list(&first);
    assert_eq!(
        (listed.len(), &listed[0]["state"]),
        (1, &"open".into()),
        "{listed:?}"
    );
    let table = first.run(&["enroll", "list"]).unwrap().ok();
    assert!(
        table.starts_with("ID  ") && table.contains("  rack 7  open  "),
        "{table}"
    );
    // Only the hash is kept.
    wait_until(LIMIT, "the file to have the enrollment", || {
        first.cluster_text().contains("secret_hash: sha256:")
    });
    let text = first.cluster_text();
    assert!(!text.contains(token.secret.reveal()), "{text}");

    let mut second = Host::new(2);
    let joined = second.join(&token).ok();
    let id = second.id.clone();
    assert!(joined.starts_with(&format!("node id      {id}\n")), "{joined}");
    assert!(
        joined.ends_with(&format!("\nnode {id} is enrolled; start it\n")),
        "{joined}"
    );
    assert!(list(&first).is_empty());
    let again = second.join(&token).ok();
    assert_eq!(again, format!("node {id} is enrolled already; start it\n"));
    let node = std::fs::read_to_string(second.file("node.yaml")).unwrap();
    assert!(!node.contains(testkit::QU_SECRET), "{node}");

    // Another host comes too late, and is left without a node.
    let third = Host::new(3);
    let late = third.join(&token);
    assert_eq!((late.code, late.stdout.as_str()), (1, ""), "{late:?}");
    assert!(late.stderr.contains(": the token was used already"), "{late:?}");
    assert!(
        !third.qu.config_dir().exists(),
        "nothing is in the way of another try"
    );

    second.serve_under(&first.id());
    wait_until(LIMIT, "both to vote", || {
        first.field("quorum").as_deref() == Some("true (need 2)")
    });
    wait_until(LIMIT, "equal files", || {
        second.qu.cluster_text() == first.cluster_text()
    });
    for name in ["enrolling.yaml", "joining.yaml"] {
        assert!(!second.file(name).exists(), "{name}");
    }
    let again = second.join(&token);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("this host is a node already"), "{again:?}");
    // A node that enrolled does not know the cluster's secret: it takes hosts with tokens only.
    let said = second
        .qu
        .run(&["node", "add", "-y", &first.peer_address()])
        .unwrap();
    assert!(said.stderr.contains("has no cluster_secret"), "{said:?}");
    for log in [first.log(), second.qu.log()] {
        assert!(!log.contains(token.secret.reveal()), "{log}");
    }
}

#[test]
fn a_host_that_calls_a_follower_waits_for_approval_and_whoever_comes_later_is_refused() {
    let cluster = QuCluster::start(2).unwrap();
    let [first, second] = &cluster.nodes[..] else {
        panic!("two nodes");
    };
    let mut token = create(second, &["--ttl", "10m"]);
    assert_eq!(token.endpoints.len(), 2);
    token
        .endpoints
        .retain(|endpoint| endpoint.address == second.peer_address());
    assert_eq!(token.endpoints.len(), 1);
    let said = first.run(&["enroll", "approve", &token.id]).unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("no host has shown the token"), "{said:?}");

    let mut third = Host::new(3);
    let joining = third.begin(&token);
    joining.wait_said(&format!("qu enroll approve {}", token.id));
    let listed = list(second);
    assert_eq!(listed[0]["state"], "waiting", "{listed:?}");
    assert_eq!(listed[0]["host"]["node_id"], third.id.as_str(), "{listed:?}");
    assert_eq!(
        listed[0]["host"]["advertise"],
        third.qu.peer_address(),
        "{listed:?}"
    );
    let late = Host::new(4).join(&token);
    assert_eq!(late.code, 1, "{late:?}");
    let text = format!("the token was used already, by node {}", third.id);
    assert!(late.stderr.contains(&text), "{late:?}");

    let said = second.run(&["enroll", "approve", &token.id]).unwrap().ok();
    assert!(said.starts_with(&format!("node {} at ", third.id)), "{said}");
    assert!(said.contains(" added (cluster version now "), "{said}");
    joining.end();
    third.serve_under(&first.id());
    wait_until(LIMIT, "three equal files", || {
        let text = first.cluster_text();
        text.contains(&third.id) && second.cluster_text() == text && third.qu.cluster_text() == text
    });
}

#[test]
fn a_removed_host_comes_back_by_what_it_is_told() {
    let first = alone(1);
    let mut second = Host::new(2);
    second.join(&create(&first, &["--auto-approve"])).ok();
    second.serve_under(&first.id());
    first.run(&["node", "remove", &second.id]).unwrap().ok();
    let mut said = String::new();
    wait_until(LIMIT, "the removed host to know it", || {
        said = second.qu.run(&["status"]).unwrap().stdout;
        said.contains("removed: ")
    });
    let advice = "removed: this node was removed from the cluster; to join again, stop the daemon, empty its directory and run qu enroll \
                  join with a new token of qu enroll create; ";
    assert!(said.contains(advice), "{said}");
    // Others cannot fetch it: it never knew the secret.
    let fetched = first
        .run(&[
            "node",
            "add",
            "-y",
            "--discard-remote-config",
            &second.qu.peer_address(),
        ])
        .unwrap();
    assert_eq!(fetched.code, 1, "{fetched:?}");

    second.qu.sigterm().unwrap();
    std::fs::remove_dir_all(second.qu.config_dir()).unwrap();
    std::fs::create_dir(second.qu.config_dir()).unwrap();
    // As drawn anew, and at the same address.
    "00000003-0000-4000-8000-000000000000".clone_into(&mut second.id);
    second.join(&create(&first, &["--auto-approve"])).ok();
    second.serve_under(&first.id());
    wait_until(LIMIT, "equal files", || {
        let text = first.cluster_text();
        text.contains(&second.id) && second.qu.cluster_text() == text
    });
}
