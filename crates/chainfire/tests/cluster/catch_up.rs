//! A member that was away takes over a snapshot, and is killed while it does.

use std::time::Duration;

use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use chainfire::wire::etcdserverpb::{HashKvRequest, PutRequest};
use futures::StreamExt as _;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::{Chainfire, ChainfireCluster, wait_until};

/// Every round the log is cut off, so that whoever was away needs a snapshot.
const CONFIG: &str = r#"
[raft]
snapshot_entries = 50
snapshot_catchup_entries = 10

[storage]
write_buffer_size = "1MiB"
"#;

const LIMIT: Duration = Duration::from_mins(1);

/// Puts `keys` keys with values of 2 KiB.
async fn load(endpoint: String, round: u64, keys: u64) {
    let client = KvClient::connect(endpoint).await.unwrap();
    let puts = (0..keys).map(|number| {
        let mut client = client.clone();
        async move {
            let request = PutRequest {
                key: format!("key{:05}", (number * 7 + round * 131) % 5000).into(),
                value: vec![u8::try_from(round).unwrap(); 2 << 10].into(),
                ..PutRequest::default()
            };
            client.put(request).await.unwrap();
        }
    });
    futures::stream::iter(puts)
        .buffer_unordered(64)
        .collect::<Vec<()>>()
        .await;
}

/// Starts it and kills it at some moment of its catching up.
fn kill_while_it_catches_up(node: &mut Chainfire, random: &mut StdRng) {
    let before = node.log().len();
    let moment = [
        "",
        "Ready to serve",
        "Snapshot arrived",
        "Snapshot prepared",
        "Snapshot installed",
    ][random.random_range(0..5)];
    // It may need no snapshot any more, or have taken it over before it was looked at.
    let mut polls_left = random.random_range(20..120);
    let received = |node: &Chainfire| {
        let entries = std::fs::read_dir(node.data_dir()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .any(|name| name.starts_with("snapshot-"))
    };
    node.spawn().unwrap();
    wait_until(LIMIT, "a moment of catching up", || {
        let log = node.log();
        let said = &log[before..];
        let is_there = if moment.is_empty() {
            received(node)
        } else {
            said.contains(moment)
        };
        polls_left -= 1;
        is_there || said.contains("Snapshot installed") || polls_left == 0
    });
    node.signal(Signal::SIGKILL).unwrap();
    node.wait_exit().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_again_and_again_while_it_catches_up_ends_with_the_state_of_the_others() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = ChainfireCluster::start(3, CONFIG).unwrap();
    let leader = cluster.leader().unwrap();
    let away = leader % 3 + 1;
    for round in 0..3 {
        cluster.node(away).kill9().unwrap();
        let endpoint = cluster.node(leader).endpoint();
        load(endpoint, round, 1500).await;
        // Only what is on disk may be cut off the log.
        cluster.node(leader).client(&["defrag"]).unwrap().ok();
        load(cluster.node(leader).endpoint(), round + 100, 100).await;
        for _ in 0..3 {
            kill_while_it_catches_up(cluster.node(away), &mut random);
        }
        let before = cluster.node(away).log().len();
        cluster.node(away).start().unwrap();
        let log = cluster.node(away).log();
        assert!(!log[before..].contains("corrupted"), "{}", &log[before..]);
    }
    let log = cluster.node(away).log();
    assert!(log.contains("Snapshot prepared"), "nothing was taken over: {log}");
    assert!(!log.contains("panicked"), "{log}");
    // Nothing of what was prepared and not needed is left.
    let data = cluster.node(away).data_dir();
    cluster.node(away).restart().unwrap();
    let left: Vec<_> = std::fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("snapshot-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let hash = async |node: &Chainfire, revision: i64| {
        let endpoint = node.endpoint();
        // All that was acknowledged is there.
        node.client(&["get", "key00000"]).unwrap().ok();
        let mut client = MaintenanceClient::connect(endpoint).await.unwrap();
        let reply = client
            .hash_kv(HashKvRequest { revision })
            .await
            .unwrap()
            .into_inner();
        (reply.header.unwrap().revision, reply.hash, reply.compact_revision)
    };
    let (revision, expected, compacted) = hash(cluster.node(leader), 0).await;
    assert!(revision > 3 * 1600, "{revision}");
    for node in &cluster.nodes {
        assert_eq!(hash(node, revision).await, (revision, expected, compacted));
    }
}
