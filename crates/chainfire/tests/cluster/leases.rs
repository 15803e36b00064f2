//! Leases while leaders change: who leads decides when they run out, and nobody else.

use std::time::{Duration, Instant};

use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest};
use nix::sys::signal::Signal;
use testkit::{Chainfire, ChainfireCluster, wait_until};
use tonic::transport::Channel;

const TTL_SECONDS: i64 = 5;
const LEASES: i64 = 50;
const LIMIT: Duration = Duration::from_mins(1);

async fn connect(node: &Chainfire) -> LeaseClient<Channel> {
    let endpoint = Channel::from_shared(node.endpoint()).unwrap();
    LeaseClient::new(endpoint.connect().await.unwrap())
}

/// Renews all of them once.
async fn renew_all(client: &mut LeaseClient<Channel>) {
    let requests = tokio_stream::iter((1..=LEASES).map(|id| LeaseKeepAliveRequest { id }));
    let mut replies = client.lease_keep_alive(requests).await.unwrap().into_inner();
    for id in 1..=LEASES {
        let reply = replies.message().await.unwrap().expect("one for each request");
        assert_eq!((reply.id, reply.ttl), (id, TTL_SECONDS), "a lease has run out");
    }
}

/// Whom this node holds for the leader.
fn leader_as_seen_by(node: &Chainfire) -> Option<u64> {
    let status = node.client(&["status"]).ok()?.stdout;
    status
        .lines()
        .find_map(|line| line.strip_prefix("leader: "))?
        .parse()
        .ok()
}

/// While it was stopped, its successor's clients renewed what it remembers as run out long ago.
#[test]
fn a_leader_that_was_stopped_ends_no_lease_when_it_goes_on() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let old = cluster.leader().unwrap();
    let other = old % 3 + 1;
    let mut client = runtime.block_on(connect(cluster.node(other)));
    runtime.block_on(async {
        for id in 1..=LEASES {
            let grant = LeaseGrantRequest { id, ttl: TTL_SECONDS };
            client.lease_grant(grant).await.unwrap();
        }
        renew_all(&mut client).await;
    });
    let renewed = Instant::now();
    cluster.node(old).signal(Signal::SIGSTOP).unwrap();
    wait_until(LIMIT, "another leader", || {
        leader_as_seen_by(cluster.node(other)).is_some_and(|leader| leader != old)
    });
    // Until all of them have run out by the stopped node's clock.
    while renewed.elapsed() < Duration::from_secs(TTL_SECONDS as u64 + 1) {
        runtime.block_on(renew_all(&mut client));
    }
    cluster.node(old).signal(Signal::SIGCONT).unwrap();
    wait_until(LIMIT, "the stopped node to follow", || {
        runtime.block_on(renew_all(&mut client));
        leader_as_seen_by(cluster.node(old)).is_some_and(|leader| leader != old)
    });
    // What it tried then has come back to it by the time that it has applied this.
    let put = cluster.node(old).client(&["put", "after", "1"]).unwrap();
    assert_eq!(put.code, 0, "{}", put.stderr);
    // And what it tries again.
    let followed = Instant::now();
    while followed.elapsed() < Duration::from_secs(2) {
        runtime.block_on(renew_all(&mut client));
    }
    let log = cluster.node(old).log();
    assert!(!log.contains("Leases could not expire"), "{log}");
}

/// Seconds left of lease `id`.
async fn left(client: &mut LeaseClient<Channel>, id: i64) -> i64 {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    client.lease_time_to_live(request).await.unwrap().into_inner().ttl
}

/// It starts from what its predecessor had noted in the log, which a renewal takes back.
#[test]
fn a_new_leader_knows_what_was_left_of_long_leases() {
    const LONG_SECONDS: i64 = 1000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = "[limits]\nlease_checkpoint_interval_ms = 1000";
    let mut cluster = ChainfireCluster::start(3, config).unwrap();
    let old = cluster.leader().unwrap();
    let other = old % 3 + 1;
    let mut client = runtime.block_on(connect(cluster.node(other)));
    let granted = Instant::now();
    runtime.block_on(async {
        for id in 1..=2 {
            let grant = LeaseGrantRequest {
                id,
                ttl: LONG_SECONDS,
            };
            client.lease_grant(grant).await.unwrap();
        }
    });
    wait_until(LIMIT, "time to pass", || {
        runtime.block_on(left(&mut client, 1)) <= LONG_SECONDS - 5
    });
    let renewed = runtime.block_on(async {
        let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: 2 }]);
        let mut replies = client.lease_keep_alive(requests).await.unwrap().into_inner();
        replies.message().await.unwrap().unwrap().ttl
    });
    assert_eq!(renewed, LONG_SECONDS);
    let renewed = Instant::now();
    cluster.node(old).kill9().unwrap();
    wait_until(LIMIT, "another leader", || {
        leader_as_seen_by(cluster.node(other)).is_some_and(|leader| leader != old)
    });
    let (first, second) =
        runtime.block_on(async { (left(&mut client, 1).await, left(&mut client, 2).await) });
    // The last note was taken a second or two before the end; nothing is taken away that was there.
    let lived = |since: Instant| i64::try_from(since.elapsed().as_secs()).unwrap() + 1;
    assert!(
        first >= LONG_SECONDS - lived(granted) && first <= LONG_SECONDS - 3,
        "{first} s"
    );
    assert!(second >= LONG_SECONDS - lived(renewed), "{second} s");
}

/// More at once than one member serves another: none is refused, and each stream is answered in the order of its requests.
#[test]
fn very_many_renewals_at_once_through_a_follower_are_all_answered() {
    const STREAMS: usize = 20;
    const EACH: i64 = 300;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let other = cluster.leader().unwrap() % 3 + 1;
    let mut client = runtime.block_on(connect(cluster.node(other)));
    runtime.block_on(async {
        for id in 1..=LEASES {
            let grant = LeaseGrantRequest { id, ttl: 100 };
            client.lease_grant(grant).await.unwrap();
        }
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..STREAMS {
            let mut client = client.clone();
            streams.spawn(async move {
                // The last of each round is no lease.
                let ids = (0..EACH).map(|number| number % (LEASES + 1) + 1);
                let requests = tokio_stream::iter(ids.clone().map(|id| LeaseKeepAliveRequest { id }));
                let mut replies = client.lease_keep_alive(requests).await.unwrap().into_inner();
                for id in ids {
                    let reply = replies.message().await.unwrap().expect("one for each request");
                    assert_eq!((reply.id, reply.ttl), (id, if id > LEASES { 0 } else { 100 }));
                }
                assert_eq!(replies.message().await.unwrap(), None);
            });
        }
        streams.join_all().await;
    });
}
