//! What replicas tell each other. Plain values: the transport encodes them, many groups to a connection.
//!
//! Every message names its group, both ends, and the life of each. `recovering` rides along on all of them, so an answer of a replica
//! that forgot things can never be taken for one that counts.

use crate::entry::Entry;
use crate::log::Snapshot;
use crate::types::{Fence, GroupId, Incarnation, Index, NodeId, Position, Term};

/// A message between two replicas of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// The group it belongs to.
    pub group: GroupId,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's life.
    pub from_incarnation: Incarnation,
    /// The receiver's life as the sender knows it.
    pub to_incarnation: Incarnation,
    /// The sender's flag.
    pub recovering: bool,
    /// The sender's term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// Names a linearizable read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me in this term, which I have not begun?
    PreVote {
        /// The term that an election would have.
        term: Term,
        /// End of the candidate's log.
        last: Position,
    },
    /// Answer to [`Body::PreVote`].
    PreVoteAnswer {
        /// The term asked about.
        term: Term,
        /// Yes or no.
        granted: bool,
    },
    /// Vote for me.
    Vote {
        /// End of the candidate's log.
        last: Position,
        /// The leader asked for this election, so nobody needs to protect it.
        transfer: bool,
        /// This is a recovery election, held with exactly these lives of the voters.
        recovery: Option<Fence>,
    },
    /// Answer to [`Body::Vote`].
    VoteAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// Entries that follow `previous`.
    Append {
        /// The position right before the entries.
        previous: Position,
        /// May be empty.
        entries: Vec<Entry>,
        /// What the leader knows to be committed.
        commit: Index,
    },
    /// The log agrees with the leader's up to here, on disk.
    AppendAnswer {
        /// The last entry of the message answered.
        matched: Index,
    },
    /// The log does not hold the position that the append or snapshot needs.
    AppendRefused {
        /// The position it asked for.
        at: Index,
        /// The furthest one that could be shared.
        hint: Position,
        /// True if the hint is committed here, so a leader that contradicts it has lost something.
        committed: bool,
    },
    /// The leader's log contradicts what the receiver holds as committed.
    Contradiction {
        /// Where.
        at: Position,
    },
    /// The leader is alive.
    Heartbeat {
        /// What the receiver may take as committed.
        commit: Index,
        /// The leader's newest round.
        round: u64,
    },
    /// Answer to [`Body::Heartbeat`].
    HeartbeatAnswer {
        /// The round answered.
        round: u64,
    },
    /// A snapshot, whose content the user has brought along.
    InstallSnapshot {
        /// Which.
        snapshot: Snapshot,
    },
    /// Begin an election now: leadership is handed to you.
    TimeoutNow,
    /// A follower asks which index a read must wait for.
    Read {
        /// The read.
        id: ReadId,
    },
    /// Answer to [`Body::Read`].
    ReadAnswer {
        /// The read.
        id: ReadId,
        /// The index.
        index: Index,
    },
    /// Who are you and how far is your log? Changes nothing.
    Probe {
        /// Names the round.
        round: u64,
    },
    /// Answer to [`Body::Probe`].
    ProbeAnswer {
        /// The round answered.
        round: u64,
        /// End of the log.
        last: Position,
        /// Whether a leader was heard lately.
        has_leader: bool,
    },
    /// This is my life, and that is the newest of yours that I know. Changes nothing in the log.
    Hello,
}

impl Body {
    /// Whether the receiver may be any life of the member: these ask or tell who is there.
    pub(crate) fn is_introduction(&self) -> bool {
        matches!(self, Body::Probe { .. } | Body::Hello)
    }

    /// Whether it promises something that must be on disk before the message leaves.
    pub(crate) fn is_promise(&self) -> bool {
        match self {
            Body::Vote { .. }
            | Body::VoteAnswer { .. }
            | Body::AppendAnswer { .. }
            | Body::AppendRefused { .. }
            | Body::HeartbeatAnswer { .. } => true,
            Body::PreVote { .. }
            | Body::PreVoteAnswer { .. }
            | Body::Append { .. }
            | Body::Contradiction { .. }
            | Body::Heartbeat { .. }
            | Body::InstallSnapshot { .. }
            | Body::TimeoutNow
            | Body::Read { .. }
            | Body::ReadAnswer { .. }
            | Body::Probe { .. }
            | Body::ProbeAnswer { .. }
            | Body::Hello => false,
        }
    }
}
