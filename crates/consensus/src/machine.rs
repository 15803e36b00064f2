//! One member's part in one group: what goes in, what comes out, and the rule for members that forgot.
//!
//! The parts: `election` (pre-vote, votes), `replication` (append, acknowledge, commit), `reads` (rounds), `membership` (changes,
//! promotion, transfer), `recovery` (probe and recovery election), `storage` (what is on its way to the disk).
//!
//! # Members that forgot
//!
//! Raft trusts that a voter remembers its term, its vote and what it acknowledged. A voter whose disk was lost or rolled back does not.
//! So it counts as *a new server with an old number*:
//!
//! - Every data directory is one *incarnation*. Messages name the sender's and the receiver's; one that is not for this incarnation, or
//!   comes from an older one than the log or the *fence* names, is dropped (and answered with a [`Body::Hello`], which changes nothing).
//!   The configuration names the incarnation of each voter, and only from that one do votes and acknowledgements count.
//! - A replica that starts empty or restored is *recovering*, and flags all it says. A flagged answer never counts. It stores entries,
//!   but does not vote in ordinary elections nor begin any when empty.
//! - A leader that meets a new incarnation of a voter appends a configuration that names it: it *admits* it. That commits by a majority of
//!   voters in which no flagged acknowledgement counts. The flag is cleared, on disk, when the replica holds the entry that names its
//!   incarnation and knows it to be committed; not earlier. A new learner is admitted in the same way before it is promoted, so that it
//!   can acknowledge its promotion: a group of one could not grow otherwise.
//! - If so many forgot that no leader can be elected, the operator may allow a *recovery election*. It asks every voter of every
//!   configuration that could be in force (`U`), flagged or not, and is won only if all of them grant it, comparing logs as usual, so the
//!   most advanced log wins. Each grant stores the fence: the incarnations that were asked. The term leaps to a random new epoch, above
//!   whatever was forgotten. The winner first appends the admission of all flagged voters; their acknowledgements count from that
//!   entry on.
//! - A replica whose applied entries such a leader contradicts drops everything and starts over as another incarnation.
//!
//! Without a recovery election no committed entry is ever replaced, however many disks are lost. With one, an entry is lost only if no
//! voter in `U` held it when it answered. Each clause has a counterexample in `simulation::scenarios` that breaks the rule without it.

mod election;
#[cfg(test)]
mod exploration;
mod membership;
mod reads;
mod recovery;
mod replication;
mod storage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

#[cfg(test)]
pub(crate) use self::exploration::Answered;
use crate::configuration::Configuration;
use crate::entry::{Entry, Kind};
use crate::log::{Log, Snapshot};
use crate::message::{Body, Message, ReadId};
use crate::mutation::broken;
use crate::progress::Peer;
use crate::random::Random;
use crate::ready::{Event, Fetch, Missing, PeerStatus, ReadState, Rebirth, RoleName, Status};
use crate::settings::Settings;
use crate::types::{Fence, HardState, Incarnation, Index, NodeId, Position, Refusal, Term};

/// What a replica starts from: all that its disk holds.
#[derive(Debug)]
pub struct Restored<Entries> {
    /// As written last.
    pub hard_state: HardState,
    /// Where the log begins.
    pub base: Snapshot,
    /// The last entry whose effects are in the state machine; not below the base.
    pub applied: Index,
    /// Every entry after the base, in order.
    pub entries: Entries,
}

/// What is on disk cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An entry is missing or out of order.
    #[error("corrupted log entry, index={index}, error=missing")]
    Gap {
        /// Where.
        index: Index,
    },
    /// A configuration entry is none.
    #[error("corrupted log entry, index={index}, error=configuration")]
    Configuration {
        /// Where.
        index: Index,
    },
    /// More was applied than the log holds.
    #[error("the state has applied entry {applied}, but the log ends at {last}")]
    AppliedBeyondLog {
        /// Last applied.
        applied: Index,
        /// Last held.
        last: Index,
    },
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
enum Role {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Box<Leadership>),
}

/// Answers of voters to a candidate.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Ballot {
    answers: BTreeMap<NodeId, BallotAnswer>,
    /// In a recovery election: everybody who must grant, and in which life.
    recovery: Option<recovery::Recovery>,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
struct BallotAnswer {
    granted: bool,
    incarnation: Incarnation,
    recovering: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Leadership {
    peers: BTreeMap<NodeId, Peer>,
    /// Lives whose flagged acknowledgements count from `first` on: those that a recovery election was held with.
    admitted: Fence,
    /// The first entry of this leader.
    first: Index,
    round: u64,
    reads_waiting: Vec<PendingRead>,
    rounds: VecDeque<Round>,
    transfer: Option<Transfer>,
    /// Index and size of own entries that are not committed.
    uncommitted: VecDeque<(Index, usize)>,
    uncommitted_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
struct PendingRead {
    id: ReadId,
    /// The follower that asked, if not this replica.
    from: Option<(NodeId, Incarnation)>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Round {
    number: u64,
    index: Index,
    reads: Vec<PendingRead>,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
struct Transfer {
    to: NodeId,
    ticks: u32,
    told: bool,
}

/// What will leave with the next [`crate::Ready`].
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Outbox {
    messages: Vec<Message>,
    discard: bool,
    snapshot: Option<Snapshot>,
    reads: Vec<ReadState>,
    reads_failed: Vec<ReadId>,
    fetches: Vec<Fetch>,
    snapshots_wanted: Vec<NodeId>,
    events: Vec<Event>,
}

/// One member's part in one group.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Replica {
    settings: Settings,
    random: Random,
    hard: HardState,
    log: Log,
    role: Role,
    leader: Option<NodeId>,
    /// Ticks since the leader was heard, or since a leader last looked for its quorum.
    elapsed: u32,
    heartbeat_elapsed: u32,
    timeout: u32,
    applied: Index,
    storage: storage::Progress,
    outbox: Outbox,
    /// Reads sent to the leader, and the ticks since.
    forwarded: BTreeMap<ReadId, u32>,
    probe: Option<recovery::Probe>,
    probes: u64,
    missing: Vec<Missing>,
    bystanders: BTreeSet<NodeId>,
}

impl Replica {
    /// A replica as its disk has it.
    pub fn new(
        settings: Settings,
        restored: Restored<impl IntoIterator<Item = Entry>>,
    ) -> Result<Replica, RestoreError> {
        let Restored {
            hard_state,
            base,
            applied,
            entries,
        } = restored;
        let mut log = Log::new(base);
        for entry in entries {
            let index = entry.index;
            if index != log.last() + 1 {
                return Err(RestoreError::Gap {
                    index: log.last() + 1,
                });
            }
            log.append(entry)
                .map_err(|_| RestoreError::Configuration { index })?;
            log.evict(applied, settings.cache_bytes_max);
        }
        let last = log.last();
        if applied > last {
            return Err(RestoreError::AppliedBeyondLog { applied, last });
        }
        let mut hard = hard_state;
        hard.commit = hard.commit.clamp(applied.max(log.base().index), last);
        let mut replica = Replica {
            random: Random::new(settings.seed),
            storage: storage::Progress::restored(last, applied),
            settings,
            hard,
            log,
            role: Role::Follower,
            leader: None,
            elapsed: 0,
            heartbeat_elapsed: 0,
            timeout: 0,
            applied,
            outbox: Outbox::default(),
            forwarded: BTreeMap::new(),
            probe: None,
            probes: 0,
            missing: Vec::new(),
            bystanders: BTreeSet::new(),
        };
        replica.draw_timeout();
        replica.look_at_own_life();
        Ok(replica)
    }

    /// Time has passed by one tick.
    pub fn tick(&mut self) {
        self.elapsed += 1;
        self.expire_forwarded_reads();
        self.tick_probe();
        if matches!(self.role, Role::Leader(_)) {
            self.tick_leader();
        } else if self.elapsed >= self.timeout {
            self.outbox.events.push(Event::ElectionTimeout);
            self.elapsed = 0;
            self.draw_timeout();
            self.set_leader(None);
            self.begin_probe();
            self.campaign();
        }
    }

    fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        if self.elapsed >= self.settings.election_ticks {
            self.elapsed = 0;
            self.check_quorum();
        }
        if self.heartbeat_elapsed >= self.settings.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.tick_transfer();
            self.admit_new_lives();
            self.send_heartbeats();
        }
    }

    /// A message of another replica has arrived. Whatever does not belong here is dropped.
    pub fn step(&mut self, message: Message) {
        let own = message.group == self.settings.group
            && message.to == self.settings.node
            && message.from != self.settings.node;
        // Nobody who follows the rules comes near these; whoever does not must not bring them into anybody's state.
        let possible = message.term <= Term::MAX
            && message.from_incarnation <= Incarnation::MAX
            && message.to_incarnation <= Incarnation::MAX;
        if !own || !possible || !self.is_between_newest_lives(&message) {
            return;
        }
        let (from, term) = (message.from, message.term);
        match &message.body {
            Body::Hello => return,
            Body::Probe { round } => return self.answer_probe(&message, *round),
            Body::ProbeAnswer { .. } => return self.count_probe(message),
            Body::PreVote { term, last } => return self.answer_pre_vote(&message, *term, *last),
            Body::PreVoteAnswer { granted: true, .. } => {}
            Body::Vote { transfer: false, .. } if term > self.hard.term && self.protects_leader() => return,
            _ if term > self.hard.term => {
                self.become_follower(term);
            }
            Body::Append { .. } | Body::Heartbeat { .. } | Body::InstallSnapshot { .. }
                if term < self.hard.term =>
            {
                // A leader of the past learns the term from this, and that is all it learns.
                return self.post(from, message.from_incarnation, Body::HeartbeatAnswer { round: 0 });
            }
            Body::Vote { .. } if term < self.hard.term => {
                return self.post(
                    from,
                    message.from_incarnation,
                    Body::VoteAnswer { granted: false },
                );
            }
            _ if term < self.hard.term => return,
            _ => {}
        }
        self.step_in_term(message);
    }

    fn step_in_term(&mut self, message: Message) {
        match &message.body {
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::InstallSnapshot { .. }
            | Body::Contradiction { .. }
            | Body::TimeoutNow => {
                if matches!(self.role, Role::Leader(_)) {
                    let event = Event::Impossible("two leaders in one term");
                    return self.outbox.events.push(event);
                }
                self.follow(message.from);
            }
            _ => {}
        }
        let sender = Sender {
            node: message.from,
            incarnation: message.from_incarnation,
            recovering: message.recovering,
        };
        match message.body {
            Body::Append {
                previous,
                entries,
                commit,
            } => self.take_append(sender, previous, entries, commit),
            Body::Heartbeat { commit, round } => {
                self.commit_to(commit.min(self.log.last()));
                self.post(sender.node, sender.incarnation, Body::HeartbeatAnswer { round });
            }
            Body::InstallSnapshot { snapshot } => self.take_snapshot(sender, snapshot),
            Body::Contradiction { at } => self.take_contradiction(at),
            Body::TimeoutNow => self.take_over(),
            Body::Vote {
                last,
                transfer: _,
                recovery,
            } => self.answer_vote(sender, last, recovery),
            Body::PreVoteAnswer { term, granted } => self.count_pre_vote(sender, term, granted),
            Body::VoteAnswer { granted } => self.count_vote(sender, granted),
            Body::AppendAnswer { matched } => self.count_append(sender, matched),
            Body::AppendRefused { at, hint, committed } => self.resume_at(sender, at, hint, committed),
            Body::HeartbeatAnswer { round } => self.count_heartbeat(sender, round),
            Body::Read { id } => self.take_forwarded_read(sender, id),
            Body::ReadAnswer { id, index } => self.finish_forwarded_read(id, index),
            // Handled before the term was looked at.
            Body::Hello | Body::Probe { .. } | Body::ProbeAnswer { .. } | Body::PreVote { .. } => {}
        }
    }

    /// Appends `payload` to the log, if this replica leads. It is agreed on when a committed entry has the returned position; if
    /// one with the same index and another term is committed instead, it never will be.
    pub fn propose(&mut self, payload: Bytes) -> Result<Position, Refusal> {
        self.propose_entry(Kind::Command, payload)
    }

    /// This replica as seen from outside.
    pub fn status(&self) -> Status {
        let peers = match &self.role {
            Role::Leader(lead) => lead
                .peers
                .iter()
                .map(|(node, peer)| {
                    let status = PeerStatus {
                        incarnation: peer.incarnation,
                        recovering: peer.recovering,
                        matched: peer.matched,
                        active: peer.active,
                    };
                    (*node, status)
                })
                .collect(),
            _ => Vec::new(),
        };
        let (_, committed) = self.log.configuration_at(self.hard.commit);
        let learner = committed
            .member(self.settings.node)
            .is_some_and(|member| !member.voter);
        Status {
            role: self.role_name(),
            leader: self.leader,
            term: self.hard.term,
            last: self.log.last_position(),
            commit: self.hard.commit,
            applied: self.applied,
            incarnation: self.hard.incarnation,
            recovering: self.hard.recovering,
            serves_local_reads: !self.hard.recovering || learner,
            configuration: self.configuration().clone(),
            peers,
            missing: if self.leader.is_some() {
                Vec::new()
            } else {
                self.missing.clone()
            },
        }
    }

    /// True if this replica leads, is the only voter, and has committed an entry of its own: then nobody else can have agreed on
    /// anything, and a linearizable read needs no round.
    pub fn leads_alone(&self) -> bool {
        let mut voters = self.configuration().voters();
        matches!(self.role, Role::Leader(_))
            && voters.next() == Some((self.settings.node, self.hard.incarnation))
            && voters.next().is_none()
            && self.is_settled()
    }

    /// What a snapshot of the state machine as of `applied` is described by; nothing if the log no longer knows that index.
    pub fn describe_snapshot(&self, applied: Index) -> Option<Snapshot> {
        self.log.snapshot_at(applied)
    }

    fn role_name(&self) -> RoleName {
        match self.role {
            Role::Follower => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    fn set_role(&mut self, role: Role) {
        let before = self.role_name();
        self.role = role;
        if self.role_name() != before {
            let event = Event::Role(self.role_name(), self.hard.term);
            self.outbox.events.push(event);
        }
    }

    fn set_leader(&mut self, leader: Option<NodeId>) {
        if leader.is_some() && !self.hard.replaced.is_empty() {
            self.hard.replaced.clear();
            self.storage.hard_changed();
        }
        if leader != self.leader {
            self.leader = leader;
            self.missing.clear();
            let waiting = std::mem::take(&mut self.forwarded);
            self.outbox.reads_failed.extend(waiting.into_keys());
            self.outbox.events.push(Event::Leader(leader, self.hard.term));
        }
    }

    /// The configuration in force: the newest appended.
    fn configuration(&self) -> &Configuration {
        if broken!(self.settings, ConfigurationAtCommit) {
            return self.log.configuration_at(self.hard.commit).1;
        }
        self.log.configuration()
    }

    fn draw_timeout(&mut self) {
        let spread = self.random.below(u64::from(self.settings.election_spread_ticks));
        let spread = u32::try_from(spread).expect("below a u32");
        self.timeout = self.settings.election_ticks + self.settings.election_bias_ticks + spread;
    }

    fn post(&mut self, to: NodeId, to_incarnation: Incarnation, body: Body) {
        self.outbox.messages.push(Message {
            group: self.settings.group,
            from: self.settings.node,
            to,
            from_incarnation: self.hard.incarnation,
            to_incarnation,
            recovering: self.hard.recovering,
            term: self.hard.term,
            body,
        });
    }

    /// The newest life of `node` that the log or the fence names.
    fn newest_life(&self, node: NodeId) -> Incarnation {
        let named = self.configuration().member(node).map(|member| member.incarnation);
        let fenced = self.hard.fence.get(&node).copied();
        let fenced = fenced.filter(|_| !broken!(self.settings, NoFence));
        named.max(fenced).unwrap_or_default()
    }

    /// Sorts out messages of and to other lives; tells both ends what they need to know about them.
    fn is_between_newest_lives(&mut self, message: &Message) -> bool {
        let (from, life) = (message.from, message.from_incarnation);
        if broken!(self.settings, NormalAfterContact) {
            self.see_life(from, life, message.recovering);
            return true;
        }
        if message.to_incarnation > self.hard.incarnation {
            self.be_reborn(message.to_incarnation, Rebirth::LaterLifeKnown);
            return false;
        }
        let newest = self.newest_life(from);
        if life < newest {
            self.post(from, newest, Body::Hello);
            return false;
        }
        if !self.see_life(from, life, message.recovering) {
            return false;
        }
        let for_this_life = message.to_incarnation == self.hard.incarnation;
        if !for_this_life && !matches!(message.body, Body::Probe { .. }) {
            self.post(from, life, Body::Hello);
        }
        for_this_life || message.body.is_introduction()
    }

    /// This replica counts no more until the group admits it.
    fn be_reborn(&mut self, above: Incarnation, why: Rebirth) {
        let above = above.max(self.hard.incarnation);
        self.hard.incarnation = Incarnation(above.0 + 1 + self.random.below(1 << 16));
        self.hard.recovering = true;
        self.storage.hard_changed();
        self.become_follower(self.hard.term);
        let event = Event::Reborn(self.hard.incarnation, why);
        self.outbox.events.push(event);
    }

    /// The log may name a later life of this member, or admit this one.
    fn look_at_own_life(&mut self) {
        let newest = self.newest_life(self.settings.node);
        if newest > self.hard.incarnation {
            self.be_reborn(newest, Rebirth::LaterLifeKnown);
        }
        let known = if broken!(self.settings, NormalBeforeCommit) {
            self.log.last()
        } else {
            self.hard.commit
        };
        let (_, configuration) = self.log.configuration_at(known);
        let member = configuration.member(self.settings.node);
        let named = member.is_some_and(|member| {
            member.incarnation == self.hard.incarnation
                || (broken!(self.settings, AnyIncarnationCounts) && member.voter)
        });
        if self.hard.recovering && named {
            self.hard.recovering = false;
            self.storage.hard_changed();
            let event = Event::Admitted(self.hard.incarnation);
            self.outbox.events.push(event);
        }
    }
}

#[cfg(test)]
impl Replica {
    /// The next tick finds that the election timeout has passed.
    pub(crate) fn run_out_of_patience(&mut self) {
        self.elapsed = self.timeout;
    }

    pub(crate) fn describe_peer(&self, node: NodeId) -> String {
        match &self.role {
            Role::Leader(lead) => format!("{:?}", lead.peers.get(&node)),
            _ => String::new(),
        }
    }

    pub(crate) fn replaced(&self) -> &BTreeSet<NodeId> {
        &self.hard.replaced
    }
}

/// Who sent a message, in which life, and whether it is flagged.
#[derive(Debug, Clone, Copy)]
struct Sender {
    node: NodeId,
    incarnation: Incarnation,
    recovering: bool,
}

impl Leadership {
    fn new(first: Index, admitted: Fence) -> Leadership {
        Leadership {
            peers: BTreeMap::new(),
            admitted,
            first,
            round: 0,
            reads_waiting: Vec::new(),
            rounds: VecDeque::new(),
            transfer: None,
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
        }
    }
}

impl Replica {
    fn become_follower(&mut self, term: Term) {
        if term > self.hard.term {
            self.hard.term = term;
            self.hard.vote = None;
            self.storage.hard_changed();
        }
        if let Role::Leader(lead) = &mut self.role {
            let waiting = lead.reads_waiting.drain(..);
            let rounds = lead.rounds.drain(..).flat_map(|round| round.reads);
            let own = waiting.chain(rounds).filter(|read| read.from.is_none());
            self.outbox.reads_failed.extend(own.map(|read| read.id));
        }
        self.elapsed = 0;
        self.set_role(Role::Follower);
        self.set_leader(None);
        self.draw_timeout();
    }

    /// `leader` leads this term.
    fn follow(&mut self, leader: NodeId) {
        if !matches!(self.role, Role::Follower) {
            self.become_follower(self.hard.term);
        }
        self.elapsed = 0;
        self.set_leader(Some(leader));
        if broken!(self.settings, NormalAfterContact) && self.hard.recovering {
            self.hard.recovering = false;
            self.storage.hard_changed();
        }
    }
}
