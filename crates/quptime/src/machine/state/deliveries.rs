//! Deliveries in the replicated state: queued, claimed, settled.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ALERT_REMOVED, Delivery, FINISHED_MAX, Finished, Outcome, Phase, State, Status, Verb};
use crate::document::{Check, Document};
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::command::{Claim, Configure, Ending, NewDelivery, Settle, Snapshot};
use crate::machine::mutation::broken;

/// What the messages of one event have in common.
pub(super) struct Told<'a> {
    pub(super) check: &'a str,
    pub(super) number: String,
    pub(super) incident: Option<String>,
    pub(super) from: Status,
    pub(super) to: Status,
    pub(super) at: Millis,
    pub(super) since: Millis,
    pub(super) snapshot: &'a Snapshot,
    /// The check, if it is there no more.
    pub(super) gone: Option<&'a Check>,
}

impl State {
    pub(super) fn queue(&mut self, told: &Told<'_>, deliveries: &[NewDelivery]) {
        for new in deliveries {
            self.delivered += 1;
            let id = format!("{}/{}/{}", told.check, told.number, new.alert);
            let delivery = Delivery {
                id: id.clone(),
                sequence: self.delivered,
                check: told.check.to_owned(),
                alert: new.alert.clone(),
                verb: new.verb,
                incident: told.incident.clone(),
                from: told.from,
                to: told.to,
                at: told.at,
                since: told.since,
                snapshot: told.snapshot.clone(),
                phase: Phase::Queued { due: new.due },
                waits_since: told.at,
                attempts: 0,
                uncertain: false,
                error: None,
                permanent: false,
                gone: told.gone.map(|check| Box::new(check.clone())),
            };
            Arc::make_mut(&mut self.deliveries).insert(id, delivery);
            if new.verb.tells_outage() {
                self.incident_told(told.check, |alerts| {
                    alerts.insert(new.alert.clone());
                });
            }
        }
    }

    /// Notes who is told of the outage under way, if there is one.
    fn incident_told(&mut self, check: &str, note: impl FnOnce(&mut BTreeSet<String>)) {
        if let Some(incident) = self.check_mut(check).and_then(|known| known.incident.as_mut()) {
            note(&mut incident.told_to);
        }
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Outcome {
        let Some(delivery) = Arc::make_mut(&mut self.deliveries).get_mut(&claim.delivery) else {
            return Outcome::Outdated;
        };
        match delivery.phase {
            Phase::Queued { .. } => {}
            // Its master is gone and nobody knows how far it came.
            Phase::Claimed { term, .. } if term < claim.term => {
                delivery.uncertain |= !broken!(TakeoversUnmarked);
            }
            Phase::Claimed { .. } => return Outcome::Outdated,
        }
        delivery.attempts += 1;
        delivery.phase = Phase::Claimed {
            term: claim.term,
            node: claim.node,
            at: claim.at,
        };
        self.done()
    }

    pub(super) fn settle(&mut self, settle: &Settle) -> Outcome {
        let deliveries = Arc::make_mut(&mut self.deliveries);
        let is_claimed = |delivery: &Delivery| matches!(delivery.phase, Phase::Claimed { term, node, .. } if term == settle.term && node == settle.node);
        // What nobody has claimed, or an earlier master that is gone, can be given up, but not told.
        let is_free = |delivery: &Delivery| match delivery.phase {
            Phase::Queued { .. } => true,
            Phase::Claimed { term, .. } => term < settle.term,
        };
        let given_up = matches!(settle.ending, Ending::Dropped { .. });
        let Some(delivery) = deliveries
            .get_mut(&settle.delivery)
            .filter(|delivery| is_claimed(delivery) || (given_up && is_free(delivery)))
        else {
            return Outcome::Outdated;
        };
        let dropped = match &settle.ending {
            Ending::Retry {
                due,
                error,
                permanent,
                uncertain,
            } => {
                delivery.uncertain |= *uncertain;
                delivery.phase = Phase::Queued { due: *due };
                delivery.waits_since = settle.at;
                delivery.error = Some(error.clone());
                delivery.permanent = *permanent;
                return self.done();
            }
            Ending::Sent => None,
            Ending::Dropped { reason } => Some(reason.clone()),
        };
        let taken_over = !matches!(delivery.phase, Phase::Queued { .. }) && !is_claimed(delivery);
        let finished = Finished {
            uncertain: delivery.uncertain || taken_over,
            dropped,
            ..finished(delivery, &self.document, settle.at, settle.node)
        };
        if let Some(delivery) = deliveries.remove(&settle.delivery) {
            self.end(&delivery, finished);
        }
        self.done()
    }

    /// Messages to alerts that this change has removed reach nobody any more. The document is the new one already.
    pub(super) fn give_up_removed(&mut self, before: &Document, configure: &Configure) {
        let Some(at) = configure.closes else {
            return;
        };
        let alerts = &self.document.alerts;
        let is_gone = |delivery: &&Delivery| !alerts.iter().any(|alert| alert.id == delivery.alert);
        let mut gone: Vec<Delivery> = self.deliveries.values().filter(is_gone).cloned().collect();
        gone.sort_by_key(|delivery| delivery.sequence);
        for delivery in gone {
            let Some(delivery) = Arc::make_mut(&mut self.deliveries).remove(&delivery.id) else {
                continue;
            };
            let is_under_way = matches!(delivery.phase, Phase::Claimed { .. });
            let finished = Finished {
                uncertain: delivery.uncertain || is_under_way,
                dropped: Some(ALERT_REMOVED.to_owned()),
                ..finished(&delivery, before, at, configure.by)
            };
            self.end(&delivery, finished);
        }
    }

    /// A delivery has ended and waits no more. Who was certainly not told of an outage is not told of its end.
    fn end(&mut self, delivery: &Delivery, finished: Finished) {
        let unheard = finished.dropped.is_some() && !finished.uncertain;
        // FLAPPING told of it before, and its end is told even so.
        let goes_on = is_of_flapping(delivery);
        let untold = unheard
            && !goes_on
            && matches!(delivery.verb, Verb::Down | Verb::Stable)
            && self.checks.get(&delivery.check).is_some_and(|known| {
                known.incident.as_ref().map(|incident| &incident.id) == delivery.incident.as_ref()
            });
        let begins = delivery.verb == Verb::Flapping || delivery.verb == Verb::Down && !goes_on;
        if unheard && !broken!(ClosedUnheard) && begins {
            Arc::make_mut(&mut self.deliveries).retain(|_, other| !other.closes(delivery));
        }
        if untold {
            self.incident_told(&delivery.check, |alerts| {
                alerts.remove(&delivery.alert);
            });
        }
        let all = Arc::make_mut(&mut self.finished);
        all.push_back(finished);
        if all.len() > FINISHED_MAX {
            all.pop_front();
        }
    }
}

/// What is remembered of a delivery that was told, with the names that this configuration has.
fn finished(delivery: &Delivery, document: &Document, at: Millis, node: NodeId) -> Finished {
    let check = document.checks.iter().find(|check| check.id == delivery.check);
    let check = check.or(delivery.gone.as_deref());
    let alert = document.alerts.iter().find(|alert| alert.id == delivery.alert);
    Finished {
        id: delivery.id.clone(),
        verb: delivery.verb,
        at,
        node,
        attempts: delivery.attempts,
        uncertain: delivery.uncertain,
        dropped: None,
        check_name: check.map_or_else(String::new, |check| check.name.clone()),
        alert_name: alert.map_or_else(String::new, |alert| alert.name.clone()),
    }
}

/// Whether a message goes on with what FLAPPING began.
fn is_of_flapping(delivery: &Delivery) -> bool {
    let incident = delivery.incident.as_deref();
    incident.is_some_and(|id| id.starts_with(&super::flapping_name(&delivery.check)))
}
