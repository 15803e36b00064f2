//! An abstract Raft.

use std::collections::BTreeMap;

use super::world::{Text, World, id, place};
use crate::machine::entrance::{Group, Incarnation, Input, NodeId, Position, RaftFacts, Running};

/// One replica's disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) group: Group,
    pub(super) life: Incarnation,
    pub(super) voters: BTreeMap<NodeId, Incarnation>,
    pub(super) term: u64,
    pub(super) last: Position,
    pub(super) commit: Position,
    /// The founding entry, on the founder.
    pub(super) founding: Position,
    /// At the end of the log.
    pub(super) content: Text,
    /// At the commit.
    pub(super) applied: Text,
    pub(super) recovering: bool,
    /// Acknowledged changes that an operator's file replaced with the founding.
    pub(super) excuses: u8,
}

impl Log {
    pub(super) fn empty(group: Group, life: Incarnation, recovering: bool) -> Log {
        Log {
            group,
            life,
            voters: BTreeMap::new(),
            term: 0,
            last: Position::default(),
            commit: Position::default(),
            founding: Position::default(),
            content: Text::default(),
            applied: Text::default(),
            recovering,
            excuses: 0,
        }
    }

    pub(super) fn facts(&self) -> RaftFacts {
        RaftFacts {
            group: self.group,
            incarnation: self.life,
            voters: self.voters.clone(),
            last: self.last,
            beyond_founding: self.last > self.founding,
            recovering: self.recovering,
            version: self.applied.version.into(),
            digest: self.applied.digest(),
        }
    }
}

impl World<'_> {
    /// Voters of the group of `leader`, as it knows them, that are in it in the right life and connected to it.
    fn quorum_of(&self, leader: usize) -> Option<Vec<usize>> {
        let log = self.active(leader)?;
        let here = log.voters.iter().filter_map(|(node, life)| {
            let at = place(*node);
            let other = self.active(at)?;
            let counts = self.is_connected(leader, at) && other.group == log.group && other.life == *life;
            (counts && !other.recovering).then_some(at)
        });
        let here: Vec<usize> = here.collect();
        (here.len() > log.voters.len() / 2).then_some(here)
    }

    pub(super) fn can_elect(&self, at: usize) -> Option<Vec<usize>> {
        let log = self.active(at).filter(|log| log.last.index > 0)?;
        let here = self.quorum_of(at).filter(|here| here.contains(&at))?;
        let led = here.iter().any(|other| self.node(*other).leads);
        let behind = |other: &usize| self.active(*other).is_some_and(|other| other.last <= log.last);
        let votes: Vec<usize> = here.into_iter().filter(behind).collect();
        (!led && votes.len() > log.voters.len() / 2).then_some(votes)
    }

    pub(super) fn elect(&mut self, at: usize) -> Result<bool, String> {
        let Some(votes) = self.can_elect(at) else {
            return Ok(false);
        };
        let terms = votes
            .iter()
            .filter_map(|other| self.active(*other))
            .map(|log| log.term);
        let term = terms.max().unwrap_or(0) + 1;
        for other in &votes {
            let log = self.active_mut(*other).ok_or("no replica")?;
            log.term = term;
        }
        let log = self.active_mut(at).ok_or("no replica")?;
        log.last = Position {
            term,
            index: log.last.index + 1,
        };
        self.node_mut(at).leads = true;
        self.see("elected");
        self.moved(at)?;
        self.commit(at)?;
        Ok(true)
    }

    pub(super) fn send(&mut self, from: usize, to: usize) -> Result<bool, String> {
        if !self.node(from).leads || !self.is_connected(from, to) {
            return Ok(false);
        }
        let (Some(leader), Some(log)) = (self.active(from).cloned(), self.active(to)) else {
            return Ok(false);
        };
        let member = leader.voters.contains_key(&id(to)) || leader.content.lists(to);
        if log.group != leader.group || log.term > leader.term || !member {
            return Ok(false);
        }
        let before = log.clone();
        let log = self.active_mut(to).ok_or("no replica")?;
        (log.term, log.last, log.content) = (leader.term, leader.last, leader.content);
        (log.excuses, log.voters) = (leader.excuses, leader.voters.clone());
        // Admitted when the entry that names this life is committed.
        if leader.commit == leader.last && leader.voters.get(&id(to)) == Some(&log.life) {
            log.recovering = false;
        }
        (log.applied, log.commit) = if leader.commit == leader.last {
            (leader.content, leader.commit)
        } else if before.last.index == 0 {
            (leader.applied, leader.commit)
        } else {
            (before.applied, before.commit)
        };
        if *log != before {
            self.moved(to)?;
        }
        self.commit(from)?;
        self.meet(from, to)?;
        Ok(true)
    }

    /// The follower learns that there is a leader which commits.
    fn meet(&mut self, leader: usize, at: usize) -> Result<(), String> {
        let Some(log) = self.active(leader).filter(|log| log.commit.term == log.term) else {
            return Ok(());
        };
        let listed = (0..self.rules.nodes)
            .filter(|node| log.content.lists(*node))
            .map(id);
        let running = Running {
            group: log.group,
            leader: id(leader),
            members: listed.chain(log.voters.keys().copied()).collect(),
            version: log.applied.version.into(),
            digest: log.applied.digest(),
        };
        if self.active(at).is_none_or(|own| own.group != running.group) {
            return Ok(());
        }
        let knows = self
            .node(at)
            .entrance
            .as_ref()
            .and_then(|entrance| entrance.leader.as_ref());
        if knows == Some(&running) {
            return Ok(());
        }
        self.tell(at, Input::LeaderFound(running))
    }

    fn commit(&mut self, at: usize) -> Result<(), String> {
        let Some(log) = self.active(at).cloned() else {
            return Ok(());
        };
        let holds = log.voters.iter().filter(|(node, life)| {
            let other = self.active(place(**node));
            other.is_some_and(|other| {
                other.group == log.group
                    && other.life == **life
                    && other.last == log.last
                    && (!other.recovering || log.voters.len() == 1)
            })
        });
        let majority = holds.count() > log.voters.len() / 2;
        if majority && log.commit != log.last {
            let own = self.active_mut(at).ok_or("no replica")?;
            (own.commit, own.applied) = (log.last, log.content);
            let holders = (0..self.rules.nodes).filter(|other| {
                let other = self.active(*other);
                other.is_some_and(|other| other.group == log.group && other.last == log.last)
            });
            let holders = holders.fold(0, |all, other| all | 1 << other);
            self.state.ghost.commit(&log, holders)?;
            self.moved(at)?;
        }
        if self.node(at).leads {
            self.meet(at, at)?;
        }
        Ok(())
    }

    /// The machine hears about its log, then the file is written.
    fn moved(&mut self, at: usize) -> Result<(), String> {
        let Some(facts) = self.facts(at) else {
            return Ok(());
        };
        self.tell(at, Input::Advanced(facts))?;
        if self.active(at).is_some() && self.node(at).on == super::world::On::Raft {
            self.rewrite(at)?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, at: usize) -> Result<bool, String> {
        let leads = self.node(at).leads;
        let bit = self.state.ghost.next_change();
        let Some(log) = self.active_mut(at) else {
            return Ok(false);
        };
        if !leads || log.commit != log.last {
            return Ok(false);
        }
        log.content.version += 1;
        log.content.changes |= bit;
        log.last.index += 1;
        self.moved(at)?;
        self.commit(at)?;
        Ok(true)
    }

    pub(super) fn admit(&mut self, by: usize, at: usize) -> Result<bool, String> {
        if !self.node(by).leads || !self.is_connected(by, at) {
            return Ok(false);
        }
        let Some(other) = self.active(at).cloned() else {
            return Ok(false);
        };
        let Some(log) = self.active_mut(by) else {
            return Ok(false);
        };
        let fits = other.group == log.group && other.last == log.last && log.commit == log.last;
        if !fits || log.voters.get(&id(at)) == Some(&other.life) || !log.content.lists(at) {
            return Ok(false);
        }
        log.voters.insert(id(at), other.life);
        log.last.index += 1;
        self.see("admitted");
        self.moved(by)?;
        self.commit(by)?;
        Ok(true)
    }

    pub(super) fn depose(&mut self) -> Result<(), String> {
        for at in 0..self.rules.nodes {
            let quorate = self.quorum_of(at).is_some();
            let newer = self.active(at).is_some_and(|log| {
                (0..self.rules.nodes).any(|other| {
                    let rival = self.active(other).filter(|rival| rival.group == log.group);
                    other != at && self.node(other).leads && rival.is_some_and(|rival| rival.term > log.term)
                })
            });
            if self.node(at).leads && (!quorate || newer) {
                self.node_mut(at).leads = false;
            }
        }
        for at in 0..self.rules.nodes {
            let entrance = self.node(at).entrance.as_ref();
            let Some(running) = entrance.and_then(|entrance| entrance.leader.clone()) else {
                continue;
            };
            let leader = place(running.leader);
            let same = self.active(leader).is_some_and(|log| log.group == running.group);
            if !(self.node(leader).leads && same && self.is_connected(at, leader)) {
                self.tell(at, Input::LeaderLost)?;
            }
        }
        Ok(())
    }
}
