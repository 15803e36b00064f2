//! What can happen.

use sim::explore::Model;

use super::Group;
use super::rules::Rule;
use super::state::{Configured, Entry, Role, Serving, State, Write};
use crate::{Change, Kind, Names, NodeId};

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
