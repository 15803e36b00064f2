//! The driver: the one thread that owns the group's state machine and its log.
//!
//! It feeds what arrives into [`consensus::Replica`] and carries out what that wants done, in the order that [`consensus::Ready`]
//! prescribes: what promises nothing is sent, the disk written and synced, what depends on that is sent, what is committed handed to
//! the apply thread. While the disk works, the next batch gathers, so the more clients there are the fewer syncs each costs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use consensus::{Body, Entry, Fetch, HardState, Kind, ReadId, Ready, Refusal, Replica, RoleName};
use service::clock::Stopwatch;
use tokio::sync::oneshot;

use super::apply::{Applying, Content, Job};
use super::inbox::{Ask, Inbox, Proposal, Reader, Waiter, Work};
use super::install::Installer;
use super::view::{Board, View};
use super::{EXIT_CORRUPT, EXIT_DISK, Fatal, Network, halt, watcher::Watcher};
use crate::error::Error;
use crate::log::{self, Log};
use crate::metrics::Metrics;
use crate::state_machine::Outcome;
use crate::wire::logpb::Command;

/// Ticks after which a group with a single voter has certainly elected it.
const LONE_ELECTION_TICKS: u32 = 1000;

/// A proposal in the log that is not committed yet.
struct Pending {
    index: u64,
    term: u64,
    command: Command,
    reply: Option<oneshot::Sender<Outcome>>,
}

pub(super) struct Driver {
    pub(super) replica: Replica,
    pub(super) log: Log,
    pub(super) inbox: Arc<Inbox>,
    pub(super) board: Arc<Board>,
    pub(super) to_apply: Sender<Job>,
    pub(super) network: Arc<dyn Network>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) installer: Installer,
    pub(super) watcher: Watcher,
    pub(super) tick: Duration,
    /// Bytes of committed entries that may wait to be applied before this node takes no more of them.
    pub(super) unapplied_bytes_max: usize,
    pub(super) fail: Arc<dyn Fn(Fatal) + Send + Sync>,
    /// Nothing more may be taken or waited for.
    pub(super) abandon: Arc<dyn Fn() + Send + Sync>,
    pub(super) outstanding: Outstanding,
}

/// Who waits for what has not happened yet.
#[derive(Default)]
pub(super) struct Outstanding {
    pending: VecDeque<Pending>,
    readers: HashMap<ReadId, Vec<Reader>>,
    /// A newer commit index that is not on disk yet. It may be lost; the next write takes it along.
    hard_state: Option<HardState>,
    removed: bool,
}

impl Driver {
    /// Elects this node if it is the only voter: nobody else has to be asked or waited for.
    pub(super) fn elect_alone(&mut self) -> Result<(), log::Error> {
        let status = self.replica.status();
        let mut voters = status.configuration.voters();
        let own = (self.watcher.node, status.incarnation);
        if voters.next() != Some(own) || voters.next().is_some() || status.recovering {
            return Ok(());
        }
        self.watcher.alone = true;
        self.watcher.counts = (1, status.configuration.members().count() - 1);
        for _ in 0..LONE_ELECTION_TICKS {
            if self.replica.leads_alone() {
                break;
            }
            self.replica.tick();
            self.carry_out()?;
        }
        self.watcher.alone = false;
        self.show();
        Ok(())
    }

    pub(super) fn run(mut self) {
        let mut since_tick = Stopwatch::start();
        loop {
            let work = self.inbox.take(self.tick.saturating_sub(since_tick.elapsed()));
            if self.board.has_failed() {
                return;
            }
            let closed = work.closed;
            if self.board.is_halted() {
                refuse(work);
            } else {
                // However long this thread was kept from running, that is one tick: others were heard as little.
                let due = since_tick.elapsed() >= self.tick;
                if due {
                    since_tick = Stopwatch::start();
                    self.replica.tick();
                }
                self.feed(work);
                if let Err(error) = self.carry_out() {
                    return self.give_up(&error);
                }
                self.installer.release();
                if due {
                    self.log.tell_synced();
                    self.show();
                }
            }
            if closed {
                return;
            }
        }
    }

    fn give_up(&self, error: &log::Error) {
        tracing::error!(target: "chainfire_storage", error = %error, "Log write failed");
        (self.abandon)();
        let exit_code = match error {
            log::Error::Store(error) if !error.is_corruption() => EXIT_DISK,
            _ => EXIT_CORRUPT,
        };
        (self.fail)(Fatal {
            exit_code,
            reason: format!("write the log: {error}"),
        });
    }

    fn feed(&mut self, work: Work) {
        for message in work.messages {
            // Without its content, which may have come to an earlier run of this process, it cannot be installed.
            if let Body::InstallSnapshot { snapshot } = &message.body
                && !self.installer.reserve(snapshot.position)
            {
                continue;
            }
            // What is dropped is sent again. The leader's window then keeps it from sending more.
            if let Body::Append { entries, .. } = &message.body
                && !entries.is_empty()
                && self.board.unapplied_bytes() >= self.unapplied_bytes_max
            {
                continue;
            }
            self.replica.step(message);
        }
        for ask in work.asks {
            self.answer(ask);
        }
        for proposal in work.proposals {
            self.propose(proposal);
        }
        if !work.readers.is_empty() {
            match self.replica.read() {
                Ok(id) => {
                    self.outstanding.readers.insert(id, work.readers);
                }
                Err(refusal) => fail_readers(work.readers, &error_of(&refusal)),
            }
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        let Proposal {
            command,
            payload,
            waiter,
            term,
        } = proposal;
        let proposed = match term {
            Some(term) if self.replica.status().term != term => Err(Refusal::NotLeader { leader: None }),
            _ => self.replica.propose(payload),
        };
        // Whoever asked may have gone away in every case below.
        match proposed {
            Ok(position) => {
                let reply = match waiter {
                    Waiter::Outcome(reply) => Some(reply),
                    Waiter::Appended(appended) => {
                        drop(appended.send(Ok(())));
                        None
                    }
                };
                self.outstanding.pending.push_back(Pending {
                    index: position.index,
                    term: position.term.0,
                    command,
                    reply,
                });
            }
            Err(refusal) => match waiter {
                Waiter::Outcome(reply) => drop(reply.send(refused(error_of(&refusal)))),
                Waiter::Appended(appended) => drop(appended.send(Err(refusal))),
            },
        }
    }

    fn answer(&mut self, ask: Ask) {
        // Whoever asked may have gone away.
        match ask {
            Ask::Change(change, answer) => drop(answer.send(self.replica.change(change))),
            Ask::Transfer(to, answer) => drop(answer.send(self.replica.transfer(to))),
            Ask::NoteReplaced(node, answer) => drop(answer.send(self.replica.note_replaced(node))),
            Ask::Bystanders(nodes) => self.replica.set_bystanders(nodes),
            Ask::Found(first) => self.replica.found(&first),
            Ask::Founded(first) => self.replica.founded(&first),
            Ask::Status(answer) => drop(answer.send(self.replica.status())),
            Ask::Describe(index, answer) => drop(answer.send(self.replica.describe_snapshot(index))),
            Ask::SnapshotSent(to, snapshot) => self.replica.offer_snapshot(to, snapshot),
            Ask::SnapshotFailed(to) => self.replica.snapshot_failed(to),
        }
    }

    /// Does all that the replica wants done.
    fn carry_out(&mut self) -> Result<(), log::Error> {
        self.replica.applied(self.board.applied());
        while let Some(ready) = self.replica.ready() {
            self.carry_out_one(ready)?;
            if self.board.is_halted() {
                return Ok(());
            }
        }
        let droppable = self.board.droppable.load(Ordering::Acquire);
        if droppable >= self.log.first()
            && let Some(base) = self.replica.describe_snapshot(droppable)
        {
            match self.log.drop_prefix(base) {
                Err(log::Error::Store(error)) if is_full(&error) => halt(&self.board, &error),
                result => {
                    result?;
                    self.replica.compact(droppable);
                }
            }
        }
        Ok(())
    }

    fn carry_out_one(&mut self, mut ready: Ready) -> Result<(), log::Error> {
        let regrouped = !ready.events.is_empty()
            || ready.snapshot.is_some()
            || ready
                .entries
                .iter()
                .any(|entry| entry.kind == Kind::Configuration);
        self.board
            .alone
            .store(self.replica.leads_alone(), Ordering::Release);
        for message in ready.messages.drain(..) {
            self.network.send(message);
        }
        if !self.write(&mut ready)? {
            return Ok(());
        }
        self.replica.persisted(ready.number);
        for message in ready.messages_after {
            self.network.send(message);
        }
        for event in &ready.events {
            self.outstanding.removed |= matches!(event, consensus::Event::Removed);
            self.watcher.happened(event);
        }
        if regrouped {
            self.show();
        }
        if !ready.committed.is_empty() {
            self.hand_to_apply(ready.committed);
        }
        for read in ready.reads {
            if let Some(readers) = self.outstanding.readers.remove(&read.id) {
                self.board.tell_when_applied(read.index, readers);
            }
        }
        for id in ready.reads_failed {
            if let Some(readers) = self.outstanding.readers.remove(&id) {
                fail_readers(readers, &Error::LeaderChanged);
            }
        }
        for fetch in ready.fetches {
            self.fetch(fetch)?;
        }
        for node in ready.snapshots_wanted {
            self.network.snapshot_wanted(node);
        }
        Ok(())
    }

    /// Writes what must be written. False if there is no room for it: nothing of it was written then.
    fn write(&mut self, ready: &mut Ready) -> Result<bool, log::Error> {
        if ready.discard || ready.snapshot.is_some() {
            self.replace(ready)?;
        }
        if !ready.must_sync() {
            if ready.hard_state.is_some() {
                self.outstanding.hard_state = ready.hard_state.take();
            }
            return Ok(true);
        }
        let hard_state = ready.hard_state.take().or(self.outstanding.hard_state.take());
        if ready.entries.is_empty() && hard_state.is_none() {
            return Ok(true);
        }
        let watch = Stopwatch::start();
        match self.log.write(&ready.entries, hard_state.as_ref()) {
            Ok(()) => {}
            // Nothing of the batch can be read back, not even after a crash. What of it other members have, nobody can tell.
            Err(log::Error::Store(error)) if is_full(&error) => {
                halt(&self.board, &error);
                let alone = self.board.alone.load(Ordering::Acquire);
                for pending in self.outstanding.pending.drain(..) {
                    if let Some(reply) = pending.reply.filter(|_| alone) {
                        drop(reply.send(refused(Error::NoSpace)));
                    }
                }
                self.outstanding.readers.clear();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.metrics.synced(watch.elapsed(), ready.entries.len());
        self.board.appended.store(self.log.last(), Ordering::Release);
        Ok(true)
    }

    /// The log and the state are replaced by a snapshot, or dropped. What becomes of commands on their way then, this node cannot tell:
    /// they may be part of the new state.
    fn replace(&mut self, ready: &mut Ready) -> Result<(), log::Error> {
        // Nobody may apply anything meanwhile, and what waits to be applied need not be any more.
        self.board.superseded.store(true, Ordering::Release);
        let (done, idle) = oneshot::channel();
        if self.to_apply.send(Job::Barrier(done)).is_ok() {
            drop(idle.blocking_recv());
        }
        self.board.superseded.store(false, Ordering::Release);
        for pending in self.outstanding.pending.drain(..) {
            if let Some(reply) = pending.reply {
                drop(reply.send(refused(Error::TimeoutLeaderFailure)));
            }
        }
        self.outstanding.hard_state = None;
        let base = ready.snapshot.clone().unwrap_or_default();
        self.installer.replace(&base, ready.hard_state.as_ref())?;
        self.log.replaced(base);
        self.board.appended.store(self.log.last(), Ordering::Release);
        self.board.show_committed(self.log.last());
        self.board.show_applied(self.log.last());
        Ok(())
    }

    fn hand_to_apply(&mut self, committed: Vec<Entry>) {
        if let Some(last) = committed.last() {
            self.board.show_committed(last.index);
        }
        let entries = committed
            .into_iter()
            .map(|entry| self.prepare(entry))
            .collect::<Vec<_>>();
        self.board.waits(entries.iter().map(|entry| entry.bytes).sum());
        // Fails only when the apply thread has stopped, and then the node is stopping.
        drop(self.to_apply.send(Job::Entries(entries)));
    }

    /// Finds who waits for a committed entry.
    fn prepare(&mut self, entry: Entry) -> Applying {
        let (index, term, bytes) = (entry.index, entry.term.0, entry.size());
        let mut found = None;
        while let Some(pending) = self
            .outstanding
            .pending
            .pop_front_if(|pending| pending.index <= index)
        {
            if (pending.index, pending.term) == (index, term) {
                found = Some(pending);
            } else if let Some(reply) = pending.reply {
                // Another leader's entry was agreed on in its place, so this one never will be.
                drop(reply.send(refused(Error::LeaderChanged)));
            }
        }
        let (command, reply) = found.map_or((None, None), |pending| (Some(pending.command), pending.reply));
        let content = match (entry.kind, command) {
            (Kind::Command, Some(command)) => Content::Command(command),
            (Kind::Command, None) => Content::Encoded(entry.payload),
            (Kind::Blank | Kind::Configuration, _) => Content::Nothing,
        };
        Applying {
            index,
            term,
            content,
            bytes,
            reply,
        }
    }

    fn fetch(&mut self, fetch: Fetch) -> Result<(), log::Error> {
        let from = fetch.from.max(self.log.first());
        let entries = self.log.read(from, fetch.until, fetch.bytes_max)?;
        self.replica.fetched(fetch.to, entries);
        Ok(())
    }

    /// Shows everybody how the group looks now.
    fn show(&mut self) {
        let status = self.replica.status();
        self.watcher.look(&status);
        self.network.members(&status.configuration);
        let leads = status.role == RoleName::Leader;
        self.board.show(View::of(status, self.outstanding.removed));
        self.watcher.leads(leads);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Whoever still waits is told so by the end of the channels; those that wait for the state must not wait longer.
        self.board.alone.store(false, Ordering::Release);
    }
}

/// True if the disk is full and it is known that nothing was written.
fn is_full(error: &store::Error) -> bool {
    error.is_no_space() && !error.is_sync_failure()
}

/// What a refusal of the group means to whoever asked this node.
pub(crate) fn error_of(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::NotLeader { .. } | Refusal::Transferring { .. } | Refusal::LeaderNotSettled => {
            Error::NotLeader
        }
        Refusal::Busy => Error::TooManyRequests,
        Refusal::UnknownMember(_) => Error::MemberNotFound,
        Refusal::IdInUse(_) => Error::MemberExists,
        Refusal::NotLearner(_) => Error::NotLearner,
        Refusal::NotInSync { .. } => Error::LearnerNotReady,
        Refusal::BadTransferee(_) => Error::BadLeaderTransferee,
        Refusal::TooFewWhole | Refusal::LastVoter => Error::NotEnoughStarted,
        other => Error::Unready(other.to_string()),
    }
}

fn refused(error: Error) -> Outcome {
    Outcome {
        reply: Err(error),
        revision: 0,
        index: 0,
        term: 0,
    }
}

fn fail_readers(readers: Vec<Reader>, error: &Error) {
    for reader in readers {
        // Whoever asked may have gone away.
        drop(reader.send(Err(error.clone())));
    }
}

/// Answers everything while there is no room to write.
fn refuse(work: Work) {
    for proposal in work.proposals {
        match proposal.waiter {
            Waiter::Outcome(reply) => drop(reply.send(refused(Error::NoSpace))),
            Waiter::Appended(appended) => drop(appended.send(Err(Refusal::Busy))),
        }
    }
    fail_readers(work.readers, &Error::NoSpace);
}
