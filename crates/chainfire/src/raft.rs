//! This node's part in the group: the way of a write, and of a linearizable read.
//!
//! Server tasks put encoded commands into the [`inbox`]. The [`driver`] thread feeds them to the state machine of the agreement
//! ([`consensus::Replica`]), makes what it decides durable with one sync for all who wait, sends it to the other members, and hands
//! what is committed to the [`apply`] thread, which carries it out and answers. Syncing one batch, gathering the next and applying the
//! one before go on at the same time. What everybody may know of the group is on the [`view`].
//!
//! **Invariant:** nobody is answered before the entry is committed and its effects can be read on this node.
//! **Invariant:** what waits to be applied is bounded: a leader refuses commands and a follower lets entries of its leader fall, which
//! sends them again later, until the apply thread has caught up.
//! **Invariant:** a failed sync is never repeated: what the disk then holds is unknown, so the node stops.
//!
//! When the disk is full in spite of the reserve that the node keeps free, the store takes no more writes until it is opened anew. The
//! group's part is then *halted*: this node takes no more part in it and refuses everything for want of space, reads of its own copy
//! go on, and it ends once there is room again, so that whoever supervises it starts it afresh.

mod apply;
mod driver;
mod inbox;
mod install;
#[cfg(test)]
mod tests;
mod view;
mod watcher;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Change, Configuration, Message, NodeId, Position, Refusal, Replica, Snapshot, Status, Term};
use parking_lot::Mutex;
use prost::Message as _;
use service::SharedClock;
use store::Store;
use tokio::sync::{oneshot, watch};

use self::apply::{Applier, PassedOn};
use self::driver::{Driver, Outstanding};
use self::inbox::{Ask, Inbox, Proposal, Waiter};
use self::view::Board;
use self::watcher::Watcher;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::mvcc::{Event, Revision};
use crate::state_machine::{Outcome, StateMachine};
use crate::wire::logpb::Command;

pub(crate) use driver::error_of;
pub(crate) use install::MARK;
pub use install::{Installer, Staged, finish_interrupted, prepare};
pub use view::View;

/// Committed entries that may wait to be applied before new commands are refused (etcd's number).
const APPLY_GAP_MAX: u64 = 5000;

/// Bytes of them that may wait before a follower takes no more entries from its leader, and a leader no more commands.
pub const UNAPPLIED_BYTES_MAX: usize = 256 << 20;

/// Groups of events on their way from the apply thread to the watches.
const EVENTS_IN_FLIGHT: usize = 1024;

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

/// How messages reach the other members. Nothing here may block.
pub trait Network: Send + Sync + 'static {
    /// Sends a message, or drops it.
    fn send(&self, message: Message);
    /// Who belongs to the group, told again and again.
    fn members(&self, configuration: &Configuration);
    /// A member lags so far behind that it needs the whole state: see [`Raft::describe`], [`Raft::snapshot_sent`].
    fn snapshot_wanted(&self, to: NodeId);
}

/// What the group's part is built from.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Parts {
    /// The state machine of the agreement, as the disk has it.
    pub replica: Replica,
    /// The log that it was made from.
    pub log: Log,
    /// This member.
    pub node: NodeId,
    /// What entries do.
    pub machine: Arc<StateMachine>,
    /// The database.
    pub store: Arc<Store>,
    /// Snapshots that have arrived.
    pub staged: Arc<Staged>,
    /// Carries messages.
    pub network: Arc<dyn Network>,
    /// Given events and the revision they lead up to, in order, from a thread of its own.
    pub publish: Box<dyn FnMut(Vec<Event>, Revision) + Send>,
    /// Shown the outcome of every command before its client is told, whoever sent it.
    pub applied: Box<dyn Fn(&Outcome) + Send>,
    /// Told when this node begins or ceases to lead.
    pub role_changed: Box<dyn Fn(bool) + Send>,
    /// Told the revision after the whole state was replaced.
    pub replaced: Box<dyn Fn(Revision) + Send>,
    /// For deadlines.
    pub clock: SharedClock,
    /// Length of a tick.
    pub tick: Duration,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
    /// How long the log is kept.
    pub retain: Retain,
    /// Bytes of committed entries that may wait to be applied.
    pub unapplied_bytes_max: usize,
    /// Called once if the node cannot go on.
    pub fail: Arc<dyn Fn(Fatal) + Send + Sync>,
}

/// This node's part in the group.
pub struct Raft {
    node: NodeId,
    inbox: Arc<Inbox>,
    board: Arc<Board>,
    unapplied_bytes_max: usize,
    passed_on: Arc<PassedOn>,
    /// Numbers of commands passed on; begins above those of earlier runs.
    next_number: AtomicU64,
    fail: Arc<dyn Fn(Fatal) + Send + Sync>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft")
            .field("node", &self.node)
            .field("applied", &self.applied())
            .finish_non_exhaustive()
    }
}

impl Raft {
    /// Starts the threads. If this node is the only voter, it leads when this returns, and everything in the log is applied.
    pub fn start(parts: Parts) -> std::result::Result<Raft, crate::log::Error> {
        let status = parts.replica.status();
        let hard_state = parts
            .log
            .hard_state()?
            .expect("written before the replica was made");
        let board = Arc::new(Board::new(
            View::of(status, false),
            parts.log.last(),
            parts.machine.mvcc.applied_index(),
            &hard_state,
        ));
        let inbox = Arc::new(Inbox::default());
        let passed_on = Arc::new(PassedOn::default());
        let abandon: Arc<dyn Fn() + Send + Sync> = {
            let (board, inbox, passed_on) = (board.clone(), inbox.clone(), passed_on.clone());
            Arc::new(move || {
                board.failed.store(true, Ordering::Release);
                inbox.abandon();
                passed_on.clear();
                board.wake();
            })
        };
        let (to_apply, jobs) = channel();
        let (to_watches, from_apply) = sync_channel::<(Vec<Event>, Revision)>(EVENTS_IN_FLIGHT);
        let first_number = parts.clock.unix_ms() << 20;
        let applier = Applier {
            node: parts.node.0,
            board: board.clone(),
            passed_on: passed_on.clone(),
            machine: parts.machine.clone(),
            applied: parts.applied,
            jobs,
            to_watches,
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
            retain: parts.retain,
            fail: parts.fail.clone(),
            abandon: abandon.clone(),
        };
        let mut driver = Driver {
            replica: parts.replica,
            log: parts.log,
            inbox: inbox.clone(),
            board: board.clone(),
            to_apply,
            network: parts.network,
            metrics: parts.metrics.clone(),
            installer: Installer {
                store: parts.store,
                machine: parts.machine,
                staged: parts.staged,
                replaced: parts.replaced,
            },
            watcher: Watcher::new(parts.node, parts.metrics, parts.clock, parts.role_changed),
            tick: parts.tick,
            unapplied_bytes_max: parts.unapplied_bytes_max,
            fail: parts.fail.clone(),
            abandon,
            outstanding: Outstanding::default(),
        };
        let mut publish = parts.publish;
        let watches = move || {
            while let Ok((events, revision)) = from_apply.recv() {
                publish(events, revision);
            }
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .expect("a thread can be started")
        };
        let mut threads = vec![
            spawn("watches", Box::new(watches)),
            spawn("apply", Box::new(move || applier.run())),
        ];
        driver.elect_alone()?;
        if board.alone.load(Ordering::Acquire) {
            board.wait_applied(board.committed());
        }
        threads.insert(0, spawn("raft", Box::new(move || driver.run())));
        Ok(Raft {
            node: parts.node,
            inbox,
            board,
            unapplied_bytes_max: parts.unapplied_bytes_max,
            passed_on,
            next_number: AtomicU64::new(first_number),
            fail: parts.fail,
            threads: Mutex::new(threads),
        })
    }

    /// Puts a command into the log, if this node leads; its outcome comes through the receiver once it is committed and applied. The
    /// receiver fails if the node stops first.
    pub fn propose(&self, command: Command) -> Result<oneshot::Receiver<Outcome>> {
        self.propose_in(None, command)
    }

    /// The same for what this node decided as the leader of `term`, if that is given: if it is not that any more, the command
    /// does not enter the log.
    pub fn propose_in(&self, term: Option<Term>, command: Command) -> Result<oneshot::Receiver<Outcome>> {
        self.check_room()?;
        let payload = Bytes::from(command.encode_to_vec());
        let (reply, outcome) = oneshot::channel();
        self.inbox.propose(Proposal {
            command,
            payload,
            waiter: Waiter::Outcome(reply),
            term,
        })?;
        Ok(outcome)
    }

    /// The same for a command that another member passes on: tells when it is in the log.
    pub async fn take_over(&self, payload: Bytes) -> std::result::Result<(), Refusal> {
        let Ok(command) = Command::decode(payload.clone()) else {
            return Err(Refusal::Busy);
        };
        let (appended, waiting) = oneshot::channel();
        let proposal = Proposal {
            command,
            payload,
            waiter: Waiter::Appended(appended),
            term: None,
        };
        if self.check_room().is_err() || self.inbox.propose(proposal).is_err() {
            return Err(Refusal::Busy);
        }
        waiting.await.unwrap_or(Err(Refusal::NotLeader { leader: None }))
    }

    /// Marks a command as one that this node passes on to the leader, and waits for it to come back through the log. Forget it by
    /// dropping what is returned.
    pub fn expect(self: &Arc<Self>, command: &mut Command) -> Expected {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        command.origin_node = self.node.0;
        command.origin_request = number;
        Expected {
            raft: self.clone(),
            number,
            outcome: self.passed_on.expect(number),
        }
    }

    fn check_room(&self) -> Result<()> {
        if self.board.has_failed() {
            return Err(Error::Stopped);
        }
        if self.board.is_halted() {
            return Err(Error::NoSpace);
        }
        if self.board.committed().saturating_sub(self.applied()) > APPLY_GAP_MAX
            || self.board.unapplied_bytes() >= self.unapplied_bytes_max
        {
            return Err(Error::TooManyRequests);
        }
        Ok(())
    }

    /// Messages of other members.
    pub fn deliver(&self, messages: Vec<Message>) {
        self.inbox.deliver(messages);
    }

    /// Waits until all that was acknowledged before the call can be read on this node.
    pub async fn read(&self) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let (reader, told) = oneshot::channel();
        self.inbox.read(reader)?;
        told.await.unwrap_or(Err(Error::Stopped))
    }

    /// Waits until the entry at `index` is committed and applied on this node.
    pub async fn applied_to(&self, index: u64) -> Result<()> {
        let (reader, told) = oneshot::channel();
        self.board.tell_when_applied(index, vec![reader]);
        told.await.unwrap_or(Err(Error::Stopped))
    }

    /// Which life of this node's data directory this is.
    pub fn life(&self) -> consensus::Incarnation {
        self.board.view().life
    }

    /// True if this node leads and is the only voter: what it has applied is all that there is.
    pub fn is_alone(&self) -> bool {
        self.board.alone.load(Ordering::Acquire)
    }

    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<std::result::Result<T, Refusal>>) -> Ask,
    ) -> std::result::Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Refusal::NotLeader { leader: None };
        self.inbox.ask(ask(answer)).map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Changes who belongs to the group; tells where in the log. See [`Raft::committed`].
    pub async fn change(&self, change: Change) -> std::result::Result<Position, Refusal> {
        self.ask(|answer| Ask::Change(change, answer)).await
    }

    /// Hands leadership over; tells to whom it will go.
    pub async fn transfer(&self, to: Option<NodeId>) -> std::result::Result<NodeId, Refusal> {
        self.ask(|answer| Ask::Transfer(to, answer)).await
    }

    /// The operator says, while there is no leader, that a member came back empty.
    pub async fn note_replaced(&self, node: NodeId) -> std::result::Result<(), Refusal> {
        self.ask(|answer| Ask::NoteReplaced(node, answer)).await
    }

    /// Nodes that are no members but may know more: they are asked too before a recovery election.
    pub fn set_bystanders(&self, nodes: BTreeSet<NodeId>) {
        // Fails only when the node stops.
        drop(self.inbox.ask(Ask::Bystanders(nodes)));
    }

    /// Founds the group with these members, if nothing has happened here yet.
    pub fn found(&self, first: Configuration) {
        // Fails only when the node stops.
        drop(self.inbox.ask(Ask::Found(first)));
    }

    /// The group was founded with these members; if with this very life of this node, it has forgotten nothing.
    pub fn founded(&self, first: Configuration) {
        // Fails only when the node stops.
        drop(self.inbox.ask(Ask::Founded(first)));
    }

    /// The group's state machine as seen from outside, right now.
    pub async fn status(&self) -> Result<Status> {
        let (answer, answered) = oneshot::channel();
        self.inbox.ask(Ask::Status(answer))?;
        answered.await.map_err(|_| Error::Stopped)
    }

    /// What a snapshot of the state as of `index` is described by; nothing if the log no longer knows.
    pub async fn describe(&self, index: u64) -> Option<Snapshot> {
        let (answer, answered) = oneshot::channel();
        self.inbox.ask(Ask::Describe(index, answer)).ok()?;
        answered.await.ok().flatten()
    }

    /// The content of a snapshot is at that member.
    pub fn snapshot_sent(&self, to: NodeId, snapshot: Snapshot) {
        // Fails only when the node stops.
        drop(self.inbox.ask(Ask::SnapshotSent(to, snapshot)));
    }

    /// A snapshot could not be made or sent.
    pub fn snapshot_failed(&self, to: NodeId) {
        // Fails only when the node stops.
        drop(self.inbox.ask(Ask::SnapshotFailed(to)));
    }

    /// The group as this node sees it.
    pub fn view(&self) -> Arc<View> {
        self.board.view()
    }

    /// The same, to wait for a change.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.board.watch()
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.board.term()
    }

    /// Index of the last entry on this node's disk.
    pub fn appended(&self) -> u64 {
        self.board.appended.load(Ordering::Acquire)
    }

    /// Index of the last entry known to be committed.
    pub fn committed(&self) -> u64 {
        self.board.committed()
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.board.applied()
    }

    /// True if the store met a full disk and must be opened anew before it writes again.
    pub fn is_halted(&self) -> bool {
        self.board.is_halted()
    }

    /// Ends the node after it was halted, for a new start.
    pub fn give_up(&self) {
        self.end(
            EXIT_DISK,
            "the disk was full and has room again: start anew to take writes",
        );
    }

    /// Ends the node for a reason that lies outside of the log.
    pub fn end(&self, exit_code: u8, reason: &str) {
        (self.fail)(Fatal {
            exit_code,
            reason: reason.to_owned(),
        });
    }

    /// Takes no more commands, finishes those that wait, and ends the threads.
    pub fn stop(&self) {
        self.inbox.close();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!(target: "chainfire_storage", "A thread of the group panicked");
            }
        }
        self.passed_on.clear();
        self.board.wake();
    }
}

impl Drop for Raft {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command that this node passed on. Forgotten when dropped.
#[derive(Debug)]
pub struct Expected {
    raft: Arc<Raft>,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Expected {
    /// Waits for the command to be applied here; nothing if the node stops first.
    pub async fn outcome(&mut self) -> Option<Outcome> {
        (&mut self.outcome).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.raft.passed_on.forget(self.number);
    }
}

/// A node without others.
#[derive(Debug, Clone, Copy)]
pub struct NoNetwork;

impl Network for NoNetwork {
    fn send(&self, _: Message) {}
    fn members(&self, _: &Configuration) {}
    fn snapshot_wanted(&self, _: NodeId) {}
}

fn halt(board: &Board, error: &dyn std::fmt::Display) {
    if !board.halted.swap(true, Ordering::AcqRel) {
        tracing::error!(
            target: "chainfire_storage",
            reason = %error,
            error = "disk_full",
            "The store stopped writing, reads go on"
        );
        board.wake();
    }
}
