//! What there is: the store, the nodes, and writes that are under way.

use std::collections::BTreeMap;

use crate::{Change, Names, NodeId, Position, Promise, Record, Report};

/// An entry of a log: a row's number, or the beginning of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Entry {
    Row(u8),
    Timeline(u32),
}

#[derive(Debug, Clone, Hash)]
pub(super) struct State {
    pub(super) lock: Option<NodeId>,
    pub(super) record: Record,
    pub(super) revision: u64,
    /// By epoch, from 1: who took the lock, and the last revision of the record that said so.
    pub(super) epochs: Vec<(NodeId, u64)>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) writes: Vec<Write>,
    /// Rows that a client was told are safe, as bits.
    pub(super) acknowledged: u16,
    pub(super) spent: Spent,
}

#[derive(Debug, Clone, Copy, Default, Hash)]
pub(super) struct Spent {
    pub(super) writes: u8,
    pub(super) changes: u8,
    pub(super) elections: u8,
    pub(super) crashes: u8,
    pub(super) releases: u8,
    pub(super) takings: u8,
}

/// A write to the store that has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Write {
    pub(super) by: NodeId,
    /// It takes the lock; else it is a step of a change.
    pub(super) takes: bool,
    /// Its sender does not wait for the answer any more.
    pub(super) forgotten: bool,
    /// The revision it compares.
    pub(super) expects: u64,
    pub(super) record: Record,
}

#[derive(Debug, Clone, Hash)]
pub(super) struct Node {
    pub(super) log: Vec<Entry>,
    pub(super) promise: Promise,
    pub(super) report: Option<Report>,
    /// The names in its configuration file.
    pub(super) file: Names,
    pub(super) role: Role,
}

#[derive(Debug, Clone, Hash)]
pub(super) enum Role {
    /// No PostgreSQL runs.
    Down(Configured),
    Standby {
        upstream: Option<NodeId>,
    },
    /// Has taken the lock and is not writable yet.
    Chosen {
        epoch: u64,
    },
    Serving(Serving),
}

/// What a PostgreSQL that does not run would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Configured {
    Primary,
    /// Of nobody if it is cut.
    Standby(Option<NodeId>),
}

#[derive(Debug, Clone, Hash)]
pub(super) struct Serving {
    pub(super) epoch: u64,
    /// By any of these a commit may be acknowledged.
    pub(super) effective: Vec<Names>,
    pub(super) change: Option<Change>,
    /// A write of the change has been sent, and nothing heard.
    pub(super) waiting: bool,
    /// The position read for the barrier.
    pub(super) barrier: Option<usize>,
    /// How many entries each standby has confirmed in this life.
    pub(super) confirmed: BTreeMap<NodeId, usize>,
    /// Rows begun in this life, as bits.
    pub(super) begun: u16,
}

impl Serving {
    pub(super) fn new(epoch: u64, names: Names) -> Serving {
        Serving {
            epoch,
            effective: vec![names],
            change: None,
            waiting: false,
            barrier: None,
            confirmed: BTreeMap::new(),
            begun: 0,
        }
    }
}

impl Node {
    pub(super) fn position(&self, with_timeline: bool) -> Position {
        let timeline = self
            .log
            .iter()
            .rev()
            .find_map(|entry| match entry {
                Entry::Timeline(number) => Some(*number),
                Entry::Row(_) => None,
            })
            .unwrap_or(1);
        Position {
            timeline: if with_timeline { timeline } else { 1 },
            lsn: self.log.len() as u64,
        }
    }

    pub(super) fn serving(&self) -> Option<&Serving> {
        match &self.role {
            Role::Serving(serving) => Some(serving),
            _ => None,
        }
    }

    pub(super) fn has(&self, row: u8) -> bool {
        self.log.contains(&Entry::Row(row))
    }
}

impl State {
    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the group")
    }

    pub(super) fn serving(&mut self, id: NodeId) -> &mut Serving {
        match &mut self.node(id).role {
            Role::Serving(serving) => serving,
            role => unreachable!("only a primary does this, not {role:?}"),
        }
    }

    /// The sender of writes under way waits for none of them any more.
    pub(super) fn forget_writes(&mut self, by: NodeId) {
        for write in self.writes.iter_mut().filter(|write| write.by == by) {
            write.forgotten = true;
        }
    }

    /// The record is replaced; what others have read is old from now on.
    pub(super) fn store(&mut self, record: Record) {
        self.revision += 1;
        if record.epoch as usize > self.epochs.len() {
            self.epochs.push((record.node, self.revision));
        } else if let Some(last) = self.epochs.last_mut() {
            last.1 = self.revision;
        }
        self.record = record;
    }
}
