//! Tells what happens in the group: log lines, metrics, and whoever has more to do on the leader.

use std::collections::BTreeSet;
use std::sync::Arc;

use consensus::{Event, Missing, NodeId, Rebirth, RoleName, Status};
use service::SharedClock;

use super::view::describe_missing;
use crate::metrics::Metrics;

/// A follower is told of when it is so many entries behind, and again when it is back below the second.
const BEHIND: u64 = 1000;
const CAUGHT_UP: u64 = 100;

/// Ticks between two lines that say that nobody has added this node yet.
const WAITING_LINE_MS: u64 = 30_000;

pub(super) struct Watcher {
    pub(super) node: NodeId,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    /// Told when this node begins or ceases to lead.
    pub(super) role_changed: Box<dyn Fn(bool) + Send>,
    /// This node is the only voter and elects itself.
    pub(super) alone: bool,
    /// Voters and learners, as told last.
    pub(super) counts: (usize, usize),
    behind: BTreeSet<NodeId>,
    leading: bool,
    /// Nothing is known of any group yet.
    blank: bool,
    waiting_told: Option<u64>,
    /// What keeps a recovery election from being held, as told last.
    missing_told: Vec<Missing>,
}

impl Watcher {
    pub(super) fn new(
        node: NodeId,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        role_changed: Box<dyn Fn(bool) + Send>,
    ) -> Watcher {
        Watcher {
            node,
            metrics,
            clock,
            role_changed,
            alone: false,
            counts: (0, 0),
            behind: BTreeSet::new(),
            leading: false,
            blank: false,
            waiting_told: None,
            missing_told: Vec::new(),
        }
    }

    /// One event of the group.
    pub(super) fn happened(&mut self, event: &Event) {
        match event {
            Event::Role(RoleName::Leader, term) => {
                tracing::info!(target: "chainfire_raft", term = term.0, "Leader elected");
                self.metrics.leader_changed();
            }
            Event::Role(role, term) => {
                tracing::debug!(target: "chainfire_raft", role = ?role, term = term.0, "Role changed");
            }
            Event::Leader(Some(leader), term) if *leader != self.node => {
                tracing::info!(target: "chainfire_raft", term = term.0, "Leader elected");
                tracing::debug!(target: "chainfire_raft", leader = leader.0, "Follows");
                self.metrics.leader_changed();
            }
            Event::Leader(..) => {}
            Event::ElectionTimeout if self.blank || self.alone => {}
            Event::ElectionTimeout => {
                tracing::warn!(target: "chainfire_raft", "Election timeout, no heartbeat from leader");
            }
            Event::Configuration(index, configuration) => {
                let voters = configuration.voters().count();
                let learners = configuration.members().count() - voters;
                if std::mem::replace(&mut self.counts, (voters, learners)) == (voters, learners) {
                    return;
                }
                tracing::info!(target: "chainfire_raft", index, voters, learners, "Membership agreed on");
            }
            Event::Removed => {
                tracing::warn!(target: "chainfire_raft", node_id = self.node.0, "removed from cluster");
            }
            Event::Admitted(life) => {
                tracing::info!(target: "chainfire_raft", node_id = self.node.0, incarnation = life.0, "Node admitted, its vote counts");
            }
            Event::Reborn(life, Rebirth::LaterLifeKnown) => {
                tracing::error!(
                    target: "chainfire_raft",
                    incarnation = life.0,
                    error = "old_data",
                    "The cluster knows newer data of this node than lies here, so it starts over"
                );
            }
            Event::Reborn(life, Rebirth::Contradicted) => {
                tracing::error!(
                    target: "chainfire_raft",
                    incarnation = life.0,
                    error = "contradicted",
                    "The cluster has agreed on other data than lies here, so it starts over"
                );
            }
            Event::LifeSeen(node, life) => {
                tracing::info!(target: "chainfire_raft", node_id = node.0, incarnation = life.0, "Node met");
            }
            Event::Forgot(node, index) => {
                tracing::error!(
                    target: "chainfire_raft",
                    node_id = node.0,
                    index,
                    error = "lost_log",
                    "Node holds less than it acknowledged, was an old copy of its directory put back? It is sent the rest again"
                );
            }
            Event::RecoveryElection(term) => {
                tracing::warn!(target: "chainfire_raft", term = term.0, "Recovery election begins");
            }
            Event::Impossible(what) => {
                tracing::error!(target: "chainfire_raft", reason = what, error = "impossible", "Message ignored");
            }
        }
    }

    /// How the group looks, several times a second.
    pub(super) fn look(&mut self, status: &Status) {
        self.blank = status.last.index == 0;
        if self.blank && status.leader.is_none() {
            let now = self.clock.now().millis();
            if self
                .waiting_told
                .is_none_or(|told| now.saturating_sub(told) >= WAITING_LINE_MS)
            {
                self.waiting_told = Some(now);
                tracing::info!(target: "chainfire_raft", node_id = self.node.0, "waiting to be added to a cluster");
            }
        }
        if self.missing_told != status.missing {
            self.missing_told.clone_from(&status.missing);
            if !self.blank && !status.missing.is_empty() {
                let missing: Vec<String> = status.missing.iter().map(describe_missing).collect();
                tracing::warn!(target: "chainfire_raft", missing = missing.join("; "), "No leader");
            }
        }
        for (node, peer) in &status.peers {
            let lag = status.last.index.saturating_sub(peer.matched);
            if lag > BEHIND && peer.active && self.behind.insert(*node) {
                tracing::warn!(target: "chainfire_raft", node_id = node.0, lag, "Follower is behind");
            } else if lag <= CAUGHT_UP && self.behind.remove(node) {
                tracing::info!(target: "chainfire_raft", node_id = node.0, "Node caught up");
            }
        }
        if status.role != RoleName::Leader {
            self.behind.clear();
        }
    }

    /// Whether this node leads.
    pub(super) fn leads(&mut self, leads: bool) {
        if leads != self.leading {
            self.leading = leads;
            (self.role_changed)(leads);
        }
    }
}
