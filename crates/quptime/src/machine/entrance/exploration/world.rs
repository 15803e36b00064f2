//! Nodes with their disks, what the operator does to them, and how the machine's actions are carried out.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::group::Log;
use super::names::waiting_name;
use super::truth::Ghost;
use super::{Beginning, Budget, Move, Rules};
use crate::machine::entrance::{
    Action, Boot, Content, Digest, Directory, Entrance, FileFacts, Group, Incarnation, Input, Line, Mutation,
    NodeId, Note, PATIENCE_TICKS, Position, RaftFacts, Standing,
};

/// A configuration: the version, which changes are in it, and who is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Text {
    pub(super) version: u8,
    pub(super) changes: u8,
    pub(super) peers: u8,
}

/// The bit of the operator's edit; lower ones are acknowledged changes.
pub(super) const EDIT: u8 = 0x80;

impl Text {
    pub(super) fn digest(self) -> Digest {
        let mut bytes = [0; 32];
        bytes[..3].copy_from_slice(&[self.version, self.changes, self.peers]);
        Digest(bytes)
    }

    pub(super) fn lists(self, node: usize) -> bool {
        self.peers & (1 << node) != 0
    }
}

/// What the operator puts in place of `cluster.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Zero,
    Edited,
    Surgery,
    Backup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum On {
    Nothing,
    Raft,
    Trial,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// None while it is down.
    pub(super) entrance: Option<Entrance>,
    pub(super) note: Note,
    pub(super) raft: Option<Log>,
    pub(super) trial: Option<Log>,
    pub(super) file: Text,
    /// Kept in the Raft directory.
    pub(super) written: Option<Text>,
    pub(super) on: On,
    pub(super) leads: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    /// Bits of [`link`].
    pub(super) cuts: u8,
    pub(super) left: Budget,
    pub(super) ghost: Ghost,
    pub(super) fresh: u64,
    /// What the operator composed: the edited file and the one without the last node.
    pub(super) composed: [Option<Text>; 2],
}

pub(super) fn id(node: usize) -> NodeId {
    NodeId(node as u128 + 1)
}

pub(super) fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

pub(super) fn link(a: usize, b: usize) -> u8 {
    1 << (a + b - 1)
}

fn peers_of(text: Text) -> impl Iterator<Item = usize> {
    (0..8).filter(move |node| text.lists(*node))
}

pub(super) type Seen = RefCell<BTreeMap<String, u64>>;

pub(super) struct World<'m> {
    pub(super) state: State,
    pub(super) rules: &'m Rules,
    pub(super) seen: &'m Seen,
}

impl<'m> World<'m> {
    pub(super) fn new(state: State, rules: &'m Rules, seen: &'m Seen) -> World<'m> {
        World { state, rules, seen }
    }

    pub(super) fn begin(rules: &'m Rules, seen: &'m Seen) -> State {
        let file = Text {
            version: 1,
            changes: 0,
            peers: (1 << rules.nodes) - 1,
        };
        let voters: BTreeMap<NodeId, Incarnation> = (0..rules.nodes)
            .map(|at| (id(at), Incarnation(at as u64 + 1)))
            .collect();
        let position = Position { term: 1, index: 1 };
        let grouped = rules.beginning == Beginning::Group;
        let nodes = (0..rules.nodes).map(|at| Node {
            entrance: None,
            note: Note::default(),
            raft: grouped.then(|| Log {
                group: Group {
                    generation: 1,
                    id: 20,
                },
                life: Incarnation(at as u64 + 1),
                voters: voters.clone(),
                term: 1,
                last: position,
                commit: position,
                founding: position,
                content: file,
                applied: file,
                recovering: false,
                excuses: 0,
            }),
            trial: None,
            file,
            written: grouped.then_some(file),
            on: On::Nothing,
            leads: false,
        });
        let state = State {
            nodes: nodes.collect(),
            cuts: 0,
            left: rules.budget,
            ghost: Ghost::default(),
            fresh: 100,
            composed: [None; 2],
        };
        let mut world = World::new(state, rules, seen);
        for at in 0..rules.nodes {
            world.start(at).expect("nothing is wrong at the beginning");
        }
        world.follow_up().expect("nothing is wrong at the beginning");
        world.state
    }

    pub(super) fn see(&self, what: &str) {
        *self.seen.borrow_mut().entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        &self.state.nodes[at]
    }

    pub(super) fn node_mut(&mut self, at: usize) -> &mut Node {
        &mut self.state.nodes[at]
    }

    pub(super) fn is_up(&self, at: usize) -> bool {
        self.node(at).entrance.is_some()
    }

    pub(super) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.is_up(a) && self.is_up(b) && (a == b || self.state.cuts & link(a, b) == 0)
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.state.fresh += 1;
        self.state.fresh
    }

    /// False if it is not possible here.
    pub(super) fn perform(&mut self, action: Move) -> Result<bool, String> {
        let spend = |from: &mut u8| {
            let possible = *from > 0;
            *from = from.saturating_sub(1);
            possible
        };
        let left = &mut self.state.left;
        match action {
            Move::Ask { node, peer } => return self.ask(node, peer),
            Move::Look(node) => return self.look(node),
            Move::HalfAMinute(node) => return Ok(self.half_a_minute(node)),
            Move::Written(node) => return self.written(node),
            Move::Start(node) => {
                if self.is_up(node) {
                    return Ok(false);
                }
                self.start(node)?;
            }
            Move::Crash(node) => {
                if !spend(&mut left.crashes) || !self.is_up(node) {
                    return Ok(false);
                }
                self.stop(node);
            }
            Move::Cut(a, b) => {
                if !spend(&mut left.cuts) || self.state.cuts & link(a, b) != 0 {
                    return Ok(false);
                }
                self.state.cuts |= link(a, b);
            }
            Move::Heal(a, b) => self.state.cuts &= !link(a, b),
            Move::Elect(node) => {
                return Ok(spend(&mut left.elections) && self.elect(node)?);
            }
            Move::Send { from, to } => return self.send(from, to),
            Move::Put(node) => return Ok(spend(&mut left.puts) && self.put(node)?),
            Move::Admit { by, node } => return self.admit(by, node),
            Move::Wipe(node) => {
                if !spend(&mut left.wipes)
                    || self.node(node).raft.is_none() && self.node(node).trial.is_none()
                {
                    return Ok(false);
                }
                self.stop(node);
                let wiped = self.node_mut(node);
                (wiped.raft, wiped.trial, wiped.written) = (None, None, None);
                wiped.note = Note::default();
                self.state.ghost.wipe(node);
            }
            // The node says that it does not start and why, and somebody moves the folder aside.
            Move::Damage(node) => {
                let spent = spend(&mut left.wipes);
                let known = self.node(node);
                if !spent || known.raft.as_ref().is_none_or(|log| log.last.index == 0) {
                    return Ok(false);
                }
                self.stop(node);
                let damaged = self.node_mut(node);
                damaged.note = damaged.note.clone().without_log(damaged.trial.is_some());
                (damaged.raft, damaged.written) = (None, None);
                self.state.ghost.wipe(node);
                self.see("damaged");
            }
            Move::DamageTrial(node) => {
                if !spend(&mut left.wipes) || self.node(node).trial.is_none() {
                    return Ok(false);
                }
                self.stop(node);
                let damaged = self.node_mut(node);
                damaged.note = damaged.note.clone().without_trial();
                damaged.trial = None;
                self.state.ghost.wipe(node);
                self.see("damaged trial");
            }
            Move::File(node, kind) => {
                let budget = match kind {
                    Kind::Zero => &mut left.zeros,
                    Kind::Edited => &mut left.edits,
                    Kind::Surgery => &mut left.surgeries,
                    Kind::Backup => &mut left.backups,
                };
                return Ok(spend(budget) && self.put_file(node, kind));
            }
        }
        Ok(true)
    }

    fn put_file(&mut self, at: usize, kind: Kind) -> bool {
        let old = self.node(at).file;
        let all = (1 << self.rules.nodes) - 1;
        let newest = self
            .state
            .nodes
            .iter()
            .map(|node| node.file.version)
            .max()
            .unwrap_or(0);
        let text = match kind {
            Kind::Zero => Text { version: 0, ..old },
            Kind::Backup => Text {
                version: 1,
                changes: 0,
                peers: all,
            },
            Kind::Edited => *self.state.composed[0].get_or_insert(Text {
                version: if self.rules.budget.same_version {
                    old.version
                } else {
                    newest + 1
                },
                changes: old.changes | EDIT,
                ..old
            }),
            Kind::Surgery => *self.state.composed[1].get_or_insert(Text {
                version: newest + 1,
                peers: all >> 1,
                ..old
            }),
        };
        if text == old {
            return false;
        }
        self.stop(at);
        self.node_mut(at).file = text;
        self.state.ghost.put_file(kind);
        true
    }

    pub(super) fn stop(&mut self, at: usize) {
        let node = self.node_mut(at);
        node.entrance = None;
        node.on = On::Nothing;
        node.leads = false;
    }

    fn file_facts(&self, at: usize) -> FileFacts {
        let node = self.node(at);
        FileFacts {
            version: node.file.version.into(),
            digest: node.file.digest(),
            peers: peers_of(node.file).map(id).collect(),
            as_written: node.written == Some(node.file),
            is_edit: node
                .written
                .is_some_and(|written| written != node.file && written.version == node.file.version),
        }
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        let node = self.node(at);
        let boot = Boot {
            node: id(at),
            note: node.note.clone(),
            raft: match &node.raft {
                None => Directory::Absent,
                Some(log) => Directory::Present(log.facts()),
            },
            trial: node.trial.as_ref().map(Log::facts),
            file: Ok(self.file_facts(at)),
        };
        let (entrance, actions) = Entrance::mutated(boot, self.rules.mutation);
        self.node_mut(at).entrance = Some(entrance);
        self.carry(at, actions)
    }

    pub(super) fn ask(&mut self, at: usize, peer: usize) -> Result<bool, String> {
        let Some(entrance) = &self.node(at).entrance else {
            return Ok(false);
        };
        if entrance.leader.is_some() || !entrance.asked().contains(&id(peer)) {
            return Ok(false);
        }
        let said = self.node(peer).entrance.as_ref();
        let input = match said.filter(|_| self.is_connected(at, peer)) {
            Some(peer) => Input::Answer(peer.statement()),
            None => Input::Unreachable(id(peer)),
        };
        self.tell(at, input)?;
        Ok(true)
    }

    pub(super) fn look(&mut self, at: usize) -> Result<bool, String> {
        let fresh = self.fresh();
        let Some(entrance) = self.node_mut(at).entrance.as_mut() else {
            return Ok(false);
        };
        let actions = entrance.look(fresh);
        let waiting = entrance.waiting.clone();
        if let Some(waiting) = waiting {
            self.see(waiting_name(&waiting));
        }
        let spends = actions.iter().any(|action| match action {
            Action::Persist(note) => match &note.standing {
                Standing::Trial(founding) => founding.founder == id(at),
                Standing::Left => true,
                _ => false,
            },
            _ => false,
        });
        if spends {
            let left = &mut self.state.left.foundings;
            let Some(less) = left.checked_sub(1) else {
                return Ok(false);
            };
            *left = less;
        }
        self.carry(at, actions)?;
        Ok(true)
    }

    pub(super) fn half_a_minute(&mut self, at: usize) -> bool {
        let Some(entrance) = self.node_mut(at).entrance.as_mut() else {
            return false;
        };
        let asked = entrance
            .asked()
            .iter()
            .all(|peer| entrance.answers.contains_key(peer));
        let possible = asked && entrance.leader.is_none() && entrance.waited < PATIENCE_TICKS;
        if possible {
            entrance.waited = PATIENCE_TICKS;
        }
        possible
    }

    fn written(&mut self, at: usize) -> Result<bool, String> {
        let writing = self
            .node(at)
            .entrance
            .as_ref()
            .and_then(|entrance| entrance.writing.clone());
        let Some((note, _)) = writing else {
            return Ok(false);
        };
        self.node_mut(at).note = note;
        self.tell(at, Input::Persisted)?;
        Ok(true)
    }

    pub(super) fn tell(&mut self, at: usize, input: Input) -> Result<(), String> {
        let Some(entrance) = self.node_mut(at).entrance.as_mut() else {
            return Ok(());
        };
        let actions = entrance.handle(input);
        self.carry(at, actions)
    }

    fn carry(&mut self, at: usize, actions: Vec<Action>) -> Result<(), String> {
        for action in actions {
            match action {
                Action::Ask(_) | Action::Exit(_) | Action::Log(Line::Waiting(_)) => {}
                Action::Persist(_) => {
                    if !self.rules.slow_disk {
                        self.written(at)?;
                    }
                }
                Action::StopReplica => {
                    self.node_mut(at).on = On::Nothing;
                    self.node_mut(at).leads = false;
                }
                Action::StartReplica => self.node_mut(at).on = On::Raft,
                Action::PendingEdit => {
                    self.see("hand edit");
                    if self.node(at).file.version == 0 {
                        return Err("a placeholder is proposed".into());
                    }
                    self.rewrite(at)?;
                }
                Action::RewriteFile => self.rewrite(at)?,
                Action::KeepStale => self.see("kept a stale file"),
                Action::MoveAside => {
                    let node = self.node_mut(at);
                    (node.raft, node.written) = (None, None);
                }
                Action::Enter(group, life) => {
                    let node = self.node_mut(at);
                    (node.trial, node.written) = (None, None);
                    node.raft = Some(Log::empty(group, life, true));
                    node.on = On::Raft;
                }
                Action::Found(founding) => self.found(at, &founding)?,
                Action::Follow(founding) => {
                    let drops = self.rules.mutation.contains(&Mutation::DropsOldData);
                    let node = self.node_mut(at);
                    let agrees = |entrance: &Entrance| entrance.digest() == founding.digest;
                    if node.trial.is_none() && !node.entrance.as_ref().is_none_or(agrees) {
                        return Err("follows although it has another file".into());
                    }
                    if drops {
                        node.raft = None;
                    }
                    if node.trial.as_ref().is_none_or(|log| log.group != founding.group) {
                        let life = founding.members[&id(at)];
                        let mut log = Log::empty(founding.group, life, false);
                        log.voters.clone_from(&founding.members);
                        node.trial = Some(log);
                    }
                    node.on = On::Trial;
                }
                Action::Adopt => {
                    let node = self.node_mut(at);
                    if let Some(log) = node.trial.take() {
                        node.raft = Some(log);
                        if node.on == On::Trial {
                            node.on = On::Raft;
                        }
                    }
                    self.rewrite(at)?;
                }
                Action::DropTrial => {
                    let node = self.node_mut(at);
                    node.trial = None;
                    if node.on == On::Trial {
                        (node.on, node.leads) = (On::Nothing, false);
                    }
                }
                Action::Log(Line::Took(row)) => self.see(&format!("{row:?}")),
                Action::Log(Line::GroupConflict { .. }) => self.see("group conflict"),
            }
        }
        Ok(())
    }

    fn found(&mut self, at: usize, founding: &crate::machine::entrance::Founding) -> Result<(), String> {
        let node = self.node(at);
        if node.trial.as_ref().is_none_or(|log| log.group != founding.group) {
            let base = founding.base.map(|base| base.last).unwrap_or_default();
            let last = Position {
                term: base.term + 1,
                index: base.index + 1,
            };
            let (content, excuses) = match (&founding.content, &node.raft) {
                (Content::Log, Some(log)) => (log.content, 0),
                (Content::Log, None) => return Err("founded from a log that is not there".into()),
                (Content::File, _) => {
                    if node.file.digest() != founding.digest {
                        return Err("founded from another file than agreed".into());
                    }
                    let text = Text {
                        version: founding.version as u8,
                        ..node.file
                    };
                    let edited = node.written != Some(node.file);
                    let excuses = self.state.ghost.excuses(node.file, self.state.composed);
                    (text, if edited { excuses } else { 0 })
                }
            };
            let voters = &founding.members;
            if voters.len() < (0..self.rules.nodes).filter(|node| content.lists(*node)).count() {
                self.see("founded without some");
            }
            let mut log = Log::empty(founding.group, founding.members[&id(at)], false);
            log.voters.clone_from(voters);
            (log.term, log.last, log.founding) = (last.term, last, last);
            (log.content, log.applied, log.excuses) = (content, content, excuses);
            self.node_mut(at).trial = Some(log);
            if self.rules.mutation.contains(&Mutation::DropsOldData) {
                self.node_mut(at).raft = None;
            }
        }
        self.node_mut(at).on = On::Trial;
        Ok(())
    }

    /// The file is written from the applied state.
    pub(super) fn rewrite(&mut self, at: usize) -> Result<(), String> {
        let node = self.node_mut(at);
        let Some(log) = node.raft.as_ref().filter(|log| log.last.index > 0) else {
            return Ok(());
        };
        (node.file, node.written) = (log.applied, Some(log.applied));
        let facts = self.file_facts(at);
        self.tell(at, Input::File(facts))
    }

    pub(super) fn facts(&self, at: usize) -> Option<RaftFacts> {
        self.active(at).map(Log::facts)
    }

    pub(super) fn active(&self, at: usize) -> Option<&Log> {
        let node = self.node(at);
        match node.on {
            On::Nothing => None,
            On::Raft => node.raft.as_ref(),
            On::Trial => node.trial.as_ref(),
        }
    }

    pub(super) fn active_mut(&mut self, at: usize) -> Option<&mut Log> {
        let node = self.node_mut(at);
        match node.on {
            On::Nothing => None,
            On::Raft => node.raft.as_mut(),
            On::Trial => node.trial.as_mut(),
        }
    }

    /// Leaders without a majority step down, and who followed them knows; who has no ticket draws one.
    pub(super) fn follow_up(&mut self) -> Result<(), String> {
        self.depose()?;
        for at in 0..self.rules.nodes {
            let Some(entrance) = &self.node(at).entrance else {
                continue;
            };
            let valid = entrance.ticket.is_some_and(|ticket| entrance.is_valid(ticket));
            let on_trial = matches!(entrance.note.standing, Standing::Trial(_));
            let undecided = !on_trial && entrance.leader.is_none() && entrance.writing.is_none();
            if undecided && !valid {
                let fresh = self.fresh();
                let Some(entrance) = self.node_mut(at).entrance.as_mut() else {
                    continue;
                };
                let actions = entrance.draw_ticket(fresh);
                self.carry(at, actions)?;
            }
        }
        Ok(())
    }
}
