//! How a node gets into a group when it starts, or when its group has no leader: the decision between file and log.
//!
//! `cluster.yaml` can be edited, copied and restored by hand on any node, stopped or not, and the Raft directory can be lost. So at start a node
//! compares the two, asks everybody it knows from either, and takes a row of the start-up table ([`Row`]). Most rows end at once. What takes
//! thought is the *unanimous file rule*: nodes that hold the same file form a new group from it, which replaces whatever group they were in.
//! Nothing that was acknowledged in an old group may get lost by that, unless the operator's file says so, and there may never be two running
//! groups.
//!
//! # The rule
//!
//! - A node that is undecided tells a [`Ticket`]: an incarnation, the end of its log, the digest of the file it agrees to. It becomes void
//!   when the log or the file changes or the node restarts, and is used once.
//! - The node whose data goes farthest founds (the smallest among equals): it writes down the [`Founding`], which names the members by the
//!   incarnations on their tickets, and leaves its old group with that very write. If its own file is as written, the state comes from the end of
//!   its log, which can be ahead of all files; otherwise from the file.
//! - The others follow when they hear from the founder that it founded with exactly their valid ticket. They leave their old group on disk before
//!   the new replica starts. So if a majority of the old group acknowledges something after the tickets were drawn, no majority of the new
//!   one comes together, and the other way round.
//! - Leaving is for good: a node that gave a founding up does not vote in its old group again. But what it knew there still counts when the next
//!   group is founded, so the old directory is kept until the new group's log has begun on this node. That takes a leader, so a majority
//!   had left by then.
//! - Groups have generations; data of a later one is ahead of all data of earlier ones, whatever their terms.
//! - Members that have state and can elect a leader among themselves are left alone; others wait for them.
//! - A group counts as running only when its leader has committed something of its own. A node without a leader that hears of a running group that
//!   lists it enters that with a new life; one with a leader never yields.
//!
//! Nothing here reads a clock: a tick is a second. Answers are only remembered when they come; decisions are made by ticks.
//!
//! The parts: `facts` (what is known and told), `action` (in and out), `rule` (when a group may be founded), `trial` (a group that has not begun).
//! `rows` has a test for every row; `exploration` plays the machine through with an abstract Raft, every schedule within bounds.

mod action;
#[cfg(test)]
mod exploration;
mod facts;
mod mutation;
#[cfg(test)]
mod rows;
mod rule;
mod trial;

use std::collections::{BTreeMap, BTreeSet};

pub use action::{Action, Boot, Directory, Input, Line, Row, Waiting};
pub use facts::{
    Content, Data, Digest, Extent, FileFacts, Founding, Group, Incarnation, NodeId, Note, Position,
    RaftFacts, Running, Standing, Statement, Ticket,
};
pub use mutation::Mutation;
use mutation::broken;

/// Seconds of asking before silence means that there is nobody; also the time between two lines that say the same.
pub const PATIENCE_TICKS: u32 = 30;

/// What a peer said last.
#[expect(clippy::large_enum_variant, reason = "one per peer")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Answer {
    Said(Statement),
    Unreachable,
}

/// The start-up decision of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entrance {
    node: NodeId,
    /// As it is on disk.
    note: Note,
    /// What has been told, if it is still so.
    ticket: Option<Ticket>,
    /// What is being written, and what to do when it is done.
    writing: Option<(Note, Vec<Action>)>,
    raft: Option<RaftFacts>,
    file: FileFacts,
    /// Somebody changed the file since this node wrote it, and that is not dealt with.
    edited: bool,
    leader: Option<Running>,
    answers: BTreeMap<NodeId, Answer>,
    /// Ticks since the asking began.
    waited: u32,
    waiting: Option<Waiting>,
    /// The line about it comes when this reaches the patience.
    silent: u32,
    refused: bool,
    mutation: [Mutation; 2],
}

impl Entrance {
    /// A node starts.
    pub fn new(boot: Boot) -> (Entrance, Vec<Action>) {
        Entrance::mutated(boot, [Mutation::None; 2])
    }

    fn mutated(boot: Boot, mutation: [Mutation; 2]) -> (Entrance, Vec<Action>) {
        let Boot {
            node,
            note,
            raft,
            trial,
            file,
        } = boot;
        let mut actions = Vec::new();
        let refused = file.as_ref().err().cloned();
        let file = file.unwrap_or(FileFacts {
            version: 0,
            digest: Digest([0; 32]),
            peers: BTreeSet::new(),
            as_written: false,
            is_edit: false,
        });
        let raft = match raft {
            Directory::Absent => None,
            Directory::Present(facts) => Some(facts),
            Directory::Newer if refused.is_some() => None,
            Directory::Newer => {
                actions.extend([Action::MoveAside, took(Row::NewerSchema)]);
                None
            }
        };
        let has_state = raft.as_ref().is_some_and(|facts| !facts.is_empty());
        let mut entrance = Entrance {
            node,
            note,
            ticket: None,
            writing: None,
            raft,
            edited: has_state && !file.as_written,
            file,
            leader: None,
            answers: BTreeMap::new(),
            waited: 0,
            waiting: None,
            silent: PATIENCE_TICKS,
            refused: refused.is_some(),
            mutation,
        };
        if let Some(text) = refused {
            return (entrance, vec![took(Row::RefusesFile), Action::Exit(text)]);
        }
        if has_state && entrance.edited && entrance.file.version == 0 && !broken!(entrance, PlaceholderIsEdit)
        {
            entrance.edited = false;
            actions.extend([took(Row::PlaceholderReplaced), Action::RewriteFile]);
        }
        let more = entrance.resume(trial);
        actions.extend(more);
        (entrance, actions)
    }

    /// Goes on from the note.
    fn resume(&mut self, trial: Option<RaftFacts>) -> Vec<Action> {
        match self.note.standing.clone() {
            Standing::Own => match &self.raft {
                None => Vec::new(),
                Some(facts) if self.edited && self.waits_as_edit(facts) => {
                    self.edited = false;
                    vec![
                        took(Row::StartsWithEdit),
                        Action::PendingEdit,
                        Action::StartReplica,
                    ]
                }
                Some(_) if self.edited && !broken!(self, StartsEdited) => Vec::new(),
                Some(_) => vec![took(Row::NormalStart), Action::RewriteFile, Action::StartReplica],
            },
            Standing::Left => trial.map(|_| Action::DropTrial).into_iter().collect(),
            Standing::Trial(founding) => {
                let adopted = self.raft.as_ref().filter(|facts| facts.group == founding.group);
                if let Some(begun) = trial
                    .clone()
                    .filter(|facts| facts.beyond_founding)
                    .or(adopted.cloned())
                {
                    return self.adopt(begun, true);
                }
                if trial.is_none() && founding.digest != self.digest() {
                    // The file changed before anything was founded from it: this will be given up.
                    return Vec::new();
                }
                vec![self.take_part(founding)]
            }
            Standing::Entering(group, life) => {
                let made = self.raft.as_ref().is_some_and(|facts| facts.incarnation == life);
                if made {
                    return vec![Action::StartReplica];
                }
                self.raft = None;
                self.edited = false;
                vec![Action::Enter(group, life)]
            }
        }
    }

    /// Whether the file differs from the state only by an edit that can wait until the group runs. One that lists other voters may be meant to
    /// replace a group that cannot run, and one of a version that was never written here, or the old text itself, to restore something.
    fn waits_as_edit(&self, facts: &RaftFacts) -> bool {
        let same_voters = self.file.peers.iter().eq(facts.voters.keys());
        self.file.is_edit && self.file.version <= facts.version && same_voters && !broken!(self, EditsWait)
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Tick { fresh } => self.tick(fresh),
            Input::Answer(statement) => self.hear(statement),
            Input::Unreachable(peer) => {
                self.answers.insert(peer, Answer::Unreachable);
                Vec::new()
            }
            Input::Advanced(facts) => self.advance(facts),
            Input::LeaderFound(running) => {
                self.leader = Some(running);
                self.waiting = None;
                self.begin_asking();
                Vec::new()
            }
            Input::LeaderLost => {
                self.leader = None;
                self.begin_asking();
                Vec::new()
            }
            Input::File(facts) => {
                self.file = facts;
                Vec::new()
            }
            Input::Persisted => self.persisted(),
        }
    }

    /// What this node says when it is asked.
    pub fn statement(&self) -> Statement {
        let trial = match &self.note.standing {
            Standing::Trial(founding) => Some(founding.clone()),
            _ => None,
        };
        let free = trial.is_none() && self.writing.is_none() && self.leader.is_none() && !self.refused;
        Statement {
            node: self.node,
            running: self.leader.clone(),
            data: self.raft.clone().map(|facts| Data {
                votes: self.votes(&facts),
                facts,
            }),
            version: self.version(),
            digest: self.digest(),
            ticket: self.ticket.filter(|ticket| free && self.is_valid(*ticket)),
            trial,
        }
    }

    /// Whether the running replica is that of the own group, whose state goes into the file.
    pub fn is_at_home(&self) -> bool {
        self.note.standing == Standing::Own && self.writing.is_none() && !self.edited && self.has_state()
    }

    /// Why nothing is decided, for `qu status`.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    fn tick(&mut self, fresh: u64) -> Vec<Action> {
        if self.leader.is_some() || self.refused {
            return Vec::new();
        }
        self.waited = self.waited.saturating_add(1).min(PATIENCE_TICKS);
        self.silent = self.silent.saturating_add(1);
        let before = self.waiting.clone();
        let mut actions = vec![Action::Ask(self.asked())];
        actions.extend(self.look(fresh));
        if let Some(waiting) = &self.waiting
            && (self.silent >= PATIENCE_TICKS || before.as_ref() != Some(waiting))
        {
            actions.push(Action::Log(Line::Waiting(waiting.clone())));
            self.silent = 0;
        }
        actions
    }

    /// Decides, if it can be decided from what is known now.
    fn look(&mut self, fresh: u64) -> Vec<Action> {
        let yields = broken!(self, RunningYields);
        if self.writing.is_some() || self.refused || (self.leader.is_some() && !yields) {
            return Vec::new();
        }
        if let Some(running) = self.running() {
            return self.approach(&running, fresh);
        }
        if self.leader.is_some() {
            return Vec::new();
        }
        if let Standing::Trial(founding) = self.note.standing.clone() {
            return self.look_at_trial(&founding);
        }
        let Some(ticket) = self.ticket.filter(|ticket| self.is_valid(*ticket)) else {
            return self.draw_ticket(fresh);
        };
        if let Some(founding) = self.founding_with(ticket) {
            return self.follow(founding);
        }
        match self.verdict() {
            Ok(founded) => self.found(founded, ticket, fresh),
            Err(waiting) => self.wait(waiting),
        }
    }

    fn wait(&mut self, waiting: Waiting) -> Vec<Action> {
        self.waiting = Some(waiting);
        Vec::new()
    }

    fn draw_ticket(&mut self, fresh: u64) -> Vec<Action> {
        let ticket = Ticket {
            incarnation: Incarnation(fresh),
            extent: self.extent(),
            digest: self.digest(),
        };
        self.ticket = Some(ticket);
        self.waiting.get_or_insert(Waiting::Asking);
        Vec::new()
    }

    fn hear(&mut self, statement: Statement) -> Vec<Action> {
        let peer = statement.node;
        if peer == self.node {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if let (Some(own), Some(other)) = (&self.leader, &statement.running)
            && own.group != other.group
            && (other.members.contains(&self.node) || own.members.contains(&peer))
        {
            actions.push(Action::Log(Line::GroupConflict {
                peer,
                group: other.group,
            }));
        }
        self.answers.insert(peer, Answer::Said(statement));
        actions
    }

    fn advance(&mut self, facts: RaftFacts) -> Vec<Action> {
        if let Standing::Trial(founding) = &self.note.standing
            && founding.group == facts.group
        {
            return if facts.beyond_founding && !broken!(self, GivesUpBegun) {
                self.adopt(facts, false)
            } else {
                Vec::new()
            };
        }
        self.raft = Some(facts);
        Vec::new()
    }

    fn persisted(&mut self) -> Vec<Action> {
        let Some((note, then)) = self.writing.take() else {
            return Vec::new();
        };
        self.note = note;
        then
    }

    fn persist(&mut self, note: Note, then: Vec<Action>) -> Vec<Action> {
        self.ticket = None;
        self.writing = Some((note.clone(), then));
        vec![Action::Persist(note)]
    }

    /// What was heard before belongs to another question.
    fn begin_asking(&mut self) {
        self.answers.clear();
        self.waited = 0;
    }

    /// A running group that lists this node.
    fn running(&self) -> Option<Running> {
        let said = self
            .said()
            .filter_map(|(_, statement)| statement.running.as_ref());
        said.filter(|running| running.members.contains(&self.node))
            .max_by_key(|running| running.group)
            .cloned()
    }

    /// A running group lists this node: it starts there, or enters.
    fn approach(&mut self, running: &Running, fresh: u64) -> Vec<Action> {
        self.waiting = Some(Waiting::Joining(running.group));
        let group = self.raft.as_ref().map(|facts| facts.group);
        match &self.note.standing {
            Standing::Own if group == Some(running.group) => return self.start_edited(),
            Standing::Entering(entered, _) if *entered == running.group => return Vec::new(),
            Standing::Trial(founding) if founding.group == running.group => return Vec::new(),
            _ => {}
        }
        let kept = self.file.version > 0 && self.file.digest != running.digest && !self.file.as_written;
        let life = Incarnation(fresh);
        let note = Note {
            standing: Standing::Entering(running.group, life),
            generation: self.note.generation.max(running.group.generation),
        };
        let mut then: Vec<Action> = kept.then_some(Action::KeepStale).into_iter().collect();
        then.extend([Action::Enter(running.group, life), took(Row::EntersRunning)]);
        self.raft = None;
        self.edited = false;
        let mut actions = vec![Action::StopReplica];
        actions.extend(self.persist(note, then));
        self.begin_asking();
        actions
    }

    /// The own group runs, and the file was edited while this node was stopped.
    fn start_edited(&mut self) -> Vec<Action> {
        let Some(version) = self.raft.as_ref().map(|facts| facts.version) else {
            return Vec::new();
        };
        if !self.edited {
            return Vec::new();
        }
        self.edited = false;
        let (row, file) = match self.file.version.cmp(&version) {
            std::cmp::Ordering::Equal => (Row::SameVersionEdit, vec![Action::PendingEdit]),
            std::cmp::Ordering::Greater => (Row::HigherVersionEdit, vec![Action::PendingEdit]),
            std::cmp::Ordering::Less if broken!(self, PlaceholderIsEdit) && self.file.version == 0 => {
                (Row::HigherVersionEdit, vec![Action::PendingEdit])
            }
            std::cmp::Ordering::Less if self.file.is_edit => {
                (Row::SameVersionEdit, vec![Action::PendingEdit])
            }
            std::cmp::Ordering::Less => (Row::StaleBackup, vec![Action::KeepStale, Action::RewriteFile]),
        };
        let mut actions = vec![took(row)];
        actions.extend(file);
        actions.push(Action::StartReplica);
        actions
    }

    fn said(&self) -> impl Iterator<Item = (NodeId, &Statement)> {
        self.answers.iter().filter_map(|(peer, answer)| match answer {
            Answer::Said(statement) => Some((*peer, statement)),
            Answer::Unreachable => None,
        })
    }

    /// Everybody known from file, log or founding, without this node.
    fn asked(&self) -> BTreeSet<NodeId> {
        let mut asked = self.file.peers.clone();
        if let Some(facts) = &self.raft {
            asked.extend(facts.voters.keys());
        }
        if let Standing::Trial(founding) = &self.note.standing {
            asked.extend(founding.members.keys());
        }
        asked.remove(&self.node);
        asked
    }

    /// Whether silence may be taken for absence: everybody answered, or was asked for long enough.
    fn is_concluded(&self) -> bool {
        self.asked().iter().all(|peer| match self.answers.get(peer) {
            Some(Answer::Said(_)) => true,
            Some(Answer::Unreachable) => self.has_waited(),
            None => false,
        })
    }

    fn has_waited(&self) -> bool {
        self.waited >= PATIENCE_TICKS
    }

    /// Whether there is a log with something in it.
    fn has_state(&self) -> bool {
        self.raft.as_ref().is_some_and(|facts| !facts.is_empty())
    }

    fn extent(&self) -> Option<Extent> {
        self.raft
            .as_ref()
            .filter(|facts| !facts.is_empty())
            .map(RaftFacts::extent)
    }

    /// What this node agrees to: the state if it has one and nobody edited the file, otherwise the file.
    fn digest(&self) -> Digest {
        match &self.raft {
            Some(facts) if !facts.is_empty() && !self.edited => facts.digest,
            _ => self.file.digest,
        }
    }

    fn version(&self) -> u64 {
        match &self.raft {
            Some(facts) if !facts.is_empty() && !self.edited => facts.version,
            _ => self.file.version,
        }
    }

    /// Whether everything a ticket promises is still so.
    fn is_valid(&self, ticket: Ticket) -> bool {
        let unmoved = ticket.extent == self.extent() || broken!(self, TicketOutlivesLog);
        unmoved && (ticket.digest == self.digest() || broken!(self, FollowsOtherFile))
    }

    fn votes(&self, facts: &RaftFacts) -> bool {
        self.note.standing == Standing::Own && !self.edited && !facts.recovering && !facts.is_empty()
    }
}

fn took(row: Row) -> Action {
    Action::Log(Line::Took(row))
}
