//! What waits for the driver: proposals, messages of other members, questions. Many threads put in, one takes out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Change, Configuration, Index, Message, NodeId, Position, Refusal, Snapshot, Status, Term};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::state_machine::Outcome;
use crate::wire::logpb::Command;

/// Entries and bytes made durable with one sync at most, so that a flood cannot make anyone wait for all of it.
const BATCH_ENTRIES_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Waiting commands beyond which new ones are refused.
const QUEUE_ENTRIES_MAX: usize = 64 << 10;
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// Messages of other members beyond which new ones are dropped: they send again.
const MESSAGES_BYTES_MAX: usize = 64 << 20;

/// Who waits for a proposal.
pub(super) enum Waiter {
    /// Whoever sent it to this node: told what it did.
    Outcome(oneshot::Sender<Outcome>),
    /// Another member that passed it on: told that it was appended. What it did shows in that member's own log.
    Appended(oneshot::Sender<std::result::Result<(), Refusal>>),
}

/// A command on its way.
pub(super) struct Proposal {
    pub(super) command: Command,
    pub(super) payload: Bytes,
    pub(super) waiter: Waiter,
    /// It is to enter the log as an entry of this term or not at all.
    pub(super) term: Option<Term>,
}

/// Whoever waits for a linearizable read: told when this node's state is new enough.
pub(super) type Reader = oneshot::Sender<Result<()>>;

type Answer<T> = oneshot::Sender<std::result::Result<T, Refusal>>;

/// Questions and orders, which are rare.
pub(super) enum Ask {
    Change(Change, Answer<Position>),
    Transfer(Option<NodeId>, Answer<NodeId>),
    NoteReplaced(NodeId, Answer<()>),
    /// Nodes that are no members but shall be asked before a recovery election.
    Bystanders(BTreeSet<NodeId>),
    /// Found the group with these members; this node is the one to do it.
    Found(Configuration),
    /// The group was founded with these members.
    Founded(Configuration),
    Status(oneshot::Sender<Status>),
    /// A snapshot of the state as of this index is wanted for a member; described if the log still knows that index.
    Describe(Index, oneshot::Sender<Option<Snapshot>>),
    SnapshotSent(NodeId, Snapshot),
    SnapshotFailed(NodeId),
}

#[derive(Default)]
struct Waiting {
    proposals: Vec<Proposal>,
    proposals_bytes: usize,
    messages: Vec<Message>,
    messages_bytes: usize,
    readers: Vec<Reader>,
    asks: Vec<Ask>,
    closed: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.proposals.is_empty()
            && self.messages.is_empty()
            && self.readers.is_empty()
            && self.asks.is_empty()
    }
}

/// What the driver took out.
#[derive(Default)]
pub(super) struct Work {
    pub(super) proposals: Vec<Proposal>,
    pub(super) messages: Vec<Message>,
    pub(super) readers: Vec<Reader>,
    pub(super) asks: Vec<Ask>,
    /// Nothing more will come.
    pub(super) closed: bool,
}

#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Inbox {
    /// Puts something in; wakes the driver if it may be asleep.
    fn put(&self, put: impl FnOnce(&mut Waiting) -> Result<()>) -> Result<()> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Error::Stopped);
        }
        let was_empty = waiting.is_empty();
        put(&mut waiting)?;
        drop(waiting);
        if was_empty {
            self.arrived.notify_one();
        }
        Ok(())
    }

    pub(super) fn propose(&self, proposal: Proposal) -> Result<()> {
        self.put(|waiting| {
            if waiting.proposals.len() >= QUEUE_ENTRIES_MAX || waiting.proposals_bytes >= QUEUE_BYTES_MAX {
                return Err(Error::TooManyRequests);
            }
            waiting.proposals_bytes += proposal.payload.len();
            waiting.proposals.push(proposal);
            Ok(())
        })
    }

    pub(super) fn deliver(&self, messages: Vec<Message>) {
        // Dropped while the node stops, or when there are too many.
        let _ = self.put(|waiting| {
            if waiting.messages_bytes < MESSAGES_BYTES_MAX {
                waiting.messages_bytes += messages.iter().map(size).sum::<usize>();
                waiting.messages.extend(messages);
            }
            Ok(())
        });
    }

    pub(super) fn read(&self, reader: Reader) -> Result<()> {
        self.put(|waiting| {
            waiting.readers.push(reader);
            Ok(())
        })
    }

    pub(super) fn ask(&self, ask: Ask) -> Result<()> {
        self.put(|waiting| {
            waiting.asks.push(ask);
            Ok(())
        })
    }

    /// Takes no more; what waits can still be taken out.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Takes no more, and tells all who wait that nothing will be done.
    pub(super) fn abandon(&self) {
        let abandoned = {
            let mut waiting = self.waiting.lock();
            let abandoned = std::mem::take(&mut *waiting);
            waiting.closed = true;
            abandoned
        };
        drop(abandoned);
        self.arrived.notify_all();
    }

    /// Waits until something is there, or for `limit`.
    pub(super) fn take(&self, limit: Duration) -> Work {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() && !waiting.closed {
            self.arrived.wait_for(&mut waiting, limit);
        }
        let mut bytes = 0;
        let fitting = waiting
            .proposals
            .iter()
            .take(BATCH_ENTRIES_MAX)
            .take_while(|proposal| {
                bytes += proposal.payload.len();
                bytes <= BATCH_BYTES_MAX
            });
        let count = fitting.count().max(1).min(waiting.proposals.len());
        let rest = waiting.proposals.split_off(count);
        let proposals = std::mem::replace(&mut waiting.proposals, rest);
        waiting.proposals_bytes = waiting
            .proposals
            .iter()
            .map(|proposal| proposal.payload.len())
            .sum();
        waiting.messages_bytes = 0;
        Work {
            proposals,
            messages: std::mem::take(&mut waiting.messages),
            readers: std::mem::take(&mut waiting.readers),
            asks: std::mem::take(&mut waiting.asks),
            closed: waiting.closed && waiting.proposals.is_empty(),
        }
    }
}

/// What a message takes in memory, roughly.
fn size(message: &Message) -> usize {
    match &message.body {
        consensus::Body::Append { entries, .. } => {
            64 + entries.iter().map(consensus::Entry::size).sum::<usize>()
        }
        _ => 64,
    }
}
