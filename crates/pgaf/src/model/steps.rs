//! How each thing that can happen changes the state. A function answers whether it was possible, or changed anything.

use std::collections::{BTreeMap, BTreeSet};

use super::Group;
use super::rules::Rule;
use super::state::{Configured, Entry, Node, Role, Serving, Spent, State, Write};
use crate::{Change, Kind, Names, NodeId, Promise, Record, Report, Work, election};

impl Group {
    pub(super) fn others(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        (1..=self.nodes).filter(move |other| *other != id)
    }

    /// Names that a primary may have, given who could be listed.
    pub(super) fn possible_names(&self, standbys: &BTreeSet<NodeId>) -> Vec<Names> {
        let standbys: Vec<NodeId> = standbys.iter().copied().collect();
        let mut all = Vec::new();
        for chosen in 0_u32..1 << standbys.len() {
            let members: BTreeSet<NodeId> = standbys
                .iter()
                .enumerate()
                .filter(|(at, _)| chosen & 1 << at != 0)
                .map(|(_, id)| *id)
                .collect();
            if members.is_empty() {
                if self.sync == 0 {
                    all.push(Names::nobody());
                }
                continue;
            }
            let any = [Some(self.sync.max(1)), self.also_any];
            all.extend(
                any.into_iter()
                    .flatten()
                    .filter_map(|any| Names::of(members.clone(), any).ok()),
            );
        }
        all
    }

    pub(super) fn start(&self, names: Names) -> State {
        let first = Record::first(1);
        let record = if names.any() == 0 {
            first
        } else {
            first.settled(&names)
        };
        let nodes = (1..=self.nodes).map(|id| {
            let role = if id == 1 {
                Role::Serving(Serving::new(1, names.clone()))
            } else {
                Role::Standby { upstream: Some(1) }
            };
            let node = Node {
                log: Vec::new(),
                promise: Promise { cut_for: 0, epoch: 1 },
                report: None,
                file: if id == 1 { names.clone() } else { Names::nobody() },
                role,
            };
            (id, node)
        });
        State {
            lock: Some(1),
            record,
            revision: 1,
            epochs: vec![(1, 1)],
            nodes: nodes.collect(),
            writes: Vec::new(),
            acknowledged: 0,
            spent: Spent::default(),
        }
    }

    /// The upstream of a running standby, if that serves and the standby's log is a beginning of its log.
    pub(super) fn upstream(state: &State, id: NodeId) -> Option<(NodeId, &Serving)> {
        let Role::Standby {
            upstream: Some(upstream),
        } = state.nodes[&id].role
        else {
            return None;
        };
        let above = &state.nodes[&upstream];
        let serving = above.serving()?;
        above
            .log
            .starts_with(&state.nodes[&id].log)
            .then_some((upstream, serving))
    }

    pub(super) fn confirm(state: &mut State, id: NodeId, upstream: NodeId) {
        let length = state.nodes[&id].log.len();
        state.serving(upstream).confirmed.insert(id, length);
    }

    pub(super) fn acknowledge(state: &mut State, id: NodeId) -> bool {
        let node = &state.nodes[&id];
        let Some(serving) = node.serving() else {
            return false;
        };
        let mut acknowledged = state.acknowledged;
        for (at, entry) in node.log.iter().enumerate() {
            let Entry::Row(row) = entry else { continue };
            if serving.begun & 1 << row == 0 {
                continue;
            }
            let flushed: BTreeSet<NodeId> = serving
                .confirmed
                .iter()
                .filter(|(_, length)| **length > at)
                .map(|(id, _)| *id)
                .collect();
            if serving.effective.iter().any(|names| names.acknowledge(&flushed)) {
                acknowledged |= 1 << row;
            }
        }
        let changed = acknowledged != state.acknowledged;
        state.acknowledged = acknowledged;
        changed
    }

    pub(super) fn step(&self, state: &mut State, id: NodeId) -> bool {
        let record = state.record.clone();
        let revision = state.revision;
        let length = state.nodes[&id].log.len();
        let Some(serving) = state.nodes[&id].serving() else {
            return false;
        };
        let Some(change) = serving.change.clone() else {
            return false;
        };
        if serving.waiting {
            return false;
        }
        let advance = |state: &mut State, change: Change| {
            state.serving(id).change = change.advance();
            true
        };
        match change.work(&record) {
            Work::Write(next) => {
                if change.covers() && !self.rules.hold(Rule::CoverFirst) {
                    return advance(state, change);
                }
                let next = self.weakened(&change, &record, next);
                if change.covers() && next == record && !self.rules.hold(Rule::FreshWrite) {
                    return advance(state, change);
                }
                let write = Write {
                    by: id,
                    takes: false,
                    forgotten: false,
                    expects: revision,
                    record: next,
                };
                // The store refuses whoever does not hold the lock in the record's epoch.
                if state.lock != Some(id) || record.epoch != serving.epoch {
                    state.serving(id).change = None;
                    return true;
                }
                state.writes.push(write);
                state.serving(id).waiting = true;
                true
            }
            Work::Effect(new) => {
                let new = new.clone();
                if serving.effective.last() == Some(&new) {
                    // In effect now, unless nobody has looked.
                    if self.rules.hold(Rule::AwaitEffect) {
                        state.serving(id).effective = vec![new];
                    }
                    return advance(state, change);
                }
                state.serving(id).effective.push(new.clone());
                state.node(id).file = new;
                true
            }
            Work::Barrier(new) => {
                if !self.rules.hold(Rule::Barrier) {
                    return advance(state, change);
                }
                let Some(barrier) = serving.barrier else {
                    state.serving(id).barrier = Some(length);
                    return true;
                };
                let flushed: BTreeSet<NodeId> = serving
                    .confirmed
                    .iter()
                    .filter(|(_, length)| **length >= barrier)
                    .map(|(id, _)| *id)
                    .collect();
                if !new.acknowledge(&flushed) {
                    return false;
                }
                state.serving(id).barrier = None;
                advance(state, change)
            }
        }
    }

    /// The covering record without one of its rules.
    pub(super) fn weakened(&self, change: &Change, record: &Record, next: Record) -> Record {
        if !change.covers() {
            return next;
        }
        let (old, new) = change.names();
        let least = old.any().min(new.any());
        if !self.rules.hold(Rule::KeepDemand) && next.kind == Kind::Sync {
            let need = next.members.len() as u32 - least + 1;
            return Record { need, ..next };
        }
        if !self.rules.hold(Rule::AloneStays) && record.kind == Kind::Alone && least > 0 {
            let members: BTreeSet<NodeId> = old.members().union(new.members()).copied().collect();
            let need = members.len() as u32 - least + 1;
            return Record {
                kind: Kind::Sync,
                members,
                need,
                ..next
            };
        }
        next
    }

    pub(super) fn land(&self, state: &mut State, at: usize, heard: bool) -> bool {
        let write = state.writes.remove(at);
        let id = write.by;
        let fits = write.expects == state.revision && (write.takes || state.lock == Some(id));
        let fits = fits || (write.takes && !self.rules.hold(Rule::Compare));
        if fits {
            let epoch = if write.takes {
                state.record.epoch + 1
            } else {
                write.record.epoch
            };
            state.store(Record {
                epoch,
                ..write.record
            });
            if write.takes {
                state.lock = Some(id);
                state.spent.takings += 1;
            }
        }
        if !heard {
            return fits;
        }
        if write.takes {
            let epoch = state.record.epoch;
            let node = state.node(id);
            // A winner that has begun something else meanwhile does not become primary.
            let ready = matches!(node.role, Role::Standby { upstream: None });
            if fits && ready {
                node.role = Role::Chosen { epoch };
            }
            return fits;
        }
        if let Role::Serving(serving) = &mut state.node(id).role
            && serving.waiting
        {
            serving.waiting = false;
            serving.change = if fits {
                serving.change.take().and_then(Change::advance)
            } else {
                None
            };
            return true;
        }
        fits
    }

    pub(super) fn judged(&self, state: &State) -> Option<election::Winner> {
        let mut record = state.record.clone();
        if !self.rules.hold(Rule::Need) {
            record.need = 1;
        }
        let reports: BTreeMap<NodeId, Report> = state
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node.role, Role::Standby { .. }))
            .filter_map(|(id, node)| Some((*id, node.report?)))
            .map(|(id, report)| {
                if self.rules.hold(Rule::Revision) {
                    (id, report)
                } else {
                    let revision = state.revision;
                    (id, Report { revision, ..report })
                }
            })
            .collect();
        election::judge(&record, state.revision, &reports).ok()
    }

    pub(super) fn position(&self, node: &Node) -> crate::Position {
        node.position(self.rules.hold(Rule::Timeline))
    }

    pub(super) fn report(&self, state: &mut State, id: NodeId) -> bool {
        let revision = state.revision;
        let asked = state.record.open && state.record.members.contains(&id);
        let cut = self.rules.hold(Rule::Cut);
        let position = self.position(&state.nodes[&id]);
        let node = state.node(id);
        let Role::Standby { upstream } = node.role else {
            return false;
        };
        let report = Report {
            revision,
            position,
            priority: 50,
        };
        if !asked || node.report == Some(report) {
            return false;
        }
        node.promise = node.promise.cut(revision);
        node.report = Some(report);
        node.role = Role::Standby {
            upstream: if cut { None } else { upstream },
        };
        true
    }

    pub(super) fn take(&self, state: &mut State, id: NodeId) -> bool {
        if state.spent.takings >= self.bounds.takings || state.writes.iter().any(|write| write.by == id) {
            return false;
        }
        if !matches!(state.nodes[&id].role, Role::Standby { .. }) {
            return false;
        }
        let won = self
            .judged(state)
            .is_some_and(|winner| winner.node == id && winner.fetch_from.is_none());
        // Planned: who has exactly what the old primary had when it stopped.
        let equal = state.lock.is_none()
            && state.record.released == Some(state.nodes[&id].position(true))
            && state.record.node != id;
        if !won && !equal {
            return false;
        }
        if equal || !self.rules.hold(Rule::Cut) {
            state.node(id).role = Role::Standby { upstream: None };
        }
        state.writes.push(Write {
            by: id,
            takes: true,
            forgotten: false,
            expects: state.revision,
            record: state.record.taken_by(id),
        });
        true
    }

    pub(super) fn take_again(&self, state: &mut State, id: NodeId) -> bool {
        if state.spent.takings >= self.bounds.takings || state.lock.is_some_and(|holder| holder != id) {
            return false;
        }
        let was_primary = matches!(
            state.nodes[&id].role,
            Role::Down(Configured::Primary) | Role::Serving(Serving { waiting: false, .. })
        );
        let named = state.record.node == id;
        if !named && (self.rules.hold(Rule::NamedOnly) || !was_primary) {
            return false;
        }
        let mut record = Record {
            node: id,
            ..state.record.taken_again()
        };
        if !self.rules.hold(Rule::ReleaseVoid) {
            record.released = state.record.released;
        }
        let epoch = record.epoch;
        let names = self.rules.hold(Rule::NamesOnDisk);
        let sync = self.sync;
        match &mut state.node(id).role {
            Role::Serving(serving) if !serving.waiting => serving.epoch = epoch,
            Role::Down(configured) => {
                let promoted = *configured != Configured::Primary;
                let node = state.node(id);
                if promoted {
                    node.log.push(Entry::Timeline(epoch as u32));
                }
                let file = if names || sync > 0 {
                    node.file.clone()
                } else {
                    Names::nobody()
                };
                node.role = Role::Serving(Serving::new(epoch, file));
            }
            _ => return false,
        }
        let node = state.node(id);
        node.promise.epoch = epoch;
        state.lock = Some(id);
        state.spent.takings += 1;
        state.store(record);
        true
    }

    pub(super) fn follow(&self, state: &mut State, id: NodeId, epoch: u64) -> bool {
        let (primary, revision) = state.epochs[epoch as usize - 1];
        let above = &state.nodes[&primary];
        if primary == id || above.serving().is_none_or(|serving| serving.epoch != epoch) {
            return false;
        }
        let log = above.log.clone();
        let (cut, order) = (self.rules.hold(Rule::Promise), self.rules.hold(Rule::Epoch));
        let node = state.node(id);
        match node.role {
            Role::Standby { upstream } if upstream == Some(primary) && log.starts_with(&node.log) => {
                return false;
            }
            Role::Standby { .. } | Role::Down(_) => {}
            _ => return false,
        }
        let known = Promise {
            cut_for: if cut { node.promise.cut_for } else { 0 },
            epoch: if order { node.promise.epoch } else { 0 },
        };
        let Ok(promise) = known.follow(revision, epoch) else {
            return false;
        };
        node.promise = Promise {
            cut_for: node.promise.cut_for,
            epoch: promise.epoch.max(node.promise.epoch),
        };
        let common = node
            .log
            .iter()
            .zip(&log)
            .take_while(|(mine, its)| mine == its)
            .count();
        node.log.truncate(common);
        node.role = Role::Standby {
            upstream: Some(primary),
        };
        true
    }

    pub(super) fn crash(&self, state: &mut State, id: NodeId) {
        state.forget_writes(id);
        let durable = self.rules.hold(Rule::DurableCut);
        let old_primary = state.epochs[0].0;
        let node = state.node(id);
        node.role = match &node.role {
            Role::Standby { upstream: None } if !durable && id != old_primary => {
                Role::Down(Configured::Standby(Some(old_primary)))
            }
            Role::Standby { upstream } => Role::Down(Configured::Standby(*upstream)),
            Role::Chosen { .. } => Role::Down(Configured::Standby(None)),
            Role::Serving(_) | Role::Down(_) => Role::Down(Configured::Primary),
        };
    }
}
