//! What everybody but the core sees of the group: a value that is replaced whole, so no reader ever waits for the core.

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::{Incarnation, RoleName};
use tokio::sync::watch;

use crate::machine::Millis;
use crate::machine::state::State;

/// How far a member of the group has come, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether it holds nearly all of the log.
    pub caught_up: bool,
    /// Whether it answered lately.
    pub active: bool,
}

/// A look at the group.
#[derive(Debug, Clone)]
pub struct View {
    /// The replicated state.
    pub state: Arc<State>,
    /// The last entry in it.
    pub applied: u64,
    /// What is known to be committed.
    pub commit: u64,
    /// The part this node plays.
    pub role: RoleName,
    /// Who leads.
    pub leader: Option<consensus::NodeId>,
    /// The term.
    pub term: u64,
    /// This node's life.
    pub incarnation: Incarnation,
    /// Whether this node still waits to be admitted.
    pub recovering: bool,
    /// The last position of the log.
    pub last: consensus::Position,
    /// Whether the leader, being this node, has committed something in its term: only then may it act as master.
    pub settled: bool,
    /// The voters of the newest configuration in the log, each with the life that counts.
    pub voters: BTreeMap<consensus::NodeId, Incarnation>,
    /// There is a leader, and an entry of its own term is known to be committed.
    pub runs: bool,
    /// Members of the group, and whether they vote.
    pub members: BTreeMap<consensus::NodeId, bool>,
    /// On the leader: how far the others have come.
    pub progress: BTreeMap<consensus::NodeId, Progress>,
    /// The group told this member that it belongs to it no more.
    pub removed: bool,
    /// What cannot be written for want of room; then this node takes no part in the group, and nobody leads as far as it knows.
    pub full: Option<Arc<str>>,
    /// When the core last turned, by its own clock.
    pub turned: Millis,
}

impl View {
    /// Whether this node leads and may act.
    pub fn is_master(&self) -> bool {
        self.role == RoleName::Leader && self.settled
    }
}

/// Where views are read and waited for.
pub type Views = watch::Receiver<Arc<View>>;
