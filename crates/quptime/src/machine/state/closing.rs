//! Checks that are removed or disabled while people know of an outage: nobody will find out how it ends, so they are told at once that
//! nobody looks any more, and channels that keep things open until they are closed close them.
//!
//! What was told of a check and has not ended is known here ([`Incident::told_to`], [`CheckState::flapping_told_to`]), so this is decided where
//! the change of the configuration is carried out: together with it, on every node, whoever made it.
//!
//! - Of a message that waits nobody was told yet: the master gives it up, and with a DOWN its closing word ([`Delivery::closes`]).
//! - A message that may be on its way ends first; messages of removed checks carry the check along.
//! - An outage of a check that is enabled again and still down is another outage, which is told once a round has shown it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::deliveries::Told;
use super::{CheckState, Delivery, Incident, State, Status, Verb, flapping_id};
use crate::document::{Check, Document};
use crate::machine::Millis;
use crate::machine::command::{Configure, Hold, NewDelivery, Snapshot};
use crate::machine::mutation::broken;

impl Delivery {
    /// Whether it closes, on the same channel, what the other message tells and the check does not end by itself any more.
    pub fn closes(&self, other: &Delivery) -> bool {
        self.verb.closes_unseen()
            && matches!(
                other.verb,
                Verb::Down | Verb::Reminder | Verb::Flapping | Verb::Stable
            )
            && self.check == other.check
            && self.alert == other.alert
            && self.incident == other.incident
    }
}

impl State {
    /// Closes what people were told of checks that this change has ended. The document is the new one already.
    pub(super) fn close_ended(&mut self, before: &Document, configure: &Configure) {
        let Some(at) = configure.closes.filter(|_| !broken!(EndedSilently)) else {
            return;
        };
        let document = self.document.clone();
        // Of equal ids the first counts.
        let checks = document.checks.iter().rev();
        let after: BTreeMap<&str, &Check> = checks.map(|check| (check.id.as_str(), check)).collect();
        for check in &before.checks {
            let verb = match after.get(check.id.as_str()) {
                None => Verb::Removed,
                Some(after) if after.disabled && !check.disabled => Verb::Disabled,
                Some(_) => continue,
            };
            self.close(check, verb, at, configure);
        }
    }

    fn close(&mut self, check: &Check, verb: Verb, at: Millis, configure: &Configure) {
        let Some(known) = self.checks.get(&check.id).cloned() else {
            return;
        };
        let gone = (verb == Verb::Removed).then_some(check);
        if let Some(check) = gone {
            let waiting = Arc::make_mut(&mut self.deliveries).values_mut();
            for delivery in waiting.filter(|delivery| delivery.check == check.id) {
                delivery.gone = Some(Box::new(check.clone()));
            }
        }
        let snapshot = Snapshot {
            detail: self.who(verb, configure),
            ..Snapshot::default()
        };
        let mut notices = known.notices;
        for (incident, told_to) in told(check, &known) {
            notices += 1;
            let alerts = self.document.alerts.iter();
            let deliveries: Vec<NewDelivery> = alerts
                .filter(|alert| told_to.contains(&alert.id) && !alert.disabled)
                .map(|alert| NewDelivery {
                    alert: alert.id.clone(),
                    verb,
                    due: at,
                })
                .collect();
            let message = Told {
                check: &check.id,
                number: format!("{}.{notices}", known.transitions),
                incident: Some(incident),
                from: known.status,
                to: Status::Unknown,
                at,
                since: known.since,
                snapshot: &snapshot,
                gone,
            };
            self.queue(&message, &deliveries);
        }
        if verb == Verb::Disabled
            && let version = self.document.version
            && let Some(known) = self.check_mut(&check.id)
        {
            known.notices = notices;
            known.pause(configure, version);
        }
    }

    /// `removed by uid 0 on alpha:9901 (check remove)`
    pub(super) fn who(&self, verb: Verb, configure: &Configure) -> String {
        let peer = self.document.peer(configure.by);
        let node = peer.map_or_else(|| configure.by.to_string(), |peer| peer.advertise.clone());
        let user = configure
            .uid
            .map_or_else(String::new, |uid| format!("by uid {uid} "));
        let what = if configure.what.is_empty() {
            String::new()
        } else {
            format!(" ({})", configure.what)
        };
        format!("{} {user}on {node}{what}", verb.name().to_lowercase())
    }
}

/// What people know of and nobody has closed: incidents, with the alerts that were told of them or will be.
fn told(check: &Check, known: &CheckState) -> Vec<(String, BTreeSet<String>)> {
    let incident = known.incident.as_ref().filter(|incident| incident.announced);
    let incident = incident.map(|incident| (incident.id.clone(), incident.told_to.clone()));
    let flapping = known
        .flapping
        .map(|since| (flapping_id(&check.id, since), known.flapping_told_to.clone()));
    incident.into_iter().chain(flapping).collect()
}

impl CheckState {
    /// The check is looked at no more; should it be down when it is again, then people have to be told, and nobody knows of it yet.
    fn pause(&mut self, configure: &Configure, version: u64) {
        if self.flapping.is_some() {
            self.end_flapping();
        }
        if let Some(incident) = self
            .incident
            .as_mut()
            .filter(|incident| incident.announced || incident.held.is_some())
        {
            *incident = Incident {
                id: if incident.announced {
                    format!("{}-{version}", incident.id)
                } else {
                    incident.id.clone()
                },
                since: incident.since,
                announced: false,
                held: Some(Hold::Disabled),
                told: configure.closes.unwrap_or(incident.told),
                told_to: BTreeSet::new(),
                acknowledged: None,
            };
        }
    }
}

#[cfg(test)]
mod tests;
