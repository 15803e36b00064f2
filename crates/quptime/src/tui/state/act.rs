//! Keys that are about the row with the cursor: what each opens or orders, by table.

use ratatui::crossterm::event::KeyCode;

use super::super::form::{Form, Subject};
use super::super::order::Order;
use super::super::rows::Row;
use super::{Mode, State};
use crate::document::{Alert, Change, Check, Entry, change};
use crate::machine::state::Status;

/// What a key on a row leads to.
pub(super) enum Act {
    /// Something over the table.
    Open(Mode),
    /// This, at once.
    Give(Order),
}

impl State {
    /// On a node.
    pub(super) fn peer_key(&self, row: &Row, code: KeyCode) -> Result<Act, String> {
        let document = &self.known()?.document;
        let mut peers = document.peers.iter();
        let peer = peers.find(|peer| peer.node_id.to_string() == row.id);
        let peer = peer.ok_or_else(gone)?.clone();
        match code {
            KeyCode::Char('e') => Ok(form(Subject::Peer(peer))),
            KeyCode::Char('d') => {
                let need = (document.peers.len() - 1) / 2 + 1;
                let (node, address) = (peer.node_id, peer.advertise.clone());
                let order = Order::Change {
                    changes: vec![Change::remove(Entry::Peer(peer))],
                    what: "node remove",
                    done: format!("node {node} removed, quorum is now {need}"),
                };
                Ok(confirm(&format!("Remove node {node} at {address}?"), order))
            }
            KeyCode::Char(letter) => Err(format!("{letter} is not for nodes; ? shows all keys")),
            _ => Err(gone()),
        }
    }

    /// On a check.
    pub(super) fn check_key(&self, row: &Row, code: KeyCode) -> Result<Act, String> {
        let look = self.known()?;
        let check = look.document.checks.iter().find(|check| check.id == row.id);
        let check = check.ok_or_else(gone)?;
        let (id, name) = (check.id.clone(), check.name.clone());
        match code {
            KeyCode::Char('e') => Ok(form(Subject::Check(Box::new(check.clone())))),
            KeyCode::Char('d') => {
                if let Some(reason) = change::in_the_way_of(&look.document, check) {
                    return Err(format!("check {name} cannot be removed: {reason}"));
                }
                let order = Order::Change {
                    changes: vec![Change::remove(check_entry(check))],
                    what: "check remove",
                    done: format!("check {name} removed"),
                };
                Ok(confirm(&format!("Remove check {name}?"), order))
            }
            KeyCode::Char('x') => {
                let after = Check {
                    disabled: !check.disabled,
                    ..check.clone()
                };
                let (what, done) = paused("check", after.disabled);
                Ok(Act::Give(Order::Change {
                    changes: vec![Change::edit(check_entry(check), check_entry(&after))],
                    what,
                    done: format!("check {name} {done}"),
                }))
            }
            KeyCode::Char('t') => {
                let told = look.document.alerts_of(check);
                let alerts: Vec<_> = told
                    .map(|(alert, _)| (alert.id.clone(), alert.name.clone()))
                    .collect();
                if alerts.is_empty() {
                    return Err(format!("check {name} has no alerts that are enabled"));
                }
                Ok(form(Subject::TestCheck { id, name, alerts }))
            }
            KeyCode::Char('K') => {
                let mut lines = look.status.checks.iter();
                let line = lines.find(|line| line.id == id);
                if line.is_some_and(|line| line.status == Status::Down) {
                    Ok(form(Subject::Acknowledge { id, name }))
                } else {
                    Err(format!(
                        "check {name} is not down; there is nothing to acknowledge"
                    ))
                }
            }
            KeyCode::Char(letter) => Err(format!("{letter} is not for checks; ? shows all keys")),
            _ => Err(gone()),
        }
    }

    /// On an alert.
    pub(super) fn alert_key(&self, row: &Row, code: KeyCode) -> Result<Act, String> {
        let document = &self.known()?.document;
        let alert = document.alerts.iter().find(|alert| alert.id == row.id);
        let alert = alert.ok_or_else(gone)?;
        let name = alert.name.clone();
        let edit = |after: &Alert, what, done: &str| {
            Act::Give(Order::Change {
                changes: vec![Change::edit(alert_entry(alert), alert_entry(after))],
                what,
                done: format!("alert {name} {done}"),
            })
        };
        match code {
            KeyCode::Char('e') => Ok(form(Subject::Alert(Box::new(alert.clone())))),
            KeyCode::Char('d') => {
                let order = Order::Change {
                    changes: change::without_alert(document, alert),
                    what: "alert remove",
                    done: format!("alert {name} removed"),
                };
                let telling = change::telling(document, alert);
                let and = if telling.is_empty() {
                    String::new()
                } else {
                    format!(" Told by {}.", telling.join(", "))
                };
                Ok(confirm(&format!("Remove alert {name}?{and}"), order))
            }
            KeyCode::Char('x') => {
                let after = Alert {
                    disabled: !alert.disabled,
                    ..alert.clone()
                };
                let (what, done) = paused("alert", after.disabled);
                Ok(edit(&after, what, done))
            }
            KeyCode::Char('D') => {
                let after = Alert {
                    default: !alert.default,
                    ..alert.clone()
                };
                let done = if after.default {
                    "is a default now"
                } else {
                    "is no default any more"
                };
                Ok(edit(&after, "alert default", done))
            }
            KeyCode::Char('t') => Ok(Act::Give(Order::TestAlert {
                id: alert.id.clone(),
                name,
            })),
            KeyCode::Char(letter) => Err(format!("{letter} is not for alerts; ? shows all keys")),
            _ => Err(gone()),
        }
    }
}

fn form(subject: Subject) -> Act {
    Act::Open(Mode::Form(Form::new(subject)))
}

fn confirm(question: &str, order: Order) -> Act {
    let lines = vec![question.to_owned()];
    Act::Open(Mode::Confirm { lines, order })
}

/// The row is not what it was.
pub(super) fn gone() -> String {
    "it is not there any more; r looks again".to_owned()
}

fn paused(what: &str, disabled: bool) -> (&'static str, &'static str) {
    match (what, disabled) {
        ("check", true) => ("check disable", "disabled"),
        ("check", false) => ("check enable", "enabled"),
        (_, true) => ("alert disable", "disabled"),
        (_, false) => ("alert enable", "enabled"),
    }
}

fn check_entry(check: &Check) -> Entry {
    Entry::Check(Box::new(check.clone()))
}

fn alert_entry(alert: &Alert) -> Entry {
    Entry::Alert(Box::new(alert.clone()))
}
