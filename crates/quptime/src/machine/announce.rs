//! Which messages a change of state gives, and which are due without one: reminders, what was held back, the begin and end of flapping.
//!
//! Rules (the master decides; what it decided stands in the command):
//! - `unknown` to `up` is silent; to `down` is DOWN; `down` to `up` is RECOVERED if the outage was announced.
//! - During announced work nobody is told. An outage that is still there at its end is told then.
//! - An outage of a check that depends on others is held until each of them has been found well in a round after it began. While one of
//!   them is down it stays held.
//! - More than [`FLAP_TRANSITIONS`] changes within [`FLAP_WINDOW_MS`]: one FLAPPING, then silence until nothing has changed for as long,
//!   then one STABLE. The setting `flap_damping: false` turns that off.
//! - Whoever acknowledges an outage stops reminders and escalation until recovery, or until the time they named.

use super::Millis;
use super::command::{Announce, Hold, NewDelivery, Snapshot, Transition};
use super::rounds::Rounds;
use super::state::{CheckState, Delivery, Incident, Phase, State, Status, Verb};
use crate::document::Check;
use crate::document::schema::Window;

/// Changes within [`FLAP_WINDOW_MS`] above which a check flaps.
pub const FLAP_TRANSITIONS: usize = 12;
/// See [`FLAP_TRANSITIONS`].
pub const FLAP_WINDOW_MS: Millis = 10 * 60 * 1000;

/// Whether announced work covers this check at this moment.
pub fn window_of<'a>(state: &'a State, check: &Check, now: Millis) -> Option<&'a Window> {
    state
        .document
        .maintenance
        .iter()
        .find(|window| covers(window, check, now))
}

fn covers(window: &Window, check: &Check, now: Millis) -> bool {
    let everything = window.checks.is_empty() && window.group.is_none();
    let named = window.checks.iter().any(|text| check.is_called(text));
    let grouped = window.group.is_some() && window.group == check.group;
    (everything || named || grouped) && is_open(window, now)
}

/// Whether the time is between begin and end. A window that cannot be read covers nothing; such a text is refused where it is entered.
pub fn is_open(window: &Window, now: Millis) -> bool {
    let moment = |text: &str| {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(stamp.as_millisecond()).ok()
    };
    match (moment(&window.start), moment(&window.end)) {
        (Some(start), Some(end)) => (start..end).contains(&now),
        _ => false,
    }
}

/// The command for a change of state: what is told, or why nothing is.
pub fn transition(
    state: &State,
    check: &Check,
    to: Status,
    snapshot: Snapshot,
    now: Millis,
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
            let announced = before
                .incident
                .as_ref()
                .is_some_and(|incident| incident.announced);
            if announced && before.flapping.is_none() && !begins_to_flap(state, &before, now) {
                result.deliveries = recovered(state, check, before.incident.as_ref(), now);
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
    if window_of(state, check, now).is_some() {
        Some(Hold::Maintenance)
    } else if before.flapping.is_some() || begins_to_flap(state, before, now) {
        Some(Hold::Flapping)
    } else {
        let parent = check
            .depends_on
            .iter()
            .find_map(|text| state.document.check(text));
        parent.map(|parent| Hold::Dependency(parent.id.clone()))
    }
}

/// Whether one more transition now is one too many.
fn begins_to_flap(state: &State, before: &CheckState, now: Millis) -> bool {
    damps(state) && count_recent(before, now) + 1 > FLAP_TRANSITIONS
}

fn damps(state: &State) -> bool {
    state.document.settings.flap_damping != Some(false)
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

/// Everybody who was told of the outage, or will be, is told of its end; an escalation that is not due yet never comes.
fn recovered(state: &State, check: &Check, incident: Option<&Incident>, now: Millis) -> Vec<NewDelivery> {
    let escalates_later = |alert: &str| {
        let mut waiting = state.deliveries.values();
        waiting.any(|delivery| {
            delivery.alert == alert
                && delivery.check == check.id
                && delivery.incident.as_ref() == incident.map(|incident| &incident.id)
                && is_escalation(delivery)
                && matches!(delivery.phase, Phase::Queued { due } if due > now)
        })
    };
    all_alerts(state, check, Verb::Recovered, now)
        .into_iter()
        .filter(|new| !escalates_later(&new.alert))
        .collect()
}

/// Whether a delivery waits for an outage to last.
pub(super) fn is_escalation(delivery: &Delivery) -> bool {
    delivery.attempts == 0
        && delivery.verb == Verb::Down
        && matches!(delivery.phase, Phase::Queued { due } if due > delivery.at)
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
pub fn due(state: &State, rounds: &Rounds, now: Millis) -> Vec<Announce> {
    let document = &state.document;
    let checks = document.checks.iter().filter(|check| !check.disabled);
    checks
        .filter_map(|check| {
            let known = state.checks.get(&check.id)?;
            let verb = verb_due(state, rounds, check, known, now)?;
            let deliveries = match verb {
                Verb::Down => down(state, check, now),
                verb => all_alerts(state, check, verb, now),
            };
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

fn verb_due(state: &State, rounds: &Rounds, check: &Check, known: &CheckState, now: Millis) -> Option<Verb> {
    if known.flapping.is_some() {
        let quiet = now.saturating_sub(known.since) >= FLAP_WINDOW_MS;
        return quiet.then_some(Verb::Stable);
    }
    if damps(state) && count_recent(known, now) > FLAP_TRANSITIONS {
        return Some(Verb::Flapping);
    }
    let incident = known.incident.as_ref()?;
    match &incident.held {
        Some(Hold::Maintenance) => window_of(state, check, now).is_none().then_some(Verb::Down),
        // Announced as flapping, or not any more: STABLE tells what came of it.
        Some(Hold::Flapping) => None,
        Some(Hold::Dependency(_)) => {
            let parents = check
                .depends_on
                .iter()
                .filter_map(|text| state.document.check(text));
            let well = |parent: &Check| {
                let status = state.checks.get(&parent.id).map(|known| known.status);
                let looked = rounds.last(&parent.id);
                parent.disabled
                    || (status == Some(Status::Up)
                        && looked
                            .is_some_and(|last| last.verdict == Some(Status::Up) && last.at > incident.since))
            };
            let told = window_of(state, check, now).is_none() && parents.into_iter().all(well);
            told.then_some(Verb::Down)
        }
        None => {
            let every = check.remind_every?.millis();
            let silenced = is_acknowledged(incident, now) || window_of(state, check, now).is_some();
            let due = every > 0 && incident.announced && now.saturating_sub(incident.told) >= every;
            (due && !silenced).then_some(Verb::Reminder)
        }
    }
}

/// Whether somebody works on it.
pub fn is_acknowledged(incident: &Incident, now: Millis) -> bool {
    let acknowledged = incident.acknowledged.as_ref();
    acknowledged.is_some_and(|acknowledged| acknowledged.until.is_none_or(|until| now < until))
}

#[cfg(test)]
mod tests;
