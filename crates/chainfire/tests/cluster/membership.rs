//! Who belongs to a cluster: added, promoted, removed, lost and found.

use chainfire::wire::etcdserverpb::cluster_client::ClusterClient;
use chainfire::wire::etcdserverpb::{MemberAddRequest, MemberRemoveRequest};
use testkit::{Chainfire, ChainfireCluster};
use tonic::transport::Channel;

pub(crate) fn client(node: &Chainfire, args: &[&str]) -> String {
    let output = node.client(args).unwrap();
    assert_eq!(output.code, 0, "{args:?}: {}{}", output.stdout, output.stderr);
    output.stdout
}

/// A first node alone, and two that wait to be added.
fn one_and_two_more() -> ChainfireCluster {
    let first = Chainfire::builder().node(1).build().unwrap();
    let others = (2..=3).map(|id| {
        let config = "[cluster]\nbootstrap = false";
        Chainfire::builder().node(id).config(config).build().unwrap()
    });
    let mut cluster = ChainfireCluster {
        nodes: std::iter::once(first).chain(others).collect(),
    };
    cluster.node(1).start().unwrap();
    cluster.node(2).spawn().unwrap();
    cluster.node(3).spawn().unwrap();
    cluster
}

fn add(cluster: &ChainfireCluster, node: u64) -> String {
    let added = &cluster.nodes[usize::try_from(node).unwrap() - 1];
    let (id, address) = (node.to_string(), added.peer_address());
    client(
        &cluster.nodes[0],
        &["member-add", "--node-id", &id, "--peer-url", &address],
    )
}

#[test]
fn a_cluster_grows_from_one_and_shrinks_again() {
    let mut cluster = one_and_two_more();
    client(&cluster.nodes[0], &["put", "a", "1"]);
    assert_eq!(
        add(&cluster, 2),
        "Node 2 added to cluster 1 (learner)\nNode 2 promoted to voter\n"
    );
    add(&cluster, 3);
    for node in &cluster.nodes {
        assert_eq!(client(node, &["get", "a", "--print-value-only"]).trim_end(), "1");
    }
    // Given again it is no error.
    assert!(add(&cluster, 2).contains("Node 2 is already a member"));
    let log = cluster.node(1).log();
    let line = "INFO chainfire_raft: Adding node to cluster, node_id=2, addr=";
    assert!(log.contains(line), "{log}");

    let leader = cluster.leader().unwrap();
    let leaving = if leader == 3 { 2 } else { 3 };
    let id = leaving.to_string();
    client(&cluster.nodes[0], &["member-remove", "--node-id", &id]);
    let ended = cluster.node(leaving).wait_exit().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(cluster.node(leaving).log().contains("removed from cluster"));
    client(&cluster.nodes[0], &["put", "b", "2"]);

    // Wiped, it is added under its old number.
    let data = cluster.node(leaving).data_dir();
    std::fs::remove_dir_all(data).unwrap();
    cluster.node(leaving).spawn().unwrap();
    add(&cluster, leaving);
    let back = cluster.node(leaving);
    assert_eq!(client(back, &["get", "b", "--print-value-only"]).trim_end(), "2");
}

#[test]
fn a_node_that_lost_its_disk_is_admitted_again() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    client(&cluster.nodes[0], &["put", "a", "1"]);
    let leader = cluster.leader().unwrap();
    let lost = leader % 3 + 1;
    cluster.node(lost).kill9().unwrap();
    let data = cluster.node(lost).data_dir();
    std::fs::remove_dir_all(data).unwrap();
    cluster.node(lost).start().unwrap();
    cluster.node(lost).wait_log("Node admitted").unwrap();
    assert_eq!(
        client(cluster.node(lost), &["get", "a", "--print-value-only"]).trim_end(),
        "1"
    );
    // Its vote counts: with another one down there is still a majority.
    let down = 6 - leader - lost;
    cluster.node(down).kill9().unwrap();
    client(cluster.node(lost), &["put", "b", "2"]);
}

#[test]
fn split_brain_is_mended_by_keeping_one_node_and_adding_the_others_anew() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    client(&cluster.nodes[0], &["put", "kept", "1"]);
    for node in 1..=3 {
        assert!(cluster.node(node).sigterm().unwrap().success());
    }
    for node in 2..=3 {
        let data = cluster.node(node).data_dir();
        std::fs::remove_dir_all(data).unwrap();
    }
    cluster.node(1).spawn().unwrap();
    cluster.node(1).wait_log("Election timeout").unwrap();
    for node in 2..=3u64 {
        let (id, address) = (node.to_string(), cluster.node(node).peer_address());
        let told = client(
            &cluster.nodes[0],
            &["member-add", "--node-id", &id, "--peer-url", &address],
        );
        assert!(told.contains("no leader elected: start node"), "{told}");
        cluster.node(node).spawn().unwrap();
    }
    cluster.start_all().unwrap();
    for node in &cluster.nodes {
        assert_eq!(
            client(node, &["get", "kept", "--print-value-only"]).trim_end(),
            "1"
        );
    }
    client(&cluster.nodes[1], &["put", "new", "2"]);
}

#[test]
fn a_first_node_that_was_wiped_does_not_found_a_second_cluster() {
    let mut cluster = one_and_two_more();
    client(&cluster.nodes[0], &["put", "a", "1"]);
    add(&cluster, 2);
    add(&cluster, 3);
    cluster.node(1).kill9().unwrap();
    let data = cluster.node(1).data_dir();
    std::fs::remove_dir_all(data).unwrap();
    cluster.node(1).spawn().unwrap();
    let ended = cluster.node(1).wait_exit().unwrap();
    assert_eq!(ended.code(), Some(1));
    let log = cluster.node(1).log();
    assert!(
        log.contains("If it lost its data and was started with cluster.bootstrap = true: wipe"),
        "{log}"
    );
}

#[test]
fn a_learner_is_ready_and_serves_what_it_holds() {
    let mut cluster = one_and_two_more();
    client(&cluster.nodes[0], &["put", "a", "1"]);
    let address = cluster.node(2).peer_address();
    client(
        &cluster.nodes[0],
        &[
            "member-add",
            "--node-id",
            "2",
            "--peer-url",
            &address,
            "--learner",
        ],
    );
    cluster.node(2).wait_ready().unwrap();
    let read = ["get", "a", "--print-value-only", "--consistency", "s"];
    cluster
        .wait("the key at the learner", |cluster| {
            cluster.nodes[1].client(&read).unwrap().stdout.trim_end() == "1"
        })
        .unwrap();
    let refused = cluster.nodes[1].client(&["get", "a"]).unwrap();
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (1, "Error: etcdserver: rpc not supported for learner\n")
    );
    assert!(client(&cluster.nodes[0], &["member-list"]).contains("learner"));
}

#[test]
fn a_leader_is_removed_through_another_member() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let leader = cluster.leader().unwrap();
    let other = usize::try_from(leader % 3).unwrap();
    let removed = client(
        &cluster.nodes[other],
        &[
            "--timeout",
            "20s",
            "member-remove",
            "--node-id",
            &leader.to_string(),
        ],
    );
    assert_eq!(removed, format!("Node {leader} removed from cluster 1\n"));
    assert!(cluster.node(leader).wait_exit().unwrap().success());
}

/// The answer is made of what this node knows, so it must have heard of the change.
#[test]
fn an_added_member_is_named_by_whichever_member_was_asked() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let other = cluster.leader().unwrap() % 3 + 1;
    let endpoint = cluster.node(other).endpoint();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        let mut members = ClusterClient::new(channel);
        for _ in 0..30 {
            let request = MemberAddRequest {
                peer_ur_ls: vec!["http://127.9.9.99:2380".to_owned()],
                is_learner: true,
            };
            let added = members.member_add(request).await.unwrap().into_inner();
            let id = added.member.expect("the member that was added").id;
            assert_eq!(added.members.len(), 4);
            let removed = members.member_remove(MemberRemoveRequest { id }).await.unwrap();
            assert_eq!(removed.into_inner().members.len(), 3);
        }
    });
}

#[test]
fn a_recovered_node_goes_on_when_a_member_of_the_old_cluster_comes_back() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    client(&cluster.nodes[0], &["put", "kept", "1"]);
    for node in 1..=3 {
        assert!(cluster.node(node).sigterm().unwrap().success());
    }
    let data = cluster.node(3).data_dir();
    let recovered = std::process::Command::new(testkit::mainstay_binary().unwrap())
        .args([
            "chainfire",
            "recover",
            "--force-new-cluster",
            "--yes-i-lose-writes",
            "--data-dir",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    cluster.node(3).start().unwrap();
    cluster.node(1).spawn().unwrap();
    cluster
        .node(1)
        .wait_log("belongs to another life of the cluster")
        .unwrap();
    client(&cluster.nodes[2], &["put", "new", "2"]);
    assert!(cluster.node(3).is_running());
}
