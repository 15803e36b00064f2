//! What is explored: who there is, and how much of everything may happen.

use crate::Mutation;

/// How much of everything may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Elections begun, of either kind.
    pub(super) campaigns: u8,
    /// Of these, recovery elections at most.
    pub(super) recoveries: u8,
    /// Disks lost.
    pub(super) wipes: u8,
    /// Disks put back from a copy, which carries the marker. There is a copy of everybody's beginning.
    pub(super) restores: u8,
    /// Copies made later.
    pub(super) copies: u8,
    /// Append messages sent.
    pub(super) appends: u8,
    /// Commands proposed.
    pub(super) puts: u8,
    /// Members removed or promoted.
    pub(super) changes: u8,
    /// Processes that start again and have forgotten what is committed.
    pub(super) restarts: u8,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Voters at the beginning, numbered from 1.
    pub(super) voters: u64,
    /// One more node is a learner at the beginning.
    pub(super) learner: bool,
    /// Member 1 already leads, and everybody holds its first entry and knows it to be committed.
    pub(super) led: bool,
    pub(super) budget: Budget,
    /// Recovery elections may also leap so far that later ones end below them.
    pub(super) wide_leaps: bool,
    /// A leader may send its log without the last entry.
    pub(super) short_appends: bool,
    /// Recovery elections only when the probe finds nothing against them.
    pub(super) guarded: bool,
    pub(super) mutation: Mutation,
}
