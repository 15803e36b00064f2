//! Carries out what the start-up decision wants ([`crate::machine::entrance`]), and tells it what happens.
//!
//! Three places on disk belong to it: `raft/`, the group this node is in; `raft.trial/`, a group that was founded and has not begun; and
//! `raft.note`, where the node stands. What a running replica would have to be stopped for ends the run: the note is written first, and the
//! next run goes on from it, as after a crash.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use consensus::{Configuration, HardState, Kind, Snapshot};

use super::file::Written;
use super::run::Starter;
use super::shared::{Ending, Shared};
use super::wire::{decode, encode, kind};
use crate::document::{self, Digest, Document};
use crate::home::{Home, write};
use crate::identity::NodeId;
use crate::machine::command::Command;
use crate::machine::entrance::{
    self as entrance, Action, Boot, Content, Directory, Extent, FileFacts, Founding, Group, Input, Line,
    Note, RaftFacts, Running, Standing, Statement,
};
use crate::machine::state::State;
use crate::raft::disk::{Disk, DiskError, Loaded, sync_dir};
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

/// Reads all that decides from the disk.
///
/// # Errors
/// The disk, or damage.
pub fn boot(home: &Home, me: NodeId) -> anyhow::Result<Boot> {
    let note = read_note(&home.note())?;
    let raft = match Disk::open(&home.raft()) {
        Ok(None) => Directory::Absent,
        Ok(Some(loaded)) => Directory::Present(facts(&loaded, false)),
        Err(DiskError::Newer { .. }) => Directory::Newer,
        Err(error) => return Err(error.into()),
    };
    let is_founder = matches!(&note.standing, Standing::Trial(founding) if founding.founder == known_as(me));
    let trial = Disk::open(&home.trial())?.map(|loaded| facts(&loaded, is_founder));
    let text = home.read_cluster_text()?;
    let file = match text {
        // A file that is missing is a placeholder.
        None => Ok(FileFacts {
            version: 0,
            digest: entrance::Digest(Digest::of(&Document::default()).0),
            peers: std::collections::BTreeSet::new(),
            as_written: false,
        }),
        Some(text) => match document::parse(&text) {
            Ok(document) => {
                let genuine = matches!(raft, Directory::Present(_));
                let as_written = genuine && Written::load(&home.raft()).is(&text);
                Ok(file_facts(&document, as_written))
            }
            Err(mistake) => Err(format!("{}: {mistake}", home.cluster_file().display())),
        },
    };
    Ok(Boot {
        node: known_as(me),
        note,
        raft,
        trial,
        file,
    })
}

fn file_facts(document: &Document, as_written: bool) -> FileFacts {
    FileFacts {
        version: document.version,
        digest: entrance::Digest(Digest::of(document).0),
        peers: document.peers.iter().map(|peer| known_as(peer.node_id)).collect(),
        as_written,
    }
}

/// What a folder that is not in use holds. `founder`: whether this node wrote its first entry.
fn facts(loaded: &Loaded, founder: bool) -> RaftFacts {
    let disk = &loaded.disk;
    let (base, last) = (disk.base().position, disk.last());
    let hard = disk.hard_state();
    let state = replay(loaded, hard.commit);
    let names = names_of(&state.document);
    let voters = disk.newest_configuration();
    RaftFacts {
        group: Group {
            generation: loaded.meta.generation,
            id: loaded.meta.group,
        },
        incarnation: entrance::Incarnation(hard.incarnation.0),
        voters: voters
            .voters()
            .map(|(node, life)| (name(&names, node), entrance::Incarnation(life.0)))
            .collect(),
        last: entrance::Position {
            term: last.term.0,
            index: last.index,
        },
        beyond_founding: if founder {
            last.index > base.index + 1
        } else {
            last.index > 0
        },
        recovering: hard.recovering,
        version: state.document.version,
        digest: entrance::Digest(Digest::of(&state.document).0),
    }
}

/// The state after the entries up to `until`.
fn replay(loaded: &Loaded, until: u64) -> State {
    let mut state = loaded.state.clone();
    let commands = loaded
        .disk
        .entries()
        .filter(|entry| entry.index <= until && entry.kind == Kind::Command);
    for entry in commands {
        if let Ok(command) = Command::decode(&entry.payload) {
            state.apply(&command);
        }
    }
    state
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

fn read_note(path: &Path) -> anyhow::Result<Note> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Note::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn write_note(home: &Home, note: &Note) -> anyhow::Result<()> {
    let text = serde_json::to_vec(note).expect("a note consists of numbers and lists");
    write(&home.note(), &text).map_err(Into::into)
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
    };
    if let Err(error) = entry.go(actions).await {
        shared.end(Ending::Failed(format!("{error:#}")));
    }
}

struct Entry {
    shared: Arc<Shared>,
    starter: Option<Starter>,
    /// What was told about the leader last.
    told: Option<Running>,
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
        loop {
            let mut inputs = Vec::new();
            tokio::select! {
                _ = tick.tick() => inputs.push(Input::Tick { fresh: self.fresh() }),
                _ = look.tick() => {}
                Some(input) = answered.recv() => inputs.push(input),
                () = self.shared.stop.cancelled() => return Ok(()),
            }
            let mut actions = self.look();
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
            let waiting = self.shared.entrance.lock().waiting().map(ToString::to_string);
            *self.shared.waiting.lock() = waiting.into_iter().collect();
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
        let running = running(&self.shared, &view);
        if running != self.told {
            let input = match running.clone() {
                Some(running) => Input::LeaderFound(running),
                None => Input::LeaderLost,
            };
            actions.extend(entrance.handle(input));
            self.told = running;
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
                    write_note(&home, &note)?;
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
                Action::RewriteFile => remember_as_written(&home)?,
                Action::KeepStale => keep_stale(&self.shared)?,
                Action::MoveAside => set_aside(&self.shared)?,
                Action::Enter(group, life) if flow == Flow::Go => {
                    set_aside(&self.shared)?;
                    let hard = HardState::new(consensus::Incarnation(life.0), true);
                    Disk::create(
                        &home.raft(),
                        (group.generation, group.id),
                        &Snapshot::default(),
                        &State::default(),
                        &hard,
                    )?;
                    // A life is entered with once: what is lost from here on comes back with another one.
                    let generation = read_note(&home.note())?.generation.max(group.generation);
                    write_note(
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
                        make_founders(&self.shared, &founding)?;
                    }
                    self.start_trial(&founding, true)?;
                }
                Action::Follow(founding) if flow == Flow::Go => {
                    if Disk::open(&home.trial())?.is_none() {
                        make_followers(&self.shared, &founding)?;
                    }
                    self.start_trial(&founding, false)?;
                }
                Action::Adopt => {
                    if self.stop_replica()? {
                        flow = Flow::Again;
                    }
                    adopt(&self.shared)?;
                }
                Action::DropTrial => {
                    if self.stop_replica()? {
                        flow = Flow::Again;
                    }
                    remove_dir(&home.trial())?;
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

/// The text that is there counts as written here, so it is written over.
fn remember_as_written(home: &Home) -> anyhow::Result<()> {
    if let Some(text) = home.read_cluster_text()? {
        Written::note(&home.raft(), text)?;
    }
    Ok(())
}

fn stamp(shared: &Shared) -> String {
    service::clock::utc_compact(shared.wall())
}

fn keep_stale(shared: &Shared) -> anyhow::Result<()> {
    let Some(text) = shared.home.read_cluster_text()? else {
        return Ok(());
    };
    let kept = shared
        .home
        .dir()
        .join(format!("cluster.yaml.stale-{}", stamp(shared)));
    write(&kept, text.as_bytes())?;
    tracing::warn!(target: "quptime", kept = %kept.display(), "cluster.yaml was older than the cluster and is replaced");
    // A node without memory takes the cluster's; with one, the text counts as written.
    if shared.home.raft().exists() {
        Written::note(&shared.home.raft(), text)?;
    }
    Ok(())
}

/// What is in `raft/` does not count and must not be in the way.
fn set_aside(shared: &Shared) -> anyhow::Result<()> {
    let raft = shared.home.raft();
    if !raft.exists() {
        return Ok(());
    }
    let mut aside = raft.with_file_name(format!("raft.orphan-{}", stamp(shared)));
    while aside.exists() {
        let [a] = random::<1>();
        aside = raft.with_file_name(format!("raft.orphan-{}-{a}", stamp(shared)));
    }
    fs::rename(&raft, &aside).with_context(|| format!("move {} aside", raft.display()))?;
    sync_dir(shared.home.dir())?;
    Ok(())
}

fn adopt(shared: &Shared) -> anyhow::Result<()> {
    let trial = shared.home.trial();
    if !trial.exists() {
        return Ok(());
    }
    set_aside(shared)?;
    fs::rename(&trial, shared.home.raft()).with_context(|| format!("move {}", trial.display()))?;
    sync_dir(shared.home.dir())?;
    // The file that all agreed on is no edit of what came of it; one that was changed meanwhile is.
    let note = read_note(&shared.home.note())?;
    if let Standing::Trial(founding) = note.standing
        && let Some(document) = shared.home.read_cluster()?
        && Digest::of(&document).0 == founding.digest.0
    {
        remember_as_written(&shared.home)?;
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The founder's folder: it begins after a snapshot that holds all that the new group begins with, so whoever hears of the group's first
/// members from it has that as well.
fn make_founders(shared: &Shared, founding: &Founding) -> anyhow::Result<()> {
    let before = Disk::open(&shared.home.raft())?;
    let before = before.map(|loaded| replay(&loaded, u64::MAX));
    let state = match (founding.content, before) {
        (Content::Log, Some(before)) => before,
        (Content::Log | Content::File, before) => {
            let mut document = shared.home.read_cluster()?.unwrap_or_default();
            document.version = founding.version;
            let cluster = format!("{:032x}", u128::from_be_bytes(random::<16>()));
            State::begun(document, cluster, before)
        }
    };
    let Extent { last, .. } = founding.base.unwrap_or(Extent {
        group: founding.group,
        last: entrance::Position { term: 1, index: 1 },
    });
    let base = Snapshot {
        position: consensus::Position {
            term: consensus::Term(last.term.max(1)),
            index: last.index.max(1),
        },
        configuration: Configuration::default(),
    };
    let life = founding
        .members
        .get(&founding.founder)
        .context("a founding names its founder")?;
    let hard = HardState {
        term: base.position.term,
        commit: base.position.index,
        ..HardState::new(consensus::Incarnation(life.0), false)
    };
    let group = (founding.group.generation, founding.group.id);
    Disk::create(&shared.home.trial(), group, &base, &state, &hard)?;
    Ok(())
}

fn make_followers(shared: &Shared, founding: &Founding) -> anyhow::Result<()> {
    let life = founding
        .members
        .get(&known_as(shared.me))
        .context("a founding names who follows")?;
    let hard = HardState::new(consensus::Incarnation(life.0), true);
    let group = (founding.group.generation, founding.group.id);
    Disk::create(
        &shared.home.trial(),
        group,
        &Snapshot::default(),
        &State::default(),
        &hard,
    )?;
    Ok(())
}

/// A node that has promised to join a cluster leaves behind a placeholder that says whose group to look for, and no memory.
///
/// The promise is on disk before it is told, and every step can be repeated: with the promise gone, all of them are done.
///
/// # Errors
/// The disk.
pub fn keep_promise(home: &Home) -> anyhow::Result<()> {
    let path = home.joining();
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    write(&home.cluster_file(), &text)?;
    remove_dir(&home.raft())?;
    remove_dir(&home.trial())?;
    // Groups of another cluster are compared with nothing of this one.
    write_note(home, &Note::default())?;
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    sync_dir(home.dir())?;
    Ok(())
}
