//! Situations at random, one after the other.

use std::time::{Duration, Instant};

use sim::Rng;
use testkit::QuCluster;

use super::model::{Checks, checks_of};
use super::situations::{ALL, Round};
use super::{LIMIT, equal};

/// Whatever a number of the environment says.
fn setting(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A cluster with checks that are probed once an hour, and a channel.
pub(crate) fn cluster(checks: u64) -> (QuCluster, Checks) {
    let cluster = QuCluster::start(3).unwrap();
    let first = &cluster.nodes[0];
    for name in ["hook", "page"] {
        let added = first.run(&["alert", "add", "webhook", name, "--url", "http://127.0.0.1:1/"]);
        added.unwrap().ok();
    }
    for number in 1..=checks {
        let (name, target) = (format!("c{number}"), format!("127.0.0.1:{number}"));
        let added = first.run(&["check", "add", "tcp", &name, &target, "--interval", "1h"]);
        added.unwrap().ok();
    }
    let text = equal(&cluster);
    (cluster, checks_of(&text).unwrap())
}

#[test]
fn edits_are_like_one_after_the_other() {
    let seconds = setting("MAINSTAY_EDITS_SECONDS", 25);
    let seed = setting("MAINSTAY_EDITS_SEED", 1);
    println!("MAINSTAY_EDITS_SEED={seed} MAINSTAY_EDITS_SECONDS={seconds}");
    let (cluster, checks) = cluster(6);
    let began = Instant::now();
    let mut rng = Rng::new(seed);
    let mut round = Round::new(cluster, checks, Rng::new(seed + 1));
    let mut waiting = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        // Each kind comes before any comes again.
        if waiting.is_empty() {
            waiting = ALL.to_vec();
            rng.shuffle(&mut waiting);
        }
        let (name, situation) = waiting.pop().unwrap();
        let at = began.elapsed();
        println!("{:>6.1} s  {name}", at.as_secs_f64());
        situation(&mut round);
        round.holds(name);
        assert!(began.elapsed() < at + 4 * LIMIT, "{name} took too long");
    }
    round.finish();
}
