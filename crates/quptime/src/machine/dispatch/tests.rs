//! Which delivery goes first, what waits for what, and what is given up.

use super::*;
use crate::document::{Alert, AlertKind, Document};
use crate::machine::command::Snapshot;
use crate::machine::state::{CheckState, Incident, Status};
use std::sync::Arc;

fn delivery(number: u64, alert: &str, verb: Verb, at: Millis) -> Delivery {
    Delivery {
        id: format!("c/{number}/{alert}"),
        sequence: number,
        check: "c".to_owned(),
        alert: alert.to_owned(),
        verb,
        incident: Some("i".to_owned()),
        from: Status::Up,
        to: Status::Down,
        at,
        since: 0,
        snapshot: Snapshot::default(),
        phase: Phase::Queued { due: at },
        attempts: 0,
        uncertain: false,
        error: None,
        permanent: false,
    }
}

fn state(deliveries: impl IntoIterator<Item = Delivery>) -> State {
    let alert = |id: &str| Alert {
        id: id.to_owned(),
        ..Alert::new(id, AlertKind::Discord)
    };
    State {
        document: Arc::new(Document {
            alerts: vec![alert("a"), alert("b")],
            ..Document::default()
        }),
        deliveries: Arc::new(deliveries.into_iter().map(|one| (one.id.clone(), one)).collect()),
        ..State::default()
    }
}

fn claims(plans: &[Plan]) -> Vec<&str> {
    plans
        .iter()
        .filter_map(|plan| match plan {
            Plan::Claim(id) => Some(id.as_str()),
            Plan::Drop { .. } => None,
        })
        .collect()
}

#[test]
fn the_end_waits_for_its_beginning() {
    let state = state([
        delivery(1, "a", Verb::Down, 10),
        delivery(2, "a", Verb::Recovered, 20),
        delivery(3, "b", Verb::Recovered, 20),
    ]);
    let nothing = BTreeSet::new();
    assert_eq!(claims(&plan(&state, 30, 5, &nothing)), ["c/1/a", "c/3/b"]);
    let under_way = BTreeSet::from(["c/1/a".to_owned()]);
    assert_eq!(claims(&plan(&state, 30, 5, &under_way)), ["c/3/b"]);
    assert!(plan(&state, 5, 5, &nothing).is_empty(), "not due");
}

#[test]
fn an_old_beginning_is_told_with_its_end() {
    let state = state([
        delivery(1, "a", Verb::Down, 10),
        delivery(2, "a", Verb::Recovered, 20),
    ]);
    let plans = plan(&state, 10 + JOIN_AFTER_MS, 5, &BTreeSet::new());
    assert!(matches!(&plans[0], Plan::Drop { delivery, .. } if delivery == "c/1/a"));
    assert_eq!(claims(&plans), ["c/2/a"]);
}

#[test]
fn claims_of_earlier_terms_are_taken_over_and_own_ones_are_not() {
    let mut one = delivery(1, "a", Verb::Down, 10);
    one.phase = Phase::Claimed {
        term: 5,
        node: "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap(),
        at: 11,
    };
    let mut state = state([one]);
    assert!(plan(&state, 30, 5, &BTreeSet::new()).is_empty());
    assert_eq!(claims(&plan(&state, 30, 6, &BTreeSet::new())), ["c/1/a"]);
    let mut document = (*state.document).clone();
    document.alerts[0].on_uncertain = Some(OnUncertain::Drop);
    state.document = Arc::new(document);
    assert!(matches!(
        &plan(&state, 30, 6, &BTreeSet::new())[0],
        Plan::Drop { .. }
    ));
}

#[test]
fn a_slow_channel_holds_up_only_itself() {
    let many = (1..=20).map(|number| Delivery {
        check: format!("c{number}"),
        ..delivery(number, if number <= 15 { "a" } else { "b" }, Verb::Down, 10)
    });
    let plans = plan(&state(many), 30, 5, &BTreeSet::new());
    let of = |alert: &str| claims(&plans).iter().filter(|id| id.ends_with(alert)).count();
    assert_eq!((of("a"), of("b")), (PER_ALERT_MAX, PER_ALERT_MAX));
}

#[test]
fn escalations_are_dropped_when_over_or_acknowledged() {
    let mut escalation = delivery(1, "a", Verb::Down, 10);
    escalation.phase = Phase::Queued { due: 900_010 };
    let mut state = state([escalation]);
    assert!(
        matches!(&plan(&state, 30, 5, &BTreeSet::new())[0], Plan::Drop { reason, .. } if reason.starts_with("over"))
    );
    let incident = Incident {
        id: "i".to_owned(),
        since: 10,
        announced: true,
        held: None,
        told: 10,
        acknowledged: None,
    };
    let known = CheckState {
        status: Status::Down,
        incident: Some(incident.clone()),
        ..CheckState::default()
    };
    state.checks = Arc::new(BTreeMap::from([("c".to_owned(), known.clone())]));
    assert!(plan(&state, 30, 5, &BTreeSet::new()).is_empty());
    assert_eq!(claims(&plan(&state, 900_010, 5, &BTreeSet::new())), ["c/1/a"]);
    let acknowledged = crate::machine::state::Acknowledged {
        at: 20,
        note: String::new(),
        until: None,
    };
    let known = CheckState {
        incident: Some(Incident {
            acknowledged: Some(acknowledged),
            ..incident
        }),
        ..known
    };
    state.checks = Arc::new(BTreeMap::from([("c".to_owned(), known)]));
    assert!(matches!(
        &plan(&state, 30, 5, &BTreeSet::new())[0],
        Plan::Drop { .. }
    ));
}

#[test]
fn retries_wait_longer_and_obey() {
    let waits: Vec<Millis> = (1..=6)
        .map(|attempts| retry_at(0, attempts, None, false))
        .collect();
    assert_eq!(waits, [5000, 15_000, 45_000, 135_000, 405_000, 600_000]);
    assert_eq!(retry_at(0, 1, Some(30_000), false), 30_000);
    assert_eq!(retry_at(0, 1, None, true), 3_600_000);
}

#[test]
fn nothing_is_kept_for_ever() {
    let state = state([delivery(1, "a", Verb::Down, 10)]);
    let plans = plan(&state, 10 + DEAD_AFTER_MS, 5, &BTreeSet::new());
    assert!(matches!(&plans[..], [Plan::Drop { .. }]));
}
