//! What the elected monitor assigns.
//!
//! [`decide`] looks at a whole group and says the one step that comes next: goals of nodes, and sometimes a new record, to be written in one
//! transaction that compares everything that was looked at. Then it looks again. So two monitors that both believe to be elected do no
//! harm, and one that continues where another stopped needs to know nothing of it.
//!
//! The order in which rules are asked is the order of this file: somebody new, a failover under way, the primary lost, a wish of the operator,
//! standbys that come and go. A failover under way is finished or undone before anything else begins.
//!
//! It never decides whether a promotion is *safe*: that is the record's matter, and the transaction by which a candidate takes the lock is
//! refused if the record says otherwise. What it decides is whether it is *called for*.
//!
//! **Invariant:** every assignment is a pair of [`NodeState::may_become`], from the goal that the node has.

mod failover;
mod forced;
#[cfg(test)]
mod simulation;
mod standbys;

use std::collections::BTreeMap;

use crate::settings::Settings;
use crate::state::NodeState;
use crate::{Kind, Names, NodeId, Position, Record, Report};

/// Milliseconds of the monitor's monotonic clock.
pub type Now = u64;

/// A node as the monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is to be.
    pub goal: NodeState,
    /// Since when.
    pub since: Now,
    /// What it last said it is.
    pub reported: NodeState,
    /// What looks at it found.
    pub health: Health,
    /// When its keeper last reported.
    pub heard: Now,
    /// It is proven that its PostgreSQL does not run: its keeper says that it cannot be started, or both of its ports refuse connections.
    pub dead: bool,
    /// Where its log ends.
    pub position: Option<Position>,
    /// What it said in an election.
    pub vote: Option<Report>,
    /// 0 to 100; 0 is never promoted.
    pub priority: u8,
    /// Whether commits may wait for it.
    pub quorum: bool,
}

/// What looks at a node's PostgreSQL found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There was no look yet.
    Unknown,
    /// The last look was good.
    Good,
    /// All looks since then failed.
    Bad {
        /// The first of them.
        since: Now,
    },
}

/// A wish of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Somebody else is to be primary.
    Failover,
    /// This node is to be primary.
    Promotion(NodeId),
    /// This node is to be primary although rows may be missing there, if the primary is lost and nobody is certain to have them.
    Forced {
        /// Who is to be primary.
        node: NodeId,
        /// The revision of the record for which the loss was accepted.
        record: u64,
        /// Bytes that are known to be missing.
        loss: Option<u64>,
    },
}

/// A group at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The moment.
    pub now: Now,
    /// Since when this monitor is the elected one.
    pub elected: Now,
    /// How patient it is to be.
    pub settings: &'a Settings,
    /// `number_sync_standbys` of the formation.
    pub number_sync: u32,
    /// Everybody who is registered, dropped nodes left out.
    pub nodes: &'a BTreeMap<NodeId, Node>,
    /// Who may be promoted; nothing before the first primary.
    pub record: Option<&'a Record>,
    /// The record's revision.
    pub revision: u64,
    /// Who holds the lock.
    pub lock: Option<NodeId>,
    /// Names that the primary was last told to use.
    pub wanted: &'a Names,
    /// What the operator asked for.
    pub request: Option<Request>,
}

/// A goal, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Whose.
    pub node: NodeId,
    /// What it is to be.
    pub goal: NodeState,
    /// One clause for the events: the cause.
    pub because: &'static str,
}

/// What is written, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Goals that change.
    pub goals: Vec<Assignment>,
    /// The record, if it changes.
    pub record: Option<Record>,
    /// Names for the primary, if they change.
    pub wanted: Option<Names>,
    /// The operator's wish has been taken up, or cannot be.
    pub request_done: bool,
    /// A promotion is forced by this step.
    pub forced: Option<Forced>,
}

/// Who is promoted by the operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forced {
    /// Who is.
    pub node: NodeId,
    /// Bytes that were known to be missing there; nothing if that was not known.
    pub loss: Option<u64>,
}

impl Step {
    fn goal(node: NodeId, goal: NodeState, because: &'static str) -> Step {
        Step::default().and(node, goal, because)
    }

    fn and(mut self, node: NodeId, goal: NodeState, because: &'static str) -> Step {
        self.goals.push(Assignment { node, goal, because });
        self
    }

    fn recording(mut self, record: Record) -> Step {
        self.record = Some(record);
        self
    }
}

/// The step that comes next, if any does.
#[must_use]
pub fn decide(view: &View<'_>) -> Option<Step> {
    let Some(record) = view.record else {
        return view.founder();
    };
    view.newcomer(record)
        .or_else(|| view.failover_under_way(record))
        .or_else(|| view.primary_lost(record))
        .or_else(|| view.planned(record))
        .or_else(|| view.standbys(record))
}

impl View<'_> {
    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// Nodes but one.
    fn others(&self, id: NodeId) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .filter(move |(other, _)| **other != id)
            .map(|(id, node)| (*id, node))
    }

    /// Whether a keeper has reported lately.
    fn reporting(&self, node: &Node) -> bool {
        let patience = self
            .settings
            .pgaf_health_check_interval
            .max(self.settings.primary_lease_ttl);
        self.now.saturating_sub(node.heard) < patience.0
    }

    /// Whether it can be relied on for the next step.
    fn well(&self, node: &Node) -> bool {
        !node.dead && self.reporting(node) && !matches!(node.health, Health::Bad { .. })
    }

    /// The first node of a group becomes its primary.
    fn founder(&self) -> Option<Step> {
        let (id, node) = self.nodes.iter().next()?;
        (node.goal == NodeState::Init).then(|| Step::goal(*id, NodeState::Single, "first node of the group"))
    }

    /// Further nodes wait until the primary lets them in.
    fn newcomer(&self, record: &Record) -> Option<Step> {
        let (id, _) = self
            .others(record.node)
            .find(|(_, node)| node.goal == NodeState::Init)?;
        Some(Step::goal(id, NodeState::WaitStandby, "the group has a primary"))
    }
}

/// Whether a standby has nearly all that the primary has.
fn close(primary: &Node, standby: &Node, limit: u64) -> bool {
    match (primary.position, standby.position) {
        (Some(ahead), Some(behind)) => {
            ahead.timeline == behind.timeline && ahead.lsn.saturating_sub(behind.lsn) <= limit
        }
        _ => false,
    }
}

/// Whether the record lets somebody be promoted without asking the operator.
fn promotable(record: &Record) -> bool {
    record.kind == Kind::Sync && !record.members.is_empty()
}
