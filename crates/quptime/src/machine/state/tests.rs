//! What each command does, and what it leaves alone.

use super::*;
use crate::document::{Alert, AlertKind, Check, CheckKind, Entry, Peer};
use crate::machine::command::{Claim, Ending, NewDelivery, Settle};

const NODE: &str = "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091";

fn node() -> NodeId {
    NODE.parse().unwrap()
}

fn begun() -> State {
    let check = Check {
        id: "c".to_owned(),
        ..Check::new("web", CheckKind::Tcp, "h:1")
    };
    let alert = Alert {
        id: "a".to_owned(),
        default: true,
        ..Alert::new("oncall", AlertKind::Discord)
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
        alerts: vec![alert],
        ..Document::default()
    };
    State::begun(document, "k".to_owned(), None)
}

fn change(state: &mut State, changes: Vec<Change>) -> Outcome {
    state.apply(&Command::Configure(Configure {
        changes,
        by: node(),
        uid: None,
        what: "test".to_owned(),
        at: "2026-05-15T14:01:00Z".to_owned(),
        schema: 1,
        closes: Some(1000),
        leaves: None,
        bytes_max: None,
        insists: false,
    }))
}

#[test]
fn removals_of_the_same_moment_do_not_add_up() {
    let mut state = State::default();
    let peers: Vec<Peer> = (1..4)
        .map(|number| Peer {
            node_id: format!("0000000{number}-0c1d-4e2f-8a3b-4c5d6e7f8091")
                .parse()
                .unwrap(),
            advertise: format!("n{number}:9901"),
            fingerprint: String::new(),
            cert_pem: String::new(),
            location: None,
        })
        .collect();
    Arc::make_mut(&mut state.document).peers.clone_from(&peers);
    // Each was asked for while all three were there.
    let outcomes = peers.iter().map(|peer| {
        state.apply(&Command::Configure(Configure {
            changes: vec![Change::remove(Entry::Peer(peer.clone()))],
            by: node(),
            uid: None,
            what: "node remove".to_owned(),
            at: "2026-05-15T14:01:00Z".to_owned(),
            schema: 1,
            closes: None,
            leaves: Some(2),
            bytes_max: None,
            insists: false,
        }))
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    assert!(matches!(outcomes[0], Outcome::Done(1)), "{outcomes:?}");
    for outcome in &outcomes[1..] {
        assert!(
            matches!(outcome, Outcome::Invalid(why) if why.contains("same moment")),
            "{outcomes:?}"
        );
    }
    assert_eq!(state.document.peers, peers[1..]);
}

fn transition(after: u64, to: Status, at: Millis) -> Command {
    Command::Transition(Transition {
        check: "c".to_owned(),
        after,
        to,
        at,
        incident: (to == Status::Down).then(|| format!("i{after}")),
        snapshot: Snapshot::default(),
        held: None,
        deliveries: vec![NewDelivery {
            alert: "a".to_owned(),
            verb: if to == Status::Down {
                Verb::Down
            } else {
                Verb::Recovered
            },
            due: at,
        }],
    })
}

fn claim(delivery: &str, term: u64) -> Command {
    Command::Claim(Claim {
        delivery: delivery.to_owned(),
        term,
        node: node(),
        at: 0,
    })
}

fn settle(delivery: &str, term: u64, ending: Ending) -> Command {
    Command::Settle(Settle {
        delivery: delivery.to_owned(),
        term,
        node: node(),
        ending,
        at: 0,
    })
}

#[test]
fn version_grows_with_configuration_and_nothing_else() {
    let mut state = begun();
    let added = Entry::Check(Box::new(Check {
        id: "d".to_owned(),
        ..Check::new("db", CheckKind::Tcp, "h:2")
    }));
    assert_eq!(
        change(&mut state, vec![Change::add(added.clone())]),
        Outcome::Done(8)
    );
    assert!(matches!(
        change(&mut state, vec![Change::add(added)]),
        Outcome::Conflict(_)
    ));
    assert_eq!(state.apply(&transition(0, Status::Down, 5)), Outcome::Done(8));
    assert_eq!(state.document.version, 8);
    let same_name = Entry::Check(Box::new(Check {
        id: "e".to_owned(),
        ..Check::new("db", CheckKind::Tcp, "h:2")
    }));
    assert!(matches!(
        change(&mut state, vec![Change::add(same_name)]),
        Outcome::Invalid(_)
    ));
    assert_eq!(state.document.version, 8);
    assert_eq!(state.checks.len(), 2);
    assert_eq!(state.audit.len(), 1);
}

#[test]
fn a_transition_counts_once() {
    let mut state = begun();
    assert_eq!(state.apply(&transition(0, Status::Down, 5)), Outcome::Done(7));
    assert_eq!(state.apply(&transition(0, Status::Down, 6)), Outcome::Outdated);
    assert_eq!(state.apply(&transition(1, Status::Down, 6)), Outcome::Outdated);
    assert_eq!(state.deliveries.len(), 1);
    assert_eq!(state.checks["c"].incident.as_ref().unwrap().id, "i0");
    assert_eq!(state.apply(&transition(1, Status::Up, 9)), Outcome::Done(7));
    assert_eq!(state.checks["c"].incident, None);
    let ids: Vec<&String> = state.deliveries.keys().collect();
    assert_eq!(ids, ["c/1/a", "c/2/a"]);
    assert_eq!(state.deliveries["c/2/a"].incident.as_deref(), Some("i0"));
}

#[test]
fn only_the_claiming_master_settles() {
    let mut state = begun();
    state.apply(&transition(0, Status::Down, 5));
    assert_eq!(state.apply(&settle("c/1/a", 3, Ending::Sent)), Outcome::Outdated);
    assert_eq!(state.apply(&claim("c/1/a", 3)), Outcome::Done(7));
    assert_eq!(state.apply(&claim("c/1/a", 3)), Outcome::Outdated);
    assert!(!state.deliveries["c/1/a"].uncertain);
    // A later master does not know how far the claim came.
    assert_eq!(state.apply(&claim("c/1/a", 4)), Outcome::Done(7));
    assert!(state.deliveries["c/1/a"].uncertain);
    assert_eq!(state.apply(&settle("c/1/a", 3, Ending::Sent)), Outcome::Outdated);
    let retry = Ending::Retry {
        due: 50,
        error: "timeout".to_owned(),
        permanent: false,
        uncertain: false,
    };
    assert_eq!(state.apply(&settle("c/1/a", 4, retry)), Outcome::Done(7));
    assert_eq!(state.deliveries["c/1/a"].phase, Phase::Queued { due: 50 });
    assert_eq!(state.apply(&claim("c/1/a", 4)), Outcome::Done(7));
    assert_eq!(state.apply(&settle("c/1/a", 4, Ending::Sent)), Outcome::Done(7));
    assert!(state.deliveries.is_empty());
    let finished = &state.finished[0];
    assert_eq!(
        (finished.attempts, finished.uncertain, &finished.dropped),
        (3, true, &None)
    );
}

#[test]
fn what_belongs_to_removed_entries_goes_with_them() {
    let mut state = begun();
    state.apply(&transition(0, Status::Down, 5));
    let alert = Entry::Alert(Box::new(state.document.alerts[0].clone()));
    assert_eq!(change(&mut state, vec![Change::remove(alert)]), Outcome::Done(8));
    assert!(state.deliveries.is_empty());
    let check = Entry::Check(Box::new(state.document.checks[0].clone()));
    assert_eq!(change(&mut state, vec![Change::remove(check)]), Outcome::Done(9));
    assert!(state.checks.is_empty());
}

#[test]
fn a_message_whose_alert_is_removed_ends_and_is_named() {
    let mut state = begun();
    state.apply(&transition(0, Status::Down, 5));
    let alert = Entry::Alert(Box::new(state.document.alerts[0].clone()));
    change(&mut state, vec![Change::remove(alert)]);
    let ended = &state.finished[0];
    assert_eq!(ended.dropped.as_deref(), Some("the alert was removed"));
    let named = (&*ended.id, &*ended.check_name, &*ended.alert_name);
    assert_eq!(
        (named, ended.at, ended.uncertain),
        (("c/1/a", "web", "oncall"), 1000, false)
    );
    let incident = state.checks["c"].incident.as_ref().unwrap();
    assert!(incident.told_to.is_empty(), "nobody was told");

    // What is under way may arrive.
    let mut state = begun();
    state.apply(&transition(0, Status::Down, 5));
    state.apply(&claim("c/1/a", 3));
    let alert = Entry::Alert(Box::new(state.document.alerts[0].clone()));
    change(&mut state, vec![Change::remove(alert)]);
    assert!(state.finished[0].uncertain);
    assert_eq!(state.apply(&settle("c/1/a", 3, Ending::Sent)), Outcome::Outdated);
    assert_eq!(state.finished.len(), 1);
}

#[test]
fn what_was_told_keeps_its_names_and_states_without_them_are_read() {
    let mut state = begun();
    state.apply(&transition(0, Status::Down, 5));
    state.apply(&claim("c/1/a", 3));
    state.apply(&settle("c/1/a", 3, Ending::Sent));
    let check = Entry::Check(Box::new(state.document.checks[0].clone()));
    change(&mut state, vec![Change::remove(check)]);
    state.apply(&claim("c/1.1/a", 3));
    state.apply(&settle("c/1.1/a", 3, Ending::Sent));
    let names = |state: &State| -> Vec<(String, String)> {
        let finished = state.finished.iter();
        finished
            .map(|ended| (ended.check_name.clone(), ended.alert_name.clone()))
            .collect()
    };
    let kept = ("web".to_owned(), "oncall".to_owned());
    assert_eq!(names(&state), [kept.clone(), kept]);

    let mut stored = serde_json::to_value(&state).unwrap();
    assert_eq!(serde_json::from_value::<State>(stored.clone()).unwrap(), state);
    for ended in stored["finished"].as_array_mut().unwrap() {
        let ended = ended.as_object_mut().unwrap();
        assert!(ended.remove("check_name").is_some() && ended.remove("alert_name").is_some());
    }
    let read: State = serde_json::from_value(stored).unwrap();
    assert_eq!(names(&read), [Default::default(), Default::default()]);
}

#[test]
fn a_recovered_group_keeps_states_and_deliveries() {
    let mut before = begun();
    before.apply(&transition(0, Status::Down, 5));
    let mut document = (*before.document).clone();
    document.version = 20;
    let state = State::begun(document, "other".to_owned(), Some(before));
    assert_eq!(state.document.version, 20);
    assert_eq!(state.checks["c"].status, Status::Down);
    assert_eq!(state.deliveries.len(), 1);
    assert_eq!(state.cluster, "k", "channels know the outage by it");
}

#[test]
fn commands_survive_the_log() {
    let command = transition(3, Status::Down, 77);
    assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    assert!(Command::decode(b"{\"unheard_of\":1}").is_err());
}

#[test]
fn what_could_not_be_read_again_is_refused_by_every_replica() {
    let long = |name: &str| Check::new(name, CheckKind::Tcp, "x".repeat(4000));
    let add = |name: &str, bytes_max: Option<usize>| {
        let mut check = long(name);
        check.id = name.to_owned();
        Command::Configure(Configure {
            changes: vec![Change::add(Entry::Check(Box::new(check)))],
            by: node(),
            uid: None,
            what: "test".to_owned(),
            at: "2026-05-15T14:01:00Z".to_owned(),
            schema: 1,
            closes: Some(1000),
            leaves: None,
            bytes_max,
            insists: false,
        })
    };
    let mut state = begun();
    let most = Some(8000);
    assert_eq!(state.apply(&add("one", most)), Outcome::Done(8));
    let before = state.clone();
    let Outcome::Invalid(told) = state.apply(&add("two", most)) else {
        panic!("two of them do not fit");
    };
    assert!(told.starts_with("cluster.yaml would take ") && told.contains("at most 8000 are possible"));
    assert_eq!(state, before);
    // An older program has let it in, and the log is carried out again.
    assert_eq!(state.apply(&add("two", None)), Outcome::Done(9));
    // From there on it may become smaller.
    let gone = Change::remove(Entry::Check(Box::new(
        state.document.check("one").unwrap().clone(),
    )));
    assert_eq!(change(&mut state, vec![gone]), Outcome::Done(10));
}

#[test]
fn the_audit_names_some_of_many_entries() {
    let mut state = begun();
    let checks = (0..1000).map(|number| {
        let mut check = Check::new(format!("n{number}{}", "ü".repeat(200)), CheckKind::Tcp, "h:1");
        check.id = format!("i{number}");
        Change::add(Entry::Check(Box::new(check)))
    });
    assert_eq!(change(&mut state, checks.collect()), Outcome::Done(8));
    let audit = state.audit.back().unwrap();
    assert_eq!(audit.entries.len(), 201);
    assert!(audit.entries[0].starts_with("check n0ü") && audit.entries[0].ends_with('…'));
    assert!(audit.entries[0].chars().count() < 170);
    assert_eq!(audit.entries[200], "and 800 more");
    let summary = audit.summary();
    assert!(
        summary.starts_with("added check n0") && summary.ends_with("…; and 800 more"),
        "{summary}"
    );
}

#[test]
fn the_audit_says_what_became_of_each_entry() {
    let mut state = begun();
    let check = |id: &str, target: &str| {
        let check = Check::new(format!("name-{id}"), CheckKind::Tcp, target);
        Entry::Check(Box::new(Check {
            id: id.to_owned(),
            ..check
        }))
    };
    let first = ["x", "y"].map(|id| Change::add(check(id, "h:1")));
    assert!(matches!(change(&mut state, first.into()), Outcome::Done(_)));
    assert_eq!(
        state.audit.back().unwrap().summary(),
        "added check name-x, check name-y"
    );
    let second = vec![
        Change::edit(check("x", "h:1"), check("x", "h:2")),
        Change::remove(check("y", "h:1")),
        Change::add(check("z", "h:1")),
    ];
    assert!(matches!(change(&mut state, second), Outcome::Done(_)));
    let audit = state.audit.back().unwrap().clone();
    assert_eq!(
        audit.summary(),
        "added check name-z; changed check name-x; removed check name-y"
    );
    // As an older program kept it.
    let mut kept = serde_json::to_value(&audit).unwrap();
    assert_eq!(kept["became"], serde_json::json!(["changed", "removed", "added"]));
    kept.as_object_mut().unwrap().remove("became");
    let older: Audit = serde_json::from_value(kept).unwrap();
    assert_eq!(older.summary(), "check name-x, check name-y, check name-z");
}
