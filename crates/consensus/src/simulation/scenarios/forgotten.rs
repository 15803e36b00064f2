//! Voters that forgot: what they must not count for, and how they count again.

use super::{Outcome, ensure, proves};
use crate::simulation::stage::Stage;
use crate::{Body, Mutation, NodeId};

/// A voter voted in a later term and acknowledged an entry there, is wiped, and then meets the leader of the term before, which has not
/// heard of the later one. If it counts for that leader, two entries are committed at one index.
fn voter_is_wiped_and_meets_the_leader_of_an_older_term(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.elect_without(2, &[1]);
    stage.settle_among(&[2, 3]);
    assert!(
        stage.leads(2) && stage.leads(1),
        "two leaders, in different terms"
    );
    stage.put(2);
    stage.settle_among(&[2, 3]);
    stage.wipe(3);
    stage.put(1);
    stage.settle_among(&[1, 3]);
    stage.settle_among(&[1, 3]);
    stage.verdict()
}

#[test]
fn a_wiped_voter_does_not_count_for_the_leader_of_an_older_term() {
    proves(
        voter_is_wiped_and_meets_the_leader_of_an_older_term,
        &[
            Mutation::FlaggedAcksCount,
            Mutation::NormalAfterContact,
            Mutation::NormalBeforeCommit,
            Mutation::AnyIncarnationCounts,
        ],
    );
}

/// The same, when the later leader has committed nothing of its own term yet: what it appends first meets what the older one commits.
fn the_later_leader_has_no_commit_of_its_own_term(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.elect_without(2, &[1]);
    stage.wipe(3);
    stage.put(1);
    stage.settle_among(&[1, 3]);
    stage.settle_among(&[2, 3]);
    stage.settle_among(&[1, 3]);
    stage.verdict()
}

#[test]
fn a_round_of_a_leader_without_a_commit_of_its_own_term_makes_nobody_normal() {
    proves(
        the_later_leader_has_no_commit_of_its_own_term,
        &[Mutation::NormalAfterContact],
    );
}

/// An acknowledgement of the life before the wipe arrives late and commits an entry that only the leader still has. The new life must not
/// then elect somebody without it.
fn an_acknowledgement_of_the_old_life_comes_late(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.put(1);
    stage.lose(|message| message.to == NodeId(2));
    stage.deliver(|message| message.to == NodeId(3));
    let late = stage.intercept(|message| matches!(message.body, Body::AppendAnswer { .. }));
    assert_eq!(late.len(), 1);
    stage.wipe(3);
    stage.messages.clear();
    // The leader's rounds reach the new life, its entries do not.
    for _ in 0..3 {
        stage.tick(1, 1);
        stage.lose(|message| message.to == NodeId(2) || matches!(message.body, Body::Append { .. }));
        stage.deliver(|message| message.to == NodeId(3));
        stage.messages.clear();
    }
    for message in late {
        stage.hand_over(message);
    }
    stage.elect_without(2, &[1]);
    stage.verdict()
}

#[test]
fn a_late_acknowledgement_of_an_old_life_loses_nothing() {
    proves(
        an_acknowledgement_of_the_old_life_comes_late,
        &[Mutation::NormalAfterContact],
    );
}

/// Five voters. Two grant their votes, and one of them is wiped before the candidate hears of it. The leader of the term before admits the
/// new life, which nobody knows to be committed; a member that holds the admission then stands in the very same term.
fn a_forgotten_vote_is_counted_later(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(5, mutation);
    stage.let_time_pass();
    stage.messages.clear();
    stage.campaign(2);
    let mut on_their_way = Vec::new();
    for _ in 0..6 {
        stage.lose(|message| [1, 5].contains(&message.to.0) || matches!(message.body, Body::Probe { .. }));
        on_their_way
            .extend(stage.intercept(|message| matches!(message.body, Body::VoteAnswer { granted: true })));
        stage.deliver(|_| true);
    }
    assert_eq!(on_their_way.len(), 2, "the votes of 3 and 4");
    stage.wipe(3);
    stage.messages.clear();
    stage.settle_among(&[1, 3, 5]);
    stage.elect_without(5, &[2, 4]);
    for message in on_their_way {
        stage.hand_over(message);
    }
    ensure(stage.leads(2), "two votes and its own make a majority")?;
    stage.verdict()
}

#[test]
fn a_forgotten_vote_is_not_given_twice() {
    proves(
        a_forgotten_vote_is_counted_later,
        &[Mutation::FlaggedVotesCount, Mutation::NormalAfterContact],
    );
}

/// Seed 004's restore: one node of three gets its data from a copy, while the others work.
fn the_restore_recipe(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.put(1);
    stage.settle();
    stage.back_up(3);
    stage.put(1);
    stage.settle();
    stage.restore(3);
    ensure(stage.status(3).recovering, "a restored node does not count")?;
    ensure(stage.read_refused(3), "a restored node answers no reads")?;
    stage.settle();
    ensure(!stage.status(3).recovering, "it is admitted")?;
    ensure(stage.registers(3) == stage.registers(1), "it caught up")?;
    stage.elect_without(3, &[1]);
    ensure(stage.leads(3), "it counts")?;
    stage.verdict()
}

#[test]
fn restore_recipe() {
    proves(the_restore_recipe, &[]);
}

/// An old copy without its marker is found out as soon as anybody speaks to it.
#[test]
fn a_directory_put_back_without_its_marker_is_found_out() {
    let mut stage = Stage::with_leader(3, Mutation::None);
    stage.back_up(3);
    stage.wipe(3);
    stage.settle();
    let admitted = stage.status(3);
    assert!(!admitted.recovering);
    stage.put_back(3);
    assert!(stage.status(3).incarnation < admitted.incarnation && !stage.status(3).recovering);
    stage.tick(1, 1);
    stage.deliver(|message| message.to == NodeId(3));
    let found_out = stage.status(3);
    assert!(found_out.recovering && found_out.incarnation > admitted.incarnation);
    stage.settle();
    assert!(!stage.status(3).recovering, "and admitted again");
    assert_eq!(stage.verdict(), Ok(()));
}
