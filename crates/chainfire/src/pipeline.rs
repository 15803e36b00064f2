//! The way of a write: one ordered queue, one sync for all who wait, apply, answer.
//!
//! Server tasks put encoded commands into the queue. The *log writer* takes everything that waits, gives it indices and
//! makes it durable with one sync; while the disk works, the next batch gathers, so the more clients there are the fewer
//! syncs each costs. The *apply thread* carries entries out in order, makes their effects readable, and answers. The two work
//! at the same time: one batch is applied while the next is synced.
//!
//! Replication will put agreement between the writer and the apply thread; what lies above the queue and below apply stays.
//!
//! **Invariant:** nobody is answered before the entry is on disk and its effects can be read.
//! **Invariant:** a failed sync is never repeated: what the disk then holds is unknown, so the node stops.
//!
//! When the disk is full in spite of the reserve that the node keeps free, the store takes no more writes until it is opened
//! anew. The pipeline is then *halted*: everything is refused for want of space, reads go on, and the node ends once there is
//! room again, so that whoever supervises it starts it afresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use service::SharedClock;
use service::clock::Stopwatch;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::log::{self, Entry, Kind, Log};
use crate::metrics::Metrics;
use crate::mvcc::{Event, Revision};
use crate::state_machine::{Committed, Outcome, StateMachine};
use crate::wire::logpb::Command;

/// Entries and bytes made durable with one sync at most, so that a flood cannot make anyone wait for all of it.
const BATCH_ENTRIES_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Waiting commands beyond which new ones are refused.
const QUEUE_ENTRIES_MAX: usize = 64 << 10;
const QUEUE_BYTES_MAX: usize = 256 << 20;

/// Appended entries that may wait to be applied before new commands are refused (etcd's number).
const APPLY_GAP_MAX: u64 = 5000;

/// Batches on their way from the writer to the apply thread.
const BATCHES_IN_FLIGHT: usize = 4;

/// Groups of events on their way from the apply thread to the watches.
const EVENTS_IN_FLIGHT: usize = 1024;

/// A command on its way, and who waits for it.
struct Proposal {
    command: Command,
    payload: Bytes,
    reply: oneshot::Sender<Outcome>,
}

#[derive(Default)]
struct Waiting {
    proposals: Vec<Proposal>,
    bytes: usize,
    closed: bool,
}

/// Entries up to which the log may be dropped, as the apply thread found; the writer, who owns the log, does it.
#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    appended: AtomicU64,
    applied: AtomicU64,
    droppable: AtomicU64,
    failed: AtomicBool,
    halted: AtomicBool,
}

impl Shared {
    fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Nothing more will be done: whoever waits or comes is told at once.
    fn abandon(&self) {
        self.failed.store(true, Ordering::Release);
        let abandoned = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            waiting.bytes = 0;
            std::mem::take(&mut waiting.proposals)
        };
        drop(abandoned);
        self.arrived.notify_all();
    }

    fn halt(&self, error: &dyn std::fmt::Display) {
        if !self.halted.swap(true, Ordering::AcqRel) {
            tracing::error!(
                target: "chainfire_storage",
                reason = %error,
                error = "disk_full",
                "The store stopped writing, reads go on"
            );
        }
    }
}

/// Why the node cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fatal {
    /// Exit code of the process.
    pub exit_code: u8,
    /// What happened.
    pub reason: String,
}

/// Exit code after data that is not what was written.
pub const EXIT_CORRUPT: u8 = 3;
/// Exit code after a write or sync that failed.
pub const EXIT_DISK: u8 = 4;

/// How often the log may be shortened, and what stays.
#[derive(Debug, Clone, Copy)]
pub struct Retain {
    /// Applied entries between two looks.
    pub every: u64,
    /// Entries kept for members that lag.
    pub keep: u64,
}

/// What runs below the queue.
pub struct Pipeline {
    shared: Arc<Shared>,
    fail: Arc<dyn Fn(Fatal) + Send + Sync>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("applied", &self.applied())
            .finish_non_exhaustive()
    }
}

/// What the pipeline is built from.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Parts {
    /// The log; entries not applied yet have been replayed.
    pub log: Log,
    /// The term this node leads in.
    pub term: u64,
    /// What entries do.
    pub machine: Arc<StateMachine>,
    /// Given events and the revision they lead up to, in order, from a thread of its own.
    pub publish: Box<dyn FnMut(Vec<Event>, Revision) + Send>,
    /// For deadlines.
    pub clock: SharedClock,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
    /// How long the log is kept.
    pub retain: Retain,
    /// Called once if the node cannot go on.
    pub fail: Arc<dyn Fn(Fatal) + Send + Sync>,
}

impl Pipeline {
    /// Starts the threads.
    pub fn start(parts: Parts) -> std::io::Result<Pipeline> {
        let last = parts.log.last();
        let shared = Arc::new(Shared::default());
        shared.appended.store(last, Ordering::Release);
        shared.applied.store(last, Ordering::Release);
        let (to_apply, from_writer) = sync_channel(BATCHES_IN_FLIGHT);
        let (to_watches, from_apply) = sync_channel::<(Vec<Event>, Revision)>(EVENTS_IN_FLIGHT);

        let writer = Writer {
            shared: shared.clone(),
            log: parts.log,
            term: parts.term,
            to_apply,
            metrics: parts.metrics.clone(),
            fail: parts.fail.clone(),
        };
        let applier = Applier {
            shared: shared.clone(),
            machine: parts.machine,
            from_writer,
            to_watches,
            clock: parts.clock,
            metrics: parts.metrics,
            retain: parts.retain,
            fail: parts.fail.clone(),
        };
        let mut publish = parts.publish;
        let watches = move || {
            while let Ok((events, revision)) = from_apply.recv() {
                publish(events, revision);
            }
        };
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let threads = vec![
            named("log-writer").spawn(move || writer.run())?,
            named("apply").spawn(move || applier.run())?,
            named("watches").spawn(watches)?,
        ];
        Ok(Pipeline {
            shared,
            fail: parts.fail,
            threads: Mutex::new(threads),
        })
    }

    /// Puts a command into the queue; its outcome comes through the receiver once it is durable and applied. The receiver
    /// fails if the node stops first.
    pub fn propose(&self, command: Command) -> Result<oneshot::Receiver<Outcome>> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(Error::Stopped);
        }
        if self.shared.is_halted() {
            return Err(Error::NoSpace);
        }
        let appended = self.shared.appended.load(Ordering::Acquire);
        if appended.saturating_sub(self.applied()) > APPLY_GAP_MAX {
            return Err(Error::TooManyRequests);
        }
        let payload = Bytes::from(command.encode_to_vec());
        let (reply, outcome) = oneshot::channel();
        let mut waiting = self.shared.waiting.lock();
        if waiting.closed {
            return Err(Error::Stopped);
        }
        if waiting.proposals.len() >= QUEUE_ENTRIES_MAX || waiting.bytes >= QUEUE_BYTES_MAX {
            return Err(Error::TooManyRequests);
        }
        waiting.bytes += payload.len();
        let first = waiting.proposals.is_empty();
        waiting.proposals.push(Proposal {
            command,
            payload,
            reply,
        });
        drop(waiting);
        if first {
            self.shared.arrived.notify_one();
        }
        Ok(outcome)
    }

    /// Index of the last entry on disk.
    pub fn appended(&self) -> u64 {
        self.shared.appended.load(Ordering::Acquire)
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// True if the store met a full disk and must be opened anew before it writes again.
    pub fn is_halted(&self) -> bool {
        self.shared.is_halted()
    }

    /// Ends the node after the pipeline was halted, for a new start.
    pub fn give_up(&self) {
        (self.fail)(Fatal {
            exit_code: EXIT_DISK,
            reason: "the disk was full and has room again: start anew to take writes".to_owned(),
        });
    }

    /// Takes no more commands, finishes those that wait, and ends the threads.
    pub fn stop(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!(target: "chainfire_storage", "A pipeline thread panicked");
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Durable {
    entry: Committed,
    reply: oneshot::Sender<Outcome>,
}

struct Writer {
    shared: Arc<Shared>,
    log: Log,
    term: u64,
    to_apply: SyncSender<Vec<Durable>>,
    metrics: Arc<Metrics>,
    fail: Arc<dyn Fn(Fatal) + Send + Sync>,
}

impl Writer {
    fn run(mut self) {
        while let Some(proposals) = self.take() {
            if self.shared.failed.load(Ordering::Acquire) {
                return;
            }
            if self.shared.is_halted() {
                refuse(proposals.into_iter().map(|proposal| proposal.reply));
                continue;
            }
            if let Err(error) = self.write(proposals) {
                self.shared.abandon();
                tracing::error!(target: "chainfire_storage", error = %error, "Log write failed");
                let exit_code = match &error {
                    log::Error::Store(error) if !error.is_corruption() => EXIT_DISK,
                    _ => EXIT_CORRUPT,
                };
                (self.fail)(Fatal {
                    exit_code,
                    reason: format!("write the log: {error}"),
                });
                return;
            }
        }
    }

    /// Waits for proposals; `None` once the queue is closed and empty.
    fn take(&mut self) -> Option<Vec<Proposal>> {
        let mut waiting = self.shared.waiting.lock();
        while waiting.proposals.is_empty() {
            if waiting.closed {
                return None;
            }
            self.shared.arrived.wait(&mut waiting);
        }
        let mut bytes = 0;
        let fits = |proposal: &Proposal| {
            bytes += proposal.payload.len();
            bytes <= BATCH_BYTES_MAX
        };
        let count = waiting.proposals.iter().take(BATCH_ENTRIES_MAX).take_while({
            let mut fits = fits;
            move |proposal| fits(proposal)
        });
        let count = count.count().max(1);
        let rest = waiting.proposals.split_off(count);
        let taken = std::mem::replace(&mut waiting.proposals, rest);
        waiting.bytes = waiting
            .proposals
            .iter()
            .map(|proposal| proposal.payload.len())
            .sum();
        Some(taken)
    }

    fn write(&mut self, proposals: Vec<Proposal>) -> std::result::Result<(), log::Error> {
        let mut index = self.log.last();
        let mut entries = Vec::with_capacity(proposals.len());
        let mut durable = Vec::with_capacity(proposals.len());
        for Proposal {
            command,
            payload,
            reply,
        } in proposals
        {
            index += 1;
            entries.push(Entry {
                index,
                term: self.term,
                kind: Kind::Command,
                payload,
            });
            durable.push(Durable {
                entry: Committed {
                    index,
                    term: self.term,
                    command,
                },
                reply,
            });
        }
        let watch = Stopwatch::start();
        match self.log.append(&entries) {
            Ok(()) => {}
            // Nothing of the batch can be read back, not even after a crash, so the refusal is final.
            Err(log::Error::Store(error)) if is_full(&error) => {
                self.shared.halt(&error);
                refuse(durable.into_iter().map(|durable| durable.reply));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.metrics.synced(watch.elapsed(), entries.len());
        self.shared.appended.store(index, Ordering::Release);
        // Fails only when the apply thread has stopped, and then the node is stopping.
        drop(self.to_apply.send(durable));
        let droppable = self.shared.droppable.load(Ordering::Acquire);
        if droppable >= self.log.first() {
            match self.log.drop_prefix(droppable) {
                Err(log::Error::Store(error)) if is_full(&error) => self.shared.halt(&error),
                result => result?,
            }
        }
        Ok(())
    }
}

/// True if the disk is full and it is known that nothing was written.
fn is_full(error: &store::Error) -> bool {
    error.is_no_space() && !error.is_sync_failure()
}

fn refuse(replies: impl Iterator<Item = oneshot::Sender<Outcome>>) {
    for reply in replies {
        let outcome = Outcome {
            reply: Err(Error::NoSpace),
            revision: 0,
            index: 0,
            term: 0,
        };
        // A client that has gone away does not wait for its answer.
        drop(reply.send(outcome));
    }
}

struct Applier {
    shared: Arc<Shared>,
    machine: Arc<StateMachine>,
    from_writer: Receiver<Vec<Durable>>,
    to_watches: SyncSender<(Vec<Event>, Revision)>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    retain: Retain,
    fail: Arc<dyn Fn(Fatal) + Send + Sync>,
}

impl Applier {
    fn run(self) {
        let mut next_look = self.shared.applied.load(Ordering::Acquire) + self.retain.every;
        while let Ok(batch) = self.from_writer.recv() {
            let last = match self.apply(batch) {
                Ok(last) => last,
                // The entries are in the log and will be applied after the next start; their clients are told that the
                // server has stopped, which leaves it open.
                Err(Error::NoSpace) => {
                    self.shared.halt(&Error::NoSpace);
                    return;
                }
                Err(error) => {
                    self.shared.abandon();
                    tracing::error!(target: "chainfire_storage", error = %error, "Apply failed");
                    (self.fail)(Fatal {
                        exit_code: if matches!(error, Error::Damaged(_)) {
                            EXIT_CORRUPT
                        } else {
                            EXIT_DISK
                        },
                        reason: format!("apply: {error}"),
                    });
                    return;
                }
            };
            if last >= next_look {
                next_look = last + self.retain.every;
                self.look_at_the_log(last);
            }
        }
    }

    fn apply(&self, batch: Vec<Durable>) -> Result<u64> {
        let watch = Stopwatch::start();
        let mut replies = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        for Durable { entry, reply } in batch {
            entries.push(entry);
            replies.push(reply);
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
        self.shared.applied.store(last, Ordering::Release);
        self.metrics.applied(watch.elapsed(), outcomes.len());
        log_committed(&self.clock, last);
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // A client that has gone away does not wait for its answer.
            drop(reply.send(outcome));
        }
        Ok(last)
    }

    /// Lets the writer drop what the state on disk no longer needs, but for what members that lag may ask for.
    fn look_at_the_log(&self, last: u64) {
        match self.machine.mvcc.flushed_index() {
            Ok(flushed) => {
                let droppable = flushed.min(last.saturating_sub(self.retain.keep));
                self.shared.droppable.fetch_max(droppable, Ordering::AcqRel);
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
