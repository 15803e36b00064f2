//! Keys and news in, wishes and what is shown out.

use std::sync::Arc;

use super::*;
use crate::api::PeerLine;
use crate::document::{Alert, AlertKind, Check, CheckKind, Document, Entry, Peer};
use crate::machine::state::Status;
use crate::node::wire::CheckLine;

fn node(number: u32) -> crate::identity::NodeId {
    format!("{number:08x}-0000-4000-8000-000000000000")
        .parse()
        .unwrap()
}

fn look(checks: &[&str]) -> Look {
    let line = |name: &&str| CheckLine {
        id: format!("id-{name}"),
        name: (*name).to_owned(),
        status: Status::Down,
        since: 0,
        mark: None,
        ok: 0,
        total: 1,
        alerts: Vec::new(),
        detail: String::new(),
        acknowledged: false,
        here: None,
    };
    let check = |name: &&str| Check {
        id: format!("id-{name}"),
        alert_ids: vec!["ops".to_owned()],
        ..Check::new(*name, CheckKind::Tcp, "h:1")
    };
    let peer = |number| Peer {
        node_id: node(number),
        advertise: format!("h{number}:9901"),
        fingerprint: String::new(),
        cert_pem: String::new(),
        location: None,
    };
    let document = Document {
        peers: (1..=3).map(peer).collect(),
        checks: checks.iter().map(check).collect(),
        alerts: vec![Alert {
            id: "id-ops".to_owned(),
            ..Alert::new("ops", AlertKind::Webhook)
        }],
        ..Document::default()
    };
    let seen = |peer: &Peer| PeerLine {
        node: peer.node_id,
        advertise: peer.advertise.clone(),
        live: true,
        last_seen: None,
        votes: true,
    };
    Look {
        status: crate::api::Status {
            node: node(1),
            term: 1,
            master: Some(node(1)),
            no_master: None,
            quorum: true,
            need: 2,
            config_version: 1,
            peers: document.peers.iter().map(seen).collect(),
            checks: checks.iter().map(line).collect(),
            notes: Vec::new(),
        },
        document: Arc::new(document),
    }
}

fn state(checks: &[&str]) -> State {
    let mut state = State::new(true, 24, 0);
    state.news(News::Looked(Ok(look(checks))));
    state
}

fn code(state: &mut State, code: KeyCode) -> Option<Wish> {
    state.key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Presses letters; yields what the last one led to.
fn press(state: &mut State, letters: &str) -> Option<Wish> {
    let mut wish = None;
    for letter in letters.chars() {
        wish = code(state, KeyCode::Char(letter));
    }
    wish
}

fn selected(state: &State) -> String {
    let rows = state.rows();
    rows[state.cursor(&rows)].name.clone()
}

fn order(wish: Option<Wish>) -> Order {
    match wish {
        Some(Wish::Order(order)) => order,
        other => panic!("an order, not {other:?}"),
    }
}

fn error(state: &State) -> &str {
    let message = state.message.as_ref().unwrap();
    assert!(message.is_error, "{message:?}");
    &message.text
}

#[test]
fn the_cursor_stays_on_its_row_when_others_come_and_go() {
    let mut state = state(&["a", "b", "c"]);
    press(&mut state, "j");
    assert_eq!(selected(&state), "b");
    state.news(News::Looked(Ok(look(&["x", "a", "b"]))));
    assert_eq!(selected(&state), "b");
    // It is gone: the cursor stays where it was.
    state.news(News::Looked(Ok(look(&["x", "a"]))));
    assert_eq!(selected(&state), "a");
    state.news(News::Looked(Ok(look(&[]))));
    assert_eq!(state.cursor(&state.rows()), 0);
    press(&mut state, "e");
    assert!(error(&state).starts_with("there is nothing"));
}

#[test]
fn keys_move_and_change_the_table() {
    let names: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut state = state(&names);
    code(&mut state, KeyCode::End);
    assert_eq!(selected(&state), "c39");
    code(&mut state, KeyCode::Down);
    assert_eq!(selected(&state), "c39");
    code(&mut state, KeyCode::PageUp);
    assert_eq!(selected(&state), "c24");
    code(&mut state, KeyCode::Home);
    press(&mut state, "kj");
    assert_eq!(selected(&state), "c1");
    for (key, tab) in [('1', Tab::Peers), ('3', Tab::Alerts), ('2', Tab::Checks)] {
        press(&mut state, &key.to_string());
        assert_eq!(state.tab, tab);
    }
    code(&mut state, KeyCode::Tab);
    assert_eq!(state.tab, Tab::Alerts);
    code(&mut state, KeyCode::Tab);
    assert_eq!(state.tab, Tab::Peers);
    assert_eq!(press(&mut state, "r"), Some(Wish::Look));
    assert_eq!(press(&mut state, "q"), Some(Wish::Quit));
}

#[test]
fn a_filter_leaves_rows_with_its_text() {
    let mut state = state(&["web", "db", "web2"]);
    press(&mut state, "/WEB");
    assert_eq!(state.rows().len(), 2);
    code(&mut state, KeyCode::Enter);
    press(&mut state, "j");
    assert_eq!(selected(&state), "web2");
    code(&mut state, KeyCode::Esc);
    assert_eq!((state.rows().len(), selected(&state).as_str()), (3, "web2"));
    // A q that is typed is a letter.
    assert_eq!(press(&mut state, "/q"), None);
    let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.key(stop), Some(Wish::Quit));
}

#[test]
fn removing_asks_and_only_y_does_it() {
    let mut state = state(&["a"]);
    assert_eq!(press(&mut state, "d"), None);
    assert!(matches!(state.mode, Mode::Confirm { .. }));
    assert_eq!(code(&mut state, KeyCode::Enter), None);
    assert_eq!(state.message.as_ref().unwrap().text, "not done");
    let Order::Change { changes, done, .. } = order(press(&mut state, "dy")) else {
        panic!("a change");
    };
    assert_eq!(
        (changes[0].wanted.is_none(), done.as_str()),
        (true, "check a removed")
    );
    // One at a time.
    assert_eq!(press(&mut state, "x"), None);
    assert_eq!(error(&state), "wait: still check remove: check a");
    let done = Outcome::Done {
        text: "check a removed (cluster version now 2)".to_owned(),
        added: None,
    };
    assert_eq!(state.news(News::Finished(Ok(done))), Some(Wish::Look));
    assert!(!state.message.as_ref().unwrap().is_error);
    assert!(press(&mut state, "x").is_some());
}

#[test]
fn an_alert_that_goes_takes_its_name_out_of_checks() {
    let mut state = state(&["a"]);
    let Order::Change { changes, .. } = order(press(&mut state, "3dy")) else {
        panic!("a change");
    };
    assert_eq!(changes.len(), 2);
}

#[test]
fn keys_that_are_for_another_table_say_so() {
    let mut state = state(&["a"]);
    press(&mut state, "D");
    assert_eq!(error(&state), "D is not for checks; ? shows all keys");
    press(&mut state, "1x");
    assert_eq!(error(&state), "x is not for nodes; ? shows all keys");
    press(&mut state, "3K");
    assert_eq!(error(&state), "K is not for alerts; ? shows all keys");
}

#[test]
fn a_check_that_is_down_is_acknowledged_and_tested() {
    let mut state = state(&["a"]);
    press(&mut state, "K");
    let given = order(code(&mut state, KeyCode::Enter));
    assert!(matches!(given, Order::Acknowledge { until: None, .. }));
    state.busy = None;
    state.mode = Mode::Table;
    press(&mut state, "tr");
    let Order::TestCheck { verb, alerts, .. } = order(code(&mut state, KeyCode::Enter)) else {
        panic!("a test");
    };
    assert_eq!(verb, crate::machine::state::Verb::Recovered);
    assert_eq!(alerts, [("id-ops".to_owned(), "ops".to_owned())]);
}

#[test]
fn a_node_is_met_and_asked_about_before_it_is_invited() {
    let mut state = state(&[]);
    press(&mut state, "1ah4:9901");
    let met = order(code(&mut state, KeyCode::Enter));
    assert_eq!(
        met,
        Order::Meet {
            address: "h4:9901".to_owned(),
            discard: false
        }
    );
    let answer = Outcome::Met {
        address: "h4:9901".to_owned(),
        node: node(4),
        fingerprint: "sha256:44".to_owned(),
        discard: false,
    };
    state.news(News::Finished(Ok(answer.clone())));
    let Mode::Confirm { lines, .. } = &state.mode else {
        panic!("a question");
    };
    assert!(lines.iter().any(|line| line.contains("sha256:44")), "{lines:?}");
    assert!(matches!(order(press(&mut state, "y")), Order::Invite { .. }));
    // Whoever has closed the form is not asked.
    state.news(News::Finished(Ok(answer)));
    assert_eq!(state.mode, Mode::Table);
}

#[test]
fn a_refusal_keeps_the_form_with_what_was_typed() {
    let mut state = state(&["a"]);
    press(&mut state, "e");
    code(&mut state, KeyCode::Tab);
    press(&mut state, "9");
    assert!(code(&mut state, KeyCode::Enter).is_some());
    let failure = Failure {
        code: 5,
        text: "changed by somebody else in the meantime: check a; look again and repeat".to_owned(),
    };
    state.news(News::Finished(Err(failure)));
    let Mode::Form(form) = &state.mode else {
        panic!("the form");
    };
    assert!(form.conflict && !form.waiting);
    // Somebody gave it another interval; both are kept.
    let mut now = look(&["a"]);
    Arc::make_mut(&mut now.document).checks[0].interval = crate::duration::Span::from_secs(7);
    state.news(News::Looked(Ok(now)));
    state.key(KeyEvent::new(KeyCode::Char('r'), KeyModifiers::CONTROL));
    let Order::Change { changes, .. } = order(code(&mut state, KeyCode::Enter)) else {
        panic!("a change");
    };
    let Some(Entry::Check(check)) = &changes[0].wanted else {
        panic!("a check");
    };
    assert_eq!((check.target.as_str(), check.interval.millis()), ("h:19", 7000));
}
