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
        waits_since: at,
        attempts: 0,
        uncertain: false,
        error: None,
        permanent: false,
        gone: None,
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

fn plan(state: &State, now: Millis, term: u64, deliveries: &BTreeSet<String>) -> Vec<Plan> {
    let under_way = UnderWay {
        deliveries,
        checks: &BTreeSet::new(),
    };
    super::plan(state, (now, now), term, under_way, &Waits::default())
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
fn claims_that_nobody_is_about_to_send_are_taken_over() {
    let mut one = delivery(1, "a", Verb::Down, 10);
    one.phase = Phase::Claimed {
        term: 5,
        node: "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap(),
        at: 11,
    };
    let mut state = state([one]);
    let under_way = BTreeSet::from(["c/1/a".to_owned()]);
    assert!(plan(&state, 30, 5, &under_way).is_empty());
    assert_eq!(claims(&plan(&state, 30, 5, &BTreeSet::new())), ["c/1/a"]);
    assert!(plan(&state, 30, 4, &BTreeSet::new()).is_empty());
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
        told_to: BTreeSet::new(),
        acknowledged: None,
    };
    let known = CheckState {
        status: Status::Down,
        incident: Some(incident.clone()),
        ..CheckState::default()
    };
    state.checks = Arc::new(BTreeMap::from([("c".to_owned(), Arc::new(known.clone()))]));
    assert!(plan(&state, 30, 5, &BTreeSet::new()).is_empty());
    assert_eq!(claims(&plan(&state, 900_010, 5, &BTreeSet::new())), ["c/1/a"]);
    let acknowledged = crate::machine::state::Acknowledged {
        at: 20,
        note: String::new(),
        until: None,
        uid: None,
        by: None,
    };
    let known = CheckState {
        incident: Some(Incident {
            acknowledged: Some(acknowledged),
            ..incident
        }),
        ..known
    };
    state.checks = Arc::new(BTreeMap::from([("c".to_owned(), Arc::new(known))]));
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

#[test]
fn a_clock_that_is_behind_does_not_make_messages_wait() {
    let hour = 3_600_000;
    let mut one = delivery(1, "a", Verb::Down, 10);
    // The master before, whose clock is an hour ahead, tried in vain and waits for five seconds.
    (one.attempts, one.waits_since) = (1, hour);
    one.phase = Phase::Queued { due: hour + 5000 };
    let state = state([one]);
    let mut waits = Waits::default();
    let mut plan_at = |now| {
        waits.look(now, &state);
        let under_way = UnderWay {
            deliveries: &BTreeSet::new(),
            checks: &BTreeSet::new(),
        };
        super::plan(&state, (now, now), 5, under_way, &waits)
    };
    assert!(plan_at(1000).is_empty());
    assert!(plan_at(5999).is_empty());
    assert_eq!(claims(&plan_at(6000)), ["c/1/a"]);
}

#[test]
fn an_escalation_waits_while_something_is_decided_about_its_check() {
    let mut escalation = delivery(1, "a", Verb::Down, 10);
    escalation.phase = Phase::Queued { due: 900_010 };
    let mut end = delivery(2, "a", Verb::Recovered, 900_020);
    end.phase = Phase::Queued { due: 900_020 };
    let state = state([escalation, end]);
    let busy = BTreeSet::from(["c".to_owned()]);
    let under_way = UnderWay {
        deliveries: &BTreeSet::new(),
        checks: &busy,
    };
    let times = (900_020, 900_020);
    assert_eq!(super::plan(&state, times, 5, under_way, &Waits::default()), []);
    // It was under way when the end was decided, and its claim was lost: whoever is told of the end is told of the beginning.
    let plans = plan(&state, 900_020, 5, &BTreeSet::new());
    assert_eq!(plans, [Plan::Claim("c/1/a".to_owned())]);
}

#[test]
fn what_may_have_been_sent_is_not_sent_again_if_so_wished() {
    let mut one = delivery(1, "a", Verb::Down, 10);
    (one.attempts, one.uncertain) = (1, true);
    let mut state = state([one]);
    assert_eq!(claims(&plan(&state, 30, 6, &BTreeSet::new())), ["c/1/a"]);
    let mut document = (*state.document).clone();
    document.alerts[0].on_uncertain = Some(OnUncertain::Drop);
    state.document = Arc::new(document);
    assert!(matches!(
        &plan(&state, 30, 6, &BTreeSet::new())[..],
        [Plan::Drop { .. }]
    ));
}
