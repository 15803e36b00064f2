//! The apply thread: carries committed entries out in order, makes their effects readable, and answers who waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use service::SharedClock;
use service::clock::Stopwatch;
use tokio::sync::oneshot;

use super::view::Board;
use super::{EXIT_CORRUPT, EXIT_DISK, Fatal, Retain};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::mvcc::{Event, Revision};
use crate::state_machine::{Committed, Outcome, StateMachine};
use crate::wire::logpb::Command;

/// Entries applied at a time, so that nobody waits for all of a long backlog.
const GROUP_ENTRIES_MAX: usize = 4096;

/// A committed entry, and who waits for it on this node.
pub(super) struct Applying {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) content: Content,
    /// What it takes in memory until it is applied.
    pub(super) bytes: usize,
    pub(super) reply: Option<oneshot::Sender<Outcome>>,
}

pub(super) enum Content {
    /// As it was proposed here.
    Command(Command),
    /// As it lies in the log.
    Encoded(Bytes),
    /// An entry of the group itself: it changes nothing but how far the log is applied.
    Nothing,
}

pub(super) enum Job {
    Entries(Vec<Applying>),
    /// Tell when everything before is done.
    Barrier(oneshot::Sender<()>),
}

/// Commands that this node passed on to the leader, by their number: they come back through the log.
#[derive(Default)]
pub(super) struct PassedOn(Mutex<HashMap<u64, oneshot::Sender<Outcome>>>);

impl PassedOn {
    pub(super) fn expect(&self, number: u64) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.0.lock().insert(number, reply);
        outcome
    }

    pub(super) fn forget(&self, number: u64) {
        self.0.lock().remove(&number);
    }

    fn take(&self, number: u64) -> Option<oneshot::Sender<Outcome>> {
        self.0.lock().remove(&number)
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

pub(super) struct Applier {
    pub(super) node: u64,
    pub(super) board: Arc<Board>,
    pub(super) passed_on: Arc<PassedOn>,
    pub(super) machine: Arc<StateMachine>,
    /// Shown the outcome of every command before its client is told, whoever sent it.
    pub(super) applied: Box<dyn Fn(&Outcome) + Send>,
    pub(super) jobs: Receiver<Job>,
    pub(super) to_watches: SyncSender<(Vec<Event>, Revision)>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) retain: Retain,
    pub(super) fail: Arc<dyn Fn(Fatal) + Send + Sync>,
    /// Nothing more may be taken or waited for.
    pub(super) abandon: Arc<dyn Fn() + Send + Sync>,
}

impl Applier {
    pub(super) fn run(self) {
        let mut next_look = self.board.applied() + self.retain.every;
        while let Ok(job) = self.jobs.recv() {
            let mut entries = match job {
                Job::Entries(entries) => entries,
                Job::Barrier(done) => {
                    next_look = next_look.max(self.board.applied());
                    // Who asked waits.
                    let _ = done.send(());
                    continue;
                }
            };
            while !entries.is_empty() {
                if self.board.superseded.load(Ordering::Acquire) {
                    self.drop_all(entries);
                    break;
                }
                let rest = entries.split_off(entries.len().min(GROUP_ENTRIES_MAX));
                let last = match self.apply(std::mem::replace(&mut entries, rest)) {
                    Ok(last) => last,
                    Err(error) => return self.give_up(&error),
                };
                if last >= next_look {
                    next_look = last + self.retain.every;
                    self.look_at_the_log(last);
                }
            }
        }
    }

    fn give_up(&self, error: &Error) {
        // The entries are in the log and will be applied after the next start; their clients are told that the server has
        // stopped, which leaves it open.
        if *error == Error::NoSpace {
            super::halt(&self.board, &Error::NoSpace);
            return;
        }
        tracing::error!(target: "chainfire_storage", error = %error, "Apply failed");
        (self.abandon)();
        (self.fail)(Fatal {
            exit_code: if matches!(error, Error::Damaged(_)) {
                EXIT_CORRUPT
            } else {
                EXIT_DISK
            },
            reason: format!("apply: {error}"),
        });
    }

    fn apply(&self, group: Vec<Applying>) -> Result<u64> {
        let watch = Stopwatch::start();
        let bytes = group.iter().map(|applying| applying.bytes).sum();
        let mut replies = Vec::with_capacity(group.len());
        let mut entries = Vec::with_capacity(group.len());
        for applying in group {
            let (index, term) = (applying.index, applying.term);
            let command = match applying.content {
                Content::Command(command) => command,
                Content::Encoded(payload) => Command::decode(payload).map_err(|_| {
                    Error::Damaged(format!("corrupted log entry, index={index}, error=payload"))
                })?,
                Content::Nothing => Command::default(),
            };
            let passed_on = command.origin_request != 0 && command.origin_node == self.node;
            replies.push(applying.reply.or_else(|| {
                passed_on
                    .then(|| self.passed_on.take(command.origin_request))
                    .flatten()
            }));
            entries.push(Committed { index, term, command });
        }
        let mut publish = |events: Vec<Event>| {
            let revision = self.machine.mvcc.revision();
            // Fails only when the watches' thread has stopped, and then the node is stopping.
            drop(self.to_watches.send((events, revision)));
        };
        let outcomes = self
            .machine
            .apply(entries, self.clock.now().millis(), &mut publish)?;
        let last = outcomes.last().map_or(0, |outcome| outcome.index);
        self.board.show_applied(last);
        self.metrics.applied(watch.elapsed(), outcomes.len());
        log_committed(&self.clock, last);
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            (self.applied)(&outcome);
            if let Some(reply) = reply {
                // A client that has gone away does not wait for its answer.
                drop(reply.send(outcome));
            }
        }
        self.board.no_longer_waits(bytes);
        Ok(last)
    }

    /// Entries whose effects come with a new state: what they did here, nobody will know.
    fn drop_all(&self, entries: Vec<Applying>) {
        for entry in entries {
            self.board.no_longer_waits(entry.bytes);
            if let Some(reply) = entry.reply {
                // Whoever asked may have gone away.
                drop(reply.send(Outcome {
                    reply: Err(Error::TimeoutLeaderFailure),
                    revision: 0,
                    index: 0,
                    term: 0,
                }));
            }
        }
    }

    /// Lets the driver drop what the state on disk no longer needs, but for what members that lag may ask for.
    fn look_at_the_log(&self, last: u64) {
        match self.machine.mvcc.flushed_index() {
            Ok(flushed) => {
                let droppable = flushed.min(last.saturating_sub(self.retain.keep));
                self.board.droppable.fetch_max(droppable, Ordering::AcqRel);
            }
            Err(error) => {
                tracing::warn!(target: "chainfire_storage", error = %error, "Log could not be shortened");
            }
        }
    }
}

/// At most one line a second at info, every one at debug.
fn log_committed(clock: &SharedClock, index: u64) {
    static NEWEST: service::logs::Throttle = service::logs::Throttle::new(std::time::Duration::from_secs(1));
    if NEWEST.permit(clock.now()) {
        let held_back = NEWEST.held_back_field();
        tracing::info!(target: "chainfire_storage", index, held_back, "Committed entry");
    } else {
        tracing::debug!(target: "chainfire_storage", index, "Committed entry");
    }
}
