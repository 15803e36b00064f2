//! Small groups, played through entirely: is an acknowledged row ever missing at whoever was promoted last?
//!
//! The store is one value that changes atomically; what is not atomic is who knows of it. A write may land late, its answer may get lost,
//! a reader may see an old state. A process may stop for any time and go on: nothing here happens because time has passed, so a primary
//! that has lost its lock goes on serving for as long as the search likes. That is why the lock protects nothing here, and why clocks need
//! not be modelled for it.
//!
//! PostgreSQL is a list of entries per node. A standby takes the next entry of its upstream while its own list is the beginning of the
//! upstream's, and has then confirmed it; a commit is acknowledged when the names in effect are content, and while names change, by
//! either of them. What the file says and what is in effect are two things.
//!
//! Not in the model: `async` groups and vouching, which rest on clocks; a commit that waits being cancelled; forced promotions.

mod actions;
mod rules;
mod scenarios;
mod searches;
mod state;
mod steps;

use rules::Rules;

/// How much may happen. Budgets are part of what makes a group small enough.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    writes: u8,
    changes: u8,
    elections: u8,
    crashes: u8,
    releases: u8,
    /// Takings of the lock, by whom ever.
    takings: u8,
}

/// A group to be played.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Nodes, 1 being the first primary.
    nodes: u32,
    /// `number_sync_standbys`: with 0 a primary may serve alone, and waits for one standby otherwise.
    sync: u32,
    /// Confirmations that names may ask for, beside what `sync` says.
    also_any: Option<u32>,
    bounds: Bounds,
    /// For random walks: what leads somewhere is offered more than once.
    eager: bool,
    rules: Rules,
}
