//! Clients: what they ask, whom, and what they are told.

use sim::history::{Operation, Record};

use super::{Asked, Cluster, Happening, KEYS, PATIENCE, is_leader};
use crate::simulation::node::{Command, Ticket};
use crate::{NodeId, Refusal};

impl Cluster {
    pub(super) fn answer(&mut self, ticket: Ticket, outcome: impl Fn(Operation) -> Operation) {
        if let Some(mut asked) = self.asked.remove(&ticket) {
            asked.operation = outcome(asked.operation);
            self.note(asked, Some(self.queue.now()));
            let pause = self.rng.below(400_000);
            self.queue.after(1 + pause, Happening::Client(asked.client));
        }
    }

    pub(super) fn note(&mut self, asked: Asked, returned: Option<u64>) {
        if returned.is_some() || !matches!(asked.operation, Operation::Read(_)) {
            let record = Record {
                called: asked.called,
                returned,
                operation: asked.operation,
            };
            self.history.record(asked.key, record);
        }
    }

    pub(super) fn answer_reads(&mut self, node: NodeId) {
        let Some(this) = self.nodes.get_mut(&node) else {
            return;
        };
        let applied = this.machine.applied;
        let (done, waiting) = this
            .reads_ready
            .drain(..)
            .partition(|(index, _)| *index <= applied);
        this.reads_ready = waiting;
        let done: Vec<(u64, Ticket)> = done;
        for (_, ticket) in done {
            let Some(asked) = self.asked.get(&ticket) else {
                continue;
            };
            let value = self.nodes[&node].machine.registers.get(&asked.key).copied();
            self.answer(ticket, |_| Operation::Read(value));
        }
    }

    /// A client asks for something, of whoever it likes.
    pub(super) fn ask(&mut self, client: usize) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let leader = self
            .nodes
            .values()
            .find(|node| is_leader(node))
            .map(|node| node.id);
        let node = match leader {
            Some(leader) if self.rng.chance(600) => leader,
            _ => *self.rng.pick(&ids),
        };
        let key = self.rng.below(KEYS);
        let what = self.rng.below(10);
        self.tickets += 1;
        let ticket = self.tickets;
        let this = self.nodes.get_mut(&node).expect("a node");
        let known = this.machine.registers.get(&key).copied();
        let now = self.queue.now();
        let taken = match this.replica.as_mut().filter(|_| this.frozen_until <= now) {
            None => Err(Refusal::NotLeader { leader: None }),
            Some(replica) if what < 5 => {
                let read = replica.read();
                read.map(|id| {
                    this.reads.insert(id, ticket);
                    Operation::Read(None)
                })
            }
            Some(replica) => {
                self.values += 1;
                let new = self.values;
                let (command, operation) = if what < 8 {
                    (Command::Put { key, value: new }, Operation::Write(new))
                } else {
                    let operation = Operation::Swap {
                        old: known,
                        new,
                        swapped: None,
                    };
                    (Command::Swap { key, old: known, new }, operation)
                };
                let proposed = replica.propose(command.encode());
                proposed.map(|position| {
                    this.writes.insert(position.index, (position.term, ticket));
                    operation
                })
            }
        };
        if let Ok(operation) = taken {
            let asked = Asked {
                client,
                key,
                operation,
                called: now,
            };
            self.asked.insert(ticket, asked);
            self.queue.after(PATIENCE, Happening::GiveUp(ticket));
            self.pump(node);
        } else {
            let pause = self.rng.below(100_000);
            self.queue.after(1 + pause, Happening::Client(client));
        }
    }
}
