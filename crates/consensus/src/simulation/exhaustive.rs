//! Every schedule within small bounds: the rule for members that forgot, explored with [`sim::explore`].
//!
//! The members are real ones: a state holds a [`Replica`] per member, and what a member does in answer to a message is done by
//! [`Replica::step`]. Only what is a matter of time, chance or flow is replaced by single steps (`machine::exploration`): a timeout is an
//! action, a leader sends its whole log when an action says so, heartbeats only tell what is committed. Messages are a set that nothing is
//! taken from but what can change nothing any more, so each may be lost, late, reordered or repeated.
//!
//! Replicas and messages are numbered (`world`), so a state is a handful of numbers, and what a member does is computed once for each
//! pair of member and move. `truth` is what the checks remember. `searches` says what holds, `clauses` what does not hold without each
//! clause of the rule.
//!
//! Left out, and left to the random schedules: pre-vote and check-quorum, reads, snapshots, torn and delayed writes, two recovery elections
//! in one epoch by chance, and (unless `guarded`) what the probe before a recovery election looks at: here one may be held at any
//! time by anybody who holds a log, which is more than the code allows.

mod action;
mod clauses;
mod opening;
mod rules;
mod searches;
mod truth;
mod world;

use std::cell::RefCell;
use std::rc::Rc;

use sim::explore::Model;

use self::action::Action;
use self::rules::{Budget, Rules};
use self::truth::Truth;
use self::world::{Move, Moved, World};
use crate::machine::Answered;
use crate::{Body, Change, Incarnation, Index, Replica};

const NODES: usize = 5;

/// Members and copies by number in [`World`], messages likewise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    members: [u32; NODES],
    copies: [u32; NODES],
    truth: u32,
    left: Budget,
    messages: Vec<u32>,
}

struct Exhaustive {
    rules: Rules,
    world: RefCell<World>,
    start: Option<State>,
}

/// Epochs that a wide leap skips, and lives between two losses: more than anything else adds.
const WIDE: u64 = 1000;
const LIFE: u64 = 1 << 32;

impl Exhaustive {
    fn new(rules: Rules) -> Exhaustive {
        Exhaustive {
            rules,
            world: RefCell::new(World::default()),
            start: None,
        }
    }

    fn nodes(&self) -> usize {
        usize::try_from(self.rules.voters).unwrap() + usize::from(self.rules.learner)
    }

    /// How many campaigns and losses there were: each has a number of its own.
    fn nth_campaign(&self, state: &State) -> u64 {
        u64::from(self.rules.budget.campaigns - state.left.campaigns)
    }

    fn next_life(&self, state: &State) -> Incarnation {
        let (all, left) = (self.rules.budget, state.left);
        let losses = (all.wipes - left.wipes) + (all.restores - left.restores);
        Incarnation((u64::from(losses) + 1) * LIFE)
    }

    /// Who does it, what it is for that member, and what is left of the budget; nothing if it is not possible.
    fn local(&self, world: &World, state: &State, action: &Action) -> Option<(usize, Move, Budget)> {
        let mut left = state.left;
        let spend = |from: &mut u8| {
            *from = from.checked_sub(1)?;
            Some(())
        };
        let member = |at: usize| world.member(state.members[at]);
        let met = |at: usize| {
            let hard = member(at).hard().clone();
            (world::node(at), hard.incarnation, hard.recovering)
        };
        let (by, what) = match *action {
            Action::Hear(message, ref content) => (world::place(content.to), Move::Hear(message)),
            Action::HearAll(at) => (at, Move::Nothing),
            Action::Stand(by) => {
                spend(&mut left.campaigns)?;
                (by, Move::Stand)
            }
            Action::Recover { by, wide } => {
                spend(&mut left.campaigns)?;
                spend(&mut left.recoveries)?;
                let everybody = member(by).electorate();
                let answers: Vec<Answered> = everybody
                    .iter()
                    .map(|node| answer(&member(world::place(*node))))
                    .collect();
                if answers.is_empty() {
                    return None;
                }
                let skipped = self.nth_campaign(state) + if wide { WIDE } else { 0 };
                let guarded = self.rules.guarded;
                (
                    by,
                    Move::Recover {
                        answers,
                        skipped,
                        guarded,
                    },
                )
            }
            Action::Append { from, to, short } => {
                spend(&mut left.appends)?;
                let last = member(from).last_index();
                let until = last - Index::from(short);
                (from, Move::Append { to: met(to), until })
            }
            Action::Heartbeat { from, to } => {
                let heartbeat = member(from).heartbeat_for(world::node(to))?;
                let Body::Heartbeat { commit, .. } = heartbeat.body else {
                    return None;
                };
                if commit <= member(to).hard().commit {
                    return None;
                }
                (to, Move::Heartbeat(heartbeat))
            }
            Action::Admit { by, node } => (by, Move::Admit { node: met(node) }),
            Action::Put(by) => {
                spend(&mut left.puts)?;
                (by, Move::Put(left.puts.into()))
            }
            Action::Remove { by, node } => {
                spend(&mut left.changes)?;
                (
                    by,
                    Move::Change(Change::Remove {
                        node: world::node(node),
                    }),
                )
            }
            Action::Promote { by, node } => {
                spend(&mut left.changes)?;
                (
                    by,
                    Move::Change(Change::Promote {
                        node: world::node(node),
                    }),
                )
            }
            Action::Restart(at) => {
                spend(&mut left.restarts)?;
                (at, Move::Restart)
            }
            Action::Wipe(at) => {
                spend(&mut left.wipes)?;
                (at, Move::Wipe(self.next_life(state)))
            }
            Action::Restore(at) => {
                spend(&mut left.restores)?;
                let (copy, life) = (state.copies[at], self.next_life(state));
                (at, Move::Restore { copy, life })
            }
            Action::Copy(at) => {
                spend(&mut left.copies)?;
                (at, Move::Nothing)
            }
        };
        Some((by, what, left))
    }

    fn judge(
        world: &World,
        before: &State,
        after: &State,
        by: usize,
        moved: &Moved,
    ) -> Result<Truth, String> {
        if let Some(what) = moved.impossible {
            return Err(format!("member {}: {what}", by + 1));
        }
        let (old, new) = (world.member(before.members[by]), world.member(after.members[by]));
        let mut truth = (*world.truth(before.truth)).clone();
        if new.leads() && !(old.leads() && old.hard().term == new.hard().term) {
            let members: Vec<Rc<Replica>> = after
                .members
                .iter()
                .filter(|id| **id != u32::MAX)
                .map(|id| world.member(*id))
                .collect();
            truth.elect(&new, old.asked_in_recovery(), &members)?;
        }
        truth.commit(&new, if moved.forgot { 0 } else { old.hard().commit })?;
        Ok(truth)
    }
}

fn answer(member: &Replica) -> Answered {
    let status = member.status();
    Answered {
        node: member.node(),
        life: status.incarnation,
        recovering: status.recovering,
        term: status.term,
        last: status.last,
    }
}

impl Model for Exhaustive {
    type State = State;
    type Action = Action;

    fn initial(&self) -> Vec<State> {
        if let Some(start) = &self.start {
            return vec![start.clone()];
        }
        let world = &mut *self.world.borrow_mut();
        let mut members = [u32::MAX; NODES];
        for (at, member) in members.iter_mut().take(self.nodes()).enumerate() {
            *member = world.found(at, &self.rules);
        }
        if self.rules.led {
            self.lead(world, &mut members);
        }
        let mut truth = Truth::default();
        for member in members.iter().take(self.nodes()) {
            let member = world.member(*member);
            if member.leads() {
                truth.elect(&member, None, &[]).expect("the first");
            }
            truth.commit(&member, 0).expect("all are alike");
        }
        let truth = world.note_truth(truth);
        vec![State {
            members,
            copies: members,
            truth,
            left: self.rules.budget,
            messages: Vec::new(),
        }]
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let world = self.world.borrow();
        let mut actions: Vec<Action> = state
            .messages
            .iter()
            .map(|message| Action::Hear(*message, world.message(*message)))
            .collect();
        // At the beginning all voters are alike, so it does not matter which of them is the first to do something.
        let untouched = state.left == self.rules.budget && !self.rules.led && self.start.is_none();
        let nodes = self.nodes();
        for at in (0..nodes).filter(|at| *at == 0 || !untouched) {
            let member = world.member(state.members[at]);
            let left = &state.left;
            if member.leads() {
                for to in (0..nodes).filter(|to| *to != at) {
                    actions.push(Action::Heartbeat { from: at, to });
                    actions.push(Action::Admit { by: at, node: to });
                    if left.appends > 0 {
                        actions.push(Action::Append {
                            from: at,
                            to,
                            short: false,
                        });
                        if self.rules.short_appends && member.last_index() > 1 {
                            actions.push(Action::Append {
                                from: at,
                                to,
                                short: true,
                            });
                        }
                    }
                    if left.changes > 0 {
                        actions.push(Action::Remove { by: at, node: to });
                        actions.push(Action::Promote { by: at, node: to });
                    }
                }
                if left.puts > 0 {
                    actions.push(Action::Put(at));
                }
            } else if left.campaigns > 0 {
                actions.push(Action::Stand(at));
                if left.recoveries > 0 {
                    actions.push(Action::Recover { by: at, wide: false });
                    if self.rules.wide_leaps {
                        actions.push(Action::Recover { by: at, wide: true });
                    }
                }
            }
            let lost = [
                (left.restarts, Action::Restart(at)),
                (left.wipes, Action::Wipe(at)),
                (left.copies, Action::Copy(at)),
                (left.restores, Action::Restore(at)),
            ];
            actions.extend(
                lost.into_iter()
                    .filter(|(left, _)| *left > 0)
                    .map(|(_, action)| action),
            );
        }
        actions
    }

    fn next(&self, state: &State, action: &Action) -> Result<Option<State>, String> {
        if let Action::HearAll(at) = action {
            return self.hear_all(state, *at);
        }
        let world = &mut *self.world.borrow_mut();
        let Some((by, what, left)) = self.local(world, state, action) else {
            return Ok(None);
        };
        let moved = world.act(state.members[by], what);
        let mut next = state.clone();
        next.left = left;
        if let Action::Copy(at) = action {
            next.copies[*at] = state.members[*at];
            return Ok((next.copies != state.copies).then_some(next));
        }
        next.members[by] = moved.member;
        next.messages.extend(&moved.said);
        next.messages.sort_unstable();
        next.messages.dedup();
        if next.members == state.members && next.messages == state.messages {
            return Ok(None);
        }
        let truth = Exhaustive::judge(world, state, &next, by, &moved)?;
        next.truth = world.note_truth(truth);
        for other in (0..self.nodes()).filter(|other| *other != by) {
            world.compare(next.members[by], next.members[other])?;
        }
        next.messages
            .retain(|message| world.matters(*message, &next.members));
        Ok(Some(next))
    }

    fn check(&self, _: &State) -> Result<(), String> {
        // Every check is one of a step: what was elected, committed, written by it.
        Ok(())
    }

    fn landmarks(&self, state: &State) -> Vec<&'static str> {
        let world = self.world.borrow();
        let truth = world.truth(state.truth);
        let mut landmarks = truth.landmarks();
        let members = state.members.iter().filter(|id| **id != u32::MAX);
        let readmitted = |id: &u32| {
            let member = world.member(*id);
            member.hard().incarnation.0 >= LIFE && !member.hard().recovering
        };
        if members.clone().any(readmitted) {
            landmarks.push("admitted again");
        }
        landmarks
    }
}
