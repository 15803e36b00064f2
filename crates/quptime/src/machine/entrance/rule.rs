//! When a group may be founded, and by whom.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Row, Waiting};
use super::facts::{Data, Extent, Group, Incarnation, NodeId, Statement};
use super::{Answer, Entrance, broken};

/// This node founds.
#[derive(Debug)]
pub(super) struct Founded {
    pub(super) row: Row,
    /// The others, by the lives on their tickets.
    pub(super) others: BTreeMap<NodeId, Incarnation>,
    /// Somebody's state has the file's version and other content.
    pub(super) raises_version: bool,
}

impl Entrance {
    /// The unanimous file rule, for a node with a valid ticket.
    pub(super) fn verdict(&self) -> Result<Founded, Waiting> {
        let listed = &self.file.peers;
        if !listed.contains(&self.node) {
            return Err(Waiting::NotListed);
        }
        let others: BTreeSet<NodeId> = listed.iter().copied().filter(|peer| *peer != self.node).collect();
        self.nobody_runs(&others)?;
        self.nobody_can_elect()?;
        let placeholder = self.version() == 0;
        if placeholder && let Some(peer) = self.peer_with_state() {
            return Err(Waiting::Placeholder(peer));
        }
        let (mut agreeing, mut differing) = (BTreeMap::new(), BTreeSet::new());
        let (mut silent, mut undecided) = (BTreeSet::new(), BTreeSet::new());
        for peer in others {
            match self.answers.get(&peer) {
                None => return Err(Waiting::Asking),
                Some(Answer::Unreachable) => {
                    silent.insert(peer);
                }
                Some(Answer::Said(statement)) if statement.digest != self.digest() => {
                    differing.insert(peer);
                }
                Some(Answer::Said(statement)) => match statement.ticket {
                    Some(ticket) => {
                        agreeing.insert(peer, (ticket.incarnation, statement));
                    }
                    None => {
                        undecided.insert(peer);
                    }
                },
            }
        }
        let row = if agreeing.len() + 1 == listed.len() {
            if !self.is_concluded() {
                return Err(Waiting::Asking);
            }
            if listed.len() == 1 {
                Row::FoundsAlone
            } else {
                Row::FoundsUnanimously
            }
        } else if self.is_majority_without_state(agreeing.len() + 1) && !placeholder {
            Row::FoundsByMajority
        } else if !differing.is_empty() {
            return Err(Waiting::Differs(differing));
        } else if !silent.is_empty() {
            return Err(Waiting::Unreachable(silent));
        } else {
            return Err(Waiting::Undecided(undecided));
        };
        self.is_founder(&agreeing)?;
        let same_version = |data: &Data| {
            !data.facts.is_empty()
                && data.facts.version == self.version()
                && data.facts.digest != self.digest()
        };
        let own = self.raft.as_ref().is_some_and(|facts| {
            same_version(&Data {
                facts: facts.clone(),
                votes: false,
            })
        });
        let raises_version = own
            || agreeing
                .values()
                .any(|(_, statement)| statement.data.as_ref().is_some_and(same_version));
        Ok(Founded {
            row,
            others: agreeing
                .into_iter()
                .map(|(peer, (life, _))| (peer, life))
                .collect(),
            raises_version,
        })
    }

    /// A listed peer in a running group means that the file is about something else than a lost cluster.
    fn nobody_runs(&self, others: &BTreeSet<NodeId>) -> Result<(), Waiting> {
        if broken!(self, IgnoresRunning) {
            return Ok(());
        }
        let running = self.said().find_map(|(peer, statement)| {
            let running = statement.running.as_ref().filter(|_| others.contains(&peer))?;
            Some(Waiting::PeerInGroup(peer, running.group))
        });
        running.map_or(Ok(()), Err)
    }

    /// Members that have state and agree with their files start by themselves: what they hold may be more than any file says.
    fn nobody_can_elect(&self) -> Result<(), Waiting> {
        if broken!(self, DisturbsElectable) {
            return Ok(());
        }
        let own = self.statement();
        let all: BTreeMap<NodeId, &Data> = self
            .said()
            .chain([(self.node, &own)])
            .filter_map(|(node, statement)| Some((node, statement.data.as_ref()?)))
            .collect();
        // Of each group, who knows the newest configuration.
        let mut newest: BTreeMap<Group, &Data> = BTreeMap::new();
        for data in all.values().filter(|data| !data.facts.is_empty()) {
            let known = newest.entry(data.facts.group).or_insert(data);
            if known.facts.last < data.facts.last {
                *known = data;
            }
        }
        for (group, data) in newest {
            let voters = &data.facts.voters;
            let here = voters.iter().filter(|(node, life)| {
                all.get(node).is_some_and(|data| {
                    data.votes && data.facts.group == group && data.facts.incarnation == **life
                })
            });
            if here.count() > voters.len() / 2 {
                return Err(Waiting::Electable(group));
            }
        }
        Ok(())
    }

    /// Somebody who answered and has state, or has promised something about one.
    fn peer_with_state(&self) -> Option<NodeId> {
        let entered_counts = !broken!(self, EnteredIsAbsent);
        let has = |statement: &Statement| {
            let data = statement.data.as_ref();
            statement.trial.is_some() || data.is_some_and(|data| entered_counts || !data.facts.is_empty())
        };
        self.said()
            .find(|(_, statement)| has(statement))
            .map(|(peer, _)| peer)
    }

    /// Restore with hosts still missing.
    fn is_majority_without_state(&self, agreeing: usize) -> bool {
        let without = self.raft.is_none() && self.peer_with_state().is_none();
        let waited = self.is_concluded() && self.has_waited();
        agreeing > self.file.peers.len() / 2 && waited && (without || broken!(self, MajorityDespiteState))
    }

    /// Who holds the most founds, the smallest among equals.
    fn is_founder(&self, agreeing: &BTreeMap<NodeId, (Incarnation, &Statement)>) -> Result<(), Waiting> {
        let rank = |extent: Option<Extent>| {
            extent
                .map(|extent| {
                    let generation = extent.group.generation;
                    (
                        if broken!(self, IgnoresGeneration) {
                            0
                        } else {
                            generation
                        },
                        extent.last,
                    )
                })
                .filter(|_| !broken!(self, SmallestFounds))
        };
        let of = |statement: &Statement| {
            let facts = statement.data.as_ref().map(|data| &data.facts);
            rank(
                facts
                    .filter(|facts| !facts.is_empty())
                    .map(super::facts::RaftFacts::extent),
            )
        };
        let mut founder = (rank(self.extent()), self.node);
        for (peer, (_, statement)) in agreeing {
            let other = (of(statement), *peer);
            if other.0 > founder.0 || (other.0 == founder.0 && other.1 < founder.1) {
                founder = other;
            }
        }
        if founder.1 == self.node {
            Ok(())
        } else {
            Err(Waiting::Founder(founder.1))
        }
    }

    /// The highest generation anybody has told of.
    pub(super) fn highest_generation(&self) -> u32 {
        let own = self.statement();
        let of = |statement: &Statement| {
            let data = statement.data.as_ref().map(|data| data.facts.group);
            let running = statement.running.as_ref().map(|running| running.group);
            let trial = statement.trial.as_ref().map(|founding| founding.group);
            [data, running, trial]
                .into_iter()
                .flatten()
                .map(|group| group.generation)
                .max()
        };
        self.said()
            .filter_map(|(_, statement)| of(statement))
            .chain(of(&own))
            .chain([self.note.generation])
            .max()
            .unwrap_or(0)
    }
}
