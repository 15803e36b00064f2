//! Changes of membership, and configurations that come and go with the log.

use super::{Outcome, ensure, proves};
use crate::simulation::stage::Stage;
use crate::{Change, Mutation, NodeId, Refusal};

/// The known defect of one-step changes: two leaders, each new, change the membership in ways whose majorities do not meet.
fn two_new_leaders_change_the_membership(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(4, mutation);
    // Member 1 removes 4 by an entry nobody else gets; 2 then removes 3, and commits that with 2 and 4.
    stage.messages.clear();
    drop(stage.change(1, Change::Remove { node: NodeId(4) }));
    stage.messages.clear();
    stage.elect_without(2, &[1]);
    drop(stage.change(2, Change::Remove { node: NodeId(3) }));
    stage.settle_among(&[2, 4]);
    // Member 1 still has its own change in force, in which 1 and 3 are a majority of three.
    stage.elect_without(1, &[2, 4]);
    stage.settle_among(&[1, 3]);
    stage.verdict()
}

#[test]
fn a_leader_that_has_committed_nothing_changes_no_membership() {
    proves(
        two_new_leaders_change_the_membership,
        &[Mutation::ChangesUnsettled],
    );
}

/// A snapshot replaces a newer configuration that was never committed.
fn a_snapshot_meets_an_uncommitted_configuration(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.add_node(4);
    drop(stage.change(1, Change::Remove { node: NodeId(3) }));
    stage.messages.clear();
    assert!(!stage.status(1).configuration.is_voter(NodeId(3)));
    stage.elect_without(2, &[1]);
    for _ in 0..4 {
        stage.put(2);
        stage.settle_among(&[2, 3]);
    }
    stage.cut_log(2);
    stage.settle();
    ensure(
        stage.status(1).configuration.is_voter(NodeId(3)),
        "the configuration of the snapshot is in force",
    )?;
    stage.verdict()
}

#[test]
fn a_snapshot_undoes_an_uncommitted_configuration() {
    proves(
        a_snapshot_meets_an_uncommitted_configuration,
        &[Mutation::SnapshotKeepsConfiguration],
    );
}

/// A node joins as a learner, is promoted when it is in sync, leaves, is wiped, and comes back under the same id.
#[test]
fn a_removed_member_comes_back_under_its_old_id() {
    let mut stage = Stage::with_leader(3, Mutation::None);
    let context = bytes::Bytes::from_static(b"node4:2380");
    let add = Change::AddLearner {
        node: NodeId(4),
        context,
    };
    let promote = Change::Promote { node: NodeId(4) };
    stage.add_node(4);
    for _ in 0..2 {
        stage.put(1);
        assert!(stage.change(1, add.clone()).is_ok());
        assert_eq!(stage.change(1, promote.clone()), Err(Refusal::ChangeInProgress));
        stage.settle();
        stage.settle();
        assert!(stage.status(4).serves_local_reads, "a learner is a read replica");
        assert!(stage.change(1, promote.clone()).is_ok());
        stage.settle();
        assert!(!stage.status(4).recovering && stage.status(4).configuration.is_voter(NodeId(4)));
        assert!(stage.change(1, Change::Remove { node: NodeId(4) }).is_ok());
        stage.settle();
        stage.wipe(4);
    }
    assert_eq!(stage.verdict(), Ok(()));
}

#[test]
fn a_learner_that_lags_is_not_promoted() {
    let mut stage = Stage::with_leader(3, Mutation::None);
    stage.add_node(4);
    let add = Change::AddLearner {
        node: NodeId(4),
        context: bytes::Bytes::new(),
    };
    assert!(stage.change(1, add).is_ok());
    stage.settle_among(&[1, 2, 3]);
    let refusal = stage.change(1, Change::Promote { node: NodeId(4) });
    assert!(
        matches!(refusal, Err(Refusal::NotInSync { matched: 0, .. })),
        "{refusal:?}"
    );
}

/// A node alone takes in a second and a third, and any two of them then go on without the other.
#[test]
fn a_group_of_one_grows_to_three() {
    let mut stage = Stage::with_leader(1, Mutation::None);
    for id in [2, 3] {
        stage.put(1);
        stage.add_node(id);
        let add = Change::AddLearner {
            node: NodeId(id),
            context: bytes::Bytes::new(),
        };
        assert!(stage.change(1, add).is_ok());
        stage.settle();
        stage.settle();
        let outcome = stage.change(1, Change::Promote { node: NodeId(id) });
        assert!(outcome.is_ok(), "{outcome:?}");
        stage.settle();
        assert_eq!(stage.status(id).commit, stage.status(1).last.index);
    }
    stage.elect_without(3, &[1]);
    assert!(stage.leads(3));
    assert_eq!(stage.verdict(), Ok(()));
}

/// A removal that would leave only one whole voter of two is refused: the two could never agree again.
#[test]
fn a_removal_leaves_a_majority_of_whole_voters() {
    let mut stage = Stage::with_leader(3, Mutation::None);
    stage.put(1);
    stage.settle();
    stage.wipe(2);
    stage.settle_among(&[1, 3]);
    stage.tick(1, 1);
    stage.deliver(|message| message.to == NodeId(2));
    stage.deliver(|message| message.to == NodeId(1));
    let refusal = stage.change(1, Change::Remove { node: NodeId(3) });
    assert_eq!(refusal, Err(Refusal::TooFewWhole));
    assert_eq!(stage.verdict(), Ok(()));
}
