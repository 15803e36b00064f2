//! Standbys come and go beside a primary that serves.

use std::collections::BTreeSet;

use super::{Node, Step, View, close};
use crate::state::NodeState::{
    ApplySettings, CatchingUp, Demoted, JoinSecondary, Primary, Secondary, Single, WaitPrimary, WaitStandby,
};
use crate::{Kind, Names, NodeId, Record};

impl View<'_> {
    pub(super) fn standbys(&self, record: &Record) -> Option<Step> {
        let primary = self.node(record.node)?;
        if !primary.goal.writable() {
            return None;
        }
        self.alone_again(record, primary)
            .or_else(|| self.let_in(record, primary))
            .or_else(|| self.caught_up(record, primary))
            .or_else(|| self.membership(record, primary))
    }

    /// All others have been dropped, or the first one has come.
    fn alone_again(&self, record: &Record, primary: &Node) -> Option<Step> {
        let others = self.others(record.node).count();
        let (goal, because) = match primary.goal {
            Single if others > 0 => (WaitPrimary, "a standby has registered"),
            WaitPrimary | Primary if others == 0 => (Single, "all other nodes were dropped"),
            _ => return None,
        };
        let mut step = Step::goal(record.node, goal, because);
        if goal == Single && record.kind != Kind::Alone {
            step = step.recording(record.settled(&Names::nobody()));
            step.wanted = Some(Names::nobody());
        }
        Some(step)
    }

    /// Those who wait for a primary to follow.
    fn let_in(&self, record: &Record, primary: &Node) -> Option<Step> {
        if !matches!(primary.reported, WaitPrimary | Primary | ApplySettings) || !self.well(primary) {
            return None;
        }
        self.others(record.node).find_map(|(id, node)| {
            let waits = matches!(node.goal, WaitStandby | JoinSecondary | Demoted);
            (waits && node.reported == node.goal && self.reporting(node))
                .then(|| Step::goal(id, CatchingUp, "the primary lets it in"))
        })
    }

    fn caught_up(&self, record: &Record, primary: &Node) -> Option<Step> {
        if !self.well(primary) {
            return None;
        }
        let limit = self.settings.enable_sync_wal_log_threshold;
        self.others(record.node).find_map(|(id, node)| {
            let ready = node.goal == CatchingUp && node.reported == CatchingUp && self.well(node);
            (ready && close(primary, node, limit)).then(|| Step::goal(id, Secondary, "has caught up"))
        })
    }

    /// Whether a standby may be waited for.
    fn takes_part(&self, primary: &Node, node: &Node) -> bool {
        let limit = self.settings.enable_sync_wal_log_threshold;
        node.goal == Secondary && node.reported == Secondary && self.well(node) && close(primary, node, limit)
    }

    /// Brings the primary's names in line with who takes part.
    fn membership(&self, record: &Record, primary: &Node) -> Option<Step> {
        let listed: BTreeSet<NodeId> = self.wanted.members().clone();
        let able: BTreeSet<NodeId> = self
            .others(record.node)
            .filter(|(_, node)| node.quorum && self.takes_part(primary, node))
            .map(|(id, _)| id)
            .collect();
        let lost: Vec<NodeId> = self
            .others(record.node)
            .filter(|(_, node)| {
                node.goal == Secondary && node.reported == Secondary && !self.takes_part(primary, node)
            })
            .map(|(id, _)| id)
            .collect();
        let least = self.number_sync.max(1) as usize;
        if able.is_empty() && self.number_sync == 0 && primary.goal == Primary && primary.reported == Primary
        {
            // Commits that wait are woken when the names are cleared; before that nobody may be promotable any more.
            let mut step = Step::goal(record.node, WaitPrimary, "no standby is left")
                .recording(record.settled(&Names::nobody()));
            step.wanted = Some(Names::nobody());
            for id in lost {
                step = step.and(id, CatchingUp, "is not heard or too far behind");
            }
            return Some(step);
        }
        // Whoever is not listed may go at once; the others go with the record that does without them.
        let unlisted = lost
            .iter()
            .find(|id| !listed.contains(id) && !record.members.contains(id));
        if let Some(id) = unlisted {
            return Some(Step::goal(*id, CatchingUp, "is not heard or too far behind"));
        }
        if primary.reported != primary.goal || able.len() < least {
            return None;
        }
        let wanted = Names::of(able.clone(), self.number_sync.max(1)).ok()?;
        match primary.goal {
            WaitPrimary => {
                let mut step = Step::goal(record.node, Primary, "a standby takes part");
                step.wanted = Some(wanted);
                Some(step)
            }
            Primary if wanted != *self.wanted => {
                let mut step = Step::goal(record.node, ApplySettings, "standbys that take part have changed");
                step.wanted = Some(wanted);
                Some(step)
            }
            ApplySettings => Some(Step::goal(record.node, Primary, "the settings are in effect")),
            _ => None,
        }
    }
}
