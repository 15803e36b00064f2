//! `qu incidents`: outages under way, and how far people know of them; with `--ended` those that are over.
//!
//! An outage is told when every destination that is due has its message. What waits for the outage to last stands behind that, so that nobody
//! takes an escalation for sent that is still to come.

mod ended;

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
use crate::machine::state::{Acknowledged, Delivery, Incident, Phase, State, Status, Verb};

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
    for (name, reason) in given_up(state, check, incident) {
        let text = format!("{name} not told: {reason}");
        if reason == NOT_TAKEN {
            late.push(text);
        } else {
            later.push(text);
        }
    }
    let reached = incident.told_to.len() > waits;
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

/// Who was not told of this outage and will not be, with the reason.
fn given_up<'a>(
    state: &'a State,
    check: &'a Check,
    incident: &'a Incident,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let transitions = state.checks.get(&check.id).map_or(0, |known| known.transitions);
    let ours = format!("{}/{transitions}", check.id);
    state.finished.iter().filter_map(move |finished| {
        let rest = finished.id.strip_prefix(&ours)?;
        let is_ours = rest.starts_with(['/', '.']) && matches!(finished.verb, Verb::Down | Verb::Stable);
        let alert = state.document.alert(finished.id.rsplit('/').next()?)?;
        let reason = finished.dropped.as_deref()?;
        (is_ours && !incident.told_to.contains(&alert.id)).then_some((alert.name.as_str(), reason))
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
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::document::schema::Window;
    use crate::document::{Alert, AlertKind, CheckKind, Document};
    use crate::identity::NodeId;
    use crate::machine::announce::transition;
    use crate::machine::command::{Acknowledge, Claim, Command, Ending, Settle, Snapshot};

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
}
