//! Which delivery is attempted when.
//!
//! The master claims a delivery through the log before it sends it, and settles it through the log afterwards. So nobody sends without a
//! majority, and a message is repeated only if its master died between the channel's acceptance and the commit of its settling; the next
//! master finds the old claim and knows that it knows nothing.
//!
//! Of the deliveries of one check to one alert only the oldest is under way, so an end is never told before its beginning.

use std::collections::{BTreeMap, BTreeSet};

use super::Millis;
use super::announce::{is_acknowledged, is_escalation};
use super::state::{Delivery, Phase, State, Verb};
use crate::document::schema::OnUncertain;

/// Deliveries under way at once to one alert: a slow channel holds up its own messages only.
pub const PER_ALERT_MAX: usize = 4;
/// Deliveries under way at once.
pub const IN_FLIGHT_MAX: usize = 64;
/// After so long a delivery is given up.
pub const DEAD_AFTER_MS: Millis = 24 * 3600 * 1000;
/// A beginning that waits for so long is told together with its end.
pub const JOIN_AFTER_MS: Millis = 15 * 60 * 1000;
/// First waiting time after a failure; three times as long each time.
const RETRY_FIRST_MS: Millis = 5000;
/// Longest waiting time after a failure that may pass.
const RETRY_MAX_MS: Millis = 600_000;
/// Waiting time after a failure that will hardly pass by itself.
const RETRY_PERMANENT_MS: Millis = 3_600_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Claim it, then send it.
    Claim(String),
    /// Give it up.
    Drop {
        /// The delivery.
        delivery: String,
        /// Why.
        reason: &'static str,
    },
}

/// What is to be done now by the master of `term`. `in_flight` are the deliveries whose claim or attempt is under way here.
pub fn plan(state: &State, now: Millis, term: u64, in_flight: &BTreeSet<String>) -> Vec<Plan> {
    let mut ordered: Vec<&Delivery> = state.deliveries.values().collect();
    ordered.sort_by_key(|delivery| delivery.sequence);
    let mut per_alert: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in ordered.iter().filter(|delivery| in_flight.contains(&delivery.id)) {
        *per_alert.entry(&delivery.alert).or_default() += 1;
    }
    let mut under_way = in_flight.len();
    let mut begun: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut plans = Vec::new();
    for (position, delivery) in ordered.iter().enumerate() {
        if in_flight.contains(&delivery.id) {
            begun.insert((&delivery.check, &delivery.alert));
            continue;
        }
        if let Some(reason) = reason_to_drop(state, delivery, &ordered[position + 1..], now) {
            plans.push(Plan::Drop {
                delivery: delivery.id.clone(),
                reason,
            });
            continue;
        }
        let first = begun.insert((&delivery.check, &delivery.alert));
        let ready = match delivery.phase {
            Phase::Queued { due } => due <= now,
            Phase::Claimed { term: claimed, .. } => claimed < term,
        };
        let of_alert = per_alert.entry(&delivery.alert).or_default();
        if first && ready && *of_alert < PER_ALERT_MAX && under_way < IN_FLIGHT_MAX {
            *of_alert += 1;
            under_way += 1;
            plans.push(Plan::Claim(delivery.id.clone()));
        }
    }
    plans
}

fn reason_to_drop(
    state: &State,
    delivery: &Delivery,
    later: &[&Delivery],
    now: Millis,
) -> Option<&'static str> {
    let alert = state
        .document
        .alerts
        .iter()
        .find(|alert| alert.id == delivery.alert)?;
    if now.saturating_sub(delivery.at) >= DEAD_AFTER_MS {
        return Some("not taken within 24 hours");
    }
    let queued = matches!(delivery.phase, Phase::Queued { .. });
    if alert.disabled && queued {
        return Some("the alert is disabled");
    }
    if !queued && alert.on_uncertain == Some(OnUncertain::Drop) {
        return Some("it may have been sent, and on_uncertain is drop");
    }
    let incident = state
        .checks
        .get(&delivery.check)
        .and_then(|check| check.incident.as_ref());
    let current = incident.filter(|incident| Some(&incident.id) == delivery.incident.as_ref());
    if is_escalation(delivery) {
        match current {
            None => return Some("over before it was due"),
            Some(incident) if is_acknowledged(incident, now) => {
                return Some("acknowledged before it was due");
            }
            Some(_) => {}
        }
    }
    let ends = |other: &&&Delivery| {
        other.verb == Verb::Recovered && other.incident == delivery.incident && other.alert == delivery.alert
    };
    let late = queued && delivery.verb == Verb::Down && now.saturating_sub(delivery.at) >= JOIN_AFTER_MS;
    if late && later.iter().any(|other| ends(&other)) {
        return Some("told together with its end");
    }
    None
}

/// When a failed attempt is repeated. `attempts` have been made; `asked` is what the channel wants to wait.
pub fn retry_at(now: Millis, attempts: u32, asked: Option<Millis>, permanent: bool) -> Millis {
    let wait = if permanent {
        RETRY_PERMANENT_MS
    } else {
        let tripled = RETRY_FIRST_MS.saturating_mul(3u64.saturating_pow(attempts.saturating_sub(1)));
        tripled.min(RETRY_MAX_MS)
    };
    now + wait.max(asked.unwrap_or(0).min(DEAD_AFTER_MS))
}

#[cfg(test)]
mod tests;
