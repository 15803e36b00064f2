//! A promotion that the operator forces: the primary is lost, and nobody is certain to have every acknowledged row.
//!
//! The operator's word takes the place of what standbys would have had to confirm: the record becomes [`Kind::Forced`] with the chosen node as
//! its only member, and an election is open that it wins as soon as it has cut itself off. All that follows is as in any other failover: it
//! takes the lock with the next epoch, and the old primary finds itself replaced when it comes back.
//!
//! The word holds for one revision of the record. If the old primary takes its lock again, or a change of the names ends after all, what the
//! operator was told is not true any more, and the wish is dropped.

use super::{Forced, Node, Step, View, promotable};
use crate::state::NodeState::{Demoted, Draining, ReportLsn, WaitPrimary};
use crate::{Kind, NodeId, Record};

impl View<'_> {
    /// The step that forces the promotion, or drops the wish. Nothing while the primary is well, or somebody is elected without any loss.
    pub(super) fn forced(
        &self,
        record: &Record,
        primary: &Node,
        chosen: NodeId,
        revision: u64,
        loss: Option<u64>,
    ) -> Option<Step> {
        if revision != self.revision || chosen == record.node {
            return Some(Step {
                request_done: true,
                ..Step::default()
            });
        }
        if self.well(primary) || promotable(record) && self.enough(record) {
            return None;
        }
        let node = self.node(chosen)?;
        let able = node.goal == ReportLsn || node.goal.may_become(ReportLsn);
        // A single node of which a standby has just been told is told first that it is not single any more.
        let drains = !primary.goal.writable() || primary.goal.may_become(Draining);
        if !able || !drains || !self.reporting(node) || node.priority == 0 {
            return None;
        }
        let mut step = Step::default().recording(record.forced(chosen));
        if primary.goal.writable() {
            step = step.and(record.node, Draining, "primary is lost");
        }
        if node.goal != ReportLsn {
            step = step.and(chosen, ReportLsn, "the operator accepts the loss of rows");
        }
        // Whoever was to take over before does not any more.
        for (id, other) in self.others(record.node).filter(|(id, _)| *id != chosen) {
            if other.goal.candidate() {
                step = step.and(id, ReportLsn, "the operator has chosen another one");
            } else if other.goal == WaitPrimary {
                step = step.and(id, Demoted, "the operator has chosen another one");
            }
        }
        step.request_done = true;
        step.forced = Some(Forced { node: chosen, loss });
        Some(step)
    }

    /// Whoever the operator has chosen reports that it is there, and still does not get to the point of cutting itself off.
    pub(super) fn force_fails(&self, record: &Record, primary: &Node) -> bool {
        let voted = |id| {
            let vote = self.node(id).and_then(|node| node.vote);
            vote.is_some_and(|vote| vote.revision == self.revision)
        };
        record.kind == Kind::Forced
            && self.now.saturating_sub(primary.since) >= self.settings.pgaf_failover_timeout.0
            && !record.members.iter().copied().any(voted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Health, Request, decide};
    use super::*;
    use crate::settings::{Profile, Settings};
    use crate::state::NodeState::{self, CatchingUp, JoinSecondary, PreparePromotion, Primary, Secondary};
    use crate::{Names, Position};

    const NOW: u64 = 1_000_000;
    const REVISION: u64 = 7;

    fn node(is: NodeState, lsn: u64) -> Node {
        Node {
            goal: is,
            since: 0,
            reported: is,
            health: Health::Good,
            heard: NOW,
            dead: false,
            position: Some(Position { timeline: 1, lsn }),
            vote: None,
            priority: 50,
            quorum: true,
        }
    }

    fn lost(is: NodeState) -> Node {
        Node {
            heard: 0,
            health: Health::Bad { since: 0 },
            ..node(is, 500)
        }
    }

    fn step(nodes: &BTreeMap<NodeId, Node>, record: &Record, request: Request) -> Option<Step> {
        let settings: Settings = Profile::Fast.settings();
        decide(&View {
            now: NOW,
            elected: 0,
            settings: &settings,
            number_sync: 0,
            nodes,
            record: Some(record),
            revision: REVISION,
            lock: None,
            wanted: &Names::nobody(),
            request: Some(request),
        })
    }

    const WORD: Request = Request::Forced {
        node: 2,
        record: REVISION,
        loss: Some(100),
    };

    fn two(primary: Node, standby: Node) -> BTreeMap<NodeId, Node> {
        BTreeMap::from([(1, primary), (2, standby)])
    }

    fn three_names() -> Names {
        "ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"
            .parse()
            .expect("ours")
    }

    #[test]
    fn who_is_alone_and_lost_is_replaced_by_the_operators_word_only() {
        let alone = Record::first(1);
        let nodes = two(lost(WaitPrimary), node(CatchingUp, 400));
        assert_eq!(step(&nodes, &alone, Request::Failover), None);
        let step = step(&nodes, &alone, WORD).expect("forced");
        assert_eq!(step.record, Some(alone.forced(2)));
        assert!(step.request_done);
        let loss = Some(100);
        assert_eq!(step.forced, Some(Forced { node: 2, loss }));
        let goals: Vec<_> = step.goals.iter().map(|goal| (goal.node, goal.goal)).collect();
        assert_eq!(goals, [(1, Draining), (2, ReportLsn)]);
    }

    #[test]
    fn too_few_reports_are_replaced_by_the_operators_word() {
        let open = Record::first(1).settled(&three_names()).opened();
        let mut nodes = two(lost(Draining), node(ReportLsn, 400));
        nodes.insert(3, lost(PreparePromotion));
        let step = step(&nodes, &open, WORD).expect("forced");
        assert_eq!(step.record.map(|record| record.need), Some(1));
        let goals: Vec<_> = step.goals.iter().map(|goal| (goal.node, goal.goal)).collect();
        assert_eq!(goals, [(3, ReportLsn)], "who was to take over is not waited for");
    }

    #[test]
    fn a_primary_that_is_well_is_never_forced_over() {
        let alone = Record::first(1);
        let nodes = two(node(WaitPrimary, 500), node(CatchingUp, 400));
        assert_eq!(step(&nodes, &alone, WORD).and_then(|step| step.forced), None);
        // As planned instead.
        let sync = Record::first(1).settled(&three_names());
        let mut nodes = two(node(Primary, 500), node(Secondary, 500));
        nodes.insert(3, node(Secondary, 500));
        let step = step(&nodes, &sync, WORD).expect("planned");
        assert_eq!((step.forced, step.record), (None, None));
        assert!(step.request_done && step.goals.iter().any(|goal| goal.goal == PreparePromotion));
    }

    #[test]
    fn nothing_is_forced_where_an_election_loses_nothing() {
        let sync = Record::first(1).settled(&three_names());
        let mut nodes = two(lost(Primary), node(Secondary, 400));
        nodes.insert(3, node(Secondary, 500));
        let step = step(&nodes, &sync, WORD).expect("an election");
        assert_eq!((step.forced, step.record), (None, Some(sync.opened())));
    }

    #[test]
    fn a_word_for_another_record_or_a_node_that_cannot_is_not_taken() {
        let alone = Record::first(1);
        let nodes = two(lost(WaitPrimary), node(CatchingUp, 400));
        let stale = Request::Forced {
            node: 2,
            record: REVISION - 1,
            loss: None,
        };
        let dropped = step(&nodes, &alone, stale).expect("dropped");
        assert_eq!((dropped.record, dropped.request_done), (None, true));
        for unable in [
            lost(CatchingUp),
            node(NodeState::WaitStandby, 400),
            Node {
                priority: 0,
                ..node(CatchingUp, 400)
            },
        ] {
            assert_eq!(step(&two(lost(WaitPrimary), unable), &alone, WORD), None);
        }
    }

    #[test]
    fn a_force_that_comes_to_nothing_gives_the_old_primary_its_place_back() {
        let forced = Record::first(1).forced(2);
        // It is there, and does not cut itself off.
        let nodes = two(node(Draining, 500), node(ReportLsn, 400));
        let back = step(&nodes, &forced, WORD).expect("given back");
        assert!(
            back.goals
                .iter()
                .any(|goal| (goal.node, goal.goal) == (1, Primary))
        );
        let soon = Node {
            since: NOW,
            ..node(Draining, 500)
        };
        let patient = step(&two(soon, node(ReportLsn, 400)), &forced, Request::Failover);
        assert_eq!(patient, None);
        // Nobody follows a node that has not taken the lock.
        let nodes = two(lost(Draining), node(JoinSecondary, 400));
        let step = step(&nodes, &forced, Request::Failover).expect("asked");
        assert!(
            step.goals
                .iter()
                .all(|goal| (goal.node, goal.goal) == (2, ReportLsn))
        );
    }
}
