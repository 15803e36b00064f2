//! What a cluster does that one node cannot: agree, survive, go on.

use chainfire::wire::etcdserverpb::PutRequest;
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use testkit::ChainfireCluster;
use tonic::transport::Channel;

fn put(cluster: &mut ChainfireCluster, node: u64, key: &str, value: &str) {
    let output = cluster.node(node).client(&["put", key, value]).unwrap();
    assert_eq!(output.code, 0, "{}", output.stderr);
}

fn get(cluster: &mut ChainfireCluster, node: u64, key: &str) -> String {
    let output = cluster
        .node(node)
        .client(&["get", key, "--print-value-only"])
        .unwrap();
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stdout.trim_end().to_owned()
}

#[test]
fn three_new_nodes_form_a_cluster_and_every_node_takes_writes_and_reads() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    for node in 1..=3 {
        put(&mut cluster, node, &format!("key{node}"), &format!("value{node}"));
    }
    for node in 1..=3 {
        for key in 1..=3 {
            assert_eq!(
                get(&mut cluster, node, &format!("key{key}")),
                format!("value{key}")
            );
        }
    }
    let leader = cluster.leader().unwrap();
    let status = cluster.node(leader).client(&["status"]).unwrap().ok();
    assert!(status.contains("role: leader"), "{status}");
    let list = cluster.node(1).client(&["member-list"]).unwrap().ok();
    assert_eq!(list.matches("started").count(), 3, "{list}");
    assert_eq!(list.matches("leader").count(), 1, "{list}");
}

#[test]
fn losing_the_leader_loses_nothing_and_it_comes_back() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let leader = cluster.leader().unwrap();
    put(&mut cluster, leader, "before", "1");
    cluster.node(leader).kill9().unwrap();
    let other = leader % 3 + 1;
    put(&mut cluster, other, "meanwhile", "2");
    assert_eq!(get(&mut cluster, other, "before"), "1");
    cluster.node(leader).start().unwrap();
    assert_eq!(get(&mut cluster, leader, "meanwhile"), "2");
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_nothing_lost() {
    let mut cluster = ChainfireCluster::start(3, "[limits]\nrequest_timeout_ms = 1500").unwrap();
    put(&mut cluster, 1, "a", "1");
    cluster.node(2).kill9().unwrap();
    cluster.node(3).kill9().unwrap();
    cluster
        .wait("node 1 to see that nobody leads", |cluster| {
            let status = cluster.nodes[0].client(&["status"]).unwrap();
            status.stdout.contains("leader: none")
        })
        .unwrap();
    let refused = cluster.node(1).client(&["put", "a", "2"]).unwrap();
    assert_ne!(refused.code, 0);
    assert_eq!(refused.stderr.trim_end(), "Error: no leader elected");
    let read = cluster
        .node(1)
        .client(&["get", "a", "--consistency", "s", "--print-value-only"]);
    assert_eq!(read.unwrap().ok().trim_end(), "1");
    cluster.start_all().unwrap();
    assert_eq!(get(&mut cluster, 2, "a"), "1");
    put(&mut cluster, 3, "a", "3");
    assert_eq!(get(&mut cluster, 1, "a"), "3");
}

#[test]
fn a_node_that_was_away_for_long_takes_over_a_snapshot() {
    let config = "[raft]\nsnapshot_entries = 50\nsnapshot_catchup_entries = 10";
    let mut cluster = ChainfireCluster::start(3, config).unwrap();
    let leader = cluster.leader().unwrap();
    let away = leader % 3 + 1;
    put(&mut cluster, leader, "early", "1");
    cluster.node(away).kill9().unwrap();
    for number in 0..200 {
        put(&mut cluster, leader, &format!("key{number:03}"), "x");
    }
    // Only what is on disk may be cut off the log.
    cluster.node(leader).client(&["defrag"]).unwrap().ok();
    for number in 0..100 {
        put(&mut cluster, leader, &format!("late{number:03}"), "y");
    }
    cluster.node(away).start().unwrap();
    cluster.node(away).wait_log("Snapshot installed").unwrap();
    assert_eq!(get(&mut cluster, away, "late099"), "y");
    assert_eq!(get(&mut cluster, away, "early"), "1");
    // It goes on as one of three, also after another start.
    cluster.node(away).restart().unwrap();
    put(&mut cluster, away, "last", "z");
    assert_eq!(get(&mut cluster, leader, "last"), "z");
}

#[test]
fn sigterm_hands_leadership_over() {
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let leader = cluster.leader().unwrap();
    assert!(cluster.node(leader).sigterm().unwrap().success());
    assert!(cluster.node(leader).log().contains("Leadership handed over"));
    let other = leader % 3 + 1;
    put(&mut cluster, other, "after", "1");
    assert!(!cluster.node(other).log().contains("Election timeout"));
}

/// More at once than one member serves another: they wait their turn, as they do at the leader.
#[test]
fn very_many_writes_at_once_through_a_follower_are_all_taken() {
    const WRITES: i64 = 3000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let other = cluster.leader().unwrap() % 3 + 1;
    let endpoint = cluster.node(other).endpoint();
    runtime.block_on(async {
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        let mut writes = tokio::task::JoinSet::new();
        for number in 0..WRITES {
            let mut client = KvClient::new(channel.clone());
            writes.spawn(async move {
                let put = PutRequest {
                    key: format!("k{number}").into_bytes().into(),
                    ..PutRequest::default()
                };
                client.put(put).await.map(drop)
            });
        }
        for outcome in writes.join_all().await {
            outcome.unwrap();
        }
    });
    let counted = cluster
        .node(other)
        .client(&["get", "k", "--prefix", "--count-only"])
        .unwrap();
    assert_eq!(counted.stdout.trim_end(), WRITES.to_string());
}
