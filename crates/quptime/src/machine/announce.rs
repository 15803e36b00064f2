//! Which messages a change of state gives, and which are due without one: reminders, what was held back, the begin and end of flapping.
//!
//! Rules (the master decides; what it decided stands in the command):
//! - `unknown` to `up` is silent; to `down` is DOWN; `down` to `up` is RECOVERED, for everybody who was told of the outage and nobody else.
//! - During announced work nobody is told anything new. An outage that is still there at its end is told then.
//! - An outage of a check that depends on others is held ([`held`]) while one of them is down or worked on, and until a round has shown
//!   that none of them is.
//! - Whatever is held is told only after a round of the check itself that began after the reason to hold was gone: what comes back with what
//!   it depends on is never told, although it comes back a round later.
//! - More than [`FLAP_TRANSITIONS`] changes within [`FLAP_WINDOW_MS`]: one FLAPPING, then silence until nothing has changed for as long,
//!   then one STABLE. The setting `flap_damping: false` turns that off, also for a check that flaps already: it is told STABLE at once, or DOWN
//!   if it is down. Either goes on with the incident that FLAPPING began, so that channels which keep things open close it, and also goes to
//!   whoever was told FLAPPING and is not told of this check any more.
//! - An outage that people were told of does not begin to flap before it has ended: its end is told under its own name.
//! - Whoever acknowledges an outage stops reminders and escalation until recovery, or until the time they named.

mod held;
mod reminders;

use std::collections::BTreeSet;

use super::Millis;
use super::command::{Announce, Hold, NewDelivery, Snapshot, Transition};
use super::mutation::broken;
use super::rounds::Rounds;
use super::state::{CheckState, Delivery, Incident, Phase, State, Status, Verb};
use crate::document::Check;
use crate::document::schema::Window;
pub use held::{held_by, to_ask};
pub use reminders::Reminders;

/// Changes within [`FLAP_WINDOW_MS`] above which a check flaps.
pub const FLAP_TRANSITIONS: usize = 12;
/// See [`FLAP_TRANSITIONS`].
pub const FLAP_WINDOW_MS: Millis = 10 * 60 * 1000;

/// Whether announced work covers this check at this moment: the first window that does. One that cannot be read covers nothing.
pub fn window_of<'a>(state: &'a State, check: &Check, now: Millis) -> Option<&'a Window> {
    let position = state.index().window(check, now)?;
    state.document.maintenance.get(position)
}

/// The command for a change of state: what is told, or why nothing is. `under_way` are the deliveries that this master is about to send.
pub fn transition(
    state: &State,
    check: &Check,
    to: Status,
    snapshot: Snapshot,
    now: Millis,
    under_way: &BTreeSet<String>,
    incident: impl FnOnce() -> String,
) -> Transition {
    let before = state.checks.get(&check.id).cloned().unwrap_or_default();
    let mut result = Transition {
        check: check.id.clone(),
        after: before.transitions,
        to,
        at: now,
        incident: None,
        snapshot,
        held: None,
        deliveries: Vec::new(),
    };
    match to {
        Status::Unknown => {}
        Status::Up => {
            if let Some(incident) = before.incident.as_ref().filter(|incident| incident.announced) {
                result.deliveries = recovered(state, check, incident, now, under_way);
            }
        }
        Status::Down => {
            result.incident = Some(incident());
            result.held = hold(state, check, &before, now);
            if result.held.is_none() {
                result.deliveries = down(state, check, now);
            }
        }
    }
    result
}

fn hold(state: &State, check: &Check, before: &CheckState, now: Millis) -> Option<Hold> {
    if window_of(state, check, now).is_some() && !broken!(WorkIgnored) {
        Some(Hold::Maintenance)
    } else if before.flapping.is_some() || begins_to_flap(state, before, now) {
        Some(Hold::Flapping)
    } else {
        let parents = held::parents(state, check);
        parents.first().map(|parent| Hold::Dependency(parent.id.clone()))
    }
}

/// Whether one more transition now is one too many.
fn begins_to_flap(state: &State, before: &CheckState, now: Millis) -> bool {
    damps(state) && count_recent(before, now) + 1 > FLAP_TRANSITIONS
}

fn damps(state: &State) -> bool {
    state.document.settings.flap_damping != Some(false) || broken!(AlwaysDamps)
}

fn count_recent(state: &CheckState, now: Millis) -> usize {
    let lately = |at: &&Millis| now.saturating_sub(**at) < FLAP_WINDOW_MS;
    state.recent.iter().filter(lately).count()
}

fn down(state: &State, check: &Check, now: Millis) -> Vec<NewDelivery> {
    let alerts = state.document.alerts_of(check);
    alerts
        .map(|(alert, _)| NewDelivery {
            alert: alert.id.clone(),
            verb: Verb::Down,
            due: now + alert.after.map_or(0, crate::duration::Span::millis),
        })
        .collect()
}

/// Everybody who was told of the outage, or will be, is told of its end; an escalation that is not under way yet never comes.
fn recovered(
    state: &State,
    check: &Check,
    incident: &Incident,
    now: Millis,
    under_way: &BTreeSet<String>,
) -> Vec<NewDelivery> {
    let never_told = |alert: &str| {
        let mut waiting = state.deliveries.values();
        waiting.any(|delivery| {
            delivery.alert == alert
                && delivery.check == check.id
                && delivery.incident.as_ref() == Some(&incident.id)
                && is_escalation(delivery)
                && !under_way.contains(&delivery.id)
        })
    };
    let alerts = state.document.alerts.iter();
    alerts
        .filter(|alert| !alert.disabled && incident.told_to.contains(&alert.id) && !never_told(&alert.id))
        .map(|alert| NewDelivery {
            alert: alert.id.clone(),
            verb: Verb::Recovered,
            due: now,
        })
        .collect()
}

/// Whether a delivery waits, or waited, for an outage to last, and was never attempted.
pub(super) fn is_escalation(delivery: &Delivery) -> bool {
    delivery.attempts == 0
        && delivery.verb == Verb::Down
        && matches!(delivery.phase, Phase::Queued { due } if due > delivery.at)
}

/// Whoever was told that the check flaps is told at once what became of it: also where others are told only of an outage that lasts, and also
/// who is not told of this check any more. Its end shall close it for them too.
fn undamped(
    state: &State,
    mut deliveries: Vec<NewDelivery>,
    known: &CheckState,
    verb: Verb,
    now: Millis,
) -> Vec<NewDelivery> {
    let knows = |alert: &str| known.flapping_told_to.contains(alert);
    for new in deliveries.iter_mut().filter(|new| knows(&new.alert)) {
        new.due = now;
    }
    let alerts = state.document.alerts.iter();
    let detached: Vec<NewDelivery> = alerts
        .filter(|alert| !alert.disabled && knows(&alert.id) && !broken!(DetachedUnclosed))
        .filter(|alert| !deliveries.iter().any(|new| new.alert == alert.id))
        .map(|alert| NewDelivery {
            alert: alert.id.clone(),
            verb,
            due: now,
        })
        .collect();
    deliveries.extend(detached);
    deliveries
}

fn all_alerts(state: &State, check: &Check, verb: Verb, now: Millis) -> Vec<NewDelivery> {
    let alerts = state.document.alerts_of(check);
    alerts
        .map(|(alert, _)| NewDelivery {
            alert: alert.id.clone(),
            verb,
            due: now,
        })
        .collect()
}

/// What is to be told at this moment although no state changes.
/// `now` is of the wall clock, `steady` of the monotonic one.
pub fn due(
    state: &State,
    rounds: &Rounds,
    reminders: &Reminders,
    steady: Millis,
    now: Millis,
) -> Vec<Announce> {
    let document = &state.document;
    let checks = document.checks.iter().filter(|check| !check.disabled);
    checks
        .filter_map(|check| {
            let known = state.checks.get(&check.id)?;
            let verb = verb_due(state, rounds, (reminders, steady), check, known, now)?;
            let mut deliveries = match verb {
                Verb::Down => down(state, check, now),
                // Without damping there is no STABLE: an outage is told as always.
                Verb::Stable if known.status == Status::Down && !damps(state) => {
                    undamped(state, down(state, check, now), known, Verb::Down, now)
                }
                Verb::Stable => {
                    let deliveries = all_alerts(state, check, verb, now);
                    undamped(state, deliveries, known, verb, now)
                }
                verb => all_alerts(state, check, verb, now),
            };
            if verb == Verb::Reminder {
                // Who has not got the last message yet needs no reminder, and who is told only later is told then.
                let waits = |alert: &str| {
                    let mut all = state.deliveries.values();
                    all.any(|delivery| delivery.check == check.id && delivery.alert == alert)
                };
                deliveries.retain(|new| !waits(&new.alert));
            }
            Some(Announce {
                check: check.id.clone(),
                after: known.transitions,
                notices: known.notices,
                verb,
                at: now,
                snapshot: rounds
                    .last(&check.id)
                    .map_or_else(|| known.snapshot.clone(), |last| last.snapshot.clone()),
                deliveries,
            })
        })
        .collect()
}

fn verb_due(
    state: &State,
    rounds: &Rounds,
    (reminders, steady): (&Reminders, Millis),
    check: &Check,
    known: &CheckState,
    now: Millis,
) -> Option<Verb> {
    if window_of(state, check, now).is_some() {
        return None;
    }
    if known.flapping.is_some() {
        let quiet = now.saturating_sub(known.since) >= FLAP_WINDOW_MS;
        let over = (quiet || !damps(state))
            && (known.status != Status::Down || held::is_over(state, rounds, check, now));
        return over.then_some(Verb::Stable);
    }
    let known_of = known.incident.as_ref().is_some_and(|incident| incident.announced);
    if damps(state) && !known_of && count_recent(known, now) > FLAP_TRANSITIONS {
        return Some(Verb::Flapping);
    }
    let incident = known.incident.as_ref()?;
    if incident.held.is_some() {
        return held::is_over(state, rounds, check, now).then_some(Verb::Down);
    }
    let every = check.remind_every?.millis();
    let due = every > 0 && incident.announced && reminders.is_over(&check.id, incident, every, steady, now);
    (due && !is_acknowledged(incident, now)).then_some(Verb::Reminder)
}

/// Whether somebody works on it.
pub fn is_acknowledged(incident: &Incident, now: Millis) -> bool {
    let acknowledged = incident.acknowledged.as_ref();
    acknowledged.is_some_and(|acknowledged| acknowledged.until.is_none_or(|until| now < until))
}

#[cfg(test)]
mod tests;
