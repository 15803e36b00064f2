//! What a keeper does with its PostgreSQL in a tick of the simulation.

use std::collections::BTreeSet;

use super::world::{Pg, TTL, World};
use crate::state::NodeState;
use crate::{Change, Kind, Names, NodeId, Record, Report, Work, election};

impl World {
    pub(super) fn keep(&mut self, id: NodeId) {
        if !self.real(id).up {
            return;
        }
        self.replicate(id);
        if self.real(id).cut_off {
            // It cannot renew: it stops before its lock is over, unless nobody can be promoted.
            let late = self.now - self.real(id).renewed >= TTL * 2 / 3;
            if self.real(id).pg == Pg::Serving && late && self.real(id).knows != Kind::Alone {
                self.stop(id);
            }
            return;
        }
        self.hold(id);
        if self.rng.chance(700) {
            self.obey(id);
        }
        let position = self.real(id).position();
        let now = self.now;
        let node = self.node(id);
        node.heard = now;
        node.position = Some(position);
    }

    fn stop(&mut self, id: NodeId) {
        self.forced_over.remove(&id);
        let real = self.real(id);
        real.pg = Pg::Stopped;
        real.change = None;
        real.pending.clear();
    }

    /// A standby takes what its upstream has, and confirms it.
    fn replicate(&mut self, id: NodeId) {
        let Pg::Standby(Some(upstream)) = self.real(id).pg else {
            return;
        };
        let above = self.real(upstream).clone();
        if !above.up || above.pg != Pg::Serving || self.link_down(id, upstream) {
            return;
        }
        let lag = self.rng.below(3) as usize;
        let real = self.real(id);
        if above.log.starts_with(&real.log) {
            let until = above.log.len().saturating_sub(lag).max(real.log.len());
            real.log.extend_from_slice(&above.log[real.log.len()..until]);
            let have = real.log.len();
            self.real(upstream).confirmed.insert(id, have);
        }
    }

    /// Lock and record still name it, or it stops; who is named and has no lock takes it again.
    fn hold(&mut self, id: NodeId) {
        let Some(record) = self.record.clone() else { return };
        self.real(id).knows = record.kind;
        let goal = self.nodes[&id].goal;
        let serving = self.real(id).pg == Pg::Serving;
        if record.node != id {
            if serving {
                self.stop(id);
            }
            return;
        }
        let mine = self.lock == Some(id);
        if !goal.writable() {
            return;
        }
        if mine && serving {
            self.renew(id);
        } else if (mine || self.lock.is_none()) && self.nodes[&id].reported.writable() {
            self.take_again(id, &record);
        }
    }

    fn renew(&mut self, id: NodeId) {
        self.lock_until = self.now + TTL;
        let now = self.now;
        self.real(id).renewed = now;
    }

    fn take_again(&mut self, id: NodeId, record: &Record) {
        self.lock = Some(id);
        self.renew(id);
        self.store(record.taken_again());
        let real = self.real(id);
        if real.pg != Pg::Serving {
            real.pg = Pg::Serving;
            real.confirmed.clear();
            real.effective = vec![real.file.clone()];
        }
        real.change = None;
    }

    fn promote(&mut self, id: NodeId, record: Record) {
        self.lock = Some(id);
        self.renew(id);
        let epoch = record.epoch;
        self.store(record);
        let names = if self.number_sync == 0 {
            Names::nobody()
        } else {
            let others: BTreeSet<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
            let any = self.number_sync.min(others.len() as u32);
            Names::of(others, any).expect("fits")
        };
        self.forced_over.remove(&id);
        let real = self.real(id);
        real.log.push(-(epoch as i64));
        real.pg = Pg::Serving;
        real.confirmed.clear();
        real.file = names.clone();
        real.effective = vec![names];
        real.promise.epoch = epoch;
    }

    /// One step towards the goal.
    fn obey(&mut self, id: NodeId) {
        let (goal, reported) = (self.nodes[&id].goal, self.nodes[&id].reported);
        self.vote(id, goal);
        if goal == reported {
            // Who catches up follows whoever the record names, and comes back from what that one never had.
            let named = self.record.as_ref().map_or(id, |record| record.node);
            let fits = self.real(id).pg == Pg::Standby(Some(named)) && {
                let log = self.real(id).log.clone();
                self.real(named).log.starts_with(&log)
            };
            if goal == NodeState::CatchingUp && !fits {
                self.follow(id);
            }
            return;
        }
        let done = match goal {
            NodeState::Single if self.record.is_none() => {
                let first = Record::first(id);
                self.lock = Some(id);
                self.renew(id);
                self.store(first);
                self.real(id).pg = Pg::Serving;
                self.real(id).effective = vec![Names::nobody()];
                true
            }
            NodeState::Single => self.change(id, &Names::nobody()),
            NodeState::WaitPrimary if self.real(id).pg == Pg::Serving => {
                let nobody = Names::nobody();
                let real = self.real(id);
                real.file = nobody.clone();
                real.effective = vec![nobody];
                real.change = None;
                true
            }
            NodeState::WaitPrimary => self.take_over(id),
            NodeState::Primary | NodeState::ApplySettings => {
                if self.real(id).pg != Pg::Serving {
                    let Some(record) = self.record.clone().filter(|record| record.node == id) else {
                        return;
                    };
                    if self.lock.is_none_or(|holder| holder == id) {
                        self.take_again(id, &record);
                        self.seen.given_back += 1;
                        // With the names on its disk, as the record has them.
                        self.node(id).reported = goal;
                    }
                    return;
                }
                let wanted = self.wanted.clone();
                wanted.any() == 0 || self.change(id, &wanted)
            }
            NodeState::Draining => {
                self.drain(id);
                true
            }
            NodeState::DemoteTimeout | NodeState::Demoted => {
                self.stop(id);
                true
            }
            NodeState::CatchingUp => self.follow(id),
            NodeState::FastForward => self.fetch(id),
            NodeState::ReportLsn | NodeState::StopReplication => self.real(id).pg == Pg::Standby(None),
            NodeState::Secondary | NodeState::PreparePromotion => self.real(id).pg != Pg::Stopped,
            _ => true,
        };
        if done {
            self.node(id).reported = goal;
        }
    }

    /// Cuts itself off and reports, if an election asks for it.
    fn vote(&mut self, id: NodeId, goal: NodeState) {
        let Some(record) = self.record.clone() else { return };
        let asked = goal == NodeState::ReportLsn || goal.candidate();
        if !asked || !record.open || !record.members.contains(&id) || record.node == id {
            return;
        }
        let revision = self.revision;
        let known = self.nodes[&id].vote.is_some_and(|vote| vote.revision == revision);
        if known {
            // It was stopped since; it starts as it was, cut off.
            self.real(id).pg = Pg::Standby(None);
            return;
        }
        let priority = self.nodes[&id].priority;
        let real = self.real(id);
        real.promise = real.promise.cut(revision);
        real.pg = Pg::Standby(None);
        let position = real.position();
        self.node(id).vote = Some(Report {
            revision,
            position,
            priority,
        });
        self.seen.elections += 1;
    }

    fn take_over(&mut self, id: NodeId) -> bool {
        let Some(record) = self.record.clone() else {
            return false;
        };
        if self.real(id).pg == Pg::Stopped || record.node == id {
            return false;
        }
        let equal = record.released == Some(self.real(id).position()) && self.lock.is_none();
        let votes = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.vote?)))
            .collect();
        let won = election::judge(&record, self.revision, &votes)
            .is_ok_and(|winner| winner.node == id && winner.fetch_from.is_none());
        if !equal && !won {
            return false;
        }
        self.seen.takeovers += 1;
        self.seen.planned += u32::from(equal);
        if record.kind == Kind::Forced {
            self.seen.forced += 1;
            let log = self.real(id).log.clone();
            self.acknowledged.retain(|row| log.contains(row));
            if self.real(record.node).pg == Pg::Serving {
                self.forced_over.insert(record.node);
            }
        }
        self.promote(id, record.taken_by(id));
        true
    }

    fn fetch(&mut self, id: NodeId) -> bool {
        let Some(record) = self.record.clone() else {
            return false;
        };
        let votes = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.vote?)))
            .collect();
        let Ok(winner) = election::judge(&record, self.revision, &votes) else {
            return false;
        };
        let Some(from) = winner.fetch_from else {
            return winner.node == id;
        };
        if winner.node != id || !self.real(from).up {
            return false;
        }
        self.seen.fetched += 1;
        let log = self.real(from).log.clone();
        let real = self.real(id);
        real.log = log;
        let position = real.position();
        if let Some(vote) = &mut self.node(id).vote {
            vote.position = position;
        }
        true
    }

    fn follow(&mut self, id: NodeId) -> bool {
        let Some(record) = self.record.clone() else {
            return false;
        };
        if record.node == id || !self.real(record.node).up || self.real(record.node).pg != Pg::Serving {
            return false;
        }
        let log = self.real(record.node).log.clone();
        let revision = self.revision;
        let real = self.real(id);
        let Ok(promise) = real.promise.follow(revision, record.epoch) else {
            return false;
        };
        real.promise = promise;
        let common = real
            .log
            .iter()
            .zip(&log)
            .take_while(|(mine, its)| mine == its)
            .count();
        real.log.truncate(common);
        real.pg = Pg::Standby(Some(record.node));
        true
    }

    /// A clean stop sends connected standbys all there is, if they are quick enough.
    fn drain(&mut self, id: NodeId) {
        let serving = self.real(id).pg == Pg::Serving;
        let log = self.real(id).log.clone();
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let connected = serving && !self.link_down(id, other) && self.rng.chance(900);
            let real = self.real(other);
            if connected && real.up && real.pg == Pg::Standby(Some(id)) && log.starts_with(&real.log) {
                real.log.clone_from(&log);
            }
        }
        self.stop(id);
        let record = self
            .record
            .clone()
            .filter(|record| record.node == id && self.lock == Some(id));
        if let Some(record) = record.filter(|record| serving && !record.open) {
            let position = self.real(id).position();
            self.lock = None;
            self.store(record.released_at(position));
        }
    }

    /// A step of changing the names. Whether they are in effect and recorded.
    fn change(&mut self, id: NodeId, names: &Names) -> bool {
        let Some(record) = self.record.clone() else {
            return false;
        };
        let old = self.real(id).effective.last().cloned().unwrap_or_default();
        let settled = record.settled(names);
        if old == *names
            && record.kind == settled.kind
            && record.members == settled.members
            && record.need == settled.need
        {
            return true;
        }
        let change = match self.real(id).change.clone() {
            Some(change) if change.names().1 == names => change,
            _ => {
                self.real(id).barrier = None;
                Change::new(old, names.clone())
            }
        };
        let next = match change.work(&record) {
            Work::Write(next) => {
                if self.lock != Some(id) || record.node != id {
                    self.real(id).change = None;
                    return false;
                }
                let settled = change.clone().advance().is_none();
                self.store(next);
                if settled {
                    // Whoever the record does without is told to catch up, in the same transaction.
                    let members = self
                        .record
                        .as_ref()
                        .map(|record| record.members.clone())
                        .unwrap_or_default();
                    for (other, node) in &mut self.nodes {
                        if *other != id
                            && node.goal == NodeState::Secondary
                            && node.quorum
                            && !members.contains(other)
                        {
                            node.goal = NodeState::CatchingUp;
                        }
                    }
                }
                change.advance()
            }
            Work::Effect(new) => {
                let new = new.clone();
                let real = self.real(id);
                real.file = new.clone();
                real.effective = vec![new];
                change.advance()
            }
            Work::Barrier(new) => {
                let end = self.real(id).log.len();
                let length = *self.real(id).barrier.get_or_insert(end);
                let flushed: BTreeSet<NodeId> = self
                    .real(id)
                    .confirmed
                    .iter()
                    .filter(|(_, have)| **have >= length)
                    .map(|(other, _)| *other)
                    .collect();
                if !new.acknowledge(&flushed) {
                    self.real(id).change = Some(change);
                    return false;
                }
                self.real(id).barrier = None;
                change.advance()
            }
        };
        let ended = next.is_none();
        self.real(id).change = next;
        ended
    }
}
