//! What is told, and to whom, when a check ends before its outage does.

use super::*;
use crate::document::{Alert, AlertKind, Change, CheckKind, Entry, Peer};
use crate::identity::NodeId;
use crate::machine::command::{Announce, Claim, Command, Ending, Settle, Transition};
use crate::machine::dispatch::{self, Plan, UnderWay, Waits};
use crate::machine::state::Outcome;

fn node() -> NodeId {
    "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap()
}

fn alert(id: &str) -> Alert {
    Alert {
        id: id.to_owned(),
        default: true,
        ..Alert::new(id, AlertKind::Discord)
    }
}

/// A check that is down; the alert `told` has taken its DOWN, `waiting` was not asked yet.
fn down() -> State {
    let check = Check {
        id: "c".to_owned(),
        ..Check::new("web", CheckKind::Tcp, "h:1")
    };
    let document = Document {
        version: 7,
        peers: vec![Peer {
            node_id: node(),
            advertise: "alpha:9901".to_owned(),
            fingerprint: String::new(),
            cert_pem: String::new(),
            location: None,
        }],
        checks: vec![check],
        alerts: vec![alert("told"), alert("waiting")],
        ..Document::default()
    };
    let mut state = State::begun(document, "k".to_owned(), None);
    becomes(&mut state, Status::Down, Verb::Down);
    claim(&mut state, "c/1/told");
    settle(&mut state, "c/1/told", Ending::Sent);
    state
}

fn done(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

fn becomes(state: &mut State, to: Status, verb: Verb) {
    let deliveries = ["told", "waiting"].map(|alert| NewDelivery {
        alert: alert.to_owned(),
        verb,
        due: 5,
    });
    done(&state.apply(&Command::Transition(Transition {
        check: "c".to_owned(),
        after: state.checks["c"].transitions,
        to,
        at: 5,
        incident: (to == Status::Down).then(|| "i".to_owned()),
        snapshot: Snapshot::default(),
        held: None,
        deliveries: deliveries.to_vec(),
    })));
}

fn claim(state: &mut State, delivery: &str) {
    done(&state.apply(&Command::Claim(Claim {
        delivery: delivery.to_owned(),
        term: 1,
        node: node(),
        at: 5,
    })));
}

fn settle(state: &mut State, delivery: &str, ending: Ending) {
    done(&state.apply(&Command::Settle(Settle {
        delivery: delivery.to_owned(),
        term: 1,
        node: node(),
        ending,
        at: 5,
    })));
}

fn change(state: &mut State, change: Change) {
    done(&state.apply(&Command::Configure(Configure {
        changes: vec![change],
        by: node(),
        uid: Some(1000),
        what: "check remove".to_owned(),
        at: "2026-05-15T14:01:00Z".to_owned(),
        schema: 1,
        closes: Some(1000),
        leaves: None,
        bytes_max: None,
        insists: false,
    })));
}

fn entry(check: &Check) -> Entry {
    Entry::Check(Box::new(check.clone()))
}

fn remove(state: &mut State) {
    let known = entry(&state.document.checks[0]);
    change(state, Change::remove(known));
}

fn set_disabled(state: &mut State, disabled: bool) {
    let known = state.document.checks[0].clone();
    let mut wanted = known.clone();
    wanted.disabled = disabled;
    change(state, Change::edit(entry(&known), entry(&wanted)));
}

/// What waits, by id.
fn waiting(state: &State) -> Vec<(&str, Verb)> {
    let all = state.deliveries.values();
    all.map(|delivery| (delivery.id.as_str(), delivery.verb))
        .collect()
}

/// What the master does now, carried out: the messages that it sends.
fn sent(state: &mut State) -> Vec<String> {
    let nothing = BTreeSet::new();
    let mut sent = Vec::new();
    loop {
        let under_way = UnderWay {
            deliveries: &nothing,
            checks: &nothing,
        };
        let plans = dispatch::plan(state, (2000, 2000), 1, under_way, &Waits::default());
        if plans.is_empty() {
            return sent;
        }
        for plan in plans {
            match plan {
                Plan::Claim(delivery) => {
                    claim(state, &delivery);
                    settle(state, &delivery, Ending::Sent);
                    sent.push(delivery);
                }
                Plan::Drop { delivery, reason } => {
                    let reason = reason.to_owned();
                    settle(state, &delivery, Ending::Dropped { reason });
                }
            }
        }
    }
}

#[test]
fn who_was_told_of_an_outage_hears_once_that_its_check_was_removed() {
    let mut state = down();
    remove(&mut state);
    let closing = &state.deliveries["c/1.1/told"];
    assert_eq!((closing.verb, closing.to), (Verb::Removed, Status::Unknown));
    assert_eq!(
        closing.incident.as_deref(),
        Some("i"),
        "channels close it by its id"
    );
    assert_eq!(
        closing.gone.as_ref().map(|check| check.name.as_str()),
        Some("web")
    );
    assert_eq!(
        closing.snapshot.detail,
        "removed by uid 1000 on alpha:9901 (check remove)"
    );
    assert_eq!(sent(&mut state), ["c/1.1/told"], "the other alert was never told");
    assert_eq!(waiting(&state), []);
}

#[test]
fn a_beginning_that_may_have_been_told_is_closed_and_not_repeated() {
    let mut state = down();
    claim(&mut state, "c/1/waiting");
    remove(&mut state);
    let ending = Ending::Retry {
        due: 6,
        error: "timeout".to_owned(),
        permanent: false,
        uncertain: true,
    };
    settle(&mut state, "c/1/waiting", ending);
    assert_eq!(sent(&mut state), ["c/1.1/told", "c/1.1/waiting"]);
}

#[test]
fn an_end_that_waits_is_told_as_one_also_when_its_check_is_gone() {
    let mut state = down();
    assert_eq!(sent(&mut state), ["c/1/waiting"]);
    becomes(&mut state, Status::Up, Verb::Recovered);
    remove(&mut state);
    assert_eq!(
        waiting(&state),
        [("c/2/told", Verb::Recovered), ("c/2/waiting", Verb::Recovered)]
    );
    assert!(state.deliveries.values().all(|delivery| delivery.gone.is_some()));
    // Whoever uses the id again does not take the place of what waits.
    change(
        &mut state,
        Change::add(entry(&Check {
            id: "c".to_owned(),
            ..Check::new("again", CheckKind::Tcp, "h:1")
        })),
    );
    assert_eq!(state.checks["c"].transitions, 2);
    becomes(&mut state, Status::Down, Verb::Down);
    assert_eq!(
        sent(&mut state),
        ["c/2/told", "c/2/waiting", "c/3/told", "c/3/waiting"]
    );
}

#[test]
fn an_outage_of_a_check_that_is_enabled_again_is_another_one() {
    let mut state = down();
    set_disabled(&mut state, true);
    assert_eq!(sent(&mut state), ["c/1.1/told"]);
    let late = Command::Transition(Transition {
        check: "c".to_owned(),
        after: 1,
        to: Status::Up,
        at: 9,
        incident: None,
        snapshot: Snapshot::default(),
        held: None,
        deliveries: Vec::new(),
    });
    assert_eq!(state.apply(&late), Outcome::Outdated, "it left the rounds");
    set_disabled(&mut state, false);
    assert_eq!(waiting(&state), []);
    let incident = state.checks["c"].incident.as_ref().unwrap();
    assert_eq!(
        (incident.announced, &incident.held),
        (false, &Some(Hold::Disabled))
    );
    assert_eq!(incident.id, "i-8", "the first one is closed");
    assert!(incident.told_to.is_empty());
    // Nobody was told of this one, so nobody hears that the check goes.
    set_disabled(&mut state, true);
    remove(&mut state);
    assert_eq!(waiting(&state), []);
}

#[test]
fn a_time_of_flapping_is_closed_too() {
    let mut state = down();
    assert_eq!(sent(&mut state), ["c/1/waiting"]);
    let new = |alert: &str| NewDelivery {
        alert: alert.to_owned(),
        verb: Verb::Flapping,
        due: 5,
    };
    done(&state.apply(&Command::Announce(Announce {
        check: "c".to_owned(),
        after: 1,
        notices: 0,
        verb: Verb::Flapping,
        at: 50,
        snapshot: Snapshot::default(),
        deliveries: vec![new("told")],
    })));
    assert_eq!(sent(&mut state), ["c/1.1/told"]);
    remove(&mut state);
    // The outage that was told before it began to flap is another incident.
    let closings: Vec<_> = state.deliveries.values().collect();
    let keys: Vec<_> = closings
        .iter()
        .map(|closing| (closing.id.as_str(), closing.incident.as_deref()))
        .collect();
    assert_eq!(
        keys,
        [
            ("c/1.2/told", Some("i")),
            ("c/1.2/waiting", Some("i")),
            ("c/1.3/told", Some("flapping-c-50")),
        ]
    );
}

#[test]
fn nothing_is_sent_to_alerts_that_are_gone() {
    let mut state = down();
    let alert = Entry::Alert(Box::new(state.document.alerts[0].clone()));
    change(&mut state, Change::remove(alert));
    remove(&mut state);
    assert_eq!(sent(&mut state), [""; 0]);
    assert_eq!(waiting(&state), []);
}

#[test]
fn entries_of_programs_that_told_nobody_tell_nobody_when_they_are_played_again() {
    let mut state = down();
    let known = entry(&state.document.checks[0]);
    let mut text = serde_json::to_value(Command::Configure(Configure {
        changes: vec![Change::remove(known)],
        by: node(),
        uid: None,
        what: String::new(),
        at: String::new(),
        schema: 1,
        closes: Some(1),
        leaves: None,
        bytes_max: None,
        insists: false,
    }))
    .unwrap();
    text["configure"]
        .as_object_mut()
        .unwrap()
        .remove("closes")
        .unwrap();
    done(&state.apply(&Command::decode(text.to_string().as_bytes()).unwrap()));
    assert_eq!(waiting(&state), []);
}
