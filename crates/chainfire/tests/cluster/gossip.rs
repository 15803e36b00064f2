//! Who is around, and what it changes.

use testkit::{Chainfire, ChainfireCluster};

use crate::membership::client;

/// State of each node as one sees it, by id.
fn around(node: &Chainfire) -> Vec<(u64, String)> {
    let output = node.client(&["gossip"]).unwrap();
    let rows = output.stdout.lines().skip(1);
    rows.filter_map(|row| {
        let mut words = row.split_whitespace();
        let id = words.next()?.parse().ok()?;
        Some((id, words.nth(1)?.to_owned()))
    })
    .collect()
}

fn wait_for(cluster: &ChainfireCluster, states: &[(u64, &str)]) {
    let wanted: Vec<(u64, String)> = states
        .iter()
        .map(|(id, state)| (*id, (*state).to_owned()))
        .collect();
    cluster
        .wait(&format!("{wanted:?} on all nodes"), |cluster| {
            let mut running = cluster.nodes.iter().filter(|node| node.is_running());
            running.all(|node| around(node) == wanted)
        })
        .unwrap();
}

fn all_see_one_die_and_come_back(config: &str) {
    let mut cluster = ChainfireCluster::start(3, config).unwrap();
    wait_for(&cluster, &[(1, "alive"), (2, "alive"), (3, "alive")]);
    cluster.node(2).kill9().unwrap();
    wait_for(&cluster, &[(1, "alive"), (2, "down"), (3, "alive")]);
    cluster.start_all().unwrap();
    wait_for(&cluster, &[(1, "alive"), (2, "alive"), (3, "alive")]);
    // One that says goodbye is down at once, without being suspected.
    assert!(cluster.node(3).sigterm().unwrap().success());
    wait_for(&cluster, &[(1, "alive"), (2, "alive"), (3, "down")]);
}

#[test]
fn members_find_each_other_and_see_one_die_and_come_back() {
    all_see_one_die_and_come_back("");
}

#[test]
fn tcp_alone_is_enough() {
    all_see_one_die_and_come_back("[gossip]\ntcp_only = true");
}

#[test]
fn a_node_that_waits_to_be_added_is_seen_through_a_seed() {
    let mut cluster = ChainfireCluster::start(1, "").unwrap();
    let seed = format!("{}:2381", cluster.nodes[0].address());
    let config = format!("[cluster]\nbootstrap = false\n[gossip]\nseeds = [\"{seed}\"]");
    let mut waiting = Chainfire::builder().node(7).config(&config).build().unwrap();
    waiting.spawn().unwrap();
    cluster
        .wait("node 7", |cluster| {
            around(&cluster.nodes[0]).iter().any(|(id, _)| *id == 7)
        })
        .unwrap();
    let shown = client(&cluster.nodes[0], &["gossip", "-o", "json"]);
    assert!(
        shown.contains(r#""id":"7""#) && shown.contains(r#""state":"alive""#),
        "{shown}"
    );
    assert!(cluster.node(1).sigterm().unwrap().success());
}

#[test]
fn a_node_that_joined_while_another_was_away_is_not_overlooked() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    assert!(cluster.node(1).sigterm().unwrap().success());
    let fourth = Chainfire::builder()
        .node(4)
        .config("[cluster]\nbootstrap = false")
        .build()
        .unwrap();
    cluster.nodes.push(fourth);
    cluster.node(4).spawn().unwrap();
    cluster.leader().unwrap();
    let address = cluster.node(4).peer_address();
    client(
        &cluster.nodes[1],
        &["member-add", "--node-id", "4", "--peer-url", &address],
    );
    client(&cluster.nodes[1], &["put", "kept", "1"]);
    for node in 2..=4 {
        cluster.node(node).kill9().unwrap();
    }

    // The first knows of no fourth, and two disks are gone. By the members it knows it could decide alone what is lost.
    for node in 2..=3 {
        std::fs::remove_dir_all(cluster.node(node).data_dir()).unwrap();
    }
    cluster.node(1).spawn().unwrap();
    cluster.node(4).spawn().unwrap();
    cluster
        .wait("node 4 at node 1", |cluster| {
            around(&cluster.nodes[0]).contains(&(4, "alive".to_owned()))
        })
        .unwrap();
    let readmit = |cluster: &mut ChainfireCluster, at: usize| {
        for node in 2..=3u64 {
            let (id, address) = (node.to_string(), cluster.node(node).peer_address());
            client(
                &cluster.nodes[at],
                &["member-add", "--node-id", &id, "--peer-url", &address],
            );
        }
    };
    cluster.node(1).wait_log("Election timeout").unwrap();
    readmit(&mut cluster, 0);
    cluster.node(2).spawn().unwrap();
    cluster.node(3).spawn().unwrap();
    cluster
        .node(1)
        .wait_log("node 4 holds more: let it begin")
        .unwrap();

    // Asked at the fourth it goes through, and nothing is lost.
    readmit(&mut cluster, 3);
    cluster.start_all().unwrap();
    for node in &cluster.nodes {
        assert_eq!(
            client(node, &["get", "kept", "--print-value-only"]).trim_end(),
            "1"
        );
    }
}
