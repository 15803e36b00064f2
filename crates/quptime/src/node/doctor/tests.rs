//! What is judged how.

use std::sync::Arc;

use super::*;
use crate::document::{AlertKind, Peer};
use crate::machine::command::Snapshot;
use crate::machine::state::{Delivery, Finished, Phase, Status, Verb};
use crate::node::wire::Beat;

const NOW: Millis = 1_778_853_600_000;

fn node(number: u8) -> NodeId {
    format!("{number:08x}-0c1d-4e2f-8a3b-4c5d6e7f8091")
        .parse()
        .unwrap()
}

fn document() -> Document {
    let peer = |number: u8, host: &str| Peer {
        node_id: node(number),
        advertise: format!("{host}:9901"),
        fingerprint: String::new(),
        cert_pem: String::new(),
        location: None,
    };
    Document {
        version: 7,
        peers: vec![peer(1, "alpha"), peer(2, "bravo"), peer(3, "charlie")],
        alerts: vec![Alert {
            id: "a".to_owned(),
            ..Alert::new("oncall", AlertKind::Webhook)
        }],
        ..Document::default()
    }
}

fn well(number: u8, master: Option<NodeId>) -> Examined {
    Examined {
        beat: Beat {
            node: node(number),
            version: 7,
            digest: "d".to_owned(),
            group: 1,
            term: 2,
            master,
            protocol: 1,
            schema: 1,
            program: "0".to_owned(),
            clock: NOW,
            hears: vec![node(1), node(2), node(3)],
            process: None,
            twins: Vec::new(),
        },
        troubles: Vec::new(),
        trouble_ages: Vec::new(),
        attempts: Vec::new(),
        modes: Vec::new(),
        icmp: "ping".to_owned(),
        certificate_end: NOW as i64 / 1000 + 400 * 86_400,
        edit: None,
        tests: BTreeMap::new(),
        web: None,
        unwritten: None,
        room: Some(1 << 30),
    }
}

type All = BTreeMap<NodeId, Result<Examined, String>>;

fn all(master: Option<NodeId>) -> All {
    (1..=3)
        .map(|number| (node(number), Ok(well(number, master))))
        .collect()
}

/// The findings about this, as `VERDICT TEXT`.
fn about(subject: &str, mastery: Mastery, examined: &All, state: &State) -> Vec<String> {
    let facts = Facts {
        wall: NOW,
        mastery,
        document: &document(),
        examined,
        state: Some(state),
        fresh: over::fresh(state, NOW),
    };
    let findings = facts.judge().into_iter();
    let ours = findings.filter(|finding| finding.subject == subject);
    ours.map(|finding| format!("{} {}", finding.verdict, finding.text))
        .collect()
}

#[test]
fn nobody_passes_for_having_no_master() {
    let mut examined = all(None);
    for number in [2, 3] {
        let error = format!(
            "request not sent to member {}: connection refused",
            node(number).number()
        );
        examined.insert(node(number), Err(error));
    }
    let state = State::default();
    assert_eq!(
        document().with_addresses("a member 77 and member "),
        "a member 77 and member "
    );
    let missing = "start the nodes that are missing: bravo:9901, charlie:9901";
    assert_eq!(
        about("master", Mastery::NoQuorum, &examined, &state),
        [format!(
            "fail none, so nothing is told and nothing can be changed; {missing}"
        )]
    );
    assert_eq!(
        about("quorum", Mastery::NoQuorum, &examined, &state),
        [format!("fail false; {missing}")]
    );
    // Nodes go by their addresses, also in what the transport says.
    assert_eq!(
        about("reachable", Mastery::NoQuorum, &examined, &state)[1],
        "fail charlie:9901: request not sent to charlie:9901: connection refused"
    );
    let election = about("master", Mastery::Election, &all(None), &state);
    assert!(
        election[0].starts_with("warn none at this moment"),
        "{election:?}"
    );
}

#[test]
fn a_dead_node_is_one_failure() {
    let mut examined = all(Some(node(1)));
    for number in [1, 2] {
        let known = examined.get_mut(&node(number)).unwrap().as_mut().unwrap();
        known.beat.hears = vec![node(1), node(2)];
    }
    let (state, mastery) = (State::default(), Mastery::Is(node(1)));
    assert_eq!(
        about("hears", mastery, &examined, &state),
        [
            "fail alpha:9901 does not hear charlie:9901",
            "fail bravo:9901 does not hear charlie:9901"
        ],
        "it answers, so that is a matter of its own"
    );
    examined.insert(node(3), Err("connection refused".to_owned()));
    assert!(about("hears", mastery, &examined, &state).is_empty());
    assert_eq!(
        about("reachable", mastery, &examined, &state),
        ["fail charlie:9901: connection refused"]
    );
}

#[test]
fn a_removed_node_is_one_failure_and_says_what_to_do() {
    let mut examined = all(None);
    for number in [2, 3] {
        examined.insert(node(number), Err("refused".to_owned()));
    }
    let (state, mastery) = (State::default(), Mastery::Removed);
    for subject in ["reachable", "master", "hears"] {
        assert!(about(subject, mastery, &examined, &state).is_empty(), "{subject}");
    }
    let quorum = about("quorum", mastery, &examined, &state);
    assert!(
        quorum[0].contains("run qu enroll join with a new token of qu enroll create"),
        "{quorum:?}"
    );
}

#[test]
fn all_have_one_master() {
    let mut examined = all(Some(node(1)));
    let (state, mastery) = (State::default(), Mastery::Is(node(1)));
    assert_eq!(about("master", mastery, &examined, &state), ["pass alpha:9901"]);
    examined.insert(node(2), Ok(well(2, None)));
    assert_eq!(
        about("master", mastery, &examined, &state),
        ["fail alpha:9901 alpha:9901, bravo:9901 none, charlie:9901 alpha:9901"]
    );
}

#[test]
fn an_attempt_to_connect_is_told_and_no_failure() {
    let (state, mastery) = (State::default(), Mastery::Is(node(1)));
    let mut examined = all(Some(node(1)));
    let quiet = "pass no errors in the last 10 minutes to act upon";
    assert_eq!(about("log", mastery, &examined, &state), [quiet]);
    let mut known = well(2, Some(node(1)));
    known.attempts = vec!["Failed to connect to peer, error=connection refused".to_owned()];
    known.edit = Some("hand edit: not applied: line 7: unknown key".to_owned());
    examined.insert(node(2), Ok(known));
    assert_eq!(
        about("log", mastery, &examined, &state),
        ["warn bravo:9901: Failed to connect to peer, error=connection refused; within the last minute"]
    );
    assert_eq!(
        about("hand edit", mastery, &examined, &state),
        ["fail bravo:9901: hand edit: not applied: line 7: unknown key"]
    );
}

#[test]
fn a_test_that_was_taken_counts_wherever_it_was_sent_from() {
    let mut examined = all(Some(node(1)));
    let (mut state, mastery) = (State::default(), Mastery::Is(node(1)));
    assert_eq!(
        about("alert", mastery, &examined, &state),
        ["warn oncall has delivered nothing yet; run qu alert test oncall"]
    );
    let mut tested = well(3, Some(node(1)));
    tested.tests.insert("a".to_owned(), NOW);
    examined.insert(node(3), Ok(tested));
    assert_eq!(
        about("alert", mastery, &examined, &state),
        ["pass oncall took a test at 2026-05-15T14:00:00Z"]
    );
    Arc::make_mut(&mut state.finished).push_back(Finished {
        id: "c/1/a".to_owned(),
        verb: Verb::Down,
        at: NOW + 1000,
        node: node(1),
        attempts: 1,
        uncertain: false,
        dropped: None,
        check_name: String::new(),
        alert_name: String::new(),
    });
    assert_eq!(
        about("alert", mastery, &examined, &state),
        ["pass oncall has delivered, last 2026-05-15T14:00:01Z"]
    );
}

fn waiting(id: &str) -> Delivery {
    Delivery {
        id: id.to_owned(),
        sequence: 1,
        check: "c".to_owned(),
        alert: "a".to_owned(),
        verb: Verb::Down,
        incident: None,
        from: Status::Up,
        to: Status::Down,
        at: NOW,
        since: NOW,
        snapshot: Snapshot::default(),
        phase: Phase::Queued { due: NOW },
        waits_since: NOW,
        attempts: 1,
        uncertain: false,
        error: Some("503".to_owned()),
        permanent: false,
        gone: None,
    }
}

/// What one node, bravo, says of its log; `known` may change what it is like.
fn log_of(text: &str, state: &State, change: impl Fn(&mut All)) -> Vec<String> {
    let mut examined = all(Some(node(1)));
    let known = examined.get_mut(&node(2)).unwrap().as_mut().unwrap();
    known.troubles = vec![text.to_owned()];
    known.trouble_ages = vec![61_000];
    change(&mut examined);
    about("log", Mastery::Is(node(1)), &examined, state)
}

#[test]
fn errors_have_a_time_and_what_is_over_is_no_failure() {
    let nothing = |_: &mut All| {};
    let mut state = State::default();
    let delivery =
        |alert: &str| format!("Not delivered, delivery=c/1-9/{alert}, check=web, alert=oncall, error=503");
    let at = "last seen 2026-05-15T13:58:59Z";
    let quiet = "pass no errors in the last 10 minutes to act upon";
    let over = |text: &str| [format!("pass bravo:9901: {text}; {at}, over"), quiet.to_owned()];
    let fails = |text: &str| [format!("fail bravo:9901: {text}; {at}")];

    let failed = delivery("a");
    let mut waits = State::default();
    Arc::make_mut(&mut waits.deliveries).insert("c/1-9/a".to_owned(), waiting("c/1-9/a"));
    assert_eq!(log_of(&failed, &waits, nothing), fails(&failed));
    assert_eq!(
        log_of(&failed, &state, nothing),
        over(&failed),
        "it was sent since"
    );
    let gone = delivery("gone");
    assert_eq!(
        log_of(&gone, &waits, nothing),
        over(&gone),
        "there is no such alert"
    );
    Arc::make_mut(&mut state.finished).push_back(Finished {
        id: "c/1-9/a".to_owned(),
        verb: Verb::Down,
        at: NOW,
        node: node(1),
        attempts: 9,
        uncertain: false,
        dropped: Some("too old".to_owned()),
        check_name: String::new(),
        alert_name: String::new(),
    });
    assert_eq!(
        log_of(&failed, &state, nothing),
        fails(&failed),
        "it was given up"
    );

    let state = State::default();
    for text in [
        "propose to master: charlie:9901 did not answer",
        "replicate: pull from: x (bravo:9901): its newer configuration does not arrive here; own version 6",
        "two processes run as node x: a and, newer, b",
        "Group conflict: this node and that one are in two running groups; stop one, peer=00000009-0c1d-4e2f-8a3b-4c5d6e7f8091, group=7",
        "Template failed, the default text is sent, alert=gone, error=x",
    ] {
        assert_eq!(log_of(text, &state, nothing), over(text));
    }
    let behind = |all: &mut All| all.get_mut(&node(3)).unwrap().as_mut().unwrap().beat.version = 6;
    let pull =
        "replicate: pull from: x (bravo:9901): its newer configuration does not arrive here; own version 6";
    assert_eq!(log_of(pull, &state, behind), fails(pull));
    let apart = |all: &mut All| all.get_mut(&node(3)).unwrap().as_mut().unwrap().beat.group = 9;
    let conflict = format!(
        "Group conflict: this node and that one are in two running groups, peer={}, group=9",
        node(3)
    );
    assert_eq!(log_of(&conflict, &state, apart), fails(&conflict));
    for text in [
        "Template failed, the default text is sent, alert=oncall, error=x",
        "something else",
    ] {
        assert_eq!(log_of(text, &state, nothing), fails(text));
    }
}

#[test]
fn a_node_that_was_just_added_may_be_on_its_way() {
    let mut examined = all(Some(node(1)));
    let new = examined.get_mut(&node(3)).unwrap().as_mut().unwrap();
    new.beat.version = 6;
    new.beat.hears = vec![node(3)];
    new.attempts = vec![format!(
        "Failed to connect to peer, node_id={}, error=refused by the peer: not a peer of this cluster; it was removed, or never added with qu node add",
        node(1).number()
    )];
    let mut state = State::default();
    let mastery = Mastery::Is(node(1));
    let verdicts = |subject: &str, state: &State| -> Vec<String> {
        let rows = about(subject, mastery, &examined, state).into_iter();
        rows.map(|row| row.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    };
    for subject in ["config ver", "hears"] {
        assert_eq!(verdicts(subject, &state), ["fail"], "{subject}");
    }
    assert_eq!(verdicts("log", &state), ["warn"]);
    let mut audit = crate::machine::state::Audit {
        version: 7,
        at: time(NOW - 5000),
        by: node(1),
        uid: None,
        what: "node add".to_owned(),
        entries: vec![format!("peer {}", node(3))],
        became: Vec::new(),
    };
    Arc::make_mut(&mut state.audit).push_back(audit.clone());
    for subject in ["config ver", "hears"] {
        assert_eq!(verdicts(subject, &state), ["warn"], "{subject}");
    }
    assert_eq!(verdicts("log", &state), ["pass"]);
    audit.at = time(NOW - 20_000);
    *Arc::make_mut(&mut state.audit) = [audit].into();
    assert_eq!(verdicts("hears", &state), ["fail"], "it had time");
}
