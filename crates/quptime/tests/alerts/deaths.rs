//! What channels get while nodes die and come back.

use serde_json::{Value, json};
use testkit::{Qu, wait_until};

use super::{LIMIT, Target, Watched, watch};

#[test]
fn the_end_of_an_outage_is_told_by_the_next_master() {
    let mut watched = Watched::start();
    watched.target.fail();
    watched.sink.wait("page", &["DOWN"]);
    let master = watched.cluster.master().unwrap();
    // Until the sending is on record: after that nothing is uncertain any more.
    wait_until(LIMIT, "the delivery to be committed", || {
        let output = watched.cluster.nodes[master].run(&["deliveries"]).unwrap().ok();
        output.contains(" sent")
    });
    let acknowledged = watched.cluster.nodes[master].run(&["ack", "page", "--note", "on it"]);
    acknowledged.unwrap().ok();
    watched.cluster.nodes[master].kill9().unwrap();
    wait_until(LIMIT, "another master", || {
        let left = &watched.cluster.nodes[(master + 1) % 3];
        left.has_quorum() && left.field("master") != Some(watched.cluster.nodes[master].id())
    });
    // The new master looks for itself before the outage ends.
    watched.sees("page", "down 0/2");
    assert_eq!(watched.sink.verbs("page"), ["DOWN"]);
    watched.target.recover();
    watched.sees("page", "up 2/2");
    watched.sink.wait("page", &["DOWN", "RECOVERED"]);
    // The next outage comes after anything that might have been repeated.
    watched.target.fail();
    watched.sink.wait("page", &["DOWN", "RECOVERED", "DOWN"]);
    // The old master comes back and does not act on what it remembers.
    watched.cluster.nodes[master].start().unwrap();
    watched.cluster.settled().unwrap();
    watched.target.recover();
    watched.sees("page", "up 3/3");
    watched
        .sink
        .wait("page", &["DOWN", "RECOVERED", "DOWN", "RECOVERED"]);
    let address = watched.cluster.nodes[master].peer_address();
    for node in &watched.cluster.nodes {
        wait_until(LIMIT, "both outages among those that are over", || {
            ended(node).len() == 2
        });
        let over = ended(node);
        assert_eq!(
            over,
            ended(&watched.cluster.nodes[0]),
            "all nodes remember the same"
        );
        let incident = &over[0]["incident"];
        assert_eq!(
            (&over[0]["check"], &incident["how"]),
            (&json!("page"), &json!("recovered"))
        );
        let acknowledged = &incident["acknowledged"];
        assert_eq!(acknowledged["note"], "on it");
        let by = acknowledged["by"].as_str().unwrap();
        assert!(by.starts_with("uid ") && by.ends_with(&address), "{by}");
        assert_eq!(over[1]["incident"]["acknowledged"], json!(null));
        let moment = |key: &str| -> jiff::Timestamp { incident[key].as_str().unwrap().parse().unwrap() };
        assert!(moment("since") <= moment("ended"), "{incident}");
        let table = node.run(&["incidents", "--ended"]).unwrap().ok();
        assert!(table.contains("ENDED") && table.contains("status 503"), "{table}");
    }
}

fn ended(node: &Qu) -> Vec<Value> {
    let rows = node.run(&["incidents", "--ended", "--json"]).unwrap().ok();
    serde_json::from_str(&rows).unwrap()
}

#[test]
fn clean_restarts_lose_and_repeat_nothing() {
    let mut watched = Watched::start();
    let other = Target::start();
    watch(&watched.cluster.nodes[0], "other", &other);
    watched.sees("other", "up 3/3");
    let mut expected: Vec<&str> = Vec::new();
    for index in 0..3 {
        // One goes down before the node is gone, one while it is gone; both come back in the same way.
        watched.target.fail();
        let status = watched.cluster.nodes[index].sigterm().unwrap();
        assert!(status.success(), "{status}");
        other.fail();
        expected.push("DOWN");
        watched.sink.wait("page", &expected);
        watched.sink.wait("other", &expected);
        watched.target.recover();
        watched.cluster.nodes[index].start().unwrap();
        other.recover();
        expected.push("RECOVERED");
        watched.sink.wait("page", &expected);
        watched.sink.wait("other", &expected);
        watched.cluster.settled().unwrap();
    }
    let told = watched.sink.at("/hook");
    assert_eq!(told.len(), 12, "{told:?}");
    assert!(told.iter().all(|told| told.body["repeat"] == false), "{told:?}");
    for node in &watched.cluster.nodes {
        let log = node.log();
        assert!(
            !log.contains("propose to master:") && !log.contains("replicate: pull from:"),
            "{log}"
        );
    }
}

#[test]
fn one_of_three_tells_nothing_and_two_go_on() {
    let mut watched = Watched::start();
    for index in [0, 1] {
        watched.cluster.nodes[index].kill9().unwrap();
    }
    let left = &watched.cluster.nodes[2];
    wait_until(LIMIT, "the last node to be without quorum", || !left.has_quorum());
    watched.target.fail();
    assert_eq!(left.run(&["status"]).unwrap().code, 3);
    let refused = left.run(&["check", "disable", "page"]).unwrap();
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("no quorum, change refused (live 1, need 2)"),
        "{refused:?}"
    );
    // It goes on looking, often enough for a verdict, and tells nobody.
    let before = watched.target.asked();
    wait_until(LIMIT, "five more looks", || watched.target.asked() >= before + 5);
    assert_eq!(watched.sink.verbs("page"), [""; 0]);

    watched.cluster.nodes[1].start().unwrap();
    wait_until(LIMIT, "quorum", || watched.cluster.nodes[2].has_quorum());
    watched.sink.wait("page", &["DOWN"]);
    watched.cluster.nodes[1]
        .run(&["check", "edit", "page", "--timeout", "900ms"])
        .unwrap()
        .ok();
    watched.cluster.nodes[0].start().unwrap();
    watched.cluster.settled().unwrap();
    watched.target.recover();
    watched.sink.wait("page", &["DOWN", "RECOVERED"]);
}
