//! The judgement at the end: the history of clients, and that the group works again.

use std::collections::BTreeMap;

use super::{Cluster, is_leader};
use crate::simulation::node::Node;
use crate::{Missing, NodeId};

impl Cluster {
    /// The history, and that the group works again.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.note(asked, None);
        }
        if self.ledger.lost == 0 {
            self.history.check().map_err(|violation| violation.to_string())?;
        }
        let Some(leader) = self.nodes.values().find(|node| is_leader(node)) else {
            return if self.may_stand_still() {
                Ok(())
            } else {
                Err(format!(
                    "liveness: no leader after all was repaired: {:#?}",
                    self.nodes
                        .values()
                        .map(|node| node.replica.as_ref().map(crate::Replica::status))
                        .collect::<Vec<_>>()
                ))
            };
        };
        let status = leader.replica.as_ref().expect("a leader").status();
        let behind = status.configuration.members().find_map(|(node, _)| {
            let other = self.nodes.get(&node)?;
            let behind = leader.machine.applied.saturating_sub(other.machine.applied) > 20;
            let recovering = other
                .replica
                .as_ref()
                .is_some_and(|replica| replica.status().recovering);
            let voter = status.configuration.is_voter(node);
            (behind || (voter && recovering)).then_some((node, other.machine.applied, recovering))
        });
        match behind {
            Some(found) if !self.may_stand_still() => Err(format!(
                "liveness: member {} is at {} (recovering: {}), the leader at {}: {:?} {:?}",
                found.0,
                found.1,
                found.2,
                leader.machine.applied,
                self.nodes[&found.0].replica.as_ref().map(crate::Replica::status),
                leader
                    .replica
                    .as_ref()
                    .map(|leader| leader.describe_peer(found.0)),
            )),
            _ => Ok(()),
        }
    }

    /// Without the operator, a group in which too many forgot stops, and rightly so. So does one of which nobody holds
    /// anything.
    pub(super) fn may_stand_still(&self) -> bool {
        let holds_nothing = |node: &Node| {
            let status = node.replica.as_ref().map(crate::Replica::status);
            status.is_none_or(|status| status.missing == [Missing::NotEligible])
        };
        if self.profile.losses && self.nodes.values().all(holds_nothing) {
            return true;
        }
        if !self.profile.losses || self.profile.operator {
            return false;
        }
        let statuses = self
            .nodes
            .values()
            .filter_map(|node| node.replica.as_ref())
            .map(crate::Replica::status);
        let statuses: BTreeMap<NodeId, _> = self.nodes.keys().copied().zip(statuses).collect();
        statuses.values().any(|status| {
            let voters = status.configuration.voters();
            let whole = voters.filter(|(node, _)| statuses.get(node).is_some_and(|other| !other.recovering));
            whole.count() < status.configuration.quorum()
        })
    }
}
