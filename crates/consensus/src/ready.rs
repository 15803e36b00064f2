//! What a replica wants done, and what it tells about itself.
//!
//! The user carries a [`Ready`] out in this order:
//!
//! 1. send `messages`; they promise nothing that is not on disk;
//! 2. write, as one atomic batch: `discard` (drop log and state), `snapshot` (replace both by the staged content), `entries` (first
//!    removing whatever lies at or above the first one), `hard_state`; sync if [`Ready::must_sync`];
//! 3. call [`crate::Replica::persisted`] with `number`, then send `messages_after`;
//! 4. apply `committed`, call [`crate::Replica::applied`], answer `reads` whose index is applied.
//!
//! Several may be on their way at once, as long as they are written in order: while the disk syncs one, the next gathers.

use crate::configuration::Configuration;
use crate::entry::Entry;
use crate::log::Snapshot;
use crate::message::{Message, ReadId};
use crate::types::{HardState, Incarnation, Index, NodeId, Position, Term};

/// Work for the user.
#[derive(Debug, Default)]
pub struct Ready {
    /// Names this in [`crate::Replica::persisted`].
    pub number: u64,
    /// To be sent at once.
    pub messages: Vec<Message>,
    /// Drop the log and the state: a later leader's log contradicts them.
    pub discard: bool,
    /// Replace the log and the state by this snapshot, whose content came with its message.
    pub snapshot: Option<Snapshot>,
    /// To be written; they replace whatever lies at or above the first one.
    pub entries: Vec<Entry>,
    /// To be written.
    pub hard_state: Option<HardState>,
    /// To be sent when all of the above is on disk.
    pub messages_after: Vec<Message>,
    /// To be applied. They are on disk already.
    pub committed: Vec<Entry>,
    /// Reads that may be answered once their index is applied.
    pub reads: Vec<ReadState>,
    /// Reads that will not be answered: leadership was lost or not confirmed in time.
    pub reads_failed: Vec<ReadId>,
    /// Entries to be read from disk for a member that lags; see [`crate::Replica::fetched`].
    pub fetches: Vec<Fetch>,
    /// Members that need a snapshot; see [`crate::Replica::offer_snapshot`].
    pub snapshots_wanted: Vec<NodeId>,
    /// What happened, for logs and metrics.
    pub events: Vec<Event>,
    pub(crate) sync: bool,
}

impl Ready {
    /// Whether the write must be synced. If not, a lost write is only an older commit index.
    pub fn must_sync(&self) -> bool {
        self.sync || self.discard || self.snapshot.is_some() || !self.entries.is_empty()
    }

    /// Whether there is anything to write.
    pub fn must_write(&self) -> bool {
        self.hard_state.is_some() || self.must_sync()
    }
}

/// A read that may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReadState {
    /// The read.
    pub id: ReadId,
    /// What must be applied before it is answered.
    pub index: Index,
}

/// Entries to be read from disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// The member they are for.
    pub to: NodeId,
    /// The first one.
    pub from: Index,
    /// The last one; fewer may be returned, but not none.
    pub until: Index,
    /// Bytes that suffice.
    pub bytes_max: usize,
}

/// What a replica is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Follows, or waits for somebody to follow.
    Follower,
    /// Asks whether an election would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a replica took a new incarnation while running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rebirth {
    /// A peer knows a later life of this member: this data directory is an old one.
    LaterLifeKnown,
    /// The leader's log contradicts what was applied here.
    Contradicted,
}

/// Something worth a log line or a metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// This replica's role changed.
    Role(RoleName, Term),
    /// Another leader, or none, is followed.
    Leader(Option<NodeId>, Term),
    /// No leader was heard for an election timeout.
    ElectionTimeout,
    /// A configuration was committed.
    Configuration(Index, Configuration),
    /// This member no longer belongs to the group.
    Removed,
    /// The group admitted this life of the member; it counts from now on.
    Admitted(Incarnation),
    /// This replica counts no more until it is admitted.
    Reborn(Incarnation, Rebirth),
    /// The leader saw a new life of a member.
    LifeSeen(NodeId, Incarnation),
    /// The leader found that a member holds only so much of what it has acknowledged in this very life. It is sent the rest again.
    Forgot(NodeId, Index),
    /// A recovery election begins.
    RecoveryElection(Term),
    /// The message of a leader would have changed what is committed here, in a way that no loss explains. It was ignored.
    Impossible(&'static str),
}

/// What keeps a recovery election from being held here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Missing {
    /// These voters have not answered.
    Answers(Vec<NodeId>),
    /// Enough voters are whole: an ordinary election will do.
    Nothing,
    /// This member's log is more advanced: let it begin.
    MoreAdvanced(NodeId, Position),
    /// The operator has not declared these replaced; on this node, run `member-add` for each.
    Declarations(Vec<NodeId>),
    /// This member hears a leader.
    Leader(NodeId),
    /// This replica holds nothing, or does not vote.
    NotEligible,
}

/// A leader's view of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Newest life heard of.
    pub incarnation: Incarnation,
    /// Its flag.
    pub recovering: bool,
    /// How far it agrees with the leader.
    pub matched: Index,
    /// Whether it answered lately.
    pub active: bool,
}

/// A replica's view of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its role.
    pub role: RoleName,
    /// Whom it follows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// Its log's end.
    pub last: Position,
    /// What it knows to be committed.
    pub commit: Index,
    /// What has been applied.
    pub applied: Index,
    /// Its life.
    pub incarnation: Incarnation,
    /// Whether it still waits to be admitted.
    pub recovering: bool,
    /// Whether reads of its copy may be served: true unless it is a voter that forgot, or knows of no membership.
    pub serves_local_reads: bool,
    /// The configuration in force.
    pub configuration: Configuration,
    /// On a leader: the others.
    pub peers: Vec<(NodeId, PeerStatus)>,
    /// Without a leader: why no recovery election is held here, as of the last probe.
    pub missing: Vec<Missing>,
}
