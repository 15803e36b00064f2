//! What differs between groups, and the bounds on what one replica holds. The defaults are for a server with ticks of 100 ms.

use crate::mutation::Mutation;
use crate::types::{GroupId, NodeId};

/// Settings of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The group.
    pub group: GroupId,
    /// This member.
    pub node: NodeId,
    /// Drawn anew at every start: timeouts, epochs and names of reads come from it.
    pub seed: u64,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader after which an election may begin, and within which nobody votes against a leader.
    pub election_ticks: u32,
    /// Up to so many ticks are added at random to each election timeout.
    pub election_spread_ticks: u32,
    /// Always added: who is wanted less as leader waits longer.
    pub election_bias_ticks: u32,
    /// Bytes of entries sent to one member and not yet acknowledged.
    pub inflight_bytes_max: usize,
    /// Bytes of entries in one message, unless a single one is larger.
    pub message_bytes_max: usize,
    /// Bytes of entries that may wait for their commit before proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// Bytes of committed entries handed out at once.
    pub apply_bytes_max: usize,
    /// Bytes of entries kept in memory after they are applied, for followers that lag a little.
    pub cache_bytes_max: usize,
    /// Reads that may wait for a round.
    pub reads_max: usize,
    /// A learner may be promoted when it is at most so many entries behind (and at nine tenths).
    pub promotion_lag_max: u64,
    /// Which clause is broken on purpose, in tests that show its worth.
    #[doc(hidden)]
    pub mutation: Mutation,
}

impl Settings {
    /// The defaults for this member of this group.
    pub fn new(group: GroupId, node: NodeId, seed: u64) -> Settings {
        Settings {
            group,
            node,
            seed,
            heartbeat_ticks: 1,
            election_ticks: 10,
            election_spread_ticks: 10,
            election_bias_ticks: 0,
            inflight_bytes_max: 16 << 20,
            message_bytes_max: 1 << 20,
            uncommitted_bytes_max: 256 << 20,
            apply_bytes_max: 16 << 20,
            cache_bytes_max: 64 << 20,
            reads_max: 64 << 10,
            promotion_lag_max: 1000,
            mutation: Mutation::default(),
        }
    }
}
