//! Deliveries in the replicated state: queued, claimed, settled.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Delivery, FINISHED_MAX, Finished, Outcome, Phase, State, Status, Verb};
use crate::document::Check;
use crate::machine::Millis;
use crate::machine::command::{Claim, Ending, NewDelivery, Settle, Snapshot};
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
        let known = Arc::make_mut(&mut self.checks).get_mut(check);
        if let Some(incident) = known.and_then(|known| known.incident.as_mut()) {
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
            id: delivery.id.clone(),
            verb: delivery.verb,
            at: settle.at,
            node: settle.node,
            attempts: delivery.attempts,
            uncertain: delivery.uncertain || taken_over,
            dropped,
        };
        // Who was certainly not told of an outage is not told of its end.
        let (check, alert, verb) = (delivery.check.clone(), delivery.alert.clone(), delivery.verb);
        let unheard = finished.dropped.is_some() && !finished.uncertain;
        let untold = unheard
            && matches!(verb, Verb::Down | Verb::Stable)
            && self.checks.get(&check).is_some_and(|known| {
                known.incident.as_ref().map(|incident| &incident.id) == delivery.incident.as_ref()
            });
        let about = deliveries.remove(&settle.delivery);
        if let Some(about) = about.filter(|_| unheard && !broken!(ClosedUnheard))
            && matches!(verb, Verb::Down | Verb::Flapping)
        {
            deliveries.retain(|_, other| !other.closes(&about));
        }
        if untold {
            self.incident_told(&check, |alerts| {
                alerts.remove(&alert);
            });
        }
        let all = Arc::make_mut(&mut self.finished);
        all.push_back(finished);
        if all.len() > FINISHED_MAX {
            all.pop_front();
        }
        self.done()
    }
}
