//! The small values that everything else is made of: identities, terms, positions in the log, and what a replica keeps on disk
//! beside its log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{Buf, BufMut};

macro_rules! identity {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

identity! {
    /// A member, numbered by the operator; never 0.
    NodeId
}
identity! {
    /// A Raft group. One process holds replicas of many.
    GroupId
}
identity! {
    /// One life of a member's data directory. A member that lost its disk comes back under its old [`NodeId`] and a higher
    /// incarnation, and is for all counting another server. 0 means not known.
    Incarnation
}

impl Incarnation {
    /// Not known; as the receiver of a message: whoever you are.
    pub const UNKNOWN: Incarnation = Incarnation(0);

    /// Higher ones are none: they lie hundreds of years ahead, and numbers above them must remain.
    pub const MAX: Incarnation = Incarnation(1 << 62);

    /// A new incarnation, drawn when a data directory is created or restored.
    pub fn draw(unix_ms: u64, random: u16) -> Incarnation {
        Incarnation((unix_ms << 16) | u64::from(random))
    }
}

/// Position in the log, from 1; 0 lies before the first entry.
pub type Index = u64;

/// How many of the low bits of a term count ordinary elections; the rest is the epoch.
const COUNT_BITS: u32 = 24;

/// A term: `epoch << 24 | count`. An ordinary election adds one. A recovery election begins a new epoch, chosen with enough
/// randomness that two of them which cannot see each other do not end in the same term.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// Higher ones are none: no cluster lives that long, and numbers above them must remain.
    pub const MAX: Term = Term(1 << 62);

    /// Recovery elections so far, roughly: each skips a random number.
    pub fn epoch(self) -> u64 {
        self.0 >> COUNT_BITS
    }

    /// The term of an ordinary election that follows this one.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }

    /// The first term of the epoch that lies `1 + skipped` epochs ahead.
    #[must_use]
    pub fn next_epoch(self, skipped: u64) -> Term {
        Term((self.epoch() + 1 + skipped) << COUNT_BITS)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch() {
            0 => write!(f, "{}", self.0),
            epoch => write!(f, "{epoch}e{}", self.0 & ((1 << COUNT_BITS) - 1)),
        }
    }
}

/// An entry's place: two logs that hold the same position are equal up to it. Ordered by how advanced a log ending there is:
/// the term decides, then the index.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term of the leader that appended the entry.
    pub term: Term,
    /// Where it lies.
    pub index: Index,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.index, self.term)
    }
}

/// Whom a replica voted for in its term. Naming the incarnation keeps a vote from being repeated to another life of the
/// same member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vote {
    /// The candidate.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

/// Newest incarnations that a recovery election was held with. Whoever granted it listens to no older ones.
pub type Fence = BTreeMap<NodeId, Incarnation>;

/// What a replica must not forget between two messages, written as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HardState {
    /// Newest term seen.
    pub term: Term,
    /// Whom this replica voted for in it.
    pub vote: Option<Vote>,
    /// Highest index known to be committed when this was written. May lag; everything else may not.
    pub commit: Index,
    /// Which life of this member the data belongs to.
    pub incarnation: Incarnation,
    /// The data may lack what an earlier life acknowledged, so nothing this replica says counts until the group admits it.
    pub recovering: bool,
    /// Newest incarnations learnt from recovery elections.
    pub fence: Fence,
    /// Members which the operator, while there was no leader, declared replaced by empty ones. Forgotten at the next leader.
    pub replaced: BTreeSet<NodeId>,
}

impl HardState {
    /// Of a new data directory. `recovering` unless it is known that no earlier life of this member ever voted or
    /// acknowledged anything, which only the bootstrap of a group knows.
    pub fn new(incarnation: Incarnation, recovering: bool) -> HardState {
        HardState {
            term: Term(0),
            vote: None,
            commit: 0,
            incarnation,
            recovering,
            fence: Fence::new(),
            replaced: BTreeSet::new(),
        }
    }

    /// Of data that was restored from a copy: what the copy remembers, as another life.
    #[must_use]
    pub fn restored(self, incarnation: Incarnation) -> HardState {
        HardState {
            incarnation,
            recovering: true,
            ..self
        }
    }
}

impl HardState {
    /// As it lies on disk: version, fields, CRC-32C over all before it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1u8];
        out.put_u64(self.term.0);
        let vote = self.vote.unwrap_or(Vote {
            node: NodeId(0),
            incarnation: Incarnation::UNKNOWN,
        });
        out.put_u64(vote.node.0);
        out.put_u64(vote.incarnation.0);
        out.put_u64(self.commit);
        out.put_u64(self.incarnation.0);
        out.put_u8(u8::from(self.recovering));
        out.put_u32(u32::try_from(self.fence.len()).expect("members are few"));
        for (node, life) in &self.fence {
            out.put_u64(node.0);
            out.put_u64(life.0);
        }
        out.put_u32(u32::try_from(self.replaced.len()).expect("members are few"));
        for node in &self.replaced {
            out.put_u64(node.0);
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out
    }

    /// Reads what [`HardState::encode`] wrote; nothing if a single bit of it differs.
    pub fn decode(bytes: &[u8]) -> Option<HardState> {
        let (mut rest, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32c::crc32c(rest) != checksum.get_u32() || rest.try_get_u8().ok()? != 1 {
            return None;
        }
        let mut number = || rest.try_get_u64().ok();
        let term = Term(number()?);
        let vote = Vote {
            node: NodeId(number()?),
            incarnation: Incarnation(number()?),
        };
        let (commit, incarnation) = (number()?, Incarnation(number()?));
        let recovering = rest.try_get_u8().ok()? != 0;
        let mut fence = Fence::new();
        for _ in 0..rest.try_get_u32().ok()? {
            fence.insert(
                NodeId(rest.try_get_u64().ok()?),
                Incarnation(rest.try_get_u64().ok()?),
            );
        }
        let mut replaced = BTreeSet::new();
        for _ in 0..rest.try_get_u32().ok()? {
            replaced.insert(NodeId(rest.try_get_u64().ok()?));
        }
        rest.is_empty().then_some(HardState {
            term,
            vote: (vote.node != NodeId(0)).then_some(vote),
            commit,
            incarnation,
            recovering,
            fence,
            replaced,
        })
    }
}

/// Why a call was not carried out. Nothing has happened then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another replica leads, or none.
    #[error("not the leader; {}", match .leader { Some(leader) => format!("member {leader} leads"), None => "no leader is known".to_owned() })]
    NotLeader {
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being transferred to member {to}")]
    Transferring {
        /// The next leader.
        to: NodeId,
    },
    /// Too much waits to be agreed on or read.
    #[error("too many requests wait for the group; try again later")]
    Busy,
    /// This replica lost its data and is not yet admitted again.
    #[error("this replica is recovering and answers no reads")]
    Recovering,
    /// One change of membership at a time.
    #[error("a change of membership is in progress; wait until it is committed")]
    ChangeInProgress,
    /// A new leader must first have an entry of its own term committed.
    #[error("the leader is new and has committed nothing yet; try again")]
    LeaderNotSettled,
    /// No member has this id.
    #[error("member {0} not found")]
    UnknownMember(NodeId),
    /// The id is taken, or is not a valid one.
    #[error("member id {0} is in use or invalid")]
    IdInUse(NodeId),
    /// Only learners are promoted.
    #[error("member {0} is not a learner")]
    NotLearner(NodeId),
    /// The learner lags.
    #[error("learner {node} is not in sync: it holds {matched} of {last} entries")]
    NotInSync {
        /// The learner.
        node: NodeId,
        /// How far it agrees with the leader.
        matched: Index,
        /// The leader's last entry.
        last: Index,
    },
    /// Only voters that count may lead.
    #[error("member {0} cannot lead: it is no voter, is recovering, or is this one")]
    BadTransferee(NodeId),
    /// Those who would be left cannot agree on anything: too many of them are recovering or were never reached.
    #[error("too few of the remaining voters are whole to make a majority")]
    TooFewWhole,
    /// A group needs a voter.
    #[error("the last voter cannot be removed")]
    LastVoter,
    /// A leader knows better who is there.
    #[error("there is a leader; replaced members are admitted by it")]
    HasLeader,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_more_advanced_by_term_first() {
        let old_and_long = Position {
            term: Term(2),
            index: 90,
        };
        let new_and_short = Position {
            term: Term(3),
            index: 4,
        };
        assert!(new_and_short > old_and_long);
    }

    #[test]
    fn the_hard_state_is_read_as_written_or_not_at_all() {
        let hard = HardState {
            term: Term(7),
            vote: Some(Vote {
                node: NodeId(2),
                incarnation: Incarnation(9),
            }),
            commit: 5,
            fence: Fence::from([(NodeId(1), Incarnation(4))]),
            replaced: BTreeSet::from([NodeId(3)]),
            ..HardState::new(Incarnation(8), true)
        };
        let bytes = hard.encode();
        assert_eq!(HardState::decode(&bytes), Some(hard));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert_eq!(HardState::decode(&damaged), None);
            assert_eq!(HardState::decode(&bytes[..position]), None);
        }
    }

    #[test]
    fn a_new_epoch_is_above_every_term_of_the_last() {
        let mut term = Term(0).next_epoch(7);
        assert_eq!((term.epoch(), term), (8, Term(8 << 24)));
        for _ in 0..1000 {
            term = term.next();
        }
        assert!(term.next_epoch(0) > term);
        assert_eq!(format!("{term:?}"), "8e1000");
    }
}
