//! The replicated state: what every node knows after the same entries of the log.

mod audit;
mod closing;
mod deliveries;
mod ended;
mod indexed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Millis;
use super::command::{Acknowledge, Announce, Command, Configure, Hold, Snapshot, Transition};
use crate::document::{Change, Check, Document, change, integrity, size};
use crate::identity::NodeId;
pub use audit::{Audit, Became};
use deliveries::Told;
pub use ended::{ENDED_MAX, Ended};
pub use indexed::Indexed;

/// Finished deliveries that are remembered, for people.
pub const FINISHED_MAX: usize = 500;
/// Changes of the configuration that are remembered, for people.
pub const AUDIT_MAX: usize = 1000;
/// Moments of transitions that are remembered of each check: enough to see that it flaps.
pub const RECENT_MAX: usize = 16;
/// Why a message is given up whose alert is there no more.
pub const ALERT_REMOVED: &str = "the alert was removed";

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
    /// The check was removed while people knew of an outage: nobody will tell them of its end.
    Removed,
    /// The check was disabled meanwhile.
    Disabled,
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
            Verb::Removed => "REMOVED",
            Verb::Disabled => "DISABLED",
        }
    }
}

impl Verb {
    /// Whether somebody who gets it knows of an outage that has not ended.
    pub fn tells_outage(self) -> bool {
        matches!(self, Verb::Down | Verb::Reminder | Verb::Stable)
    }

    /// Whether it closes what people know of without a word about how it stands: nobody looks any more.
    pub fn closes_unseen(self) -> bool {
        matches!(self, Verb::Removed | Verb::Disabled)
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
    pub checks: Arc<BTreeMap<String, Arc<CheckState>>>,
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
    /// Outages that are over, the newest last. Older programs did not keep them.
    #[serde(default)]
    pub ended: Arc<VecDeque<Ended>>,
    /// Follows from the configuration.
    #[serde(skip)]
    pub indexed: Indexed,
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
    /// Alerts, by id, that were told so or will be.
    #[serde(default)]
    pub flapping_told_to: BTreeSet<String>,
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
    /// Alerts, by id, that were told of it or will be: these are told of its end.
    #[serde(default)]
    pub told_to: BTreeSet<String>,
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
    /// The local user who said so. Older programs did not keep who it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// On which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<NodeId>,
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
    /// Since when it waits in its queue, by the clock that said until when.
    #[serde(default)]
    pub waits_since: Millis,
    /// Attempts begun.
    pub attempts: u32,
    /// Whether an attempt ended in a way that nobody knows.
    pub uncertain: bool,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Whether the channel will hardly ever take it.
    pub permanent: bool,
    /// The check as it was, if it has been removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Box<Check>>,
}

impl Delivery {
    /// The transitions of its check when it was made.
    fn number(&self) -> u64 {
        let rest = self
            .id
            .strip_prefix(&self.check)
            .and_then(|rest| rest.strip_prefix('/'));
        let digits = rest.and_then(|rest| rest.split(['.', '/']).next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
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
    /// What the check was called then, for the time when it is there no more. Older programs did not keep it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub check_name: String,
    /// What the alert was called then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub alert_name: String,
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
        let before = std::mem::replace(&mut state.document, Arc::new(document));
        state.remember_left_out(&before);
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
        // Removals that were asked for at the same moment, each allowed for itself, could together leave too few nodes, or none.
        if configure
            .leaves
            .is_some_and(|leaves| leaves != wanted.peers.len())
        {
            return Outcome::Invalid(
                "other nodes were added or removed at the same moment; look at qu status, and remove it again if that is still right"
                    .to_owned(),
            );
        }
        wanted.version = self.document.version + 1;
        wanted.updated_at = Some(configure.at.clone());
        wanted.updated_by = Some(configure.by);
        let level = wanted.schema_level().max(configure.schema);
        wanted.schema = (level > 1).then_some(level);
        let fits = |most| size::check(&self.document, &wanted, most);
        if let Some(Err(told)) = configure.bytes_max.map(fits) {
            return Outcome::Invalid(told);
        }
        let before = std::mem::replace(&mut self.document, Arc::new(wanted));
        let audit = Arc::make_mut(&mut self.audit);
        audit.push_back(Audit::of(self.document.version, configure));
        if audit.len() > AUDIT_MAX {
            audit.pop_front();
        }
        self.remember_unwatched(&before, configure);
        self.close_ended(&before, configure);
        self.give_up_removed(&before, configure);
        self.follow_document();
        self.done()
    }

    /// States go with their checks, deliveries with their alerts and, but for what must still be told, with their checks; removed nodes
    /// are not impaired.
    fn follow_document(&mut self) {
        let document = &self.document;
        let wanted: BTreeSet<&String> = document.checks.iter().map(|check| &check.id).collect();
        if self.checks.len() != wanted.len() || self.checks.keys().any(|id| !wanted.contains(id)) {
            let checks = Arc::make_mut(&mut self.checks);
            checks.retain(|id, _| wanted.contains(id));
            for id in wanted {
                // An id that is used again goes on counting where messages of its first life still wait: theirs are taken.
                let waiting = self.deliveries.values().filter(|delivery| delivery.check == *id);
                let transitions = waiting.map(Delivery::number).max().unwrap_or(0);
                checks.entry(id.clone()).or_insert_with(|| {
                    Arc::new(CheckState {
                        transitions,
                        ..CheckState::default()
                    })
                });
            }
        }
        let gone = |delivery: &Delivery| {
            !document.alerts.iter().any(|alert| alert.id == delivery.alert)
                || delivery.gone.is_none() && !document.checks.iter().any(|check| check.id == delivery.check)
        };
        if self.deliveries.values().any(gone) {
            Arc::make_mut(&mut self.deliveries).retain(|_, delivery| !gone(delivery));
        }
        self.impaired.retain(|node| document.peer(*node).is_some());
    }

    /// How it stands with a check, to be changed.
    fn check_mut(&mut self, id: &str) -> Option<&mut CheckState> {
        // Who does not change anything copies nothing.
        self.checks.get(id)?;
        Arc::make_mut(&mut self.checks).get_mut(id).map(Arc::make_mut)
    }

    /// Whether a check takes part in rounds: what was proposed before it was disabled and is committed after that is out of date.
    fn is_watched(&self, id: &str) -> bool {
        let mut checks = self.document.checks.iter();
        checks.any(|check| check.id == id && !check.disabled)
    }

    fn transition(&mut self, transition: &Transition) -> Outcome {
        let known = self.checks.get(&transition.check);
        let is_current =
            |state: &&Arc<CheckState>| state.transitions == transition.after && state.status != transition.to;
        let Some(before) = known
            .filter(is_current)
            .filter(|_| self.is_watched(&transition.check))
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
                told_to: BTreeSet::new(),
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
            flapping_told_to: before.flapping_told_to.clone(),
            snapshot: transition.snapshot.clone(),
        };
        let document = self.document.clone();
        let ending = (Verb::Recovered, String::new(), transition.at);
        self.remember_ended(&document, &transition.check, &before, ending);
        Arc::make_mut(&mut self.checks).insert(transition.check.clone(), Arc::new(after));
        let message = Told {
            check: &transition.check,
            number: number.to_string(),
            incident: about,
            from: before.status,
            to: transition.to,
            at: transition.at,
            since: before.since,
            snapshot: &transition.snapshot,
            gone: None,
        };
        self.queue(&message, &transition.deliveries);
        self.done()
    }

    fn announce(&mut self, announce: &Announce) -> Outcome {
        let is_current = |state: &&Arc<CheckState>| {
            state.transitions == announce.after && state.notices == announce.notices
        };
        let known = self.checks.get(&announce.check).filter(is_current);
        let Some(before) = known.filter(|_| self.is_watched(&announce.check)).cloned() else {
            return Outcome::Outdated;
        };
        let mut after = CheckState::clone(&before);
        after.notices += 1;
        let mut about = before.incident.as_ref().map(|incident| incident.id.clone());
        let mut tells_outage = true;
        match announce.verb {
            Verb::Flapping => {
                // Outages of a check that flaps are told by STABLE, if one lasts.
                tells_outage = false;
                after.flapping = Some(announce.at);
                let alerts = announce.deliveries.iter();
                after.flapping_told_to = alerts.map(|new| new.alert.clone()).collect();
                about = Some(flapping_id(&announce.check, announce.at));
            }
            Verb::Stable => {
                about = before.flapping.map(|since| flapping_id(&announce.check, since));
                after.end_flapping();
            }
            Verb::Up | Verb::Down | Verb::Recovered | Verb::Reminder | Verb::Removed | Verb::Disabled => {}
        }
        if let Some(incident) = &mut after.incident {
            if tells_outage {
                incident.told = announce.at;
                incident.announced = true;
                incident.held = None;
                // What STABLE leaves open, RECOVERED closes.
                if let Some(about) = &about {
                    incident.id.clone_from(about);
                }
            } else {
                incident.held = Some(Hold::Flapping);
            }
        }
        let message = Told {
            check: &announce.check,
            number: format!("{}.{}", before.transitions, after.notices),
            incident: about,
            from: before.status,
            to: before.status,
            at: announce.at,
            since: before.since,
            snapshot: &announce.snapshot,
            gone: None,
        };
        Arc::make_mut(&mut self.checks).insert(announce.check.clone(), Arc::new(after));
        self.queue(&message, &announce.deliveries);
        self.done()
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge) -> Outcome {
        let incident = self
            .check_mut(&acknowledge.check)
            .and_then(|state| state.incident.as_mut());
        let Some(incident) = incident else {
            return Outcome::Outdated;
        };
        incident.acknowledged = Some(Acknowledged {
            at: acknowledge.at,
            note: acknowledge.note.clone(),
            until: acknowledge.until,
            uid: acknowledge.uid,
            by: acknowledge.by,
        });
        self.done()
    }
}

impl CheckState {
    fn end_flapping(&mut self) {
        self.flapping = None;
        self.flapping_told_to.clear();
        self.recent.clear();
    }
}

/// What a time of flapping is called to channels that keep things open until they are closed.
fn flapping_id(check: &str, since: Millis) -> String {
    format!("{}{since}", flapping_name(check))
}

/// With what the names of such times begin.
fn flapping_name(check: &str) -> String {
    format!("flapping-{check}-")
}

#[cfg(test)]
mod tests;
