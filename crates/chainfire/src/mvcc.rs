//! The multi-version store: what every key was at every revision since the last compaction.
//!
//! Three column families hold it:
//!
//! - `key`: user key → its newest version, value included, or a tombstone. Reads of the present touch only this.
//! - `hist`: user key, revision → a version that a later one replaced. A write moves the version it replaces here.
//! - `rev`: revision, position within it → which key changed, and where its previous version lies. Watches replay from it, and
//!   compaction walks it: to forget everything up to revision C is to visit each change up to C and delete the version it
//!   replaced. Neither ever scans the data.
//!
//! A version is stored once, and a range of present values is one sequential scan. Reads name a revision R and take, for each
//! key, the newest version at or below R: the one in `key` if it is old enough, else the right one in `hist`. So a read needs
//! no lock and no snapshot: whatever is written meanwhile has a higher revision.
//!
//! Writes go through a [`Group`]: the commands of one apply round see each other's effects in memory and reach the database
//! in one batch, together with the index of the last log entry they came from.
//!
//! **Invariant:** a key changes at most once in a revision (a transaction that would change it twice is refused).
//! **Invariant:** for every change in `rev` above the compaction point, the versions it names exist in `key` or `hist`.

mod audit;
mod checks;
mod codec;
mod compaction;
mod group;
mod hash;
mod range;
mod state;
mod transaction;
mod view;

pub(crate) use audit::Problems;
pub use checks::Limits;
pub use codec::{Change, Version};
pub use group::{Event, Group};
pub use hash::KvHash;
pub use range::KeyRange;
pub use state::{Meta, Mvcc};
pub use transaction::WriteEffects;
pub(crate) use transaction::{puts, reads_the_past, writes};
pub use view::Changed;

/// A revision of the whole store. A new store is at 1; each write request that changes something adds one.
pub type Revision = i64;

/// Column families and the keys of the family `default`.
pub mod family {
    /// User key → newest version.
    pub const KEY: &str = "key";
    /// User key and revision → replaced version.
    pub const HIST: &str = "hist";
    /// Revision and position → change.
    pub const REV: &str = "rev";
    /// Log index → entry.
    pub const LOG: &str = "log";
    /// Term, vote, commit index.
    pub const HARD: &str = "hard";
    /// Leases and what is attached to them.
    pub const LEASE: &str = "lease";
    /// Users and roles.
    pub const AUTH: &str = "auth";
    /// Single values of the whole store.
    pub const META: &str = "default";
    /// All of them, for opening.
    pub const ALL: &[&str] = &[META, KEY, HIST, REV, LOG, HARD, LEASE, AUTH];
}
