//! Pictures of examples, drawn without a terminal.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::api::PeerLine;
use crate::document::{Alert, AlertKind, Check, CheckKind, Document, Peer};
use crate::node::wire::CheckLine;
use crate::secret::Secret;
use crate::tui::order::{Failure, News};

fn line(name: &str, status: Status, detail: &str) -> CheckLine {
    CheckLine {
        id: format!("id-{name}"),
        name: name.to_owned(),
        status,
        since: 1000,
        mark: None,
        ok: 1,
        total: 3,
        alerts: vec!["ops*".to_owned()],
        detail: detail.to_owned(),
        acknowledged: false,
        here: None,
    }
}

fn look() -> Look {
    let node = |text: &str| text.parse().unwrap();
    let (alpha, bravo) = (
        node("1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091"),
        node("7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091"),
    );
    let peer = |node, advertise: &str, live| PeerLine {
        node,
        advertise: advertise.to_owned(),
        live,
        last_seen: Some(9_000),
        votes: true,
    };
    let check = |name: &str, target: &str| Check {
        id: format!("id-{name}"),
        ..Check::new(name, CheckKind::Http, target)
    };
    let alert = Alert {
        id: "id-ops".to_owned(),
        default: true,
        webhook_url: Secret::new("http://hooks.example.com/very-secret-word"),
        ..Alert::new("ops", AlertKind::Webhook)
    };
    let status = crate::api::Status {
        node: alpha,
        term: 12,
        master: Some(bravo),
        no_master: None,
        quorum: true,
        need: 2,
        config_version: 34,
        peers: vec![
            peer(alpha, "alpha.example.com:9901", true),
            peer(bravo, "bravo.example.com:9901", false),
        ],
        checks: vec![
            line("homepage", Status::Up, ""),
            line("db", Status::Down, "connect: connection timed out"),
        ],
        notes: Vec::new(),
    };
    let entry = |line: &PeerLine| Peer {
        node_id: line.node,
        advertise: line.advertise.clone(),
        fingerprint: "sha256:00".to_owned(),
        cert_pem: String::new(),
        location: None,
    };
    let document = Document {
        version: 34,
        peers: status.peers.iter().map(entry).collect(),
        checks: vec![
            check("homepage", "https://example.com/"),
            check("db", "https://db.example.com/"),
        ],
        alerts: vec![alert],
        ..Document::default()
    };
    Look {
        status,
        document: Arc::new(document),
    }
}

fn state(look: Look) -> State {
    let mut state = State::new(true, 24, 12_000);
    state.news(News::Looked(Ok(look)));
    state
}

fn press(state: &mut State, keys: &str) {
    for letter in keys.chars() {
        let code = match letter {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            letter => KeyCode::Char(letter),
        };
        state.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn terminal(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    terminal
}

fn picture(state: &State, width: u16, height: u16) -> String {
    let terminal = terminal(state, width, height);
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let rows: Vec<String> = (0..height).map(|y| row(y).trim_end().to_owned()).collect();
    rows.join("\n")
}

#[test]
fn the_table_of_checks() {
    let expected = "\
node    1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091  alpha.example.com:9901
master  7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091  bravo.example.com:9901
term 12   quorum true (need 2)   config version 34
 1 Peers 1/2 live  [2 Checks 2, 1 down]  3 Alerts 1
  NAME      STATE  OK/TOTAL  SINCE  TARGET                   ALERTS  DETAIL
> homepage  up     1/3       11s    https://example.com/     ops*
  db        down   1/3       11s    https://db.example.com/  ops*    connect: connection timed out








a add  e edit  d remove  t test  x on/off  K acknowledge  / filter  Tab next  ? help  q quit";
    assert_eq!(picture(&state(look()), 100, 16), expected);
}

#[test]
fn the_smallest_terminal_shows_what_matters() {
    let mut state = state(look());
    let shown = picture(&state, 60, 16);
    for text in [
        "NAME",
        "down",
        "1/3",
        "connect: conn",
        "q quit",
        "config version 34",
    ] {
        assert!(shown.contains(text), "{text} in\n{shown}");
    }
    press(&mut state, "1");
    let shown = picture(&state, 60, 16);
    for text in ["7f3a5b9e", "bravo.exampl", "false", "master"] {
        assert!(shown.contains(text), "{text} in\n{shown}");
    }
    for keys in ["a", "?"] {
        press(&mut state, keys);
        let shown = picture(&state, 60, 16);
        assert_eq!(shown.lines().count(), 16, "{shown}");
        state.mode = Mode::Table;
    }
    let shown = picture(&state, 59, 15).replace('\n', " ");
    assert_eq!(
        shown.trim(),
        "qu tui needs 60 columns and 16 lines; this terminal has 59x15. q quits."
    );
}

#[test]
fn without_quorum_a_banner_says_so_in_red_and_in_words() {
    let mut look = look();
    look.status.quorum = false;
    look.status.master = None;
    look.status.no_master = Some("no quorum".to_owned());
    let mut state = state(look);
    let shown = picture(&state, 80, 20);
    assert!(shown.contains("master  (none — no quorum)"), "{shown}");
    assert!(
        shown.contains("NO QUORUM: no change is taken and no alert is sent; probing goes on."),
        "{shown}"
    );
    let is_red = |state: &State| {
        let terminal = terminal(state, 80, 20);
        let cell = &terminal.backend().buffer()[(0, 3)];
        assert!(cell.modifier.contains(Modifier::BOLD));
        cell.fg == Color::Red
    };
    assert!(is_red(&state));
    state.colours = false;
    assert!(!is_red(&state));
}

#[test]
fn a_daemon_that_is_gone_is_told_and_the_last_look_stays() {
    let mut state = State::new(false, 24, 12_000);
    state.news(News::Looked(Err("no daemon is running here".to_owned())));
    let told = "NO ANSWER FROM THE DAEMON: no daemon is running here. Trying again";
    let shown = picture(&state, 100, 20);
    assert!(shown.starts_with(told), "{shown}");
    state.news(News::Looked(Ok(look())));
    assert!(!picture(&state, 100, 20).contains("NO ANSWER"));
    state.news(News::Looked(Err("no daemon is running here".to_owned())));
    state.now += 5000;
    let shown = picture(&state, 120, 20);
    assert!(shown.contains(told), "{shown}");
    assert!(shown.contains("how it stood 5s ago"), "{shown}");
    assert!(shown.contains("homepage"), "{shown}");
}

#[test]
fn secrets_are_nowhere_on_the_screen() {
    let mut state = state(look());
    for keys in ["3", "\n", "qe"] {
        press(&mut state, keys);
        let shown = picture(&state, 160, 40);
        assert!(!shown.contains("very-secret"), "{shown}");
        // As `qu alert list` shows it.
        assert!(
            keys != "3" || shown.contains("http://hooks.example.com ...word"),
            "{shown}"
        );
    }
    assert!(picture(&state, 160, 40).contains("••••••••"));
}

#[test]
fn an_error_is_shown_in_full_and_a_conflict_keeps_the_form() {
    let mut state = state(look());
    press(&mut state, "e\tx\n");
    let text = "changed by somebody else in the meantime: check homepage; look again and repeat";
    let failure = Failure {
        code: 5,
        text: text.to_owned(),
    };
    state.news(News::Finished(Err(failure)));
    let shown = picture(&state, 60, 20);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let together = words(&shown.replace('│', " "));
    assert!(together.contains(&format!("error: {text}")), "{shown}");
    assert!(shown.contains("https://example.com/x"), "{shown}");
    assert!(together.contains("Ctrl-R"), "{shown}");
}

#[test]
fn a_question_gets_no_full_stop() {
    let mut state = state(look());
    for (reason, shown) in [
        (
            "connection refused; is it running?",
            "is it running? Trying again;",
        ),
        ("it does not answer", "it does not answer. Trying again;"),
    ] {
        state.unreachable = Some(reason.to_owned());
        let picture = picture(&state, 160, 20);
        assert!(picture.contains(shown), "{picture}");
    }
}
