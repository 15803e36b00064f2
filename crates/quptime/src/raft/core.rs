//! The thread that owns the group: it feeds [`consensus::Replica`] and carries out what that wants done, in the order that
//! [`consensus::Ready`] prescribes.
//!
//! What is committed is applied here as well: a command takes microseconds, and there are few of them. After each turn everybody else
//! gets a new [`View`]. Who is no peer any more leaves the group in the same turn: see `members`.
//!
//! A disk that is full is taken for one that is very slow: what could not be written is tried again until there is room, and until then nothing is
//! promised to anybody, no time passes for the replica, and the [`View`] shows no leader. The others go on without this node: see `room`. A
//! failed sync is never repeated: the node ends.

mod keep;
mod members;
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use consensus::{
    Body, Change, Configuration, Entry, Event, Fetch, GroupId, HardState, Kind, Message, NodeId, Position,
    Ready, Refusal, Replica, Restored, RoleName, Settings, Snapshot, Term,
};
use service::clock::{SharedClock, Stopwatch};
use tokio::sync::{oneshot, watch};

use super::disk::{Disk, DiskError, Loaded};
use super::view::{Progress, View, Views};
use crate::machine::command::Command;
use crate::machine::state::{Outcome, State};

/// The group's own clock. Heartbeats of Raft are quicker than those that people see, so that a dead master is replaced within two seconds.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks between heartbeats of Raft.
const HEARTBEAT_TICKS: u32 = 3;
/// Ticks without a leader after which an election may begin.
const ELECTION_TICKS: u32 = 12;
/// Spread of that, at random.
const ELECTION_SPREAD_TICKS: u32 = 4;
/// Ticks that each place in the order of NodeIDs adds: the smallest usually wins a free election.
const RANK_TICKS: u32 = 2;
/// Places that count: beyond them the differences would only make elections slow.
const RANK_MAX: u32 = 8;
/// Inputs that may wait: whoever produces more is told to come again.
const INPUTS_PER_TURN: usize = 1024;

/// How what the core sends gets to other nodes. Nothing here may block.
pub trait Network: Send + Sync + 'static {
    /// A message; it may be lost.
    fn send(&self, message: Message);
    /// A snapshot's content goes before its message, which the core offers when this has told that it arrived.
    fn send_snapshot(&self, to: NodeId, snapshot: Snapshot, content: Vec<u8>);
    /// Something happened that deserves a line.
    fn tell(&self, event: &Event);
}

/// What carrying a proposal out came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Where it stands in the log.
    pub index: u64,
    /// What it did.
    pub outcome: Outcome,
}

/// Why a proposal was not carried out, or not as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not here, not now; nothing happened.
    #[error("{0}")]
    Refused(Refusal),
    /// The node stops, or its disk is full, and it has not begun; nothing happened.
    #[error("the node takes no more changes")]
    NotTaken,
    /// It was begun, and others may have it: it may have been carried out, or be carried out later, or not. The text says what came between.
    #[error("{0}")]
    Unknown(String),
}

/// What came between a proposal and its outcome.
const LEAD_LOST: &str = "the master changed before the change was confirmed";
const STOPPED: &str = "the master stopped before the change was confirmed";

/// Something for the core to do.
enum Input {
    Messages(Vec<Message>),
    /// A snapshot has come whole; its message follows.
    Content(Position, Arc<State>),
    Propose {
        command: Command,
        /// Only in this term.
        term: Option<u64>,
        reply: oneshot::Sender<Result<Applied, ProposeError>>,
    },
    Change(Change, oneshot::Sender<Result<Position, Refusal>>),
    Transfer(NodeId, oneshot::Sender<Result<NodeId, Refusal>>),
    Found(Configuration),
    Founded(Configuration),
    SnapshotArrived(NodeId, Snapshot),
    SnapshotFailed(NodeId),
    Stop,
}

/// A hand on the core. Clones are the same core.
#[derive(Clone)]
pub struct Core {
    inputs: Sender<Input>,
    views: Views,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// How a replica begins.
pub struct Start {
    /// What the folder holds.
    pub loaded: Loaded,
    /// This node.
    pub node: NodeId,
    /// Place in the order of NodeIDs, from 0.
    pub rank: u32,
    /// For timeouts.
    pub seed: u64,
    /// For [`View::turned`].
    pub clock: SharedClock,
    /// To the others.
    pub network: Arc<dyn Network>,
    /// Told when the disk fails, after which the core does nothing more.
    pub failed: OnFailure,
}

/// Told that the disk has failed.
pub type OnFailure = Box<dyn FnOnce(DiskError) + Send>;

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// Why the core could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log and the snapshot do not fit each other.
    #[error(
        "raft/log and its snapshot do not fit each other: {0}; move the folder raft/ aside while a majority of the cluster runs, and start again"
    )]
    Restore(#[from] consensus::machine::RestoreError),
    /// No thread.
    #[error("start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Core {
    /// Starts the thread.
    ///
    /// # Errors
    /// What is on disk cannot be.
    pub fn start(start: Start) -> Result<(Core, std::thread::JoinHandle<()>), StartError> {
        let (worker, failed) = Worker::new(start)?;
        let (inputs, taken) = channel();
        let (publish, views) = watch::channel(Arc::new(worker.look()));
        let core = Core { inputs, views };
        let thread = std::thread::Builder::new()
            .name("qu-core".to_owned())
            .spawn(move || worker.run(&taken, &publish, failed))?;
        Ok((core, thread))
    }

    /// Where views are read and waited for.
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    fn tell(&self, input: Input) {
        // A core that has stopped hears nothing, and its views say so.
        drop(self.inputs.send(input));
    }

    /// Messages of other replicas.
    pub fn messages(&self, messages: Vec<Message>) {
        self.tell(Input::Messages(messages));
    }

    /// A snapshot's content has arrived.
    pub fn content(&self, position: Position, state: State) {
        self.tell(Input::Content(position, Arc::new(state)));
    }

    /// Proposes a command and waits until it is applied here.
    ///
    /// # Errors
    /// This node does not lead, or lost the lead.
    pub async fn propose(&self, command: Command, term: Option<u64>) -> Result<Applied, ProposeError> {
        let (reply, answer) = oneshot::channel();
        if self.inputs.send(Input::Propose { command, term, reply }).is_err() {
            return Err(ProposeError::NotTaken);
        }
        // Whatever the core takes it answers, unless it falls over.
        answer
            .await
            .unwrap_or_else(|_| Err(ProposeError::Unknown(STOPPED.to_owned())))
    }

    /// Changes the membership.
    ///
    /// # Errors
    /// It cannot be done now.
    pub async fn change(&self, change: Change) -> Result<Position, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Change(change, reply));
        answer.await.unwrap_or(Err(Refusal::NotLeader { leader: None }))
    }

    /// Hands leadership over.
    ///
    /// # Errors
    /// It cannot be done now.
    pub async fn transfer(&self, to: NodeId) -> Result<NodeId, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Transfer(to, reply));
        answer.await.unwrap_or(Err(Refusal::NotLeader { leader: None }))
    }

    /// See [`Replica::found`].
    pub fn found(&self, first: Configuration) {
        self.tell(Input::Found(first));
    }

    /// See [`Replica::founded`].
    pub fn founded(&self, first: Configuration) {
        self.tell(Input::Founded(first));
    }

    /// A snapshot has arrived at this member.
    pub fn snapshot_arrived(&self, to: NodeId, snapshot: Snapshot) {
        self.tell(Input::SnapshotArrived(to, snapshot));
    }

    /// It has not.
    pub fn snapshot_failed(&self, to: NodeId) {
        self.tell(Input::SnapshotFailed(to));
    }

    /// Ends the thread after what waits.
    pub fn stop(&self) {
        self.tell(Input::Stop);
    }
}

/// A proposal whose outcome somebody waits for.
struct Pending {
    position: Position,
    reply: oneshot::Sender<Result<Applied, ProposeError>>,
}

struct Worker {
    replica: Replica,
    disk: Disk,
    state: Arc<State>,
    applied: u64,
    pending: VecDeque<Pending>,
    /// Content of snapshots whose message has not come yet.
    staged: BTreeMap<u64, (Position, Arc<State>)>,
    /// A newer commit index that is not on disk yet. It may be lost; the next write takes it along.
    hard_state: Option<HardState>,
    /// What there was no room for.
    unwritten: Option<Ready>,
    removed: bool,
    /// Which file there is no room for, while the core waits.
    full: Option<Arc<str>>,
    /// What was asked while there was no room.
    held: Vec<Input>,
    /// Since when there is no room for a snapshot.
    compacts_again: Option<Stopwatch>,
    clock: SharedClock,
    network: Arc<dyn Network>,
    node: NodeId,
    ticks: u64,
    /// When this node, removed itself, last let another one lead: the term, and the tick.
    resigned: Option<(Term, u64)>,
}

type Publish = watch::Sender<Arc<View>>;

/// Whether the core goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    Stop,
}

impl Worker {
    fn new(start: Start) -> Result<(Worker, OnFailure), StartError> {
        let Start {
            loaded: Loaded { meta, disk, state },
            node,
            rank,
            seed,
            clock,
            network,
            failed,
        } = start;
        let mut settings = Settings::new(GroupId(meta.group), node, seed);
        settings.heartbeat_ticks = HEARTBEAT_TICKS;
        settings.election_ticks = ELECTION_TICKS;
        settings.election_spread_ticks = ELECTION_SPREAD_TICKS;
        settings.election_bias_ticks = rank.min(RANK_MAX) * RANK_TICKS;
        settings.cache_bytes_max = 8 << 20;
        settings.uncommitted_bytes_max = 32 << 20;
        // A message travels in one frame. An entry that is larger than this goes alone, and is bounded where it is proposed.
        settings.message_bytes_max = 1 << 20;
        let restored = Restored {
            hard_state: disk.hard_state().clone(),
            base: disk.base().clone(),
            applied: disk.base().position.index,
            entries: disk.entries().cloned().collect::<Vec<_>>(),
        };
        let replica = Replica::new(settings, restored)?;
        let applied = disk.base().position.index;
        let worker = Worker {
            replica,
            disk,
            state: Arc::new(state),
            applied,
            pending: VecDeque::new(),
            staged: BTreeMap::new(),
            hard_state: None,
            unwritten: None,
            removed: false,
            full: None,
            held: Vec::new(),
            compacts_again: None,
            clock,
            network,
            node,
            ticks: 0,
            resigned: None,
        };
        Ok((worker, failed))
    }

    fn run(mut self, taken: &Receiver<Input>, publish: &Publish, failed: OnFailure) {
        let mut since_tick = Stopwatch::start();
        loop {
            let patience = TICK.saturating_sub(since_tick.elapsed());
            let mut going_on = match taken.recv_timeout(patience) {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            for _ in 0..INPUTS_PER_TURN {
                let Ok(input) = taken.try_recv() else { break };
                going_on &= self.take(input);
            }
            if since_tick.elapsed() >= TICK {
                since_tick = Stopwatch::start();
                self.tick();
            }
            self.hurry_alone();
            match self.carry_out_when_there_is_room(taken, publish) {
                Ok(Flow::Go) if self.full.is_some() => {
                    going_on &= self.begin_again();
                    since_tick = Stopwatch::start();
                }
                Ok(Flow::Go) => {}
                Ok(Flow::Stop) => going_on = false,
                Err(error) => {
                    let why = format!("the master ended before the change was confirmed ({error})");
                    self.answer_all(taken, &why);
                    return failed(error);
                }
            }
            self.forget_overtaken();
            publish.send_replace(Arc::new(self.look()));
            if !going_on {
                self.answer_all(taken, STOPPED);
                self.finish();
                return;
            }
        }
    }

    /// Nobody waits for a core that has ended.
    fn answer_all(&mut self, taken: &Receiver<Input>, why: &str) {
        for pending in self.pending.drain(..) {
            drop(pending.reply.send(Err(ProposeError::Unknown(why.to_owned()))));
        }
        while let Ok(input) = taken.try_recv() {
            if let Input::Propose { reply, .. } = input {
                drop(reply.send(Err(ProposeError::NotTaken)));
            }
        }
    }

    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Messages(messages) => {
                for message in messages {
                    // Its content may have come to an earlier run of this process; without it there is nothing to install.
                    let lacks_content = matches!(&message.body, Body::InstallSnapshot { snapshot }
                        if self.staged.get(&snapshot.position.index).is_none_or(|(at, _)| *at != snapshot.position));
                    if !lacks_content {
                        self.replica.step(message);
                    }
                }
            }
            Input::Content(position, state) => {
                self.staged.clear();
                self.staged.insert(position.index, (position, state));
            }
            Input::Propose { command, term, reply } => self.propose(&command, term, reply),
            // Whoever asked may have gone away in every case below.
            Input::Change(change, reply) => drop(reply.send(self.replica.change(change))),
            Input::Transfer(to, reply) => drop(reply.send(self.replica.transfer(Some(to)))),
            Input::Found(first) => self.replica.found(&first),
            Input::Founded(first) => self.replica.founded(&first),
            Input::SnapshotArrived(to, snapshot) => self.replica.offer_snapshot(to, snapshot),
            Input::SnapshotFailed(to) => self.replica.snapshot_failed(to),
            Input::Stop => return false,
        }
        true
    }

    fn propose(
        &mut self,
        command: &Command,
        term: Option<u64>,
        reply: oneshot::Sender<Result<Applied, ProposeError>>,
    ) {
        let proposed = match term {
            Some(term) if self.replica.status().term.0 != term => Err(Refusal::NotLeader { leader: None }),
            _ if self.holds_commands_back() => Err(Refusal::NotLeader { leader: None }),
            _ => self.replica.propose(Bytes::from(command.encode())),
        };
        match proposed {
            Ok(position) => self.pending.push_back(Pending { position, reply }),
            Err(refusal) => drop(reply.send(Err(ProposeError::Refused(refusal)))),
        }
    }

    /// Can be repeated if there was no room.
    fn carry_out(&mut self) -> Result<(), DiskError> {
        loop {
            while let Some(ready) = self.unwritten.take().or_else(|| self.replica.ready()) {
                self.carry_out_one(ready)?;
            }
            if !self.let_go() {
                break;
            }
        }
        if self.is_long() {
            self.compact()?;
        }
        Ok(())
    }

    fn carry_out_one(&mut self, mut ready: Ready) -> Result<(), DiskError> {
        for message in ready.messages.drain(..) {
            self.network.send(message);
        }
        if let Err(error) = self.write(&ready) {
            self.unwritten = Some(ready);
            return Err(error);
        }
        self.replica.persisted(ready.number);
        for message in ready.messages_after.drain(..) {
            self.network.send(message);
        }
        for event in &ready.events {
            self.removed |= matches!(event, Event::Removed);
            self.network.tell(event);
        }
        for entry in ready.committed {
            self.apply(&entry);
        }
        self.replica.applied(self.applied);
        for Fetch {
            to,
            from,
            until,
            bytes_max,
        } in ready.fetches
        {
            self.replica.fetched(to, self.disk.fetch(from, until, bytes_max));
        }
        for to in ready.snapshots_wanted {
            match self.replica.describe_snapshot(self.applied) {
                Some(snapshot) => {
                    let content = serde_json::to_vec(&*self.state)
                        .expect("a state consists of texts, numbers, lists and structs");
                    self.network.send_snapshot(to, snapshot, content);
                }
                None => self.replica.snapshot_failed(to),
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) {
        self.applied = entry.index;
        let outcome = match entry.kind {
            Kind::Command => match Command::decode(&entry.payload) {
                Ok(command) => Arc::make_mut(&mut self.state).apply(&command),
                // Refused before it was proposed by whoever knows the levels of all members; here nothing may be made of it.
                Err(error) => {
                    tracing::error!(target: "quptime", index = entry.index, error = %error, "a command of the log cannot be read");
                    Outcome::Outdated
                }
            },
            Kind::Configuration | Kind::Blank => Outcome::Outdated,
        };
        while let Some(first) = self.pending.front() {
            if first.position.index > entry.index {
                break;
            }
            let first = self.pending.pop_front().expect("there is a first one");
            let answer = if first.position == entry.position() {
                Ok(Applied {
                    index: entry.index,
                    outcome: outcome.clone(),
                })
            } else {
                Err(ProposeError::Unknown(LEAD_LOST.to_owned()))
            };
            // Whoever asked may have gone away.
            drop(first.reply.send(answer));
        }
    }

    /// Proposals of an earlier term are answered when something else is committed in their place; who has lost the lead cannot wait for
    /// that, since it may take until quorum is back.
    fn forget_overtaken(&mut self) {
        if self.replica.status().role == RoleName::Leader {
            return;
        }
        for pending in self.pending.drain(..) {
            drop(
                pending
                    .reply
                    .send(Err(ProposeError::Unknown(LEAD_LOST.to_owned()))),
            );
        }
    }

    fn look(&self) -> View {
        let status = self.replica.status();
        let full = self.full.clone();
        let (role, leader) = match full {
            None => (status.role, status.leader),
            Some(_) => (RoleName::Follower, None),
        };
        let settled = role == RoleName::Leader && self.replica_settled(&status);
        let last = status.last;
        let progress = status.peers.iter().map(|(node, peer)| {
            let progress = Progress {
                caught_up: !peer.recovering && last.index.saturating_sub(peer.matched) <= 16,
                active: peer.active,
            };
            (*node, progress)
        });
        let configuration = &status.configuration;
        View {
            state: self.state.clone(),
            applied: self.applied,
            commit: status.commit,
            role,
            leader,
            term: status.term.0,
            incarnation: status.incarnation,
            recovering: status.recovering,
            last,
            settled,
            voters: configuration.voters().collect(),
            runs: leader.is_some() && self.settled_term(status.commit) == Some(status.term),
            members: configuration
                .members()
                .map(|(node, member)| (node, member.voter))
                .collect(),
            progress: progress.collect(),
            removed: self.removed && configuration.member(self.node).is_none(),
            full,
            turned: self.clock.unix_ms(),
        }
    }

    /// Whether everything up to an entry of this term is applied: what the master sees then is what was acknowledged before it.
    fn replica_settled(&self, status: &consensus::Status) -> bool {
        status.applied == status.commit && self.settled_term(status.commit) == Some(status.term)
    }

    fn settled_term(&self, index: u64) -> Option<consensus::Term> {
        self.disk.term(index)
    }
}
