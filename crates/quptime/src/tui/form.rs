//! A form: lines for one entry, and the order that comes of them.
//!
//! A form keeps the entry as it was when it was opened, and sends it along, so that an edit of somebody else is not undone: the daemon
//! refuses, the form stays with all that was typed, and [`Form::rebase`] lays that over the entry as it is then.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::field::{Field, Kind};
use super::lines::{self, ALERT, ALERT_KINDS, ALERT_TYPES, CHECK, CHECK_KINDS, CHECK_TYPES, PEER, TYPE};
use super::order::Order;
use crate::document::schema::TLS_WARN_DAYS;
use crate::document::{Alert, AlertKind, Change, Check, CheckKind, Document, Entry, Peer};
use crate::duration::Span;
use crate::machine::Millis;
use crate::machine::state::Verb;

/// What a form is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A check that is not there yet.
    NewCheck,
    /// An alert that is not there yet.
    NewAlert,
    /// A node that is invited.
    NewPeer,
    /// A check as it was.
    Check(Box<Check>),
    /// An alert as it was.
    Alert(Box<Alert>),
    /// A node as it was.
    Peer(Peer),
    /// A test of a check.
    TestCheck {
        /// By id.
        id: String,
        /// Its name.
        name: String,
        /// Ids and names of those that are told.
        alerts: Vec<(String, String)>,
    },
    /// Somebody works on an outage.
    Acknowledge {
        /// The check, by id.
        id: String,
        /// Its name.
        name: String,
    },
}

/// What a key in a form leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// On with it.
    Stay,
    /// Away with it.
    Close,
    /// Send it.
    Submit,
    /// Start from the entry as it is now.
    Rebase,
}

/// A form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// What it is about.
    pub(super) subject: Subject,
    /// Its lines; there is at least one.
    pub(super) fields: Vec<Field>,
    /// Which line has the cursor.
    pub(super) focus: usize,
    /// What was wrong with it when it was sent.
    pub(super) problem: Option<String>,
    /// Whether it was sent and not answered.
    pub(super) waiting: bool,
    /// Whether it was refused since the entry is another one now.
    pub(super) conflict: bool,
}

fn blank_check(kind: CheckKind) -> Check {
    let mut check = Check::new("", kind, "");
    if kind == CheckKind::Tls {
        check.tls_warn_days = TLS_WARN_DAYS;
    }
    check
}

fn check_entry(check: &Check) -> Entry {
    Entry::Check(Box::new(check.clone()))
}

fn alert_entry(alert: &Alert) -> Entry {
    Entry::Alert(Box::new(alert.clone()))
}

const STATES: &[(&str, Verb)] = &[
    ("down", Verb::Down),
    ("up", Verb::Up),
    ("recovered", Verb::Recovered),
];

impl Form {
    /// A form about something, with what is known of it.
    pub(super) fn new(subject: Subject) -> Form {
        let fields = match &subject {
            Subject::NewCheck => new_check(CheckKind::Http),
            Subject::NewAlert => new_alert(AlertKind::Smtp),
            Subject::NewPeer => vec![
                Field::new(
                    "address",
                    "of a node made with the same secret: host:port",
                    Kind::Text,
                    "",
                ),
                Field::new(
                    "discard",
                    "take it even if it has checks, alerts or peers of its own; they are lost",
                    Kind::Choice(&["no", "yes"]),
                    "no",
                ),
            ],
            Subject::Check(check) => lines::fields(CHECK, check),
            Subject::Alert(alert) => lines::fields(ALERT, alert),
            Subject::Peer(peer) => lines::fields(PEER, peer),
            Subject::TestCheck { .. } => vec![Field::new(
                "state",
                "what the message says",
                Kind::Choice(&["down", "up", "recovered"]),
                "down",
            )],
            Subject::Acknowledge { .. } => vec![
                Field::new("note", "what to tell the others", Kind::Text, ""),
                Field::new(
                    "for",
                    "for how long, such as 2h; empty: until recovery",
                    Kind::Text,
                    "",
                ),
            ],
        };
        Form {
            subject,
            fields,
            focus: 0,
            problem: None,
            waiting: false,
            conflict: false,
        }
    }

    /// What stands above it.
    pub(super) fn title(&self) -> String {
        match &self.subject {
            Subject::NewCheck => "Add a check".to_owned(),
            Subject::NewAlert => "Add an alert".to_owned(),
            Subject::NewPeer => "Add a node".to_owned(),
            Subject::Check(check) => format!("Edit check {} ({})", check.name, check.kind.name()),
            Subject::Alert(alert) => format!("Edit alert {} ({})", alert.name, alert.kind.name()),
            Subject::Peer(peer) => format!("Edit node {}", peer.node_id),
            Subject::TestCheck { name, alerts, .. } => {
                let names: Vec<&str> = alerts.iter().map(|(_, name)| name.as_str()).collect();
                format!("Test check {name}: tells {}", names.join(", "))
            }
            Subject::Acknowledge { name, .. } => format!("Acknowledge check {name}"),
        }
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Step {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let count = self.fields.len();
        match key.code {
            KeyCode::Esc => return Step::Close,
            // Sent once; an impatient second Enter would be a second entry.
            KeyCode::Enter if self.waiting => {}
            KeyCode::Enter => return Step::Submit,
            KeyCode::Char('r') if control => return Step::Rebase,
            KeyCode::Tab | KeyCode::Down => self.focus = (self.focus + 1) % count,
            KeyCode::BackTab | KeyCode::Up => self.focus = (self.focus + count - 1) % count,
            KeyCode::PageDown => self.focus = count - 1,
            KeyCode::PageUp => self.focus = 0,
            _ if self.waiting => {}
            _ => {
                let before = self.kind_line();
                self.fields[self.focus].key(key);
                if self.kind_line() != before {
                    self.change_kind();
                }
            }
        }
        Step::Stay
    }

    /// Puts a pasted text into the line with the cursor.
    pub(super) fn paste(&mut self, text: &str) {
        if !self.waiting {
            self.fields[self.focus].paste(text);
        }
    }

    fn value(&self, label: &str) -> String {
        let field = self.fields.iter().find(|field| field.label == label);
        field.map_or_else(String::new, Field::value)
    }

    fn kind_line(&self) -> String {
        self.value(TYPE)
    }

    /// Another kind has other lines; what both have keeps what was typed.
    fn change_kind(&mut self) {
        let fields = match self.subject {
            Subject::NewCheck => new_check(self.check_kind()),
            Subject::NewAlert => new_alert(self.alert_kind()),
            _ => return,
        };
        let old = std::mem::replace(&mut self.fields, fields);
        self.keep(&old);
    }

    fn keep(&mut self, old: &[Field]) {
        for field in old.iter().filter(|field| field.is_changed()) {
            let same = |new: &&mut Field| new.label == field.label && new.kind == field.kind;
            if let Some(new) = self.fields.iter_mut().find(same) {
                new.take_over(field);
            }
        }
    }

    fn check_kind(&self) -> CheckKind {
        let name = self.kind_line();
        let known = CHECK_KINDS.iter().find(|(other, _)| *other == name);
        known.map_or(CheckKind::Http, |(_, kind)| *kind)
    }

    fn alert_kind(&self) -> AlertKind {
        let name = self.kind_line();
        let known = ALERT_KINDS.iter().find(|(other, _)| *other == name);
        known.map_or(AlertKind::Smtp, |(_, kind)| *kind)
    }

    /// Lays what was typed over the entry as it is now.
    ///
    /// # Errors
    /// It is gone, or the form is not about an entry that is there.
    pub(super) fn rebase(&mut self, document: &Document) -> Result<(), String> {
        let subject = match &self.subject {
            Subject::Check(check) => {
                let now = document.checks.iter().find(|other| other.id == check.id);
                let now = now.ok_or_else(|| format!("check {} was removed", check.name))?;
                Subject::Check(Box::new(now.clone()))
            }
            Subject::Alert(alert) => {
                let now = document.alerts.iter().find(|other| other.id == alert.id);
                let now = now.ok_or_else(|| format!("alert {} was removed", alert.name))?;
                Subject::Alert(Box::new(now.clone()))
            }
            Subject::Peer(peer) => {
                let now = document.peer(peer.node_id);
                Subject::Peer(
                    now.ok_or_else(|| format!("node {} was removed", peer.node_id))?
                        .clone(),
                )
            }
            _ => return Err("there is nothing to start from again".to_owned()),
        };
        let mut form = Form::new(subject);
        form.keep(&self.fields);
        form.focus = self.focus.min(form.fields.len() - 1);
        *self = form;
        Ok(())
    }

    /// The order that comes of it; `now` is the wall clock in UNIX milliseconds.
    ///
    /// # Errors
    /// What cannot be read or is missing.
    pub(super) fn order(&self, now: Millis) -> Result<Order, String> {
        match &self.subject {
            Subject::NewCheck => {
                let mut check = blank_check(self.check_kind());
                lines::lay_over(CHECK, &self.fields, &mut check)?;
                let changed = |label: &str| {
                    self.fields
                        .iter()
                        .any(|field| field.label == label && field.is_changed())
                };
                // A short interval alone should not want a second line, as with the command.
                if changed("interval") && !changed("timeout") {
                    check.timeout = check.timeout.min(check.interval);
                }
                Ok(Order::Add(check_entry(&check)))
            }
            Subject::NewAlert => {
                let mut alert = Alert::new("", self.alert_kind());
                lines::lay_over(ALERT, &self.fields, &mut alert)?;
                crate::channel::channel(&alert)?;
                Ok(Order::Add(alert_entry(&alert)))
            }
            Subject::NewPeer => {
                let address = self.value("address").trim().to_owned();
                crate::document::review::address(&address)?;
                let discard = self.value("discard") == "yes";
                Ok(Order::Meet { address, discard })
            }
            Subject::Check(before) => {
                let mut after = (**before).clone();
                lines::lay_over(CHECK, &self.fields, &mut after)?;
                let done = format!("check {} changed", after.name);
                change(check_entry(before), check_entry(&after), "check edit", done)
            }
            Subject::Alert(before) => {
                let mut after = (**before).clone();
                lines::lay_over(ALERT, &self.fields, &mut after)?;
                let done = format!("alert {} changed", after.name);
                change(alert_entry(before), alert_entry(&after), "alert edit", done)
            }
            Subject::Peer(before) => {
                let mut after = before.clone();
                lines::lay_over(PEER, &self.fields, &mut after)?;
                let done = format!("node {} changed", after.node_id);
                let (before, after) = (Entry::Peer(before.clone()), Entry::Peer(after));
                change(before, after, "node edit", done)
            }
            Subject::TestCheck { id, name, alerts } => {
                let state = self.value("state");
                let verb = STATES.iter().find(|(name, _)| *name == state);
                Ok(Order::TestCheck {
                    id: id.clone(),
                    name: name.clone(),
                    verb: verb.map_or(Verb::Down, |(_, verb)| *verb),
                    alerts: alerts.clone(),
                })
            }
            Subject::Acknowledge { id, name } => {
                let lasts = self.value("for");
                let until = match lasts.trim() {
                    "" => None,
                    text => {
                        let span: Span = text.parse().map_err(|error| format!("for: {error}"))?;
                        Some(now + span.millis())
                    }
                };
                Ok(Order::Acknowledge {
                    id: id.clone(),
                    name: name.clone(),
                    note: self.value("note").trim().to_owned(),
                    until,
                })
            }
        }
    }
}

fn new_check(kind: CheckKind) -> Vec<Field> {
    let hint = "blank and arrows change it";
    let mut fields = vec![Field::new(TYPE, hint, CHECK_TYPES, kind.name())];
    fields.extend(lines::fields(CHECK, &blank_check(kind)));
    fields
}

fn new_alert(kind: AlertKind) -> Vec<Field> {
    let hint = "blank and arrows change it";
    let mut fields = vec![Field::new(TYPE, hint, ALERT_TYPES, kind.name())];
    fields.extend(lines::fields(ALERT, &Alert::new("", kind)));
    fields
}

fn change(before: Entry, after: Entry, what: &'static str, done: String) -> Result<Order, String> {
    if before == after {
        return Err("nothing is changed yet; Esc closes the form".to_owned());
    }
    Ok(Order::Change {
        changes: vec![Change::edit(before, after)],
        what,
        done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn press(form: &mut Form, code: KeyCode) -> Step {
        form.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn write(form: &mut Form, label: &str, text: &str) {
        form.focus = form.fields.iter().position(|field| field.label == label).unwrap();
        form.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
        form.paste(text);
    }

    fn check() -> Check {
        Check {
            id: "1".to_owned(),
            min_reports: 2,
            ..Check::new("web", CheckKind::Http, "http://a")
        }
    }

    #[test]
    fn a_new_check_keeps_what_was_typed_when_its_type_changes() {
        let mut form = Form::new(Subject::NewCheck);
        write(&mut form, "name", "db");
        write(&mut form, "interval", "5s");
        form.focus = 0;
        press(&mut form, KeyCode::Char('t'));
        assert!(!form.fields.iter().any(|field| field.label == "body contains"));
        write(&mut form, "target", "h:5432");
        let Order::Add(Entry::Check(check)) = form.order(0).unwrap() else {
            panic!("an addition");
        };
        assert_eq!(
            (check.name.as_str(), check.kind, check.target.as_str()),
            ("db", CheckKind::Tcp, "h:5432")
        );
        assert_eq!(
            (check.interval, check.timeout),
            (Span::from_secs(5), Span::from_secs(5))
        );
    }

    #[test]
    fn an_edit_changes_what_was_typed_and_nothing_else() {
        let mut form = Form::new(Subject::Check(Box::new(check())));
        assert!(form.order(0).unwrap_err().starts_with("nothing is changed"));
        write(&mut form, "target", "http://b");
        let Order::Change { changes, done, .. } = form.order(0).unwrap() else {
            panic!("a change");
        };
        let wanted = Check {
            target: "http://b".to_owned(),
            ..check()
        };
        assert_eq!(
            changes,
            [Change::edit(check_entry(&check()), check_entry(&wanted))]
        );
        assert_eq!(done, "check web changed");
    }

    #[test]
    fn a_conflict_is_laid_over_the_entry_as_it_is_now() {
        let mut form = Form::new(Subject::Check(Box::new(check())));
        write(&mut form, "target", "http://mine");
        let theirs = Check {
            interval: Span::from_secs(7),
            ..check()
        };
        let document = Document {
            checks: vec![theirs.clone()],
            ..Document::default()
        };
        form.conflict = true;
        form.rebase(&document).unwrap();
        let Order::Change { changes, .. } = form.order(0).unwrap() else {
            panic!("a change");
        };
        let wanted = Check {
            target: "http://mine".to_owned(),
            ..theirs.clone()
        };
        assert_eq!(
            changes,
            [Change::edit(check_entry(&theirs), check_entry(&wanted))]
        );
        let error = form.rebase(&Document::default()).unwrap_err();
        assert_eq!(error, "check web was removed");
        assert_eq!(form.value("target"), "http://mine");
    }

    #[test]
    fn secrets_of_an_alert_stay_and_are_asked_for() {
        let mut alert = Alert::new("hook", AlertKind::Webhook);
        alert.webhook_url = Secret::new("http://secret");
        let mut form = Form::new(Subject::Alert(Box::new(alert.clone())));
        write(&mut form, "name", "other");
        let Order::Change { changes, .. } = form.order(0).unwrap() else {
            panic!("a change");
        };
        let Some(Entry::Alert(after)) = &changes[0].wanted else {
            panic!("an alert");
        };
        assert_eq!(after.webhook_url, alert.webhook_url);
        let mut form = Form::new(Subject::NewAlert);
        write(&mut form, "name", "mail");
        assert_eq!(form.order(0).unwrap_err(), "smtp_host is missing");
    }

    #[test]
    fn a_form_that_was_sent_is_not_sent_again() {
        let mut form = Form::new(Subject::NewPeer);
        assert_eq!(press(&mut form, KeyCode::Enter), Step::Submit);
        form.waiting = true;
        assert_eq!(press(&mut form, KeyCode::Enter), Step::Stay);
        press(&mut form, KeyCode::Char('x'));
        assert_eq!(form.value("address"), "");
        assert_eq!(press(&mut form, KeyCode::Esc), Step::Close);
    }

    #[test]
    fn an_acknowledgement_ends_when_it_says() {
        let mut form = Form::new(Subject::Acknowledge {
            id: "1".to_owned(),
            name: "web".to_owned(),
        });
        write(&mut form, "for", "2s");
        let order = form.order(1000).unwrap();
        assert!(matches!(
            order,
            Order::Acknowledge {
                until: Some(3000),
                ..
            }
        ));
    }
}
