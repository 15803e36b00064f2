//! Reports of nodes to one verdict per check.
//!
//! A *round* of a check is closed when every node that is live has reported since the last one, or when interval and timeout have passed.
//! Its verdict is what more than half of the reports say, provided there are enough; a tie keeps the state. A new state holds after so
//! many rounds in a row as the check wants. On the first round that differs all nodes are asked to look again at once (*second opinion*),
//! so an outage is known after about one interval instead of two. From then on only probes count that began after the question: what was
//! found before is no second opinion. Nor does what was found before a check was there, or before it was enabled again.
//!
//! Reports stay here, in the memory of the master. A new master begins with none and needs a round more; the states are in the log.

use std::collections::{BTreeMap, BTreeSet};

use super::Millis;
use super::announce::window_of;
use super::command::Snapshot;
use super::state::{State, Status};
use crate::document::schema::CONFIRM;
use crate::document::{Check, Document};
use crate::identity::NodeId;

/// After which time nodes look again when asked for a second opinion.
pub const SECOND_OPINION_MS: Millis = 2000;
/// Rounds without a verdict after which a check is shown as stale.
const STALE_ROUNDS: u32 = 2;

/// What a node found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Well.
    Good,
    /// Not, and why.
    Bad(String),
    /// The node cannot make this check.
    Unable(String),
}

/// What rounds want done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The state shall change.
    Change {
        /// The check, by id.
        check: String,
        /// What it becomes.
        to: Status,
        /// What was seen.
        snapshot: Snapshot,
    },
    /// All nodes shall look again.
    LookAgain {
        /// The check, by id.
        check: String,
    },
}

/// The last closed round of a check, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastRound {
    /// What was seen.
    pub snapshot: Snapshot,
    /// What each node said, also those whose votes do not count.
    pub votes: Vec<(NodeId, bool)>,
    /// What it came to; nothing if too few reported.
    pub verdict: Option<Status>,
    /// Rounds in a row without a verdict.
    pub silent: u32,
    /// When.
    pub at: Millis,
    /// Counts rounds.
    pub number: u64,
    /// When the first of the probes that count began.
    pub began: Millis,
}

impl LastRound {
    /// Whether nobody knows how it stands at the moment.
    pub fn is_stale(&self) -> bool {
        self.silent >= STALE_ROUNDS
    }
}

#[derive(Debug, Default)]
struct Round {
    opened: Millis,
    /// Probes that began earlier do not count.
    not_before: Millis,
    /// When the first round after a question was closed; nothing while one is open.
    answered: Option<Millis>,
    /// When a round last found it down.
    found_down: Option<Millis>,
    /// The newest of each node, with the begin of the probe. Few nodes and many checks: a map for each check would cost ten times as much.
    reports: Vec<(NodeId, Finding, Millis)>,
    /// Transitions, and whether announced work covers the check: the circumstances that reports are about.
    circumstances: (u64, bool),
    /// Since when, as far as known here.
    changed: Millis,
    /// The state that differs, and in how many rounds in a row.
    streak: Option<(Status, u32)>,
    last: LastRound,
}

/// The rounds of all checks.
#[derive(Debug, Default)]
pub struct Rounds {
    checks: BTreeMap<String, Round>,
}

impl Rounds {
    /// A report has arrived of a probe that began then. Reports of nodes that are no peers, or about checks that there are not, are the
    /// caller's to drop.
    pub fn report(&mut self, began: Millis, check: &str, node: NodeId, finding: Finding) {
        if let Some(round) = self.checks.get_mut(check)
            && began >= round.not_before
        {
            round.reports.retain(|(known, ..)| *known != node);
            round.reports.push((node, finding, began));
        }
    }

    /// All nodes are asked to look again at this moment: what they found before does not count any more.
    pub fn ask(&mut self, now: Millis, check: &str) {
        if let Some(round) = self.checks.get_mut(check) {
            round.opened = now;
            round.not_before = now;
            round.answered = None;
            round.reports.clear();
        }
    }

    /// Whether all nodes were asked to look at a check at this moment or later.
    pub fn was_asked(&self, check: &str, since: Millis) -> bool {
        self.checks
            .get(check)
            .is_some_and(|round| round.not_before >= since)
    }

    /// When the first round was closed that answers a question of this moment or later.
    pub fn answered(&self, check: &str, since: Millis) -> Option<Millis> {
        let round = self.checks.get(check)?;
        round.answered.filter(|_| round.not_before >= since)
    }

    /// When a round last found a check down, as far as this master saw.
    pub fn found_down(&self, check: &str) -> Option<Millis> {
        self.checks.get(check)?.found_down
    }

    /// Since when a check is what it is, and covered by announced work or not, as far as this master saw.
    pub fn changed(&self, check: &str) -> Option<Millis> {
        self.checks.get(check).map(|round| round.changed)
    }

    /// A check is not what it was: what was reported about it says nothing any more.
    pub fn forget(&mut self, check: &str) {
        self.checks.remove(check);
    }

    /// The last round of a check.
    pub fn last(&self, check: &str) -> Option<&LastRound> {
        self.checks.get(check).map(|round| &round.last)
    }

    /// Closes what is to be closed at this moment. `live` are the nodes heard of lately, this one included. `wall` is the time of day, by
    /// which announced work begins and ends.
    pub fn tick(
        &mut self,
        now: Millis,
        wall: Millis,
        state: &State,
        live: &BTreeSet<NodeId>,
    ) -> Vec<Verdict> {
        let document = &state.document;
        let nodes = document.peers.iter().map(|peer| peer.node_id);
        let eligible: BTreeSet<NodeId> = nodes
            .filter(|node| live.contains(node) && !state.impaired.contains(node))
            .collect();
        let mut verdicts = Vec::new();
        let mut enabled = 0;
        for check in &document.checks {
            if check.disabled {
                self.checks.remove(&check.id);
                continue;
            }
            enabled += 1;
            let known = state.checks.get(&check.id);
            let covered = window_of(state, check, wall).is_some();
            let circumstances = (known.map_or(0, |known| known.transitions), covered);
            // All checks are looked at several times a second, so nothing is allocated for one that is known.
            if !self.checks.contains_key(&check.id) {
                let round = Round {
                    opened: now,
                    not_before: now,
                    circumstances,
                    changed: now,
                    ..Round::default()
                };
                self.checks.insert(check.id.clone(), round);
            }
            let Some(round) = self.checks.get_mut(&check.id) else {
                continue;
            };
            if round.circumstances != circumstances {
                round.circumstances = circumstances;
                round.changed = now;
            }
            let reported = |node: &NodeId| round.reports.iter().any(|(known, ..)| known == node);
            let all_in = !eligible.is_empty() && eligible.iter().all(reported);
            let patience = check.interval.millis() + check.timeout.millis();
            if all_in || now.saturating_sub(round.opened) >= patience {
                let status = known.map_or(Status::Unknown, |known| known.status);
                round.close(now, check, document, &eligible, status, &mut verdicts);
            }
        }
        if self.checks.len() > enabled {
            self.checks.retain(|id, _| state.checks.contains_key(id));
        }
        verdicts
    }
}

impl Round {
    fn close(
        &mut self,
        now: Millis,
        check: &Check,
        document: &Document,
        eligible: &BTreeSet<NodeId>,
        status: Status,
        verdicts: &mut Vec<Verdict>,
    ) {
        self.opened = now;
        let mut snapshot = Snapshot::default();
        let mut votes = Vec::with_capacity(self.reports.len());
        let mut began = now;
        self.reports.sort_unstable_by_key(|(node, ..)| *node);
        for (node, finding, since) in self.reports.drain(..) {
            let counts = eligible.contains(&node);
            if counts {
                began = began.min(since);
            }
            match finding {
                Finding::Good => {
                    votes.push((node, true));
                    snapshot.ok += u32::from(counts);
                    snapshot.reports += u32::from(counts);
                }
                Finding::Bad(detail) => {
                    votes.push((node, false));
                    if counts {
                        snapshot.reports += 1;
                        snapshot.bad_nodes.push(node);
                        snapshot.note(detail);
                    }
                }
                Finding::Unable(detail) => snapshot.note(detail),
            }
        }
        let needed = match check.min_reports {
            0 => document.quorum() as u32,
            needed => needed,
        };
        let verdict = verdict_of(&snapshot, needed, status);
        let silent = if verdict.is_none() {
            self.last.silent + 1
        } else {
            0
        };
        self.last = LastRound {
            snapshot: snapshot.clone(),
            votes,
            verdict,
            silent,
            at: now,
            number: self.last.number + 1,
            began,
        };
        let Some(verdict) = verdict else { return };
        self.answered.get_or_insert(now);
        if verdict == Status::Down {
            self.found_down = Some(now);
        }
        if verdict == status {
            self.streak = None;
            return;
        }
        let rounds = match self.streak {
            Some((same, rounds)) if same == verdict => rounds + 1,
            _ => 1,
        };
        self.streak = Some((verdict, rounds));
        let wanted = match (verdict, check.confirm, check.recover) {
            (Status::Down, 0, _) | (Status::Up | Status::Unknown, _, 0) => CONFIRM,
            (Status::Down, confirm, _) => confirm,
            (Status::Up | Status::Unknown, _, recover) => recover,
        };
        if rounds >= wanted {
            self.streak = None;
            verdicts.push(Verdict::Change {
                check: check.id.clone(),
                to: verdict,
                snapshot,
            });
        } else if check.second_opinion != Some(false)
            && (verdict == Status::Down || status == Status::Unknown)
        {
            self.not_before = now;
            self.answered = None;
            verdicts.push(Verdict::LookAgain {
                check: check.id.clone(),
            });
        }
    }
}

fn verdict_of(snapshot: &Snapshot, needed: u32, status: Status) -> Option<Status> {
    let bad = snapshot.reports - snapshot.ok;
    if snapshot.reports < needed.max(1) {
        None
    } else if bad * 2 > snapshot.reports {
        Some(Status::Down)
    } else if snapshot.ok * 2 > snapshot.reports || status == Status::Unknown {
        Some(Status::Up)
    } else {
        Some(status)
    }
}

#[cfg(test)]
mod tests;
