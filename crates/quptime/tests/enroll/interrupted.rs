//! Joins that are cut off, and clusters that cannot decide.

use testkit::{QuCluster, wait_until};

use super::{Host, LIMIT, alone, create, list};

#[test]
fn a_join_that_is_killed_goes_on_where_it_was() {
    let first = alone(1);
    let token = create(&first, &[]);
    let mut host = Host::new(2);
    // Before anybody was called: killed as soon as the first file is there.
    let joining = host.begin(&token);
    wait_until(LIMIT, "the first file", || host.file("enrolling.yaml").exists());
    joining.kill9();
    // While a key is made.
    let cut_short = host.file("keys/cert.pem");
    if cut_short.exists() && list(&first)[0]["state"] == "open" {
        std::fs::remove_file(cut_short).unwrap();
    }
    // The directory is nobody's until the host is let in.
    for args in [&["serve"][..], &["init", "--advertise", "a:1"]] {
        let said = host.qu.run(args).unwrap();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains("repeat qu enroll join"), "{said:?}");
    }
    assert!(!host.file("node.yaml").exists());

    // While it waits. The id that was drawn first stays.
    let joining = host.begin(&token);
    joining.wait_said("waiting until somebody lets this host in");
    joining.kill9();
    let waiting = list(&first)[0]["host"]["node_id"].clone();
    let id = std::mem::replace(&mut host.id, "99999999-0000-4000-8000-000000000000".to_owned());
    assert_eq!(waiting, id.as_str());
    let joining = host.begin(&token);
    joining.wait_said("waiting until somebody lets this host in");
    joining.kill9();
    first.run(&["enroll", "approve", &token.id]).unwrap().ok();

    // After it was let in, before each of its last files was written.
    for missing in [
        &[][..],
        &["node.yaml"],
        &["node.yaml", "joining.yaml", "trust.yaml"],
    ] {
        for name in missing {
            std::fs::remove_file(host.file(name)).unwrap();
        }
        let said = host.join(&token).ok();
        assert!(
            said.contains(&format!("node {id} is enrolled; start it\n")),
            "{said}"
        );
    }
    host.serve_under(&first.id());
    assert_eq!(host.qu.id(), id);
    assert_eq!(first.cluster_text().matches("node_id: ").count(), 2);
}

#[test]
fn without_quorum_nothing_is_decided_and_the_host_goes_on_asking() {
    let mut cluster = QuCluster::start(2).unwrap();
    let token = create(&cluster.nodes[0], &["--auto-approve"]);
    cluster.nodes[1].kill9().unwrap();
    wait_until(LIMIT, "quorum to be lost", || !cluster.nodes[0].has_quorum());
    let said = cluster.nodes[0].run(&["enroll", "create"]).unwrap();
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said:?}");
    let said = cluster.nodes[0].run(&["enroll", "revoke", &token.id]).unwrap();
    assert_eq!(said.code, 4, "{said:?}");

    let mut host = Host::new(3);
    let joining = host.begin(&token);
    joining.wait_said("no quorum, change refused (live 1, need 2)");
    // The other endpoint is tried as well.
    joining.wait_said(&cluster.nodes[1].peer_address());
    assert!(!host.file("node.yaml").exists());
    cluster.nodes[1].start().unwrap();
    joining.end();
    cluster.settled().unwrap();
    let master = cluster.nodes[0].field("master").unwrap();
    host.serve_under(&master);
}

#[test]
fn a_host_that_waits_says_so_once_and_gives_up_in_the_end() {
    let mut first = alone(1);
    let token = create(&first, &[]);
    let host = Host::new(2);
    let joining = host.begin(&token);
    joining.wait_said("waiting until somebody lets this host in");
    // Nodes end connections of hosts that wait after a while; so does one that is started again.
    first.kill9().unwrap();
    first.start().unwrap();
    wait_until(LIMIT, "the node to lead itself again", || first.has_quorum());
    first.run(&["enroll", "approve", &token.id]).unwrap().ok();
    joining.end();
    let said = std::fs::read_to_string(host.qu.dir().join("join.stderr")).unwrap();
    assert_eq!(said.matches("waiting until").count(), 1, "{said}");
    assert!(!said.contains("closed the connection"), "{said}");
    // To be copied as it is.
    let command = format!("qu enroll approve {}", token.id);
    assert_eq!(said.lines().filter(|line| *line == command).count(), 1, "{said}");

    let token = create(&first, &[]);
    let other = Host::new(3);
    let said = other.join_with(&token, &["--wait", "1s"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    let last = said.stderr.lines().last().unwrap();
    let text = format!(
        "error: nobody has let this host in within 1s; have it approved on a node of the cluster (qu enroll approve {}), then repeat",
        token.id
    );
    assert!(last.starts_with(&text), "{said:?}");
    // It goes on where it was.
    first.run(&["enroll", "approve", &token.id]).unwrap().ok();
    other.join_with(&token, &["--wait", "0s"]).ok();

    let token = create(&first, &[]);
    first.kill9().unwrap();
    let said = Host::new(4).join_with(&token, &["--wait", "0s"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    let last = said.stderr.lines().last().unwrap();
    let text = "error: no node of the cluster took the call within 0s (last 127.";
    assert!(last.starts_with(text), "{said:?}");
}
