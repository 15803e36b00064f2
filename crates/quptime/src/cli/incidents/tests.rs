//! How far people know of outages, as shown.

use std::sync::Arc;

use super::*;
use crate::document::schema::Window;
use crate::document::{Alert, AlertKind, Change, CheckKind, Document, Entry};
use crate::identity::NodeId;
use crate::machine::announce::transition;
use crate::machine::command::{
    Acknowledge, Announce, Claim, Command, Configure, Ending, NewDelivery, Settle, Snapshot,
};

/// 2026-05-15T14:00:00Z.
const NOW: Millis = 1_778_853_600_000;

fn node() -> NodeId {
    "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap()
}

/// Of `web` and the `router` it depends on, with an alert that is told at once and one after five minutes.
fn state(edit: impl FnOnce(&mut Document)) -> State {
    let check = |id: &str, name: &str| Check {
        id: id.to_owned(),
        ..Check::new(name, CheckKind::Tcp, "h:1")
    };
    let alert = |id: &str, name: &str, after| Alert {
        id: id.to_owned(),
        default: true,
        after,
        ..Alert::new(name, AlertKind::Webhook)
    };
    let mut document = Document {
        checks: vec![check("c", "web"), check("r", "router")],
        alerts: vec![
            alert("a", "oncall", None),
            alert("p", "pager", Some(Span::from_secs(300))),
        ],
        ..Document::default()
    };
    edit(&mut document);
    State::begun(document, "cluster".to_owned(), None)
}

fn down(state: &mut State, check: &str) {
    let check = state.document.check(check).unwrap().clone();
    let nobody = BTreeSet::new();
    let command = transition(
        state,
        &check,
        Status::Down,
        Snapshot::default(),
        NOW,
        &nobody,
        || "i".to_owned(),
    );
    state.apply(&Command::Transition(command));
}

fn settle(state: &mut State, delivery: &str, ending: Ending) {
    let (delivery, node) = (delivery.to_owned(), node());
    if !matches!(ending, Ending::Dropped { .. }) {
        state.apply(&Command::Claim(Claim {
            delivery: delivery.clone(),
            term: 1,
            node,
            at: NOW,
        }));
    }
    state.apply(&Command::Settle(Settle {
        delivery,
        term: 1,
        node,
        ending,
        at: NOW,
    }));
}

#[track_caller]
fn says(state: &State, seconds: u64, expected: &str) {
    let check = state.document.check("web").unwrap();
    let incident = state.checks["c"].incident.as_ref().unwrap();
    assert_eq!(told(state, check, incident, NOW + 1000 * seconds), expected);
}

#[test]
fn an_escalation_that_is_not_due_is_not_told() {
    let mut state = state(|_| {});
    down(&mut state, "web");
    says(
        &state,
        0,
        "no: oncall waits since 2026-05-15T14:00:00Z, pager in 5m",
    );
    settle(&mut state, "c/1/a", Ending::Sent);
    says(&state, 60, "yes, pager in 4m");
    says(&state, 400, "yes, but pager waits since 2026-05-15T14:05:00Z");
    settle(&mut state, "c/1/p", Ending::Sent);
    says(&state, 400, "yes");
}

#[test]
fn nobody_knows_of_an_outage_whose_only_message_is_still_to_come() {
    let mut state = state(|document| drop(document.alerts.remove(0)));
    down(&mut state, "web");
    says(&state, 0, "no: pager in 5m");
}

#[test]
fn a_channel_that_refuses_is_named() {
    let mut state = state(|document| drop(document.alerts.remove(1)));
    down(&mut state, "web");
    let refused = Ending::Retry {
        due: NOW + 5000,
        error: "503".to_owned(),
        permanent: false,
        uncertain: false,
    };
    settle(&mut state, "c/1/a", refused);
    says(&state, 1, "no: oncall failed once");
    let reason = NOT_TAKEN.to_owned();
    settle(&mut state, "c/1/a", Ending::Dropped { reason });
    says(&state, 1, "no: oncall not told: not taken within 24 hours");
}

#[test]
fn who_was_told_counts_beside_who_cannot_be() {
    let mut state = state(|document| document.alerts[1].after = None);
    down(&mut state, "web");
    settle(&mut state, "c/1/a", Ending::Sent);
    for _ in 0..2 {
        let refused = Ending::Retry {
            due: NOW,
            error: "503".to_owned(),
            permanent: false,
            uncertain: false,
        };
        settle(&mut state, "c/1/p", refused);
    }
    says(&state, 1, "yes, but pager failed 2 times");
    let reason = NOT_TAKEN.to_owned();
    settle(&mut state, "c/1/p", Ending::Dropped { reason });
    says(&state, 1, "yes, but pager not told: not taken within 24 hours");
}

#[test]
fn who_may_have_been_told_when_it_was_given_up_is_shown() {
    let mut state = state(|document| document.alerts[1].after = None);
    down(&mut state, "web");
    settle(&mut state, "c/1/a", Ending::Sent);
    let unknown = Ending::Retry {
        due: NOW,
        error: "no answer".to_owned(),
        permanent: false,
        uncertain: true,
    };
    settle(&mut state, "c/1/p", unknown);
    let reason = "it may have been sent, and on_uncertain is drop".to_owned();
    settle(&mut state, "c/1/p", Ending::Dropped { reason });
    let told = "pager perhaps told, given up: it may have been sent, and on_uncertain is drop";
    says(&state, 1, &format!("yes, but {told}"));
}

#[test]
fn an_alert_that_was_removed_before_it_was_told_is_shown_by_its_name() {
    let mut state = state(|_| {});
    down(&mut state, "web");
    settle(&mut state, "c/1/a", Ending::Sent);
    let pager = Entry::Alert(Box::new(state.document.alerts[1].clone()));
    state.apply(&Command::Configure(Configure {
        changes: vec![Change::remove(pager)],
        by: node(),
        uid: None,
        what: String::new(),
        at: String::new(),
        schema: 1,
        closes: Some(NOW),
        leaves: None,
        bytes_max: None,
        insists: false,
    }));
    says(&state, 1, "yes, pager not told: the alert was removed");
}

#[test]
fn who_was_told_that_a_check_flaps_and_not_how_that_ended_is_shown() {
    let mut state = state(|document| drop(document.alerts.remove(1)));
    down(&mut state, "web");
    // Held, as the change too many is.
    Arc::make_mut(&mut state.deliveries).clear();
    for (notices, verb) in [(0, Verb::Flapping), (1, Verb::Stable)] {
        state.apply(&Command::Announce(Announce {
            check: "c".to_owned(),
            after: 1,
            notices,
            verb,
            at: NOW,
            snapshot: Snapshot::default(),
            deliveries: vec![NewDelivery {
                alert: "a".to_owned(),
                verb,
                due: NOW,
            }],
        }));
    }
    settle(&mut state, "c/1.1/a", Ending::Sent);
    let reason = NOT_TAKEN.to_owned();
    settle(&mut state, "c/1.2/a", Ending::Dropped { reason });
    says(&state, 1, "no: oncall not told: not taken within 24 hours");
}

#[test]
fn an_acknowledgement_that_has_ended_is_not_shown() {
    let mut state = state(|_| {});
    down(&mut state, "web");
    state.apply(&Command::Acknowledge(Acknowledge {
        check: "c".to_owned(),
        note: "on it".to_owned(),
        until: Some(NOW + 60_000),
        at: NOW,
        uid: None,
        by: None,
    }));
    let incident = state.checks["c"].incident.as_ref().unwrap();
    let expected = "2026-05-15T14:00:00Z until 2026-05-15T14:01:00Z on it";
    assert_eq!(acknowledged(&state, incident, NOW + 59_999), expected);
    assert_eq!(acknowledged(&state, incident, NOW + 60_000), "-");
}

#[test]
fn what_is_over_can_be_looked_up() {
    let mut state = state(|_| {});
    down(&mut state, "web");
    state.apply(&Command::Acknowledge(Acknowledge {
        check: "c".to_owned(),
        note: "on it".to_owned(),
        until: None,
        at: NOW + 1000,
        uid: Some(1000),
        by: Some(node()),
    }));
    let check = state.document.check("web").unwrap().clone();
    let up = transition(
        &state,
        &check,
        Status::Up,
        Snapshot::default(),
        NOW + 65_400,
        &BTreeSet::new(),
        String::new,
    );
    state.apply(&Command::Transition(up));
    let columns = |state: &State| -> Vec<String> {
        let table = ended::table(state).render(None);
        let row = table.lines().nth(1).unwrap_or_default();
        row.split("  ")
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let acknowledged = format!("2026-05-15T14:00:01Z by uid 1000 on {} on it", node());
    let expected = [
        "i",
        "web",
        "2026-05-15T14:00:00Z",
        "2026-05-15T14:01:05Z",
        "1m5s",
        "recovered",
        "yes",
        &acknowledged,
    ];
    assert_eq!(columns(&state), expected);
    let row = &ended::json(&state)[0];
    assert_eq!(row["incident"]["how"], "recovered");
    assert_eq!(row["incident"]["acknowledged"]["note"], "on it");
    assert_eq!(
        row["incident"]["acknowledged"]["by"],
        format!("uid 1000 on {}", node())
    );
    // Renamed: by its new name. An acknowledgement that was taken back is none.
    Arc::make_mut(&mut state.document).checks[0].name = "shop".to_owned();
    let ended = &mut Arc::make_mut(&mut state.ended)[0];
    ended.acknowledged.as_mut().unwrap().until = Some(NOW + 1000);
    let columns = columns(&state);
    assert_eq!((columns[1].as_str(), columns[7].as_str()), ("shop", "-"));
}

#[test]
fn an_acknowledgement_calls_off_what_is_still_to_come() {
    let mut state = state(|_| {});
    down(&mut state, "web");
    settle(&mut state, "c/1/a", Ending::Sent);
    state.apply(&Command::Acknowledge(Acknowledge {
        check: "c".to_owned(),
        note: String::new(),
        until: None,
        at: NOW,
        uid: None,
        by: None,
    }));
    says(&state, 60, "yes");
    let reason = "acknowledged before it was due".to_owned();
    settle(&mut state, "c/1/p", Ending::Dropped { reason });
    says(&state, 60, "yes, pager not told: acknowledged before it was due");
}

#[test]
fn what_holds_an_outage_back_is_said_by_name_and_as_of_now() {
    says_of_holds(false, "no: is looked at once more");
    says_of_holds(true, "no: depends on router, which is down");
}

fn says_of_holds(depends: bool, after_work: &str) {
    let mut state = state(|document| {
        document.maintenance.push(Window {
            id: "w".to_owned(),
            name: "work".to_owned(),
            checks: vec!["web".to_owned()],
            group: None,
            start: "2026-05-15T13:00:00Z".to_owned(),
            end: "2026-05-15T14:01:00Z".to_owned(),
            pause: false,
        });
        if depends {
            document.checks[0].depends_on = vec!["router".to_owned()];
        }
    });
    down(&mut state, "web");
    says(&state, 0, "no: maintenance");
    if depends {
        says(&state, 60, "no: depends on router");
        down(&mut state, "router");
    }
    says(&state, 60, after_work);
    // Work that is cancelled is over, too.
    Arc::make_mut(&mut state.document).maintenance.clear();
    says(&state, 0, after_work);
}

#[test]
fn without_alerts_nobody_is_told() {
    let mut state = state(|document| document.alerts.clear());
    down(&mut state, "web");
    says(&state, 0, "no: no alerts");
}
