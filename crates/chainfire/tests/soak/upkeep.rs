//! What operators do meanwhile: compaction, defragmentation, snapshots read and not read, authentication on and off; and the JSON
//! gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use chainfire::wire::etcdserverpb::{
    CompactionRequest, DefragmentRequest, HashKvRequest, SnapshotRequest, StatusRequest,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::Server;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::access::expected;
use crate::history::Promise;
use crate::{World, count};

pub(crate) fn start_all(world: &Arc<World>, server: &Server, seed: u64) -> Vec<JoinHandle<Vec<Promise>>> {
    let random = |number: u64| StdRng::seed_from_u64(seed ^ (3000 + number));
    let all = [
        tokio::spawn(compact(world.clone(), random(0))),
        tokio::spawn(maintain(world.clone(), random(1))),
        tokio::spawn(authenticate(world.clone())),
    ];
    let (world, address) = (world.clone(), server.socket());
    let gateway = tokio::task::spawn_blocking(move || gateway(&world, address));
    all.into_iter().chain([gateway]).collect()
}

async fn rest(world: &World, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while !world.is_done() && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Up to somewhere between what is compacted and what some watch still needs.
async fn compact(world: Arc<World>, mut random: StdRng) -> Vec<Promise> {
    let mut compacted = 1;
    while !world.is_done() {
        rest(&world, Duration::from_millis(random.random_range(500..5000))).await;
        let lowest = world.needed.lowest();
        if lowest <= compacted + 1 {
            continue;
        }
        let revision = random.random_range(compacted + 1..lowest);
        let request = CompactionRequest {
            revision,
            physical: random.random_bool(0.5),
        };
        match world.access.kv().compact(request).await {
            Ok(_) => {
                compacted = revision;
                count(&world.counts.compactions);
            }
            Err(status) => expected(&status),
        }
    }
    Vec::new()
}

async fn maintain(world: Arc<World>, mut random: StdRng) -> Vec<Promise> {
    while !world.is_done() {
        rest(&world, Duration::from_secs(5)).await;
        if let Err(status) = maintain_once(&world, &mut random).await {
            expected(&status);
        }
    }
    Vec::new()
}

async fn maintain_once(world: &World, random: &mut StdRng) -> Result<(), Status> {
    // One that is cut off now and then, with its connection.
    let access = world.access.own().await;
    let mut snapshot = access
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await?
        .into_inner();
    let pieces = if random.random_bool(0.5) {
        usize::MAX
    } else {
        random.random_range(0..20)
    };
    for _ in 0..pieces {
        if snapshot.message().await?.is_none() {
            break;
        }
        if random.random_bool(0.02) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    count(&world.counts.snapshots);
    let mut maintenance = world.access.maintenance();
    let status = maintenance.status(StatusRequest {}).await?.into_inner();
    assert_eq!(status.errors, Vec::<String>::new());
    maintenance.hash_kv(HashKvRequest { revision: 0 }).await?;
    if random.random_bool(0.3) {
        maintenance.defragment(DefragmentRequest {}).await?;
    }
    Ok(())
}

async fn authenticate(world: Arc<World>) -> Vec<Promise> {
    while !world.is_done() {
        rest(&world, Duration::from_secs(40)).await;
        world.access.authenticate_for(Duration::from_secs(2)).await;
        count(&world.counts.auth);
    }
    Vec::new()
}

/// Key `g`, put and watched as JSON; each watch is read a little and cut off.
fn gateway(world: &World, address: SocketAddr) -> Vec<Promise> {
    let mut number = 0;
    while !world.is_done() {
        number += 1;
        let put = r#"{"key":"Zw==","value":"Zw=="}"#;
        let watch = r#"{"create_request":{"key":"Zw==","prev_kv":true,"progress_notify":true}}"#;
        let (path, body) = if number % 3 == 0 {
            ("/v3/watch", watch)
        } else {
            ("/v3/kv/put", put)
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = [0; 400];
        // With authentication on, strangers are refused in words.
        assert!(stream.read(&mut answer).unwrap() > 0, "the gateway said nothing");
        assert!(
            answer.starts_with(b"HTTP/1.1 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        count(&world.counts.gateway);
        std::thread::sleep(Duration::from_millis(20));
    }
    Vec::new()
}
