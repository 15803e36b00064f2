//! Carries out what the start-up decision wants ([`crate::machine::entrance`]), and tells it what happens.
//!
//! Three places on disk belong to it: `raft/`, the group this node is in; `raft.trial/`, a group that was founded and has not begun; and
//! `raft.note`, where the node stands. What a running replica would have to be stopped for ends the run: the note is written first, and the
//! next run goes on from it, as after a crash.

mod damage;
mod disk;
mod newcomer;
mod orphans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use consensus::{Configuration, HardState, Snapshot};

pub use disk::{boot, placeholder_facts, too_large_to_read};
pub use newcomer::keep_promise;

use super::differs::{self, Differences};
use super::run::Starter;
use super::shared::{Ending, Shared};
use super::wire::{decode, encode, kind};
use crate::document::Document;
use crate::identity::NodeId;
use crate::machine::entrance::{
    self as entrance, Action, FileFacts, Founding, Group, Input, Line, Note, RaftFacts, Running, Standing,
    Statement,
};
use crate::machine::state::State;
use crate::raft::disk::{Disk, Loaded};
use crate::raft::view::View;
use crate::secret::random;

/// A tick of the decision.
const TICK: Duration = Duration::from_secs(1);
/// The same for a node that has nobody to ask.
const TICK_ALONE: Duration = Duration::from_millis(50);
/// How often the replica is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a peer may take to say how it stands.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A replica that is ready to be started.
#[derive(Debug)]
pub struct Replica {
    /// What its folder holds.
    pub loaded: Loaded,
    /// The first members of a group that this node founds.
    pub founds: Option<Configuration>,
    /// The first members of a group that another node founded with this one.
    pub founded: Option<Configuration>,
    /// Whether the group has not begun yet.
    pub on_trial: bool,
}

/// A node as the decision knows it.
pub fn known_as(node: NodeId) -> entrance::NodeId {
    entrance::NodeId(node.as_u128())
}

type Names = BTreeMap<consensus::NodeId, entrance::NodeId>;

fn names_of(document: &Document) -> Names {
    document
        .peers
        .iter()
        .map(|peer| (peer.node_id.number(), known_as(peer.node_id)))
        .collect()
}

/// The group knows the first half of a UUID; whoever is in no configuration is still told apart by it.
fn name(names: &Names, number: consensus::NodeId) -> entrance::NodeId {
    names
        .get(&number)
        .copied()
        .unwrap_or(entrance::NodeId(u128::from(number.0) << 64))
}

/// What this node says to one that asks how it stands.
pub fn statement(shared: &Shared) -> Statement {
    let mut entrance = shared.entrance.lock();
    if let Some(view) = shared.view() {
        // What is told must not be older than what the replica has acknowledged.
        entrance.handle(Input::Advanced(running_facts(shared, &view)));
    }
    entrance.statement()
}

/// What the running replica holds.
fn running_facts(shared: &Shared, view: &View) -> RaftFacts {
    let document = &view.state.document;
    let mut names = names_of(document);
    names.extend(names_of(&shared.document_at_start));
    let founder = shared.founded_at.get();
    RaftFacts {
        group: shared
            .group_facts
            .get()
            .copied()
            .unwrap_or(Group { generation: 0, id: 0 }),
        incarnation: entrance::Incarnation(view.incarnation.0),
        voters: view
            .voters
            .iter()
            .map(|(node, life)| (name(&names, *node), entrance::Incarnation(life.0)))
            .collect(),
        last: entrance::Position {
            term: view.last.term.0,
            index: view.last.index,
        },
        beyond_founding: founder.map_or(view.last.index > 0, |base| view.last.index > base + 1),
        recovering: view.recovering,
        version: document.version,
        digest: shared.digest_of(document),
    }
}

fn running(shared: &Shared, view: &View) -> Option<Running> {
    let leader = view.leader.filter(|_| view.runs)?;
    let mut names = names_of(&view.state.document);
    names.extend(names_of(&shared.document_at_start));
    Some(Running {
        group: shared.group_facts.get().copied()?,
        leader: name(&names, leader),
        members: view.members.keys().map(|node| name(&names, *node)).collect(),
        version: view.state.document.version,
        digest: shared.digest_of(&view.state.document),
    })
}

/// Whether the run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    Again,
}

/// Decides how this node gets into its group, and goes on watching, until the run ends.
pub async fn run(shared: Arc<Shared>, starter: Starter, actions: Vec<Action>) {
    let mut entry = Entry {
        shared: shared.clone(),
        starter: Some(starter),
        told: None,
        file: None,
        swept: false,
        differences: Differences::default(),
    };
    if let Err(error) = entry.go(actions).await {
        shared.end(Ending::Failed(terminal::chain(&error)));
    }
}

struct Entry {
    shared: Arc<Shared>,
    starter: Option<Starter>,
    /// What was told about the leader last.
    told: Option<Running>,
    /// The configuration that was told as the file's content last.
    file: Option<Arc<Document>>,
    /// Folders that were put aside have been looked through in this run.
    swept: bool,
    /// What keeps this node from starting with its file, if that does.
    differences: Differences,
}

impl Entry {
    async fn go(&mut self, actions: Vec<Action>) -> anyhow::Result<()> {
        if tokio::task::block_in_place(|| self.carry_out(actions))? == Flow::Again {
            self.shared.end(Ending::Again);
            return Ok(());
        }
        let alone = self
            .shared
            .document_at_start
            .peers
            .iter()
            .all(|peer| peer.node_id == self.shared.me);
        let mut tick = tokio::time::interval(if alone { TICK_ALONE } else { TICK });
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (answers, mut answered) = tokio::sync::mpsc::channel::<Input>(64);
        let (differing, mut differs) = tokio::sync::mpsc::channel(64);
        loop {
            let mut inputs = Vec::new();
            tokio::select! {
                _ = tick.tick() => inputs.push(Input::Tick { fresh: self.fresh() }),
                _ = look.tick() => {}
                Some(input) = answered.recv() => inputs.push(input),
                Some((peer, text)) = differs.recv() => self.tell_difference(peer, text),
                () = self.shared.stop.cancelled() => return Ok(()),
            }
            let mut actions = self.look();
            // What is decided is written down first, and there is no room for that.
            if self.shared.view().is_some_and(|view| view.full.is_some()) {
                continue;
            }
            for input in inputs {
                actions.extend(self.shared.entrance.lock().handle(input));
            }
            for asked in actions.iter().filter_map(|action| match action {
                Action::Ask(asked) => Some(asked.clone()),
                _ => None,
            }) {
                for peer in asked {
                    tokio::spawn(ask(self.shared.clone(), peer, answers.clone()));
                }
            }
            if tokio::task::block_in_place(|| self.carry_out(actions))? == Flow::Again {
                self.shared.end(Ending::Again);
                return Ok(());
            }
            let waiting = self.shared.entrance.lock().waiting().cloned();
            let now = self.shared.now();
            self.differences.follow(waiting.as_ref(), now, |peer| {
                let (shared, differing) = (self.shared.clone(), differing.clone());
                tokio::spawn(async move {
                    if let Some(text) = differs::ask(shared, peer).await {
                        // The run has ended if nobody listens.
                        drop(differing.send((peer, text)).await);
                    }
                });
            });
            let waiting = waiting.map(|waiting| waiting.to_string()).into_iter();
            *self.shared.waiting.lock() = waiting.chain(self.differences.lines()).collect();
        }
    }

    fn tell_difference(&mut self, peer: entrance::NodeId, text: String) {
        let line = differs::line(peer, &text);
        if self.differences.learn(peer, text) {
            tracing::warn!(target: "quptime", "not in a group yet: {line}");
        }
    }

    /// Never used before: lives and groups are named by it.
    fn fresh(&self) -> u64 {
        let [a, b] = random::<2>();
        consensus::Incarnation::draw(self.shared.wall(), u16::from_be_bytes([a, b])).0
    }

    /// Tells what the replica has come to.
    fn look(&mut self) -> Vec<Action> {
        let Some(view) = self.shared.view() else {
            return Vec::new();
        };
        let mut entrance = self.shared.entrance.lock();
        let mut actions = entrance.handle(Input::Advanced(running_facts(&self.shared, &view)));
        // Whom the file lists changes while the node runs: a node that believed what it read at its start would found without those who
        // came since.
        let document = &view.state.document;
        let is_news = self
            .file
            .as_ref()
            .is_none_or(|known| !Arc::ptr_eq(known, document));
        if is_news && document.version > 0 && entrance.is_at_home() {
            self.file = Some(document.clone());
            let as_written = !self.shared.file.lock().is_pending();
            let facts = FileFacts {
                digest: self.shared.digest_of(document),
                ..disk::file_facts(document, as_written)
            };
            actions.extend(entrance.handle(Input::File(facts)));
        }
        let running = running(&self.shared, &view);
        if running != self.told {
            let input = match running.clone() {
                Some(running) => Input::LeaderFound(running),
                None => Input::LeaderLost,
            };
            actions.extend(entrance.handle(input));
            self.told = running;
        }
        if !self.swept && self.told.is_some() && entrance.is_at_home() {
            self.swept = true;
            let home = self.shared.home.dir().to_owned();
            // Nobody waits for it.
            drop(tokio::task::spawn_blocking(move || orphans::sweep(&home)));
        }
        actions
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> anyhow::Result<Flow> {
        let mut waiting: std::collections::VecDeque<Action> = actions.into();
        let mut flow = Flow::Go;
        while let Some(action) = waiting.pop_front() {
            let home = self.shared.home.clone();
            match action {
                Action::Persist(note) => {
                    disk::write_note(&home, &note)?;
                    let then = self.shared.entrance.lock().handle(Input::Persisted);
                    waiting.extend(then);
                }
                Action::StopReplica => {
                    if self.stop_replica()? {
                        flow = Flow::Again;
                    }
                    if self.has_moved() {
                        // What was promised is not so any more. Nothing is written yet, so the next run begins from what is there.
                        return Ok(Flow::Again);
                    }
                }
                Action::StartReplica => {
                    let loaded = Disk::open(&home.raft())?.context("raft/ is gone")?;
                    self.start(Replica {
                        loaded,
                        founds: None,
                        founded: None,
                        on_trial: false,
                    })?;
                }
                Action::RewriteFile => newcomer::rewrite(&self.shared)?,
                Action::KeepStale => disk::keep_stale(&self.shared)?,
                Action::MoveAside => disk::set_aside(&self.shared)?,
                Action::Enter(group, life) if flow == Flow::Go => {
                    disk::set_aside(&self.shared)?;
                    let hard = HardState::new(consensus::Incarnation(life.0), true);
                    Disk::create(
                        &home.raft(),
                        (group.generation, group.id),
                        &Snapshot::default(),
                        &State::default(),
                        &hard,
                    )?;
                    newcomer::entered(&self.shared)?;
                    // A life is entered with once: what is lost from here on comes back with another one.
                    let generation = disk::read_note(&home.note())?.generation.max(group.generation);
                    disk::write_note(
                        &home,
                        &Note {
                            standing: Standing::Own,
                            generation,
                        },
                    )?;
                    return Ok(Flow::Again);
                }
                Action::Found(founding) if flow == Flow::Go => {
                    if Disk::open(&home.trial())?.is_none() {
                        disk::make_founders(&self.shared, &founding)?;
                    }
                    self.start_trial(&founding, true)?;
                }
                Action::Follow(founding) if flow == Flow::Go => {
                    if Disk::open(&home.trial())?.is_none() {
                        disk::make_followers(&self.shared, &founding)?;
                    }
                    self.start_trial(&founding, false)?;
                }
                Action::Adopt => {
                    if self.stop_replica()? {
                        flow = Flow::Again;
                    }
                    disk::adopt(&self.shared)?;
                }
                Action::DropTrial => {
                    if self.stop_replica()? {
                        flow = Flow::Again;
                    }
                    disk::remove_dir(&home.trial())?;
                }
                // Peers are asked by the caller; a text that differs from the one written last is an edit to whoever keeps the file; and
                // what would need another replica is done by the next run, from the note.
                Action::Ask(_)
                | Action::PendingEdit
                | Action::Enter(..)
                | Action::Found(_)
                | Action::Follow(_) => {}
                Action::Log(line) => log(&line),
                Action::Exit(text) => anyhow::bail!(text),
            }
        }
        Ok(flow)
    }

    /// Whether there was one.
    fn stop_replica(&self) -> anyhow::Result<bool> {
        let Some(core) = self.shared.core.get() else {
            return Ok(false);
        };
        core.stop();
        if let Some(thread) = self.shared.thread.lock().take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the group's thread ended badly"))?;
        }
        Ok(true)
    }

    /// Whether the log has grown since the decision looked at it.
    fn has_moved(&self) -> bool {
        let Some(view) = self.shared.view() else {
            return false;
        };
        let known = self
            .shared
            .entrance
            .lock()
            .statement()
            .data
            .map(|data| data.facts.last);
        let last = entrance::Position {
            term: view.last.term.0,
            index: view.last.index,
        };
        known.is_some_and(|known| known != last)
    }

    fn start(&mut self, replica: Replica) -> anyhow::Result<()> {
        let Some(starter) = self.starter.take() else {
            return Ok(());
        };
        starter.start(&self.shared, replica)
    }

    fn start_trial(&mut self, founding: &Founding, founds: bool) -> anyhow::Result<()> {
        let loaded = Disk::open(&self.shared.home.trial())?.context("raft.trial/ is gone")?;
        let members = founding.members.iter().map(|(node, life)| {
            let number = consensus::NodeId((node.0 >> 64) as u64);
            (number, consensus::Incarnation(life.0), bytes::Bytes::new())
        });
        let first = Configuration::of_voters(members);
        self.start(Replica {
            loaded,
            founds: founds.then(|| first.clone()),
            founded: (!founds).then_some(first),
            on_trial: true,
        })
    }
}

fn log(line: &Line) {
    match line {
        Line::Took(row) => tracing::info!(target: "quptime", row = ?row, "start-up decision"),
        Line::Waiting(waiting) => tracing::warn!(target: "quptime", "not in a group yet: {waiting}"),
        Line::GroupConflict { peer, group } => tracing::error!(
            target: "quptime", peer = %peer, group = group.id,
            "group conflict: this node and that one are in two running groups; stop one of them and remove its peers"
        ),
    }
}

async fn ask(shared: Arc<Shared>, peer: entrance::NodeId, answers: tokio::sync::mpsc::Sender<Input>) {
    let number = consensus::NodeId((peer.0 >> 64) as u64);
    let said = match shared.transport.get() {
        None => None,
        Some(transport) => {
            let asked = transport
                .request(number, kind::STATEMENT, encode(&()), ASK_TIMEOUT)
                .await;
            asked.ok().and_then(|answer| decode::<Statement>(&answer).ok())
        }
    };
    let input = match said {
        Some(statement) if statement.node == peer => Input::Answer(statement),
        _ => Input::Unreachable(peer),
    };
    // The run has ended if nobody listens.
    drop(answers.send(input).await);
}
