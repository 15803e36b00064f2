//! The primary is lost, or is to be replaced.
//!
//! Unplanned: the record is opened, its members cut themselves off and report, the winner prepares, and takes over when the old primary is
//! fenced. Planned: the primary stops and releases the lock with its last position, and whoever has exactly that takes over; nothing needs
//! to be elected. A primary that stops halfway through a planned change turns it into an unplanned one.
//!
//! As long as nobody has taken the lock the old primary may have its place back: when there are not enough members to elect somebody, or when
//! whoever was to take over cannot.

use super::{Health, Node, Request, Step, View, promotable};
use crate::state::NodeState::{
    CatchingUp, DemoteTimeout, Demoted, Draining, FastForward, JoinSecondary, PreparePromotion, Primary,
    ReportLsn, Secondary, StopReplication, WaitPrimary,
};
use crate::{NodeId, Record, election};

impl View<'_> {
    /// Opens an election if the primary is lost and the record allows one.
    pub(super) fn primary_lost(&self, record: &Record) -> Option<Step> {
        let primary = self.node(record.node)?;
        if !primary.goal.writable() || record.open || !promotable(record) || !self.called_for(record, primary)
        {
            return None;
        }
        if !self.enough(record) {
            return None;
        }
        let mut step = Step::goal(record.node, Draining, "primary is unhealthy").recording(record.opened());
        for (id, node) in self.voters(record) {
            let goal = if record.members.len() == 1 && node.goal == Secondary {
                PreparePromotion
            } else {
                ReportLsn
            };
            step = step.and(id, goal, "election: the primary is lost");
        }
        Some(step)
    }

    /// Whether the primary has to be replaced.
    fn called_for(&self, record: &Record, primary: &Node) -> bool {
        let gone = self.lock != Some(record.node);
        let settled_in = self.now.saturating_sub(self.elected) >= self.settings.startup_grace_period.0;
        if !settled_in && !gone {
            return false;
        }
        let given_up = match primary.health {
            Health::Bad { since } => self.now.saturating_sub(since) >= self.settings.pgaf_failover_timeout.0,
            Health::Unknown | Health::Good => false,
        };
        // A keeper that reports takes an absent lock again by itself.
        let fenced = primary.dead || gone && !self.reporting(primary);
        given_up || self.settings.early_promotion && fenced
    }

    /// Members that can be asked where their logs end.
    fn voters(&self, record: &Record) -> impl Iterator<Item = (NodeId, &Node)> {
        record
            .members
            .iter()
            .filter_map(|id| Some((*id, self.node(*id)?)))
            .filter(|(_, node)| {
                self.reporting(node) && node.goal.may_become(ReportLsn) && !node.goal.candidate()
            })
    }

    /// Whether there are enough members for an election, and one of them may be promoted.
    pub(super) fn enough(&self, record: &Record) -> bool {
        let available = |(id, node): &(NodeId, &Node)| *id != record.node && self.reporting(node);
        let members = || {
            record
                .members
                .iter()
                .filter_map(|id| Some((*id, self.node(*id)?)))
                .filter(available)
        };
        members().count() >= record.need as usize && members().any(|(_, node)| node.priority > 0)
    }

    /// Whether nobody can acknowledge a row any more without those who have been cut off knowing; the cut itself is what protects rows.
    fn fenced(&self, record: &Record, primary: Option<&Node>) -> bool {
        let Some(primary) = primary else { return true };
        let waited = match primary.health {
            Health::Bad { since } => self.now.saturating_sub(since) >= self.settings.pgaf_failover_timeout.0,
            Health::Unknown | Health::Good => false,
        };
        primary.dead || self.lock != Some(record.node) || primary.reported.stopped() || waited
    }

    /// Continues, finishes or undoes what has begun.
    pub(super) fn failover_under_way(&self, record: &Record) -> Option<Step> {
        let primary = self.node(record.node);
        if primary.is_none_or(|primary| primary.goal.stopped()) {
            return self.towards_takeover(record, primary);
        }
        // Somebody has taken the lock, or has been given its place back: everybody else follows.
        if record.open {
            return None;
        }
        self.others(record.node).find_map(|(id, node)| {
            let goal = match node.goal {
                ReportLsn | FastForward | PreparePromotion | StopReplication => JoinSecondary,
                Draining | DemoteTimeout => Demoted,
                _ => return None,
            };
            Some(Step::goal(id, goal, "another node is primary"))
        })
    }

    fn towards_takeover(&self, record: &Record, primary: Option<&Node>) -> Option<Step> {
        // Members that were not there when the election was opened.
        let late = self
            .voters(record)
            .find(|(id, _)| record.open && *id != record.node);
        if let Some((id, _)) = late {
            return Some(Step::goal(id, ReportLsn, "election: the primary is lost"));
        }
        let candidate = self.others(record.node).find(|(_, node)| node.goal.candidate());
        // Whoever was chosen and has taken the lock is the record's node; the others are still to be told.
        if let Some((id, node)) = candidate {
            return self.advance(record, primary, id, node);
        }
        let chosen = self
            .others(record.node)
            .find(|(_, node)| node.goal == WaitPrimary);
        if let Some((id, node)) = chosen {
            // It was to take the lock. Whoever takes it after all changes the record, which then names it.
            let silent = !self.reporting(node);
            return silent.then(|| Step::goal(id, Demoted, "was to take over and does not answer"));
        }
        if !record.open {
            return self.give_back(record, primary);
        }
        self.elect(record).or_else(|| self.give_back(record, primary))
    }

    /// The candidate's next state.
    fn advance(&self, record: &Record, primary: Option<&Node>, id: NodeId, node: &Node) -> Option<Step> {
        if !self.reporting(node) {
            return self.replace(record, primary, id);
        }
        if node.reported != node.goal {
            return None;
        }
        match node.goal {
            FastForward => Some(Step::goal(id, PreparePromotion, "has fetched what it lacked")),
            PreparePromotion if record.released.is_some() && !record.open => {
                if node.position == record.released {
                    return Some(self.take_over(
                        record,
                        primary,
                        id,
                        "has all that the old primary had when it stopped",
                    ));
                }
                // What it lacks is with a node that has stopped.
                let waited = self.now.saturating_sub(node.since) >= self.settings.prepare_promotion_catchup.0;
                waited.then(|| {
                    self.give_back(record, primary)
                        .or_else(|| self.open_after_all(record, primary))
                })?
            }
            PreparePromotion | StopReplication if record.open => self.confirm(record, primary, id, node),
            // Planned, and the primary went away without a release.
            PreparePromotion if self.fenced(record, primary) && self.lock != Some(record.node) => self
                .give_back(record, primary)
                .or_else(|| self.open_after_all(record, primary)),
            _ => None,
        }
    }

    /// Somebody who prepares while the election is open goes on as long as it is the winner by the votes there are.
    fn confirm(&self, record: &Record, primary: Option<&Node>, id: NodeId, node: &Node) -> Option<Step> {
        let winner = election::judge(record, self.revision, &self.votes()).ok()?;
        if winner.node != id || winner.fetch_from.is_some() {
            return Some(Step::goal(id, ReportLsn, "another one has more"));
        }
        if node.goal == StopReplication {
            return self
                .fenced(record, primary)
                .then(|| self.take_over(record, primary, id, "the old primary is fenced"));
        }
        let step = Step::goal(id, StopReplication, "has replayed all it received");
        let silent = primary.is_some_and(|primary| primary.goal == Draining && primary.reported != Draining);
        Some(if silent {
            step.and(record.node, DemoteTimeout, "did not confirm that it has stopped")
        } else {
            step
        })
    }

    /// A planned change that cannot be finished as planned: the candidate is asked like in any election.
    fn open_after_all(&self, record: &Record, primary: Option<&Node>) -> Option<Step> {
        let gone = primary.is_none_or(|primary| !self.reporting(primary));
        (gone && promotable(record) && self.enough(record))
            .then(|| Step::default().recording(record.opened()))
    }

    fn take_over(&self, record: &Record, primary: Option<&Node>, id: NodeId, because: &'static str) -> Step {
        let mut step = Step::goal(id, WaitPrimary, because);
        if primary.is_some_and(|primary| primary.goal != Demoted) {
            step = step.and(record.node, Demoted, "another node takes over");
        }
        for (other, node) in self.others(record.node).filter(|(other, _)| *other != id) {
            match node.goal {
                ReportLsn => step = step.and(other, JoinSecondary, "another node won the election"),
                Secondary => step = step.and(other, CatchingUp, "another node takes over"),
                _ => {}
            }
        }
        step
    }

    /// The candidate does not answer: somebody else, or the old primary.
    fn replace(&self, record: &Record, primary: Option<&Node>, id: NodeId) -> Option<Step> {
        let others = record.open && record.members.len() > 1;
        if others && self.enough(record) {
            return Some(Step::goal(
                id,
                ReportLsn,
                "does not answer; another one is elected",
            ));
        }
        self.give_back(record, primary)
    }

    fn votes(&self) -> std::collections::BTreeMap<NodeId, election::Report> {
        self.nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.vote?)))
            .collect()
    }

    /// Chooses among those who have reported.
    fn elect(&self, record: &Record) -> Option<Step> {
        let votes = self.votes();
        let present = votes
            .into_iter()
            .filter(|(id, _)| {
                self.node(*id)
                    .is_some_and(|node| self.reporting(node) && node.goal == ReportLsn)
            })
            .collect();
        let winner = election::judge(record, self.revision, &present).ok()?;
        let (goal, because) = if winner.fetch_from.is_some() {
            (FastForward, "elected; lacks what another one has")
        } else {
            (PreparePromotion, "elected")
        };
        Some(Step::goal(winner.node, goal, because))
    }

    /// Nobody can take over, and the old primary is there: it may go on.
    fn give_back(&self, record: &Record, primary: Option<&Node>) -> Option<Step> {
        let primary = primary?;
        let possible = primary.goal.may_become(Primary) && self.reporting(primary) && !primary.dead;
        let hopeless = !record.open || !self.enough(record) || self.force_fails(record, primary);
        (possible && hopeless && primary.reported == primary.goal)
            .then(|| Step::goal(record.node, Primary, "nobody can take over from it"))
    }

    /// Takes up the operator's wish.
    pub(super) fn planned(&self, record: &Record) -> Option<Step> {
        let request = self.request?;
        let primary = self.node(record.node)?;
        if let Request::Forced {
            node,
            record: revision,
            loss,
        } = request
            && let Some(step) = self.forced(record, primary, node, revision, loss)
        {
            return Some(step);
        }
        let undoable = Step {
            request_done: true,
            ..Step::default()
        };
        if primary.goal != Primary || primary.reported != Primary || !self.well(primary) {
            return None;
        }
        let fits = |node: &Node| node.goal == Secondary && node.reported == Secondary && self.well(node);
        let chosen = match request {
            Request::Promotion(id) if id == record.node => return Some(undoable),
            Request::Promotion(id) => self.node(id).filter(|node| fits(node)).map(|_| id),
            // It has come back: nothing has to be lost.
            Request::Failover | Request::Forced { .. } => self
                .others(record.node)
                .filter(|(_, node)| fits(node) && node.priority > 0 && node.quorum)
                .max_by_key(|(id, node)| (node.priority, node.position, std::cmp::Reverse(*id)))
                .map(|(id, _)| id),
        };
        let Some(chosen) = chosen else {
            return Some(undoable);
        };
        let mut step = Step::goal(record.node, Draining, "the operator asked for another primary").and(
            chosen,
            PreparePromotion,
            "the operator asked for another primary",
        );
        step.request_done = true;
        Some(step)
    }
}
