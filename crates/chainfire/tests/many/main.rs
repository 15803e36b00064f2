//! Very many leases and watches on one leader, and its death.
//!
//! Every lease has a key, every watch a key of its own; writers put all the time. Half of the leases are kept alive throughout; the
//! other half from the leader's death on no more. Then:
//!
//! - no lease ends before its time, counted anew from the next leader on; those that are kept alive do not end at all; the
//!   others do, all at once, while writes go on and nobody is elected;
//! - each watch, resumed elsewhere with the revision after the last it was told, is told every revision of its key once.
//!
//! `MAINSTAY_MANY` (2000) says how many, `MAINSTAY_MANY_TTL` (10) how many seconds leases live; `MAINSTAY_BIN` names a release
//! build, without which large numbers mean little. What it measures is printed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of a test, which measures the time of real servers"
)]

mod leases;
mod watches;
mod writers;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::{Chainfire, ChainfireCluster};
use tonic::transport::Channel;

/// Longest wait for anything that has to happen, beside the time that leases live.
const LIMIT: Duration = Duration::from_mins(3);

/// Leases of one keep-alive stream, and watches of one watch stream.
const PER_STREAM: usize = 250;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: want a number"))
    })
}

/// The members that can be reached; clients begin with the first and go to another when it fails.
pub(crate) struct Members {
    endpoints: Mutex<Vec<String>>,
    next: AtomicUsize,
}

impl Members {
    /// A new connection to one of them, whichever is next.
    pub(crate) async fn connect(&self) -> Channel {
        loop {
            let endpoint = {
                let endpoints = self.endpoints.lock().unwrap();
                let next = self.next.fetch_add(1, Ordering::Relaxed);
                endpoints[next % endpoints.len()].clone()
            };
            if let Ok(channel) = Channel::from_shared(endpoint).unwrap().connect().await {
                return channel;
            }
            pause().await;
        }
    }
}

/// Between two tries of something that another process has to bring about.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What clients saw that must not be. They are tasks whose own panics nobody would notice.
static VIOLATIONS: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(crate) fn violation(what: String) {
    VIOLATIONS.lock().unwrap().push(what);
}

/// A bounded wait.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        let violations = VIOLATIONS.lock().unwrap().clone();
        assert!(violations.is_empty(), "{violations:?}");
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        pause().await;
    }
}

fn kib(server: &Chainfire) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn term(server: &Chainfire) -> String {
    let status = server.client(&["status"]).unwrap().ok();
    let term = status.lines().find(|line| line.starts_with("raft_term: "));
    term.unwrap().to_owned()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[test]
fn leases_and_watches_outlive_their_leader() {
    let count = setting("MAINSTAY_MANY", 2000);
    let ttl = setting("MAINSTAY_MANY_TTL", 10) as u64;
    let mut cluster = ChainfireCluster::start(3, "").unwrap();
    let leader = cluster.leader().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(&mut cluster, leader, count, ttl));
}

async fn run(cluster: &mut ChainfireCluster, leader: u64, count: usize, ttl: u64) {
    let led = cluster.node(leader).endpoint();
    let others: Vec<String> = (1..=3)
        .filter(|id| *id != leader)
        .map(|id| cluster.node(id).endpoint())
        .collect();
    let members = Arc::new(Members {
        endpoints: Mutex::new(vec![led]),
        next: AtomicUsize::new(0),
    });

    let started = Instant::now();
    let before = kib(cluster.node(leader));
    let leases = leases::Leases::grant(&members, count, ttl).await;
    let per_lease = (kib(cluster.node(leader)) - before) / count as f64;
    println!(
        "{count} leases of {ttl} s granted in {}",
        seconds(started.elapsed())
    );
    println!("one round of keep-alives: {}", seconds(leases.slowest_round()));

    let took = leases.renew_on_one_stream().await;
    println!("all renewed on one stream: {}", seconds(took));

    let started = Instant::now();
    let before = kib(cluster.node(leader));
    let watches = watches::Watches::start(&members, count).await;
    let per_watch = (kib(cluster.node(leader)) - before) / count as f64;
    println!("{count} watches made in {}", seconds(started.elapsed()));
    println!(
        "memory of the leader: {per_lease:.1} KiB for each lease with its key, {per_watch:.1} KiB for each watch"
    );

    let writers = writers::Writers::start(&members, count);
    until("writes", || writers.acknowledged() > 200).await;

    // From now on half of the leases are left alone.
    leases.leave_half().await;
    *members.endpoints.lock().unwrap() = others;
    let killed = Instant::now();
    leases.leader_dies(killed);
    cluster.node(leader).kill9().unwrap();
    tokio::join!(
        async {
            until("a write after the leader's death", || {
                writers.last_asked() > Some(killed)
            })
            .await;
            println!("writes go on after {}", seconds(killed.elapsed()));
        },
        async {
            leases.all_renewed_since(killed).await;
            println!(
                "all leases that are kept alive are renewed after {}",
                seconds(killed.elapsed())
            );
        },
        async {
            watches.all_resumed_since(killed).await;
            println!(
                "all watches are resumed and told everything after {}",
                seconds(killed.elapsed())
            );
        }
    );

    let next = cluster.leader().unwrap();
    let elected = term(cluster.node(next));
    until("the other half to begin to end", || leases.ended() > 0).await;
    let storm = Instant::now();
    println!(
        "the other half begins to end {} after the leader's death",
        seconds(storm - killed)
    );
    until("the other half to end", || leases.ended() == leases.left()).await;
    println!("{} leases ended in {}", leases.left(), seconds(storm.elapsed()));
    println!(
        "slowest write meanwhile: {}",
        seconds(writers.slowest_since(storm))
    );
    println!("one round of keep-alives: {}", seconds(leases.slowest_round()));
    assert_eq!(term(cluster.node(next)), elected, "nobody was elected meanwhile");

    writers.stop().await;
    watches.check(&members).await;
    leases.check().await;
}
