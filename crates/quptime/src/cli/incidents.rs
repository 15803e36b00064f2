//! `qu incidents`: outages under way, and how far people know of them; with `--ended` those that are over.
//!
//! An outage is told when every destination that is due has its message. What waits for the outage to last stands behind that, so that nobody
//! takes an escalation for sent that is still to come.

mod ended;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::Args;
use serde_json::json;
use service::SystemClock;
use terminal::Table;

use super::ack::time;
use super::client;
use crate::document::Check;
use crate::duration::Span;
use crate::machine::Millis;
use crate::machine::announce::{held_by, is_acknowledged};
use crate::machine::command::Hold;
use crate::machine::dispatch::NOT_TAKEN;
use crate::machine::state::{Acknowledged, Delivery, Finished, Incident, Phase, State, Status, Verb};

#[derive(Debug, Args)]
pub(super) struct Incidents {
    /// Outages that are over instead: the last 200, the newest last.
    #[arg(long)]
    ended: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Incidents {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let state = client::state()?;
        if self.ended {
            if self.json {
                return super::json::print(&ended::json(&state));
            }
            terminal::out(&ended::table(&state).render(None));
            return Ok(());
        }
        let now = SystemClock::shared().unix_ms();
        let open = state.document.checks.iter().filter_map(|check| {
            let known = state.checks.get(&check.id)?;
            Some((check, known.incident.as_ref()?))
        });
        if self.json {
            let rows: Vec<_> = open
                .map(|(check, incident)| {
                    let waiting = waiting(&state, check, incident).map(|delivery| {
                        let due = match delivery.phase {
                            Phase::Queued { due } => Some(due),
                            Phase::Claimed { .. } => None,
                        };
                        json!({
                            "alert": alert(&state, delivery),
                            "due": due,
                            "attempts": delivery.attempts,
                            "error": delivery.error,
                        })
                    });
                    let mut shown = incident.clone();
                    shown.acknowledged = holds(incident, now).cloned();
                    json!({
                        "check": check.name,
                        "incident": shown,
                        "told": told(&state, check, incident, now),
                        "waiting": waiting.collect::<Vec<_>>(),
                    })
                })
                .collect();
            return super::json::print(&rows);
        }
        let mut table = Table::new(["INCIDENT", "CHECK", "SINCE", "TOLD", "ACKNOWLEDGED"]);
        for (check, incident) in open {
            table.row([
                incident.id.clone(),
                check.name.clone(),
                time(incident.since),
                told(&state, check, incident, now),
                acknowledged(&state, incident, now),
            ]);
        }
        terminal::out(&table.render(None));
        Ok(())
    }
}

/// The acknowledgement, unless it has ended.
fn holds(incident: &Incident, now: Millis) -> Option<&Acknowledged> {
    let holds = is_acknowledged(incident, now);
    incident.acknowledged.as_ref().filter(|_| holds)
}

fn acknowledged(state: &State, incident: &Incident, now: Millis) -> String {
    holds(incident, now).map_or_else(|| "-".to_owned(), |known| worked_on(state, known))
}

/// `uid 1000 on alpha:9901`, if that is known.
fn who(state: &State, known: &Acknowledged) -> Option<String> {
    let node = known.by.map(|by| {
        let peer = state.document.peer(by);
        peer.map_or_else(|| by.to_string(), |peer| peer.advertise.clone())
    });
    match (known.uid, node) {
        (Some(uid), Some(node)) => Some(format!("uid {uid} on {node}")),
        (Some(uid), None) => Some(format!("uid {uid}")),
        (None, Some(node)) => Some(format!("somebody on {node}")),
        (None, None) => None,
    }
}

/// Since when somebody works on it, until when that counts, who it is, and what they said.
fn worked_on(state: &State, known: &Acknowledged) -> String {
    let mut text = time(known.at);
    if let Some(until) = known.until {
        // Writing to a text does not fail.
        let _ = write!(text, " until {}", time(until));
    }
    if let Some(who) = who(state, known) {
        let _ = write!(text, " by {who}");
    }
    if !known.note.is_empty() {
        let _ = write!(text, " {}", known.note);
    }
    text
}

/// Messages about the beginning of an outage that have not been taken yet.
fn waiting<'a>(
    state: &'a State,
    check: &'a Check,
    incident: &'a Incident,
) -> impl Iterator<Item = &'a Delivery> {
    state.deliveries.values().filter(|delivery| {
        delivery.check == check.id
            && delivery.incident.as_ref() == Some(&incident.id)
            && matches!(delivery.verb, Verb::Down | Verb::Stable)
    })
}

fn alert<'a>(state: &'a State, delivery: &'a Delivery) -> &'a str {
    let known = state.document.alert(&delivery.alert);
    known.map_or(&delivery.alert, |alert| &alert.name)
}

/// Whether anybody knows of an outage (`yes`), who is due and does not (`yes, but`), why, and what is still to come.
fn told(state: &State, check: &Check, incident: &Incident, now: Millis) -> String {
    if !incident.announced {
        return match held_by(state, check, now) {
            Some(hold) => format!("no: {}", why(state, &hold)),
            None if incident.held.is_some() => "no: is looked at once more".to_owned(),
            None => "no: no alerts".to_owned(),
        };
    }
    let (mut late, mut later) = (Vec::new(), Vec::new());
    let mut waits = 0;
    for delivery in waiting(state, check, incident) {
        waits += 1;
        let name = alert(state, delivery);
        match delivery.phase {
            Phase::Queued { due } if delivery.attempts == 0 && due > now => {
                // Whoever acknowledges an outage calls off what has yet to come.
                if !is_acknowledged(incident, now) {
                    let seconds = (due - now).div_ceil(1000);
                    later.push((due, format!("{name} in {}", Span::from_secs(seconds))));
                }
            }
            Phase::Claimed { .. } => late.push(format!("{name} is being told")),
            Phase::Queued { .. } if delivery.attempts == 1 => late.push(format!("{name} failed once")),
            Phase::Queued { .. } if delivery.attempts > 1 => {
                late.push(format!("{name} failed {} times", delivery.attempts));
            }
            Phase::Queued { due } => late.push(format!("{name} waits since {}", time(due))),
        }
    }
    later.sort();
    let mut later: Vec<String> = later.into_iter().map(|(_, text)| text).collect();
    let mut untold = waits;
    for given_up in given_up(state, check, incident) {
        let GivenUp {
            alert, name, reason, ..
        } = given_up;
        untold += usize::from(incident.told_to.contains(alert));
        if given_up.uncertain {
            late.push(format!("{name} perhaps told, given up: {reason}"));
        } else if reason == NOT_TAKEN {
            late.push(format!("{name} not told: {reason}"));
        } else {
            later.push(format!("{name} not told: {reason}"));
        }
    }
    let reached = incident.told_to.len() > untold;
    let start = match (reached, late.is_empty()) {
        (true, true) => "yes, ",
        (true, false) => "yes, but ",
        (false, _) => "no: ",
    };
    late.append(&mut later);
    match (reached, late.is_empty()) {
        (true, true) => "yes".to_owned(),
        (false, true) => "no: no alerts".to_owned(),
        (_, false) => format!("{start}{}", late.join(", ")),
    }
}

/// A message about the beginning of an outage that was given up.
struct GivenUp<'a> {
    /// By id.
    alert: &'a str,
    name: &'a str,
    reason: &'a str,
    /// Whether it may have been told all the same.
    uncertain: bool,
}

/// Who was not told of this outage, as far as is known, and will not be. Alerts that were removed meanwhile have the name that they had.
fn given_up<'a>(
    state: &'a State,
    check: &'a Check,
    incident: &'a Incident,
) -> impl Iterator<Item = GivenUp<'a>> {
    let transitions = state.checks.get(&check.id).map_or(0, |known| known.transitions);
    let prefix = format!("{}/{transitions}", check.id);
    let alert_of = move |finished: &'a Finished| {
        let rest = finished.id.strip_prefix(&prefix)?;
        let alert = finished.id.rsplit('/').next()?;
        rest.starts_with(['/', '.']).then_some(alert)
    };
    let told: BTreeSet<&str> = state
        .finished
        .iter()
        .filter(|finished| finished.dropped.is_none() && finished.verb.tells_outage())
        .filter_map(&alert_of)
        .chain(waiting(state, check, incident).map(|delivery| delivery.alert.as_str()))
        .collect();
    let begins = |finished: &&Finished| matches!(finished.verb, Verb::Down | Verb::Stable);
    state.finished.iter().filter(begins).filter_map(move |finished| {
        let alert = alert_of(finished).filter(|alert| !told.contains(alert))?;
        let known = state.document.alert(alert).map(|alert| alert.name.as_str());
        let known = known.or((!finished.alert_name.is_empty()).then_some(finished.alert_name.as_str()));
        Some(GivenUp {
            alert,
            name: known.unwrap_or(alert),
            reason: finished.dropped.as_deref()?,
            uncertain: finished.uncertain,
        })
    })
}

fn why(state: &State, hold: &Hold) -> String {
    match hold {
        Hold::Maintenance => "maintenance".to_owned(),
        Hold::Flapping => "flapping".to_owned(),
        Hold::Disabled => "the check is disabled".to_owned(),
        Hold::Dependency(parent) => {
            let name = state
                .document
                .check(parent)
                .map_or(parent.as_str(), |check| &check.name);
            let known = state.checks.get(parent);
            let is_down = known.is_some_and(|known| known.status == Status::Down);
            format!(
                "depends on {name}{}",
                if is_down { ", which is down" } else { "" }
            )
        }
    }
}

#[cfg(test)]
mod tests;
