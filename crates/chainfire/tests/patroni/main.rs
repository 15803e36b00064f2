//! Patroni, which keeps a pair of PostgreSQL servers available, with Chainfire as its `etcd3` store.
//!
//! Patroni talks to the JSON gateway: leases kept alive, compare-and-swap on the leader key, one long watch. It judges us as a
//! client that promotes and demotes databases by what we tell it. A writer runs through everything; whatever PostgreSQL
//! acknowledged to it must be there afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test's own steps must work; it says how long each took with real programs"
)]

mod member;
mod secure;
mod writer;

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{ChainfireCluster, wait_until};

use member::{LOOP_WAIT_SECONDS, Member, TTL_SECONDS};
use writer::Writer;

const LIMIT: Duration = Duration::from_mins(1);

/// Prints how long each step took, so that a slow run shows where.
struct Steps(Instant);

impl Steps {
    fn done(&mut self, what: &str) {
        println!("{:5.1} s  {what}", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// One line of `patronictl list` for each: name, role, timeline.
fn listed(by: &Member) -> Vec<(String, String, i64)> {
    let members: serde_json::Value =
        serde_json::from_str(&by.patronictl(&["list", "--format", "json"]).ok()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let members = members.as_array().unwrap().iter();
    members
        .map(|member| {
            let timeline = member["TL"].as_i64().unwrap_or(0);
            (text(&member["Member"]), text(&member["Role"]), timeline)
        })
        .collect()
}

fn wait_listed(by: &Member, expected: [(&str, &str, i64); 2]) {
    let expected = expected.map(|(name, role, timeline)| (name.to_owned(), role.to_owned(), timeline));
    wait_until(LIMIT, &format!("patronictl to list {expected:?}"), || {
        listed(by) == expected
    });
}

#[test]
fn a_pair_of_postgresql_servers_survives_whoever_dies() {
    if let Some(reason) = member::cannot_run() {
        println!("skipped: {reason}");
        return;
    }
    let mut steps = Steps(Instant::now());
    let mut store = ChainfireCluster::start(3, "").unwrap();
    let hosts: Vec<String> = store.nodes.iter().map(|node| node.socket().to_string()).collect();
    let etcd3 = json!({ "hosts": hosts });
    let mut one = Member::new("one", &etcd3);
    let mut two = Member::new("two", &etcd3);
    one.start();
    steps.done("store and first PostgreSQL");
    two.start();
    wait_listed(&one, [("one", "Leader", 1), ("two", "Sync Standby", 1)]);
    steps.done("second PostgreSQL");

    let mut writer = Writer::start(&[&one, &two]);
    writer.more(10);
    let leader = store.leader().unwrap();
    let (loops, demoted) = (one.count("the leader with the lock"), one.count("demot"));
    store.node(leader).kill9().unwrap();
    store.leader().unwrap();
    steps.done("another leader of the store");
    // Longer than the leader key would have lived without being kept alive.
    let renewals = usize::try_from(TTL_SECONDS / LOOP_WAIT_SECONDS + 2).unwrap();
    wait_until(LIMIT, "the primary to keep its key", || {
        one.count("the leader with the lock") >= loops + renewals
    });
    writer.more(10);
    assert_eq!(one.count("demot"), demoted, "{}", one.log());
    assert_eq!(
        listed(&two),
        [
            ("one".into(), "Leader".into(), 1),
            ("two".into(), "Sync Standby".into(), 1)
        ]
    );
    store.start_all().unwrap();
    steps.done("a store without its former leader");

    one.kill9();
    wait_until(LIMIT, "the standby to be promoted", || two.is_primary());
    writer.more(10);
    writer.check(&two);
    steps.done("primary killed, standby promoted");
    one.start();
    wait_listed(&two, [("one", "Sync Standby", 2), ("two", "Leader", 2)]);
    steps.done("former primary is back as a standby");

    let switched = two.patronictl(&[
        "switchover",
        "--leader",
        "two",
        "--candidate",
        "one",
        "--force",
        "show",
    ]);
    assert!(
        switched
            .clone()
            .ok()
            .contains("Successfully switched over to \"one\""),
        "{switched:?}"
    );
    wait_until(LIMIT, "the other to be the primary", || one.is_primary());
    writer.more(10);
    writer.check(&one);
    wait_listed(&one, [("one", "Leader", 3), ("two", "Sync Standby", 3)]);
    steps.done("planned switchover");
    println!("{} rows", writer.stop());
}
