//! Everything at once for a while, and a verifier that misses nothing.
//!
//! Writers, watchers of all kinds, leases by the thousand, locks, elections, compactions, defragmentation, snapshots, the JSON
//! gateway and authentication that comes and goes share one server; many clients leave without a word. One watch of everything,
//! the [`history::History`], must see every revision once and in order, and each event must follow from those before it. From
//! it everything else is judged: what other watches saw, what writers were promised, when leases ended, and the state at the end,
//! once more after `kill -9`. Memory, descriptors and threads are printed as a table and must not grow.
//!
//! It takes minutes, so it runs only when asked for:
//! `cargo nextest run -p chainfire --run-ignored only -E 'binary(soak)' --no-capture`. `MAINSTAY_SOAK_SECONDS` (600) and
//! `MAINSTAY_SOAK_SEED` (random, printed) change it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of a test, which measures the time of a real server"
)]

mod access;
mod history;
mod leases;
mod recipes;
mod resources;
mod upkeep;
mod watchers;
mod writers;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use access::Access;
use chainfire::wire::etcdserverpb::{HashKvRequest, RangeRequest};
use history::History;
use leases::Ledger;
use resources::Resources;
use testkit::Chainfire;
use watchers::Follower;

/// What all tasks share.
struct World {
    access: Access,
    /// Set when the load is to end.
    done: AtomicBool,
    leases: Ledger,
    /// The lowest revision that some watch still needs.
    needed: watchers::Needed,
    counts: Counts,
    /// Watches that were cut off, and what they had seen by then.
    short: Mutex<Vec<Follower>>,
}

/// What was done, for the report.
#[derive(Default)]
struct Counts {
    puts: AtomicI64,
    transactions: AtomicI64,
    ranges: AtomicI64,
    deletes: AtomicI64,
    short_watches: AtomicI64,
    leases: AtomicI64,
    locks: AtomicI64,
    campaigns: AtomicI64,
    compactions: AtomicI64,
    snapshots: AtomicI64,
    gateway: AtomicI64,
    auth: AtomicI64,
}

impl Counts {
    fn line(&self) -> String {
        let counts = [
            ("puts", &self.puts),
            ("transactions", &self.transactions),
            ("ranges", &self.ranges),
            ("deletes", &self.deletes),
            ("short watches", &self.short_watches),
            ("leases", &self.leases),
            ("locks", &self.locks),
            ("campaigns", &self.campaigns),
            ("compactions", &self.compactions),
            ("snapshots", &self.snapshots),
            ("gateway calls", &self.gateway),
            ("times authentication was on", &self.auth),
        ];
        let text = |(name, count): (&str, &AtomicI64)| format!("{} {name}", count.load(Ordering::Relaxed));
        counts.map(text).join(", ")
    }
}

impl World {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

/// Counts one.
fn count(counter: &AtomicI64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: want a number"))
    })
}

/// A bounded wait for what has to come.
async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}

#[ignore = "takes ten minutes: run it with --run-ignored"]
#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_loses_and_leaks_nothing() {
    let seconds = setting("MAINSTAY_SOAK_SECONDS").unwrap_or(600);
    let seed = setting("MAINSTAY_SOAK_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}, {seconds} s");
    // Small buffers, so that flushes, merges and truncations of the log happen all the time.
    let mut server = Chainfire::builder()
        .config("[storage]\nwrite_buffer_size = \"4MiB\"\nblock_cache_size = \"16MiB\"")
        .config("[raft]\nsnapshot_entries = 5000\nsnapshot_catchup_entries = 1000")
        .config("[limits]\nwatch_progress_interval_ms = 1000")
        .start()
        .unwrap();
    let world = Arc::new(World {
        access: Access::prepare(&server).await,
        done: AtomicBool::new(false),
        leases: Ledger::default(),
        needed: watchers::Needed::default(),
        counts: Counts::default(),
        short: Mutex::default(),
    });
    let mut resources = Resources::new(&server);

    // Those who see everything, from before the first write to after the last.
    let begin = world.access.revision().await + 1;
    let history = tokio::spawn(History::record(world.clone(), begin));
    let followers = Follower::start_all(&world, begin, seed);
    let mut load = writers::start_all(&world, seed);
    load.extend(watchers::start_short_ones(&world, seed));
    load.extend(leases::start_all(&world, seed));
    load.extend(recipes::start_all(&world));
    load.extend(upkeep::start_all(&world, &server, seed));

    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        resources.sample(started.elapsed(), world.access.revision().await);
        if let Some(ended) = load.iter().position(tokio::task::JoinHandle::is_finished) {
            load.swap_remove(ended).await.unwrap();
            panic!("a client has stopped before its time");
        }
        assert!(!history.is_finished(), "the history has ended");
    }
    world.done.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for client in load {
        acknowledged.extend(
            within("a client to end", Duration::from_mins(2), client)
                .await
                .unwrap(),
        );
    }
    println!("{}", world.counts.line());

    // Every lease runs out, whoever left it behind.
    leases::wait_until_gone(&world).await;
    let revision = world.access.revision().await;
    world.needed.end_at(revision);
    let history = within("the history to end", Duration::from_mins(5), history)
        .await
        .unwrap();
    for follower in followers {
        let follower = within("a watch to end", Duration::from_mins(5), follower)
            .await
            .unwrap();
        history.judge(&follower);
    }
    for follower in &*world.short.lock().unwrap() {
        history.judge(follower);
    }
    history.judge_promises(&acknowledged);
    history.judge_leases(&world.leases);

    let state = state(&world.access).await;
    history.judge_state(&state);
    resources.judge(&server);
    println!(
        "{} events up to revision {revision}, {} promises kept",
        history.len(),
        acknowledged.len()
    );

    server.kill9().unwrap();
    server.start().unwrap();
    let world = world.access.again(&server).await;
    assert_eq!(self::state(&world).await, state, "after kill -9");
}

/// All keys, and the hash over all that is kept of the past.
async fn state(access: &Access) -> (Vec<chainfire::wire::mvccpb::KeyValue>, i64, u32) {
    let everything = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..Default::default()
    };
    let found = access.kv().range(everything).await.unwrap().into_inner();
    let revision = found.header.unwrap().revision;
    let hash = access
        .maintenance()
        .hash_kv(HashKvRequest { revision })
        .await
        .unwrap()
        .into_inner();
    (found.kvs, revision, hash.hash)
}
