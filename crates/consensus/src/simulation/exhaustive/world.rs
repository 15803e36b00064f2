//! Members and messages by number, and what members do, each computed once.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use super::truth::Truth;
use super::{NODES, Rules};
use crate::machine::Answered;
use crate::simulation::node::Command;
use crate::{
    Body, Change, Configuration, Entry, Event, GroupId, HardState, Incarnation, Index, Kind, Member, Message,
    Mutation, NodeId, Replica, Restored, Settings, Snapshot, Term,
};

pub(super) fn node(place: usize) -> NodeId {
    NodeId(place as u64 + 1)
}

pub(super) fn place(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("a place")
}

/// A member as it presents itself: its life and its flag.
pub(super) type Met = (NodeId, Incarnation, bool);

/// What one member does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Move {
    Nothing,
    Hear(u32),
    Heartbeat(Message),
    Stand,
    Recover {
        answers: Vec<Answered>,
        skipped: u64,
        guarded: bool,
    },
    Append {
        to: Met,
        until: Index,
    },
    Admit {
        node: Met,
    },
    Put(u64),
    Change(Change),
    Restart,
    Wipe(Incarnation),
    Restore {
        copy: u32,
        life: Incarnation,
    },
}

/// What became of it.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    pub(super) member: u32,
    pub(super) said: Vec<u32>,
    /// What it knew to be committed is forgotten.
    pub(super) forgot: bool,
    pub(super) impossible: Option<&'static str>,
}

/// Values, each once and by number.
#[derive(Debug)]
struct Table<T> {
    numbers: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }
}

impl<T: Hash + Eq> Table<T> {
    fn note(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let (number, value) = (u32::try_from(self.values.len()).expect("few"), Rc::new(value));
        self.numbers.insert(value.clone(), number);
        self.values.push(value);
        number
    }

    fn get(&self, number: u32) -> Rc<T> {
        self.values[number as usize].clone()
    }
}

#[derive(Debug, Default)]
pub(super) struct World {
    members: Table<Replica>,
    messages: Table<Message>,
    truths: Table<Truth>,
    moves: HashMap<(u32, Move), Rc<Moved>>,
    compared: HashMap<(u32, u32), Result<(), String>>,
}

impl World {
    pub(super) fn member(&self, number: u32) -> Rc<Replica> {
        self.members.get(number)
    }

    pub(super) fn message(&self, number: u32) -> Rc<Message> {
        self.messages.get(number)
    }

    pub(super) fn truth(&self, number: u32) -> Rc<Truth> {
        self.truths.get(number)
    }

    pub(super) fn note_truth(&mut self, truth: Truth) -> u32 {
        self.truths.note(truth)
    }

    /// A member as it is at the beginning: its log holds the first configuration.
    pub(super) fn found(&mut self, at: usize, rules: &Rules) -> u32 {
        let voters = (1..=rules.voters).map(|id| (NodeId(id), Incarnation(id), bytes::Bytes::new()));
        let mut configuration = Configuration::of_voters(voters);
        if rules.learner {
            let learner = Member {
                voter: false,
                incarnation: Incarnation(rules.voters + 1),
                context: bytes::Bytes::new(),
            };
            configuration.insert(NodeId(rules.voters + 1), learner);
        }
        let mut hard = HardState::new(Incarnation(node(at).0), false);
        hard.term = Term(1);
        hard.commit = 1;
        let first = Entry {
            index: 1,
            term: Term(1),
            kind: Kind::Configuration,
            payload: configuration.encode(),
        };
        let settings = Settings {
            mutation: rules.mutation,
            ..Settings::new(GroupId(1), node(at), 0)
        };
        let replica = start(settings, hard, vec![first]);
        self.members.note(replica)
    }

    /// What `member` does.
    pub(super) fn act(&mut self, member: u32, what: Move) -> Rc<Moved> {
        if let Some(known) = self.moves.get(&(member, what.clone())) {
            return known.clone();
        }
        let mut replica = (*self.member(member)).clone();
        let mut append = None;
        let mut forgot = false;
        match &what {
            Move::Nothing => {}
            Move::Hear(message) => replica.step((*self.message(*message)).clone()),
            Move::Heartbeat(message) => replica.step(message.clone()),
            Move::Stand => replica.stand_now(),
            Move::Recover {
                answers,
                skipped,
                guarded,
            } => replica.hold_recovery(answers, *skipped, *guarded),
            Move::Append { to, until } => {
                meet(&mut replica, *to);
                append = replica.append_for(to.0, *until);
            }
            Move::Admit { node } => {
                meet(&mut replica, *node);
                replica.admit_now();
            }
            // What is refused did not happen.
            Move::Put(value) => drop(
                replica.propose(
                    Command::Put {
                        key: 1,
                        value: *value,
                    }
                    .encode(),
                ),
            ),
            Move::Change(Change::Promote { node }) => replica.promote_now(*node),
            Move::Change(change) => drop(replica.change(change.clone())),
            Move::Restart => {
                let hard = HardState {
                    commit: 0,
                    ..replica.hard().clone()
                };
                replica = start(replica.settings().clone(), hard, replica.log_entries());
                forgot = true;
            }
            Move::Wipe(life) => {
                if replica.hard().term > Term(0) {
                    replica = start(
                        replica.settings().clone(),
                        HardState::new(*life, true),
                        Vec::new(),
                    );
                    forgot = true;
                }
            }
            Move::Restore { copy, life } => {
                let copy = self.member(*copy);
                let hard = copy.hard().clone().restored(*life);
                replica = start(copy.settings().clone(), hard, copy.log_entries());
                forgot = true;
            }
        }
        let (mut said, impossible, discarded) = settle(&mut replica);
        said.extend(append);
        let moved = Rc::new(Moved {
            member: self.members.note(replica),
            said: said
                .into_iter()
                .map(|message| self.messages.note(message))
                .collect(),
            forgot: forgot || discarded,
            impossible,
        });
        self.moves.insert((member, what), moved.clone());
        moved
    }

    /// Log matching: where two logs hold the same position, they are equal up to it.
    pub(super) fn compare(&mut self, one: u32, other: u32) -> Result<(), String> {
        let pair = (one.min(other), one.max(other));
        if let Some(known) = self.compared.get(&pair) {
            return known.clone();
        }
        let (a, b) = (
            self.member(pair.0).log_entries(),
            self.member(pair.1).log_entries(),
        );
        let shared = a.iter().zip(&b).rposition(|(a, b)| a.position() == b.position());
        let equal = shared.is_none_or(|last| a[..=last] == b[..=last]);
        let outcome = if equal {
            Ok(())
        } else {
            Err(format!("log matching: {a:?} and {b:?}"))
        };
        self.compared.insert(pair, outcome.clone());
        outcome
    }

    /// Whether a message may still change anything, now or later. Terms and lives of a disk only grow, and a wiped disk is another life; so
    /// what comes too late for them stays too late.
    pub(super) fn matters(&self, message: u32, members: &[u32; NODES]) -> bool {
        let message = self.message(message);
        let to = self.member(members[place(message.to)]);
        let hard = to.hard();
        if message.term < hard.term {
            return false;
        }
        let mutation = to.settings().mutation;
        // Without these clauses, what was said to an older life may still be heard.
        if matches!(
            mutation,
            Mutation::NormalAfterContact | Mutation::AnyIncarnationCounts
        ) {
            return true;
        }
        if message.to_incarnation < hard.incarnation {
            return false;
        }
        let same_term = message.term == hard.term;
        match &message.body {
            // Nobody becomes a candidate or a leader again in a term that he has given up.
            Body::VoteAnswer { .. } if same_term => to.is_candidate() && !to.has_granted(message.from),
            Body::AppendAnswer { matched } if same_term => {
                let counted = to.counted_of(message.from, message.from_incarnation);
                counted.is_some_and(|counted| counted < *matched)
            }
            Body::Vote { .. } if same_term && mutation != Mutation::VotesTwice => {
                hard.vote.is_none_or(|vote| vote.node == message.from)
            }
            // Or from a later term: heard by somebody who does not know it yet.
            _ => true,
        }
    }
}

fn start(settings: Settings, hard_state: HardState, entries: Vec<Entry>) -> Replica {
    let restored = Restored {
        hard_state,
        base: Snapshot::default(),
        applied: 0,
        entries,
    };
    let mut replica = Replica::new(settings, restored).expect("as written");
    replica.normalise();
    replica
}

/// The member presents itself to this one.
fn meet(replica: &mut Replica, (from, from_incarnation, recovering): Met) {
    replica.step(Message {
        group: GroupId(1),
        from,
        to: replica.node(),
        from_incarnation,
        to_incarnation: replica.hard().incarnation,
        recovering,
        term: Term(0),
        body: Body::Hello,
    });
}

/// Everything is written and applied. What is worth a message, what should not have happened, and whether the log was dropped.
fn settle(replica: &mut Replica) -> (Vec<Message>, Option<&'static str>, bool) {
    let mut said = Vec::new();
    let mut impossible = None;
    let mut discarded = false;
    while let Some(ready) = replica.ready() {
        said.extend(ready.messages);
        replica.persisted(ready.number);
        said.extend(ready.messages_after);
        if let Some(last) = ready.committed.last() {
            replica.applied(last.index);
        }
        discarded |= ready.discard;
        for event in ready.events {
            if let Event::Impossible(what) = event {
                impossible = Some(what);
            }
        }
    }
    replica.normalise();
    // Appends and heartbeats are sent when an action says so; everything else is about time, reads, flow or who is there.
    said.retain(|message| match message.body {
        Body::Vote { .. } | Body::AppendAnswer { .. } | Body::Contradiction { .. } => true,
        Body::VoteAnswer { granted } => granted,
        _ => false,
    });
    (said, impossible, discarded)
}
