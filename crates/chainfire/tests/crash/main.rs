//! A server that is killed again and again while clients write, and a ledger that knows what it owes.
//!
//! Each round some clients write until a random number of answers has come, then the server is killed (`kill -9`), or told
//! to stop (SIGTERM), and sometimes killed once more while it starts. Operations under way at that moment are *unknown*: each
//! happened whole or not at all. After the restart the whole history is read back through a watch and must consist of exactly
//! the acknowledged operations, each at the revision that was promised, and of some of the unknown ones, each at most once;
//! and everything else the server can be asked (present and past ranges, versions, leases, hashes) must follow from it.
//!
//! Buffers and the log are kept so small that flushes, compactions of files and truncations of the log happen all the time.
//!
//! `MAINSTAY_CRASH_ROUNDS` (50) and `MAINSTAY_CRASH_SEED` (random, printed) change a run. The seed fixes what clients and
//! the killer choose, not how threads meet.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of a test"
)]

mod history;
mod ledger;
mod load;

use std::path::Path;
use std::time::Duration;

use chainfire::mvcc::family;
use history::History;
use ledger::Ledger;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use store::Store;
use testkit::{Chainfire, wait_until};

/// How a round ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    KillTwice,
    Terminate,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: want a number"))
    })
}

const CONFIG: &str = r#"
[storage]
write_buffer_size = "64KiB"
block_cache_size = "1MiB"
level0_file_num_compaction_trigger = 2

[raft]
snapshot_entries = 40
snapshot_catchup_entries = 20
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_every_kill_and_none_happens_twice() {
    let rounds = setting("MAINSTAY_CRASH_ROUNDS").unwrap_or(50);
    let seed = setting("MAINSTAY_CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}, {rounds} rounds");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Chainfire::builder().config(CONFIG).start().unwrap();
    let mut history = History::default();
    let (mut acknowledged, mut unknown, mut unknown_that_happened) = (0, 0, 0);

    for round in 0..rounds {
        let end = match random.random_range(0..10) {
            0..6 => End::Kill,
            6..8 => End::KillTwice,
            _ => End::Terminate,
        };
        let target = random.random_range(1..250);
        let load = load::start(&server.endpoint(), round, random.random(), &history).await;
        wait_until(Duration::from_mins(1), "clients to get answers", || {
            load.acknowledged() >= target
        });
        stop(&mut server, end, &mut random);
        let ledger: Ledger = load.end().await;

        server.start().unwrap();
        let counts = history.check(&server.endpoint(), ledger, &mut random).await;
        acknowledged += counts.acknowledged;
        unknown += counts.unknown;
        unknown_that_happened += counts.unknown_that_happened;
        // Kept short, or a failure prints fifty starts.
        assert!(!server.log().contains("panicked"), "a thread panicked");
    }
    println!(
        "{acknowledged} acknowledged, {unknown} unknown of which {unknown_that_happened} happened, revision {}",
        history.revision()
    );
    assert!(acknowledged > rounds, "the clients did next to nothing");
    assert!(unknown > 0, "no kill met an operation under way");
    assert!(server.sigterm().unwrap().success());
    check_that_the_disk_was_busy(&server.data_dir());
}

/// The kills only mean something if they met flushes of the state and truncations of the log.
fn check_that_the_disk_was_busy(data_dir: &Path) {
    let store = Store::open(data_dir, &store::Options::default(), family::ALL).unwrap();
    let mut log = store.cursor(family::LOG, None, None);
    log.seek_to_first();
    let (key, _) = log.entry().expect("the log is never empty");
    let first = u64::from_be_bytes(key.try_into().unwrap());
    assert!(first > 100, "the log still starts at {first}");
}

fn stop(server: &mut Chainfire, end: End, random: &mut StdRng) {
    match end {
        End::Terminate => assert!(server.sigterm().unwrap().success(), "SIGTERM under load"),
        End::Kill => server.kill9().unwrap(),
        End::KillTwice => {
            server.kill9().unwrap();
            for _ in 0..random.random_range(1..4) {
                kill_while_it_starts(server, random);
            }
        }
    }
}

/// Starts it and kills it at one of the moments that can be told apart from outside, or right after it was started.
fn kill_while_it_starts(server: &mut Chainfire, random: &mut StdRng) {
    let before = server.log().len();
    let moment = ["", "Log replayed", "Leader elected", "Ready to serve"][random.random_range(0..4)];
    // Polls of the log are spread over the start, so waiting for a random number of them ends anywhere in it.
    let mut polls_left = random.random_range(1..40);
    server.spawn().unwrap();
    wait_until(Duration::from_mins(1), "a moment of the start", || {
        polls_left -= 1;
        let log = server.log();
        polls_left == 0 || (!moment.is_empty() && log[before..].contains(moment))
    });
    server.signal(Signal::SIGKILL).unwrap();
    server.wait_exit().unwrap();
}
