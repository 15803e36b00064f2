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
use super::mutation::broken;
use super::state::{Delivery, Phase, State, Verb};
use crate::document::schema::OnUncertain;

/// Deliveries under way at once to one alert: a slow channel holds up its own messages only.
pub const PER_ALERT_MAX: usize = 4;
/// Deliveries under way at once.
pub const IN_FLIGHT_MAX: usize = 64;
/// After so long a delivery is given up.
pub const DEAD_AFTER_MS: Millis = 24 * 3600 * 1000;
/// The reason that is given then.
pub const NOT_TAKEN: &str = "not taken within 24 hours";
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

/// What a master has begun and not ended.
#[derive(Debug, Clone, Copy)]
pub struct UnderWay<'a> {
    /// Deliveries that it claims, attempts or settles.
    pub deliveries: &'a BTreeSet<String>,
    /// Checks about which it proposes something: the outage may be over before an escalation of it is claimed.
    pub checks: &'a BTreeSet<String>,
}

/// How long this master has seen deliveries wait. A delivery is due when the clock says so, or when it has waited for as long as it should:
/// a clock that is behind that of the master before does not make it wait for the difference.
#[derive(Debug, Default)]
pub struct Waits(BTreeMap<String, (Millis, Millis)>);

impl Waits {
    /// Takes note of what waits. `now` is of the monotonic clock.
    pub fn look(&mut self, now: Millis, state: &State) {
        self.0.retain(|id, _| state.deliveries.contains_key(id));
        for delivery in state.deliveries.values() {
            if let Phase::Queued { due } = delivery.phase {
                let known = self.0.entry(delivery.id.clone()).or_insert((due, now));
                if known.0 != due {
                    *known = (due, now);
                }
            }
        }
    }

    fn is_over(&self, now: Millis, wall: Millis, delivery: &Delivery, due: Millis) -> bool {
        let seen = self.0.get(&delivery.id).filter(|(known, _)| *known == due);
        let waited = seen.map_or(0, |(_, since)| now.saturating_sub(*since));
        due <= wall || !broken!(WaitsFollowClock) && waited >= due.saturating_sub(delivery.waits_since)
    }
}

/// What is to be done now by the master of `term`: `now` of the monotonic clock, `wall` of the wall clock.
pub fn plan(
    state: &State,
    (now, wall): (Millis, Millis),
    term: u64,
    under_way: UnderWay<'_>,
    waits: &Waits,
) -> Vec<Plan> {
    let in_flight = under_way.deliveries;
    let mut ordered: Vec<&Delivery> = state.deliveries.values().collect();
    ordered.sort_by_key(|delivery| delivery.sequence);
    let mut per_alert: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in ordered.iter().filter(|delivery| in_flight.contains(&delivery.id)) {
        *per_alert.entry(&delivery.alert).or_default() += 1;
    }
    let mut count = in_flight.len();
    let mut begun: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut plans = Vec::new();
    for (position, delivery) in ordered.iter().enumerate() {
        if in_flight.contains(&delivery.id) {
            begun.insert((&delivery.check, &delivery.alert));
            continue;
        }
        if let Some(reason) = reason_to_drop(state, delivery, &ordered[position + 1..], wall) {
            if is_closed(delivery, &ordered[position + 1..]) {
                // Whether the closing word goes with it shows once it is given up.
                begun.insert((&delivery.check, &delivery.alert));
            }
            plans.push(Plan::Drop {
                delivery: delivery.id.clone(),
                reason,
            });
            continue;
        }
        let first = begun.insert((&delivery.check, &delivery.alert));
        let ready = match delivery.phase {
            Phase::Queued { due } => {
                let undecided = is_escalation(delivery) && under_way.checks.contains(&delivery.check);
                !undecided && waits.is_over(now, wall, delivery, due)
            }
            // A claim of this term that is not under way here was committed although its answer was lost: nobody has sent it.
            Phase::Claimed { term: claimed, .. } => claimed <= term,
        };
        let of_alert = per_alert.entry(&delivery.alert).or_default();
        if (first || broken!(NoOrder)) && ready && *of_alert < PER_ALERT_MAX && count < IN_FLIGHT_MAX {
            *of_alert += 1;
            count += 1;
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
    let queued = matches!(delivery.phase, Phase::Queued { .. });
    if alert.disabled && queued {
        return Some("the alert is disabled");
    }
    if (!queued || delivery.uncertain) && alert.on_uncertain == Some(OnUncertain::Drop) {
        return Some("it may have been sent, and on_uncertain is drop");
    }
    let mut ends = later.iter().filter(|other| {
        other.verb == Verb::Recovered
            && other.incident == delivery.incident
            && other.check == delivery.check
            && other.alert == delivery.alert
    });
    let has_end = ends.next().is_some();
    let incident = state
        .checks
        .get(&delivery.check)
        .and_then(|check| check.incident.as_ref());
    let current = incident.filter(|incident| Some(&incident.id) == delivery.incident.as_ref());
    // If its end is told, it is told as well.
    if is_escalation(delivery) && !has_end {
        match current {
            None => return Some("over before it was due"),
            Some(incident) if is_acknowledged(incident, now) => {
                return Some("acknowledged before it was due");
            }
            Some(_) => {}
        }
    }
    let wanted = match delivery.phase {
        Phase::Queued { due } if delivery.attempts == 0 => due,
        Phase::Queued { .. } | Phase::Claimed { .. } => delivery.at,
    };
    if is_closed(delivery, later) {
        return Some("the check was removed or disabled before it was told");
    }
    let late = queued && delivery.verb == Verb::Down && now.saturating_sub(wanted) >= JOIN_AFTER_MS;
    if late && has_end {
        return Some("told together with its end");
    }
    if now.saturating_sub(delivery.at) >= DEAD_AFTER_MS {
        return Some(NOT_TAKEN);
    }
    None
}

/// Whether a message waits behind this one that says that the check was removed or disabled.
fn is_closed(delivery: &Delivery, later: &[&Delivery]) -> bool {
    later.iter().any(|other| other.closes(delivery))
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
