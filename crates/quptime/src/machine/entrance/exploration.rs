//! Every schedule within small bounds: the machine itself, on up to three nodes, around an abstract Raft.
//!
//! What is real: [`Entrance`], its notes, tickets and statements. What is abstract: a replica's log is its end, the content there, and
//! how much of it is applied (`group`); elections need a majority of connected voters in the right lives, whose logs are not ahead; a leader sends
//! its whole log. Answers wait in the machine until it looks, so they can be as old as one likes. The passing of 30 s is an action that is
//! possible when everybody was asked. With `slow_disk`, a write ends or is lost by an action of its own; otherwise at once.
//!
//! The operator stops nodes, wipes their Raft directories, puts edited or old files on them, writes `version: 0`; see [`Budget`].
//!
//! What must hold is in `truth`: one running group, nothing acknowledged is lost, no votes with an empty memory, no placeholder proposed.
//! That nothing gets stuck is seen by letting every state that is reached (or one in so many) run on without faults: `fair`.
//! `searches` says what holds, `clauses` what does not hold without each clause, `scenarios` keeps some of these by name.

mod clauses;
mod fair;
mod group;
mod names;
mod scenarios;
mod searches;
mod truth;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;

use sim::explore::Model;

use self::world::{Kind, State, World};
use super::Mutation;

/// What can still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Budget {
    /// Of running nodes, at any time.
    crashes: u8,
    /// Of the connection between two nodes; healing is free.
    cuts: u8,
    elections: u8,
    /// Changes of the configuration.
    puts: u8,
    /// Groups that are founded or given up.
    foundings: u8,
    /// Raft directories removed, from stopped nodes (stopping is free for an operator).
    wipes: u8,
    /// `version: 0` written.
    zeros: u8,
    /// Nodes that get the same edited file.
    edits: u8,
    /// The edited file keeps its version.
    same_version: bool,
    /// Nodes that get a file without the last node.
    surgeries: u8,
    /// Nodes that get the file of the beginning.
    backups: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// All nodes are members of one group and up.
    Group,
    /// All have the same file and nothing else.
    Files,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    nodes: usize,
    beginning: Beginning,
    budget: Budget,
    slow_disk: bool,
    /// Clauses left out.
    mutation: [Mutation; 2],
    /// One state in so many runs on without faults; none if 0.
    fair_every: u64,
    /// Of a random walk: what nodes do is more likely than what is done to them.
    walk: bool,
}

/// What can happen. Nodes by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Ask { node: usize, peer: usize },
    Look(usize),
    HalfAMinute(usize),
    Written(usize),
    Start(usize),
    Crash(usize),
    Cut(usize, usize),
    Heal(usize, usize),
    Elect(usize),
    Send { from: usize, to: usize },
    Put(usize),
    Admit { by: usize, node: usize },
    Wipe(usize),
    Damage(usize),
    DamageTrial(usize),
    File(usize, Kind),
}

struct Exploration {
    rules: Rules,
    /// What the machine did, by row, and other things worth seeing.
    seen: RefCell<BTreeMap<String, u64>>,
}

impl Exploration {
    fn new(rules: Rules) -> Exploration {
        Exploration {
            rules,
            seen: RefCell::default(),
        }
    }

    fn step(&self, state: &State, action: Move) -> Result<Option<State>, String> {
        let mut world = World::new(state.clone(), &self.rules, &self.seen);
        if !world.perform(action)? {
            return Ok(None);
        }
        world.follow_up()?;
        world.truth()?;
        Ok((world.state != *state).then_some(world.state))
    }

    /// These actions as far as they are possible.
    fn tell(&self, actions: &[Move]) -> Result<State, String> {
        let mut state = self.initial().swap_remove(0);
        for action in actions {
            state = self.step(&state, *action)?.unwrap_or(state);
        }
        Ok(state)
    }

    /// These actions, all of which must be possible.
    fn play(&self, actions: &[Move]) -> Result<State, String> {
        let mut state = self.initial().swap_remove(0);
        for (at, action) in actions.iter().enumerate() {
            let next = self.step(&state, *action)?;
            state = next.unwrap_or_else(|| panic!("step {}, {action:?}, is not possible", at + 1));
        }
        Ok(state)
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Move;

    fn initial(&self) -> Vec<State> {
        vec![World::begin(&self.rules, &self.seen)]
    }

    fn actions(&self, state: &State) -> Vec<Move> {
        let nodes = self.rules.nodes;
        let left = &state.left;
        let (mut moves, mut done) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            moves.extend([Move::Look(node), Move::HalfAMinute(node), Move::Start(node)]);
            if self.rules.slow_disk {
                moves.push(Move::Written(node));
            }
            if left.elections > 0 {
                moves.push(Move::Elect(node));
            }
            for peer in (0..nodes).filter(|peer| *peer != node) {
                moves.push(Move::Ask { node, peer });
                moves.push(Move::Send { from: node, to: peer });
                moves.push(Move::Admit { by: node, node: peer });
                if node < peer {
                    moves.push(Move::Heal(node, peer));
                    if left.cuts > 0 {
                        done.push(Move::Cut(node, peer));
                    }
                }
            }
            let budgeted = [
                (left.puts, Move::Put(node)),
                (left.crashes, Move::Crash(node)),
                (left.wipes, Move::Wipe(node)),
                (left.wipes, Move::Damage(node)),
                (left.wipes, Move::DamageTrial(node)),
                (left.zeros, Move::File(node, Kind::Zero)),
                (left.edits, Move::File(node, Kind::Edited)),
                (left.surgeries, Move::File(node, Kind::Surgery)),
                (left.backups, Move::File(node, Kind::Backup)),
            ];
            done.extend(
                budgeted
                    .into_iter()
                    .filter(|(left, _)| *left > 0)
                    .map(|(_, action)| action),
            );
        }
        if self.rules.walk {
            for _ in 0..2 {
                moves.extend_from_within(..);
            }
        }
        moves.extend(done);
        moves
    }

    fn next(&self, state: &State, action: &Move) -> Result<Option<State>, String> {
        self.step(state, *action)
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let every = self.rules.fair_every;
        if every > 0 && names::number(&self.canonical(state)).is_multiple_of(every) {
            return fair::run(state, &self.rules, &self.seen);
        }
        Ok(())
    }

    fn canonical(&self, state: &State) -> State {
        names::canonical(state)
    }
}
