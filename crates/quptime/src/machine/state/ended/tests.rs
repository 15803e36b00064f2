//! What is remembered of outages, and for how long.

use super::*;
use crate::document::{Alert, AlertKind, Change, CheckKind, Entry, Peer};
use crate::identity::NodeId;
use crate::machine::command::{Acknowledge, Command, NewDelivery, Snapshot, Transition};
use crate::machine::state::{Outcome, Status};

fn node() -> NodeId {
    "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap()
}

fn check(id: &str) -> Check {
    Check {
        id: id.to_owned(),
        ..Check::new(format!("name-{id}"), CheckKind::Tcp, "h:1")
    }
}

fn state(checks: &[&str]) -> State {
    let document = Document {
        version: 7,
        peers: vec![Peer {
            node_id: node(),
            advertise: "alpha:9901".to_owned(),
            fingerprint: String::new(),
            cert_pem: String::new(),
            location: None,
        }],
        checks: checks.iter().map(|id| check(id)).collect(),
        alerts: vec![Alert {
            id: "a".to_owned(),
            default: true,
            ..Alert::new("oncall", AlertKind::Discord)
        }],
        ..Document::default()
    };
    State::begun(document, "k".to_owned(), None)
}

#[track_caller]
fn done(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

/// The check changes, and whoever is told of it is told if that is wanted.
#[track_caller]
fn becomes(state: &mut State, check: &str, to: Status, at: Millis, told: bool) {
    let after = state.checks[check].transitions;
    let delivery = NewDelivery {
        alert: "a".to_owned(),
        verb: if to == Status::Down {
            Verb::Down
        } else {
            Verb::Recovered
        },
        due: at,
    };
    done(&state.apply(&Command::Transition(Transition {
        check: check.to_owned(),
        after,
        to,
        at,
        incident: (to == Status::Down).then(|| format!("i{after}")),
        snapshot: Snapshot {
            detail: format!("{} at {at}", to.name()),
            ..Snapshot::default()
        },
        held: None,
        deliveries: told.then_some(delivery).into_iter().collect(),
    })));
}

#[track_caller]
fn change(state: &mut State, change: Change, closes: Option<Millis>) {
    done(&state.apply(&Command::Configure(Configure {
        changes: vec![change],
        by: node(),
        uid: Some(1000),
        what: "check edit".to_owned(),
        at: "2026-05-15T14:01:00Z".to_owned(),
        schema: 1,
        closes,
        leaves: None,
        bytes_max: None,
        insists: false,
    })));
}

fn set_disabled(state: &mut State, id: &str, disabled: bool, at: Millis) {
    let before = by_id(&state.document, id).unwrap().clone();
    let after = Check {
        disabled,
        ..before.clone()
    };
    let edit = Change::edit(Entry::Check(Box::new(before)), Entry::Check(Box::new(after)));
    change(state, edit, Some(at));
}

fn remove(state: &mut State, id: &str, closes: Option<Millis>) {
    let known = by_id(&state.document, id).unwrap().clone();
    change(state, Change::remove(Entry::Check(Box::new(known))), closes);
}

/// `CHECK INCIDENT SINCE-AT VERB`, the oldest first.
fn rows(state: &State) -> Vec<String> {
    let rows = state.ended.iter().map(|ended| {
        let Ended {
            check, id, since, at, ..
        } = ended;
        format!("{check} {id} {since}-{at} {}", ended.how.name())
    });
    rows.collect()
}

#[test]
fn an_outage_that_is_over_is_remembered_with_what_was_seen_and_who_worked_on_it() {
    let mut state = state(&["c"]);
    becomes(&mut state, "c", Status::Up, 5, false);
    becomes(&mut state, "c", Status::Down, 10, true);
    done(&state.apply(&Command::Acknowledge(Acknowledge {
        check: "c".to_owned(),
        note: "on it".to_owned(),
        until: None,
        at: 15,
        uid: Some(1000),
        by: Some(node()),
    })));
    assert!(state.ended.is_empty());
    becomes(&mut state, "c", Status::Up, 20, true);
    let expected = Ended {
        id: "i1".to_owned(),
        check: "c".to_owned(),
        name: "name-c".to_owned(),
        since: 10,
        at: 20,
        how: Verb::Recovered,
        by: String::new(),
        detail: "down at 10".to_owned(),
        announced: true,
        acknowledged: Some(Acknowledged {
            at: 15,
            note: "on it".to_owned(),
            until: None,
            uid: Some(1000),
            by: Some(node()),
        }),
    };
    assert_eq!(*state.ended, [expected]);
    // A clock that went back makes no outage that ends before it began.
    becomes(&mut state, "c", Status::Down, 30, true);
    becomes(&mut state, "c", Status::Up, 25, true);
    assert_eq!(rows(&state)[1], "c i3 30-30 RECOVERED");
}

#[test]
fn a_check_that_is_removed_or_disabled_ends_its_outage() {
    for told in [true, false] {
        let mut state = state(&["c", "d", "e"]);
        for id in ["c", "d"] {
            becomes(&mut state, id, Status::Down, 10, told);
        }
        remove(&mut state, "c", Some(20));
        remove(&mut state, "e", Some(21));
        set_disabled(&mut state, "d", true, 22);
        assert_eq!(rows(&state), ["c i0 10-20 REMOVED", "d i0 10-22 DISABLED"]);
        let who = state.ended.iter().map(|ended| ended.by.clone());
        let expected =
            ["removed", "disabled"].map(|done| format!("{done} by uid 1000 on alpha:9901 (check edit)"));
        assert_eq!(who.collect::<Vec<_>>(), expected);
        // Whoever was told of it knows that it ended there; what nobody knew of may as well have lasted.
        set_disabled(&mut state, "d", false, 30);
        becomes(&mut state, "d", Status::Up, 40, told);
        let last = if told {
            "d i0 10-22 DISABLED"
        } else {
            "d i0 10-40 RECOVERED"
        };
        assert_eq!(rows(&state), ["c i0 10-20 REMOVED", last]);
    }
}

#[test]
fn an_entry_of_an_older_master_says_when_in_words() {
    let mut state = state(&["c"]);
    becomes(&mut state, "c", Status::Down, 10, true);
    remove(&mut state, "c", None);
    assert_eq!(rows(&state), ["c i0 10-1778853660000 REMOVED"]);
}

#[test]
fn a_group_that_begins_with_a_file_remembers_what_the_file_left_out() {
    let mut before = state(&["c", "d"]);
    for id in ["c", "d"] {
        becomes(&mut before, id, Status::Down, 10, true);
    }
    let mut document = (*before.document).clone();
    document.checks.remove(0);
    let state = State::begun(document, "k".to_owned(), Some(before));
    assert_eq!(rows(&state), ["c i0 10-10 REMOVED"]);
}

#[test]
fn a_check_that_comes_and_goes_does_not_push_out_others() {
    let mut state = state(&["c", "d"]);
    becomes(&mut state, "c", Status::Down, 1, true);
    becomes(&mut state, "c", Status::Up, 2, true);
    for turn in 0..2 * ENDED_MAX as u64 {
        becomes(&mut state, "d", Status::Down, 10 + 2 * turn, true);
        becomes(&mut state, "d", Status::Up, 11 + 2 * turn, true);
        assert!(state.ended.len() <= ENDED_MAX);
    }
    let rows = rows(&state);
    assert_eq!((rows.len(), rows[0].as_str()), (ENDED_MAX, "c i0 1-2 RECOVERED"));
    assert!(
        rows[ENDED_MAX - 1].ends_with("-809 RECOVERED"),
        "{}",
        rows[ENDED_MAX - 1]
    );
}

#[test]
fn a_state_of_an_older_program_is_read() {
    let mut state = state(&["c"]);
    becomes(&mut state, "c", Status::Down, 10, true);
    let mut stored = serde_json::to_value(&state).unwrap();
    assert!(stored.as_object_mut().unwrap().remove("ended").is_some());
    let mut read: State = serde_json::from_value(stored).unwrap();
    assert_eq!(read, state);
    becomes(&mut read, "c", Status::Up, 20, true);
    let stored = serde_json::to_value(&read).unwrap();
    assert_eq!(serde_json::from_value::<State>(stored).unwrap(), read);
    assert_eq!(rows(&read), ["c i0 10-20 RECOVERED"]);
}
