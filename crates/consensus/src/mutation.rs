//! Clauses that a test can break, to show that the simulation notices. Outside this crate's own tests the only value is "none", and
//! every question about it is answered at compile time.

/// A clause left out on purpose.
#[cfg(not(test))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The protocol as it is.
    #[default]
    None,
}

/// Asks whether one of these clauses is broken.
macro_rules! broken {
    ($settings:expr, $($mutation:ident)|+) => {{
        #[cfg(test)]
        {
            matches!($settings.mutation, $($crate::mutation::Mutation::$mutation)|+)
        }
        #[cfg(not(test))]
        {
            false
        }
    }};
}
pub(crate) use broken;

/// A clause left out on purpose.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The protocol as it is.
    #[default]
    None,
    /// Candidates with a less advanced log get votes.
    VotesIgnoreLog,
    /// A replica votes twice in a term.
    VotesTwice,
    /// Promises leave before they are on disk.
    PromisesBeforeDisk,
    /// A leader counts itself before its entries are on disk.
    LeaderCountsUnsynced,
    /// A leader commits entries of earlier terms by counting.
    CommitsOlderTerms,
    /// A follower takes entries without looking at the position before them.
    AppendIgnoresPrevious,
    /// A leader changes the membership before it has committed anything.
    ChangesUnsettled,
    /// A change of membership counts from its commit instead of from its append.
    ConfigurationAtCommit,
    /// An installed snapshot leaves a newer, uncommitted configuration in force.
    SnapshotKeepsConfiguration,
    /// Reads are answered without asking anybody.
    ReadsWithoutRound,
    /// A read that arrives during a round is answered by it.
    ReadsJoinRound,
    /// A new leader answers reads before it has committed anything.
    ReadsUnsettled,
    /// Elections begin without asking first.
    NoPreVote,
    /// A leader that hears from no majority stays.
    NoCheckQuorum,
    /// The flag is ignored when acknowledgements are counted.
    FlaggedAcksCount,
    /// Flagged replicas vote in ordinary elections, and it counts.
    FlaggedVotesCount,
    /// A replica is normal again as soon as a leader has reached it, without being admitted.
    NormalAfterContact,
    /// A replica is normal again when it holds the entry that admits it, committed or not.
    NormalBeforeCommit,
    /// Nobody keeps a fence.
    NoFence,
    /// Voters in a recovery election do not compare logs.
    RecoveryIgnoresLog,
    /// Any life of a voter counts.
    AnyIncarnationCounts,
    /// A majority wins a recovery election.
    RecoveryByMajority,
    /// Only voters of the newest configuration are asked in a recovery election.
    RecoveryAsksNewest,
    /// Recovery elections begin without the operator.
    RecoveryWithoutOperator,
    /// A recovery election takes the next term, like any other.
    RecoveryInNextTerm,
    /// A follower contradicted by the leader keeps what it applied.
    ContradictionIgnored,
}
