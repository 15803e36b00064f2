//! What can happen.

use std::collections::{BTreeMap, BTreeSet};

use sim::explore::Model;

use super::Group;
use super::rules::Rule;
use super::state::{Configured, Entry, Node, Role, Serving, Spent, State, Write};
use crate::{Change, Kind, Names, NodeId, Promise, Record, Report, Work, election};

#[derive(Debug, Clone)]
pub(super) enum Action {
    /// A client's row at a primary.
    Row(NodeId),
    /// A standby takes the next entry and confirms.
    Stream(NodeId),
    /// A standby that has everything says so to its upstream.
    Confirm(NodeId),
    /// A primary answers clients.
    Acknowledge(NodeId),
    /// A primary begins to change its names.
    Begin(NodeId, Names),
    /// A primary's next step, but for landing writes.
    Step(NodeId),
    /// A primary gives up waiting for the store.
    GiveUp(NodeId),
    /// A write arrives at the store; whether the sender hears of it.
    Land(usize, bool),
    /// The lock's lease is over.
    Expire,
    Open,
    /// A member cuts itself off and reports.
    Report(NodeId),
    /// The winner fetches what it lacks.
    Fetch(NodeId),
    /// The winner sends its taking of the lock.
    Take(NodeId),
    /// Who has taken the lock becomes writable, with these names.
    Promote(NodeId, Names),
    /// The record's node takes the lock again, and serves.
    TakeAgain(NodeId),
    Crash(NodeId),
    /// A standby starts again.
    Start(NodeId),
    /// A primary learns that it is none any more.
    Demote(NodeId),
    /// A node begins to follow the primary of that epoch.
    Follow(NodeId, u64),
    /// A primary stops cleanly.
    Release(NodeId),
}

impl Action {
    fn leads(&self) -> bool {
        matches!(
            self,
            Action::Row(_)
                | Action::Stream(_)
                | Action::Acknowledge(_)
                | Action::Step(_)
                | Action::Land(_, true)
                | Action::Report(_)
                | Action::Take(_)
                | Action::Promote(..)
        )
    }

    /// Whether the state has what the action speaks of. What is offered always has; a counterexample that is being shortened may not.
    fn fits(&self, state: &State) -> bool {
        match self {
            Action::Row(id)
            | Action::Acknowledge(id)
            | Action::Step(id)
            | Action::GiveUp(id)
            | Action::Demote(id)
            | Action::Release(id) => state.nodes[id].serving().is_some(),
            Action::Begin(id, _) => state.nodes[id]
                .serving()
                .is_some_and(|serving| serving.change.is_none()),
            Action::Land(at, heard) => state
                .writes
                .get(*at)
                .is_some_and(|write| !*heard || !write.forgotten),
            Action::Follow(_, epoch) => *epoch as usize <= state.epochs.len(),
            _ => true,
        }
    }
}

impl Group {
    fn others(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        (1..=self.nodes).filter(move |other| *other != id)
    }

    /// Names that a primary may have, given who could be listed.
    fn possible_names(&self, standbys: &BTreeSet<NodeId>) -> Vec<Names> {
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

    fn start(&self, names: Names) -> State {
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
    fn upstream(state: &State, id: NodeId) -> Option<(NodeId, &Serving)> {
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

    fn confirm(state: &mut State, id: NodeId, upstream: NodeId) {
        let length = state.nodes[&id].log.len();
        state.serving(upstream).confirmed.insert(id, length);
    }

    fn acknowledge(state: &mut State, id: NodeId) -> bool {
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

    fn step(&self, state: &mut State, id: NodeId) -> bool {
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
    fn weakened(&self, change: &Change, record: &Record, next: Record) -> Record {
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

    fn land(&self, state: &mut State, at: usize, heard: bool) -> bool {
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

    fn judged(&self, state: &State) -> Option<election::Winner> {
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

    fn position(&self, node: &Node) -> crate::Position {
        node.position(self.rules.hold(Rule::Timeline))
    }

    fn report(&self, state: &mut State, id: NodeId) -> bool {
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

    fn take(&self, state: &mut State, id: NodeId) -> bool {
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

    fn take_again(&self, state: &mut State, id: NodeId) -> bool {
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

    fn follow(&self, state: &mut State, id: NodeId, epoch: u64) -> bool {
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

    fn crash(&self, state: &mut State, id: NodeId) {
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

impl Model for Group {
    type State = State;
    type Action = Action;

    fn initial(&self) -> Vec<State> {
        let standbys = self.others(1).collect();
        self.possible_names(&standbys)
            .into_iter()
            .filter(|names| names.members().is_empty() || *names.members() == standbys)
            .map(|names| self.start(names))
            .collect()
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = vec![Action::Expire, Action::Open];
        for at in 0..state.writes.len() {
            actions.extend([Action::Land(at, true), Action::Land(at, false)]);
        }
        for (&id, node) in &state.nodes {
            match &node.role {
                Role::Serving(serving) => {
                    actions.extend([
                        Action::Row(id),
                        Action::Acknowledge(id),
                        Action::Step(id),
                        Action::GiveUp(id),
                        Action::Demote(id),
                        Action::TakeAgain(id),
                        Action::Release(id),
                        Action::Crash(id),
                    ]);
                    if serving.change.is_none() {
                        let standbys = self
                            .others(id)
                            .filter(|other| {
                                Group::upstream(state, *other).is_some_and(|(above, _)| above == id)
                            })
                            .collect();
                        let names = self.possible_names(&standbys);
                        actions.extend(names.into_iter().map(|names| Action::Begin(id, names)));
                    }
                }
                Role::Standby { .. } => {
                    actions.extend([
                        Action::Stream(id),
                        Action::Confirm(id),
                        Action::Report(id),
                        Action::Fetch(id),
                        Action::Take(id),
                        Action::Crash(id),
                    ]);
                    actions.extend((1..=state.epochs.len() as u64).map(|epoch| Action::Follow(id, epoch)));
                }
                Role::Down(_) => {
                    actions.extend([Action::Start(id), Action::TakeAgain(id)]);
                    actions.extend((1..=state.epochs.len() as u64).map(|epoch| Action::Follow(id, epoch)));
                }
                Role::Chosen { .. } => {
                    let standbys = self.others(id).collect();
                    let names = self.possible_names(&standbys);
                    let first = names
                        .into_iter()
                        .filter(|names| names.members().is_empty() || *names.members() == standbys);
                    actions.extend(first.map(|names| Action::Promote(id, names)));
                    actions.push(Action::Crash(id));
                }
            }
        }
        if self.eager {
            let again: Vec<Action> = actions.iter().filter(|action| action.leads()).cloned().collect();
            for _ in 0..3 {
                actions.extend(again.iter().cloned());
            }
        }
        actions
    }

    fn next(&self, state: &State, action: &Action) -> Result<Option<State>, String> {
        if !action.fits(state) {
            return Ok(None);
        }
        let mut next = state.clone();
        let spent = &mut next.spent;
        let bounds = self.bounds;
        let changed = match action {
            Action::Row(id) => {
                let row = spent.writes;
                if row >= bounds.writes {
                    return Ok(None);
                }
                spent.writes += 1;
                next.serving(*id).begun |= 1 << row;
                next.node(*id).log.push(Entry::Row(row));
                true
            }
            Action::Stream(id) => {
                let Some((upstream, _)) = Group::upstream(state, *id) else {
                    return Ok(None);
                };
                let have = state.nodes[id].log.len();
                let Some(entry) = state.nodes[&upstream].log.get(have) else {
                    return Ok(None);
                };
                next.node(*id).log.push(*entry);
                Group::confirm(&mut next, *id, upstream);
                true
            }
            Action::Confirm(id) => {
                let Some((upstream, serving)) = Group::upstream(state, *id) else {
                    return Ok(None);
                };
                if serving.confirmed.get(id).copied().unwrap_or(0) >= state.nodes[id].log.len() {
                    return Ok(None);
                }
                Group::confirm(&mut next, *id, upstream);
                true
            }
            Action::Acknowledge(id) => Group::acknowledge(&mut next, *id),
            Action::Begin(id, names) => {
                let effective = next.serving(*id).effective.last().expect("never empty").clone();
                if next.spent.changes >= bounds.changes {
                    return Ok(None);
                }
                next.spent.changes += 1;
                next.serving(*id).change = Some(Change::new(effective, names.clone()));
                true
            }
            Action::Step(id) => self.step(&mut next, *id),
            Action::GiveUp(id) => {
                let serving = next.serving(*id);
                let waited = serving.waiting;
                if waited {
                    serving.waiting = false;
                    serving.change = None;
                    next.forget_writes(*id);
                }
                waited
            }
            Action::Land(at, heard) => self.land(&mut next, *at, *heard),
            Action::Expire => next.lock.take().is_some(),
            Action::Open => {
                if next.record.open || next.record.kind != Kind::Sync || spent.elections >= bounds.elections {
                    return Ok(None);
                }
                spent.elections += 1;
                next.store(state.record.opened());
                true
            }
            Action::Report(id) => self.report(&mut next, *id),
            Action::Fetch(id) => {
                let Some(winner) = self.judged(state) else {
                    return Ok(None);
                };
                let Some(from) = winner.fetch_from.filter(|_| winner.node == *id) else {
                    return Ok(None);
                };
                let log = state.nodes[&from].log.clone();
                let node = next.node(*id);
                node.log = log;
                let position = self.position(node);
                if let Some(report) = &mut node.report {
                    report.position = position;
                }
                true
            }
            Action::Take(id) => self.take(&mut next, *id),
            Action::Promote(id, names) => {
                let Role::Chosen { epoch } = next.nodes[id].role else {
                    return Ok(None);
                };
                let node = next.node(*id);
                node.log.push(Entry::Timeline(epoch as u32));
                node.file = names.clone();
                node.promise.epoch = epoch;
                node.role = Role::Serving(Serving::new(epoch, names.clone()));
                true
            }
            Action::TakeAgain(id) => self.take_again(&mut next, *id),
            Action::Crash(id) => {
                if spent.crashes >= bounds.crashes {
                    return Ok(None);
                }
                spent.crashes += 1;
                self.crash(&mut next, *id);
                true
            }
            Action::Start(id) => {
                // An old primary may be asked where its log ends: it starts cut off from everybody.
                let upstream = match next.nodes[id].role {
                    Role::Down(Configured::Standby(upstream)) => upstream,
                    Role::Down(Configured::Primary) if state.record.node != *id => None,
                    _ => return Ok(None),
                };
                next.node(*id).role = Role::Standby { upstream };
                true
            }
            Action::Demote(id) => {
                if state.record.node == *id {
                    return Ok(None);
                }
                next.forget_writes(*id);
                next.node(*id).role = Role::Down(Configured::Primary);
                true
            }
            Action::Follow(id, epoch) => self.follow(&mut next, *id, *epoch),
            Action::Release(id) => {
                let serving = next.serving(*id);
                let (epoch, waiting) = (serving.epoch, serving.waiting);
                let holds = state.lock == Some(*id) && state.record.epoch == epoch;
                if !holds || waiting || next.spent.releases >= bounds.releases {
                    return Ok(None);
                }
                next.spent.releases += 1;
                let position = next.nodes[id].position(true);
                next.node(*id).role = Role::Down(Configured::Primary);
                next.lock = None;
                next.store(state.record.released_at(position));
                true
            }
        };
        // A write that compares what is past changes nothing, whenever it lands; its sender hears that, or gives up.
        if self.rules.hold(Rule::Compare) {
            let revision = next.revision;
            let (live, dead): (Vec<Write>, Vec<Write>) =
                next.writes.drain(..).partition(|write| write.expects == revision);
            next.writes = live;
            for write in dead.into_iter().filter(|write| !write.forgotten) {
                if let Role::Serving(serving) = &mut next.node(write.by).role
                    && serving.waiting
                    && !write.takes
                {
                    serving.waiting = false;
                    serving.change = None;
                }
            }
        }
        Ok(changed.then_some(next))
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let primary = &state.nodes[&state.record.node];
        for row in (0..16).filter(|row| state.acknowledged & 1 << row != 0) {
            if !primary.has(row) {
                return Err(format!(
                    "row {row} was acknowledged, and node {}, which took the lock last, does not have it",
                    state.record.node
                ));
            }
        }
        let Some(serving) = primary
            .serving()
            .filter(|serving| serving.epoch == state.record.epoch)
        else {
            return Ok(());
        };
        if self.rules.without.is_none()
            && let Some(names) = serving.effective.iter().find(|names| !state.record.covers(names))
        {
            return Err(format!(
                "the record {:?} does not cover the names {names:?}",
                state.record
            ));
        }
        Ok(())
    }

    fn landmarks(&self, state: &State) -> Vec<&'static str> {
        let mut seen = Vec::new();
        let sync = state.record.kind == Kind::Sync;
        if state.acknowledged != 0 {
            seen.push("a row acknowledged");
        }
        let moved = state.epochs.iter().any(|(node, _)| *node != 1);
        if moved {
            seen.push("another primary");
            if state.acknowledged != 0 {
                seen.push("a row survived a failover");
            }
            let again = state.record.node != 1
                && sync
                && state.nodes[&state.record.node]
                    .serving()
                    .is_some_and(|serving| serving.epoch == state.record.epoch);
            if again {
                seen.push("sync again after a failover");
            }
        }
        let serving = state
            .nodes
            .values()
            .filter(|node| node.serving().is_some())
            .count();
        if serving > 1 {
            seen.push("an old primary that does not know");
        }
        seen
    }
}
