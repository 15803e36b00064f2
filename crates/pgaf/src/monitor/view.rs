//! What the monitor knows of a group beside what lies in the store: when it saw what.

use std::collections::BTreeMap;

use tracing::error;

use super::Looks;
use crate::NodeId;
use crate::decide::{Health, Node, Now};
use crate::group::GroupState;
use crate::layout::{GroupId, Wrong};
use crate::state::NodeState;

/// Moments, by the monitor's own clock.
#[derive(Debug)]
pub(super) struct Seen {
    /// When it was elected.
    pub(super) elected: Now,
    nodes: BTreeMap<(GroupId, NodeId), SeenNode>,
    /// The last thing that it could not read.
    complaint: Option<Wrong>,
}

#[derive(Debug, Clone, Copy)]
struct SeenNode {
    report: i64,
    heard: Now,
    goal: NodeState,
    since: Now,
}

impl Seen {
    pub(super) fn new(now: Now) -> Seen {
        Seen {
            elected: now,
            nodes: BTreeMap::new(),
            complaint: None,
        }
    }

    /// Says once what cannot be read.
    pub(super) fn complain(&mut self, wrong: &Wrong) {
        if self.complaint.as_ref() != Some(wrong) {
            error!(%wrong, "a value in the store is not understood; nothing is decided for its group");
            self.complaint = Some(wrong.clone());
        }
    }

    /// The group's nodes as they are decided about.
    pub(super) fn nodes(&mut self, state: &GroupState, looks: &Looks, now: Now) -> BTreeMap<NodeId, Node> {
        let votes = state.votes();
        let patience = state
            .settings
            .pgaf_health_check_interval
            .max(state.settings.primary_lease_ttl);
        let known = state
            .nodes
            .iter()
            .filter(|(_, at)| at.value.goal != NodeState::Dropped);
        known
            .map(|(id, at)| {
                let report = state.reports.get(id);
                let revision = report.map_or(0, |at| at.revision);
                let seen = self.nodes.entry((state.id.clone(), *id)).or_insert(SeenNode {
                    report: revision,
                    heard: now,
                    goal: at.value.goal,
                    since: now,
                });
                if seen.report != revision {
                    seen.report = revision;
                    seen.heard = now;
                }
                if seen.goal != at.value.goal {
                    seen.goal = at.value.goal;
                    seen.since = now;
                }
                let report = report.map(|at| &at.value);
                let heard_lately = now.saturating_sub(seen.heard) < patience.0;
                let health = match looks.health(&state.id, *id) {
                    // Looks may fail for want of a login; a keeper that reports a running PostgreSQL knows better.
                    Health::Bad { .. } if heard_lately && report.is_some_and(|report| report.running) => {
                        Health::Unknown
                    }
                    health => health,
                };
                let node = Node {
                    goal: at.value.goal,
                    since: seen.since,
                    reported: report.map_or(NodeState::Init, |report| report.state),
                    health,
                    heard: seen.heard,
                    dead: report.is_some_and(|report| report.dead),
                    position: report.and_then(|report| report.position),
                    vote: votes.get(id).copied(),
                    priority: at.value.candidate_priority,
                    quorum: at.value.replication_quorum,
                };
                (*id, node)
            })
            .collect()
    }
}
