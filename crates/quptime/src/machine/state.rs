//! The replicated state: what every node knows after the same entries of the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Millis;
use super::command::{
    Acknowledge, Announce, Claim, Command, Configure, Ending, Hold, NewDelivery, Settle, Snapshot, Transition,
};
use crate::document::{Change, Document, change, integrity};
use crate::identity::NodeId;

/// Finished deliveries that are remembered, for people.
pub const FINISHED_MAX: usize = 500;
/// Changes of the configuration that are remembered, for people.
pub const AUDIT_MAX: usize = 1000;
/// Moments of transitions that are remembered of each check: enough to see that it flaps.
pub const RECENT_MAX: usize = 16;

/// What a check is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Well.
    Up,
    /// Not.
    Down,
}

impl Status {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Unknown => "unknown",
            Status::Up => "up",
            Status::Down => "down",
        }
    }
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Well, and was never known otherwise.
    Up,
    /// An outage began.
    Down,
    /// It ended.
    Recovered,
    /// It lasts.
    Reminder,
    /// It comes and goes.
    Flapping,
    /// It does not any more.
    Stable,
}

impl Verb {
    /// As templates see it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Up => "UP",
            Verb::Down => "DOWN",
            Verb::Recovered => "RECOVERED",
            Verb::Reminder => "REMINDER",
            Verb::Flapping => "FLAPPING",
            Verb::Stable => "STABLE",
        }
    }
}

/// All that is replicated. Parts that are large are shared, so a copy for readers costs little.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Names the cluster to channels.
    pub cluster: String,
    /// The configuration.
    pub document: Arc<Document>,
    /// By id of the check.
    pub checks: Arc<BTreeMap<String, CheckState>>,
    /// What has to be told yet, by delivery id.
    pub deliveries: Arc<BTreeMap<String, Delivery>>,
    /// What was told or given up, the newest last.
    pub finished: Arc<VecDeque<Finished>>,
    /// Deliveries made so far.
    pub delivered: u64,
    /// Nodes whose votes do not count.
    pub impaired: BTreeSet<NodeId>,
    /// Changes of the configuration, the newest last.
    pub audit: Arc<VecDeque<Audit>>,
}

/// How it stands with a check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckState {
    /// What it is.
    pub status: Status,
    /// Since when.
    pub since: Millis,
    /// Transitions so far.
    pub transitions: u64,
    /// Announcements since the last one.
    #[serde(default)]
    pub notices: u64,
    /// The outage under way.
    #[serde(default)]
    pub incident: Option<Incident>,
    /// When the last transitions were, the newest last.
    #[serde(default)]
    pub recent: VecDeque<Millis>,
    /// Since when it is announced as flapping.
    #[serde(default)]
    pub flapping: Option<Millis>,
    /// What was seen at the last transition.
    #[serde(default)]
    pub snapshot: Snapshot,
}

/// An outage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// Since when.
    pub since: Millis,
    /// Whether somebody was told.
    pub announced: bool,
    /// Why nobody was.
    #[serde(default)]
    pub held: Option<Hold>,
    /// When it was last told.
    #[serde(default)]
    pub told: Millis,
    /// Who works on it.
    #[serde(default)]
    pub acknowledged: Option<Acknowledged>,
}

/// Somebody works on an outage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Since when.
    pub at: Millis,
    /// What they said.
    pub note: String,
    /// Until when it counts.
    pub until: Option<Millis>,
}

/// A message for one channel that is not told yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// `<check>/<transitions>/<alert>`, or `<check>/<transitions>.<notices>/<alert>` for what is told between transitions.
    pub id: String,
    /// Order in which deliveries were made.
    pub sequence: u64,
    /// By id.
    pub check: String,
    /// By id.
    pub alert: String,
    /// What it says.
    pub verb: Verb,
    /// The outage it is about.
    pub incident: Option<String>,
    /// State before.
    pub from: Status,
    /// State after.
    pub to: Status,
    /// When it happened.
    pub at: Millis,
    /// When the state before had begun.
    pub since: Millis,
    /// What was seen.
    pub snapshot: Snapshot,
    /// Where it stands.
    pub phase: Phase,
    /// Attempts begun.
    pub attempts: u32,
    /// Whether an attempt ended in a way that nobody knows.
    pub uncertain: bool,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Whether the channel will hardly ever take it.
    pub permanent: bool,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits.
    Queued {
        /// Not before.
        due: Millis,
    },
    /// A master attempts it, or did when it was last heard of.
    Claimed {
        /// Its term.
        term: u64,
        /// The master.
        node: NodeId,
        /// Since when.
        at: Millis,
    },
}

/// A message that was told or given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Of the delivery.
    pub id: String,
    /// What it said.
    pub verb: Verb,
    /// When.
    pub at: Millis,
    /// On which node.
    pub node: NodeId,
    /// Attempts it took.
    pub attempts: u32,
    /// Whether it may have been told more than once.
    pub uncertain: bool,
    /// Why it was given up; nothing if it was told.
    pub dropped: Option<String>,
}

/// A change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The version it made.
    pub version: u64,
    /// When, RFC 3339.
    pub at: String,
    /// On which node it was asked for.
    pub by: NodeId,
    /// The local user, if it was one.
    pub uid: Option<u32>,
    /// What.
    pub what: String,
    /// Which entries.
    pub entries: Vec<String>,
}

/// What carrying out a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It had its effect; the number is the version of the configuration.
    Done(u64),
    /// It was out of date and changed nothing.
    Outdated,
    /// Somebody else has changed these entries since its author looked.
    Conflict(Vec<Change>),
    /// The result would not hold together.
    Invalid(String),
}

impl State {
    /// Where a group begins: with this configuration, and with the states and deliveries of the group before, if there was one.
    #[must_use]
    pub fn begun(document: Document, cluster: String, before: Option<State>) -> State {
        let mut state = before.unwrap_or_default();
        if state.cluster.is_empty() {
            state.cluster = cluster;
        }
        state.document = Arc::new(document);
        state.follow_document();
        state
    }

    /// Carries a command out.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Configure(configure) => self.configure(configure),
            Command::Transition(transition) => self.transition(transition),
            Command::Announce(announce) => self.announce(announce),
            Command::Claim(claim) => self.claim(claim),
            Command::Settle(settle) => self.settle(settle),
            Command::Acknowledge(acknowledge) => self.acknowledge(acknowledge),
            Command::Impair { node, impaired, .. } => {
                let changed = if *impaired {
                    self.impaired.insert(*node)
                } else {
                    self.impaired.remove(node)
                };
                if changed { self.done() } else { Outcome::Outdated }
            }
        }
    }

    fn done(&self) -> Outcome {
        Outcome::Done(self.document.version)
    }

    fn configure(&mut self, configure: &Configure) -> Outcome {
        let mut wanted = match change::apply(&self.document, &configure.changes) {
            Ok(wanted) => wanted,
            Err(conflicts) => return Outcome::Conflict(conflicts),
        };
        if let Err(fault) = integrity::check(&wanted) {
            return Outcome::Invalid(fault.to_string());
        }
        wanted.version = self.document.version + 1;
        wanted.updated_at = Some(configure.at.clone());
        wanted.updated_by = Some(configure.by);
        let level = wanted.schema_level().max(configure.schema);
        wanted.schema = (level > 1).then_some(level);
        self.document = Arc::new(wanted);
        let audit = Arc::make_mut(&mut self.audit);
        audit.push_back(Audit {
            version: self.document.version,
            at: configure.at.clone(),
            by: configure.by,
            uid: configure.uid,
            what: configure.what.clone(),
            entries: configure.changes.iter().map(Change::title).collect(),
        });
        if audit.len() > AUDIT_MAX {
            audit.pop_front();
        }
        self.follow_document();
        self.done()
    }

    /// States go with their checks, deliveries with their alerts, and removed nodes are not impaired.
    fn follow_document(&mut self) {
        let document = &self.document;
        let wanted: BTreeSet<&String> = document.checks.iter().map(|check| &check.id).collect();
        if self.checks.len() != wanted.len() || self.checks.keys().any(|id| !wanted.contains(id)) {
            let checks = Arc::make_mut(&mut self.checks);
            checks.retain(|id, _| wanted.contains(id));
            for id in wanted {
                checks.entry(id.clone()).or_default();
            }
        }
        let gone = |delivery: &Delivery| {
            !document.alerts.iter().any(|alert| alert.id == delivery.alert)
                || !document.checks.iter().any(|check| check.id == delivery.check)
        };
        if self.deliveries.values().any(gone) {
            Arc::make_mut(&mut self.deliveries).retain(|_, delivery| !gone(delivery));
        }
        self.impaired.retain(|node| document.peer(*node).is_some());
    }

    fn transition(&mut self, transition: &Transition) -> Outcome {
        let known = self.checks.get(&transition.check);
        let Some(before) =
            known.filter(|state| state.transitions == transition.after && state.status != transition.to)
        else {
            return Outcome::Outdated;
        };
        let before = before.clone();
        let told = !transition.deliveries.is_empty();
        let incident = match transition.to {
            Status::Down => transition.incident.clone().map(|id| Incident {
                id,
                since: transition.at,
                announced: told,
                held: transition.held.clone(),
                told: transition.at,
                acknowledged: None,
            }),
            Status::Up | Status::Unknown => None,
        };
        let mut recent = before.recent.clone();
        recent.push_back(transition.at);
        while recent.len() > RECENT_MAX {
            recent.pop_front();
        }
        let number = before.transitions + 1;
        let about = incident
            .as_ref()
            .or(before.incident.as_ref())
            .map(|incident| incident.id.clone());
        let after = CheckState {
            status: transition.to,
            since: transition.at,
            transitions: number,
            notices: 0,
            incident,
            recent,
            flapping: before.flapping,
            snapshot: transition.snapshot.clone(),
        };
        Arc::make_mut(&mut self.checks).insert(transition.check.clone(), after);
        let message = Told {
            check: &transition.check,
            number: number.to_string(),
            incident: about,
            from: before.status,
            to: transition.to,
            at: transition.at,
            since: before.since,
            snapshot: &transition.snapshot,
        };
        self.queue(&message, &transition.deliveries);
        self.done()
    }

    fn announce(&mut self, announce: &Announce) -> Outcome {
        let is_current =
            |state: &&CheckState| state.transitions == announce.after && state.notices == announce.notices;
        let Some(before) = self.checks.get(&announce.check).filter(is_current).cloned() else {
            return Outcome::Outdated;
        };
        let mut after = before.clone();
        after.notices += 1;
        match announce.verb {
            Verb::Flapping => after.flapping = Some(announce.at),
            Verb::Stable => {
                after.flapping = None;
                after.recent.clear();
            }
            Verb::Up | Verb::Down | Verb::Recovered | Verb::Reminder => {}
        }
        if let Some(incident) = &mut after.incident {
            incident.told = announce.at;
            incident.announced = true;
            incident.held = None;
        }
        let message = Told {
            check: &announce.check,
            number: format!("{}.{}", before.transitions, after.notices),
            incident: after.incident.as_ref().map(|incident| incident.id.clone()),
            from: before.status,
            to: before.status,
            at: announce.at,
            since: before.since,
            snapshot: &announce.snapshot,
        };
        Arc::make_mut(&mut self.checks).insert(announce.check.clone(), after);
        self.queue(&message, &announce.deliveries);
        self.done()
    }

    fn queue(&mut self, told: &Told<'_>, deliveries: &[NewDelivery]) {
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
                attempts: 0,
                uncertain: false,
                error: None,
                permanent: false,
            };
            Arc::make_mut(&mut self.deliveries).insert(id, delivery);
        }
    }

    fn claim(&mut self, claim: &Claim) -> Outcome {
        let Some(delivery) = Arc::make_mut(&mut self.deliveries).get_mut(&claim.delivery) else {
            return Outcome::Outdated;
        };
        match delivery.phase {
            Phase::Queued { .. } => {}
            // Its master is gone and nobody knows how far it came.
            Phase::Claimed { term, .. } if term < claim.term => delivery.uncertain = true,
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

    fn settle(&mut self, settle: &Settle) -> Outcome {
        let deliveries = Arc::make_mut(&mut self.deliveries);
        let is_claimed = |delivery: &Delivery| matches!(delivery.phase, Phase::Claimed { term, node, .. } if term == settle.term && node == settle.node);
        // What nobody has claimed can be given up, but not told.
        let given_up = matches!(settle.ending, Ending::Dropped { .. });
        let Some(delivery) = deliveries.get_mut(&settle.delivery).filter(|delivery| {
            is_claimed(delivery) || (given_up && matches!(delivery.phase, Phase::Queued { .. }))
        }) else {
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
                delivery.error = Some(error.clone());
                delivery.permanent = *permanent;
                return self.done();
            }
            Ending::Sent => None,
            Ending::Dropped { reason } => Some(reason.clone()),
        };
        let finished = Finished {
            id: delivery.id.clone(),
            verb: delivery.verb,
            at: settle.at,
            node: settle.node,
            attempts: delivery.attempts,
            uncertain: delivery.uncertain,
            dropped,
        };
        deliveries.remove(&settle.delivery);
        let all = Arc::make_mut(&mut self.finished);
        all.push_back(finished);
        if all.len() > FINISHED_MAX {
            all.pop_front();
        }
        self.done()
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Outcome {
        let checks = Arc::make_mut(&mut self.checks);
        let incident = checks
            .get_mut(&acknowledge.check)
            .and_then(|state| state.incident.as_mut());
        let Some(incident) = incident else {
            return Outcome::Outdated;
        };
        incident.acknowledged = Some(Acknowledged {
            at: acknowledge.at,
            note: acknowledge.note.clone(),
            until: acknowledge.until,
        });
        self.done()
    }
}

/// What the messages of one event have in common.
struct Told<'a> {
    check: &'a str,
    number: String,
    incident: Option<String>,
    from: Status,
    to: Status,
    at: Millis,
    since: Millis,
    snapshot: &'a Snapshot,
}

#[cfg(test)]
mod tests;
