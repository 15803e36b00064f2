//! Counterexamples by name. Each play goes wrong when the clause it is about is left out, and does not with the protocol as it is.

use std::collections::BTreeSet;

use super::stage::Stage;
use crate::{Body, Change, Message, Missing, Mutation, NodeId, Refusal};

type Outcome = Result<(), String>;

/// The play ends well, and ends badly without any of these clauses.
#[track_caller]
fn proves(play: fn(Mutation) -> Outcome, clauses: &[Mutation]) {
    assert_eq!(play(Mutation::None), Ok(()));
    for clause in clauses {
        let outcome = sim::seeds::run_one(0, |_| play(*clause).map(|()| 0));
        let failure = outcome.expect_err(&format!("{clause:?} makes no difference"));
        println!("{clause:?}: {failure}");
    }
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

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

/// What an unflagged voter in its first life would say.
fn answer_of(stage: &Stage, from: u64, to: u64, body: Body) -> Message {
    Message {
        group: crate::GroupId(1),
        from: NodeId(from),
        to: NodeId(to),
        from_incarnation: crate::Incarnation(from),
        to_incarnation: crate::Incarnation(to),
        recovering: false,
        term: stage.status(to).term,
        body,
    }
}

#[test]
fn a_forgotten_vote_is_not_given_twice() {
    proves(
        a_forgotten_vote_is_counted_later,
        &[Mutation::FlaggedVotesCount, Mutation::NormalAfterContact],
    );
}

/// Seed 004's split brain: one node keeps its data, the operator runs `member-add` for the two others on it, they start empty.
fn the_split_brain_recipe(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    let value = stage.put(1);
    stage.settle();
    stage.cut_log(1);
    stage.wipe(2);
    stage.wipe(3);
    stage.restart(1);
    stage.recover(1, &[], &[]);
    ensure(!stage.leads(1), "a recovery election needs the operator")?;
    let missing = stage.status(1).missing;
    assert_eq!(missing, [Missing::Declarations(vec![NodeId(2), NodeId(3)])]);
    stage.recover(1, &[2, 3], &[3]);
    ensure(!stage.leads(1), "a recovery election needs everybody")?;
    stage.recover(1, &[2, 3], &[]);
    ensure(stage.leads(1), "the one that kept its data leads")?;
    stage.settle();
    stage.put(1);
    stage.settle();
    for id in 1..=3 {
        let status = stage.status(id);
        ensure(
            !status.recovering && status.serves_local_reads,
            "everybody is whole again",
        )?;
        ensure(
            stage.registers(id) == stage.registers(1),
            "everybody holds all values",
        )?;
    }
    ensure(stage.registers(2)[&1] > value, "writes go on")?;
    // And from now on any two of them suffice.
    stage.elect_without(2, &[1]);
    ensure(stage.leads(2), "those who came back elect and are elected")?;
    stage.verdict()
}

#[test]
fn split_brain_recipe() {
    proves(
        the_split_brain_recipe,
        &[Mutation::RecoveryWithoutOperator, Mutation::RecoveryByMajority],
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

/// Two of three are wiped, and of the two that hold something one is more advanced: the other must not win.
fn the_less_advanced_log_asks_first(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(5, mutation);
    stage.put(1);
    stage.settle_among(&[1, 2, 3]);
    for id in [1, 3, 4] {
        stage.wipe(id);
    }
    // 2 holds the committed entry, 5 does not.
    stage.recover(5, &[1, 3, 4], &[]);
    stage.recover(2, &[1, 3, 4], &[]);
    stage.settle();
    stage.verdict()?;
    Ok(())
}

#[test]
fn the_most_advanced_log_wins_a_recovery_election() {
    proves(the_less_advanced_log_asks_first, &[Mutation::RecoveryIgnoresLog]);
}

/// A recovery election won without a voter that answers nothing: that one may hold what was committed.
fn a_silent_voter_holds_what_was_committed(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.put(1);
    stage.settle_among(&[1, 3]);
    stage.wipe(3);
    stage.recover(2, &[3], &[1]);
    ensure(!stage.leads(2), "member 1 did not answer")?;
    stage.verdict()
}

#[test]
fn a_recovery_election_waits_for_everybody() {
    proves(
        a_silent_voter_holds_what_was_committed,
        &[Mutation::RecoveryByMajority],
    );
}

/// A member of a configuration that may have been committed must be asked too.
fn the_newest_configuration_is_not_all(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(4, mutation);
    // Removed by an entry that reached nobody else: still one of those who may hold what was committed.
    stage.put(1);
    stage.settle_among(&[1, 3, 4]);
    stage.settle();
    stage.put(1);
    stage.messages.clear();
    assert!(stage.change(1, Change::Remove { node: NodeId(4) }).is_ok());
    stage.messages.clear();
    stage.restart(1);
    stage.wipe(2);
    stage.wipe(3);
    stage.recover(1, &[2, 3], &[4]);
    ensure(
        !stage.leads(1),
        "member 4 may hold what is committed and was not asked",
    )?;
    stage.recover(1, &[2, 3], &[]);
    ensure(stage.leads(1), "everybody was asked")?;
    stage.verdict()
}

#[test]
fn voters_of_every_configuration_that_may_be_in_force_are_asked() {
    proves(
        the_newest_configuration_is_not_all,
        &[Mutation::RecoveryAsksNewest],
    );
}

/// Two old lives of wiped voters once made a leader in the term that comes next; a recovery election must not begin that same term.
fn a_recovery_election_ends_in_a_forgotten_term(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    let term = stage.status(1).term;
    stage.elect_without(2, &[1]);
    stage.settle_among(&[2, 3]);
    stage.put(2);
    stage.settle_among(&[2, 3]);
    stage.wipe(2);
    stage.wipe(3);
    stage.recover(1, &[2, 3], &[]);
    ensure(stage.leads(1), "everybody answered")?;
    ensure(stage.status(1).term.epoch() > term.epoch(), "a new epoch")?;
    stage.settle();
    stage.verdict()
}

#[test]
fn a_recovery_election_leaps_over_forgotten_terms() {
    proves(
        a_recovery_election_ends_in_a_forgotten_term,
        &[Mutation::RecoveryInNextTerm],
    );
}

/// What a member applied was lost with all others that held it: it starts over, instead of contradicting the rest for ever.
fn a_survivor_contradicts_the_recovered(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.back_up(1);
    stage.elect_without(2, &[]);
    stage.settle_among(&[2, 3]);
    stage.put(2);
    stage.put(2);
    stage.settle_among(&[2, 3]);
    // Member 2 survives but is away. The others, old or empty, are made members of a group that goes on without what it holds.
    stage.restore(1);
    stage.wipe(3);
    let elsewhere = stage.intercept(|_| true);
    drop(elsewhere);
    stage.recover(2, &[1, 3], &[]);
    ensure(stage.leads(2), "member 2 holds most")?;
    stage.settle();
    ensure(stage.registers(1) == stage.registers(2), "all agree")?;
    stage.verdict()
}

#[test]
fn those_who_lost_least_lead_the_others() {
    proves(a_survivor_contradicts_the_recovered, &[]);
}

/// The leader contradicts what is applied here; possible only if those who held it are gone.
fn a_leader_that_lost_what_was_applied(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.put(1);
    stage.settle();
    let status = stage.status(3);
    let term = status.term.next_epoch(5);
    let entry = |index| crate::Entry {
        index,
        term,
        kind: crate::Kind::Blank,
        payload: bytes::Bytes::new(),
    };
    let append = Message {
        term,
        ..answer_of(
            &stage,
            2,
            3,
            Body::Append {
                previous: crate::Position {
                    term: crate::Term(1),
                    index: 1,
                },
                entries: vec![entry(2), entry(3), entry(4)],
                commit: 4,
            },
        )
    };
    stage.hand_over(append);
    let after = stage.status(3);
    ensure(after.recovering && after.last.index == 0, "it dropped everything")?;
    ensure(after.incarnation > status.incarnation, "as another life")
}

#[test]
fn a_contradicted_member_starts_over() {
    proves(
        a_leader_that_lost_what_was_applied,
        &[Mutation::ContradictionIgnored],
    );
}

/// A node that granted a recovery election listens to no life older than those it was held with.
fn an_older_life_speaks_after_the_fence(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.put(1);
    stage.settle();
    stage.wipe(3);
    stage.wipe(1);
    // Member 2's admission of the others is lost; only their grants were heard.
    stage.recover(2, &[1, 3], &[]);
    ensure(stage.leads(2), "everybody answered")?;
    stage.messages.clear();
    // The first life of 3 once won an epoch that nobody remembers, and its words were on their way to 1 all the time.
    let newer = stage.status(1).term.next_epoch(7);
    let life = stage.status(1).incarnation;
    let stale = Message {
        to_incarnation: life,
        term: newer,
        ..answer_of(
            &stage,
            3,
            1,
            Body::Append {
                previous: crate::Position::default(),
                entries: Vec::new(),
                commit: 0,
            },
        )
    };
    stage.hand_over(stale);
    ensure(
        stage.status(1).term < newer,
        "an older life than the fence names was followed",
    )?;
    stage.verdict()
}

#[test]
fn nobody_listens_to_a_life_older_than_the_fence() {
    proves(an_older_life_speaks_after_the_fence, &[Mutation::NoFence]);
}

/// Figure 8 of the Raft paper: an entry of an earlier term on a majority may still be replaced.
fn an_entry_of_an_earlier_term_is_on_a_majority(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(5, mutation);
    stage.put(1);
    stage.deliver(|message| message.to == NodeId(2));
    stage.messages.clear();
    stage.elect_without(5, &[1, 2]);
    stage.messages.clear();
    stage.restart(1);
    let old = stage.status(1).last.index;
    stage.elect_without(1, &[4, 5]);
    assert!(stage.leads(1), "again");
    // 3 gets the old entry but not the new leader's own.
    for _ in 0..6 {
        stage.tick(1, 1);
        stage.lose(|message| [4, 5].contains(&message.to.0));
        for message in stage
            .messages
            .iter_mut()
            .filter(|message| message.to == NodeId(3))
        {
            if let Body::Append { entries, .. } = &mut message.body {
                entries.retain(|entry| entry.index <= old);
            }
        }
        stage.deliver(|_| true);
    }
    stage.messages.clear();
    stage.elect_without(5, &[1]);
    stage.settle_among(&[2, 3, 4, 5]);
    stage.verdict()
}

#[test]
fn entries_of_earlier_terms_are_not_committed_by_counting() {
    proves(
        an_entry_of_an_earlier_term_is_on_a_majority,
        &[Mutation::CommitsOlderTerms],
    );
}

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

/// A read arrives while a round is on its way whose answers were given before a newer leader committed something.
fn a_read_arrives_in_the_middle_of_a_round(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    let first = stage.read(1).expect("it leads");
    stage.lose(|message| message.to == NodeId(3));
    stage.deliver(|message| message.to == NodeId(2));
    let answers = stage.intercept(|message| matches!(message.body, Body::HeartbeatAnswer { .. }));
    stage.elect_without(3, &[1]);
    let value = stage.put(3);
    stage.settle_among(&[2, 3]);
    ensure(
        stage.registers(3).get(&1) == Some(&value),
        "the new leader has committed",
    )?;
    let second = stage.read(1).expect("it still believes to lead");
    for message in answers {
        stage.hand_over(message);
    }
    let answered: BTreeSet<_> = stage.reads.iter().map(|(id, _)| *id).collect();
    ensure(
        answered.contains(&first),
        "the first read began before and may be answered",
    )?;
    ensure(
        !answered.contains(&second),
        "the second read is stale and was answered",
    )
}

#[test]
fn a_read_needs_a_round_that_began_after_it() {
    proves(
        a_read_arrives_in_the_middle_of_a_round,
        &[Mutation::ReadsJoinRound, Mutation::ReadsWithoutRound],
    );
}

/// A member that was cut off asks before it disturbs.
fn a_member_comes_back_from_a_partition(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    let term = stage.status(1).term;
    for _ in 0..5 {
        stage.campaign(3);
        stage.messages.clear();
        stage.settle_among(&[1, 2]);
    }
    stage.campaign(3);
    stage.settle();
    ensure(
        stage.leads(1) && stage.status(1).term == term,
        "the leader was disturbed",
    )
}

#[test]
fn a_member_that_was_cut_off_does_not_disturb() {
    proves(a_member_comes_back_from_a_partition, &[Mutation::NoPreVote]);
}

/// A leader that hears from no majority stops leading.
fn a_leader_is_cut_off(mutation: Mutation) -> Outcome {
    let mut stage = Stage::with_leader(3, mutation);
    stage.let_time_pass();
    stage.let_time_pass();
    ensure(!stage.leads(1), "it stepped down")
}

#[test]
fn a_leader_without_a_majority_steps_down() {
    proves(a_leader_is_cut_off, &[Mutation::NoCheckQuorum]);
}

#[test]
fn leadership_is_handed_over_without_waiting() {
    let mut stage = Stage::with_leader(3, Mutation::None);
    stage.transfer(1, 3);
    stage.settle();
    assert!(stage.leads(3) && !stage.leads(1));
    assert_eq!(stage.verdict(), Ok(()));
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

#[test]
fn declarations_are_kept_until_the_next_leader_and_refused_while_there_is_one() {
    let mut stage = Stage::with_leader(3, Mutation::None);
    assert_eq!(stage.note_replaced(1, 3), Err(Refusal::HasLeader));
    stage.let_time_pass();
    stage.let_time_pass();
    assert_eq!(stage.note_replaced(1, 9), Err(Refusal::UnknownMember(NodeId(9))));
    assert_eq!(stage.note_replaced(1, 3), Ok(()));
    stage.restart(1);
    assert!(stage.replaced(1).contains(&NodeId(3)), "on disk");
    stage.elect(2);
    stage.settle();
    assert!(stage.replaced(1).is_empty(), "forgotten");
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

/// A node that is no voter any more, but holds more than anybody who is, keeps a recovery election from being held.
#[test]
fn a_more_advanced_bystander_is_an_obstacle() {
    let mut stage = Stage::with_leader(4, Mutation::None);
    assert!(stage.change(1, Change::Remove { node: NodeId(4) }).is_ok());
    stage.settle();
    // Member 1 appends what reaches only 4, which is still told about its removal.
    stage.restart(1);
    stage.back_up(1);
    stage.elect_without(1, &[4]);
    stage.settle();
    stage.elect_without(2, &[]);
    stage.settle();
    let (held, removed) = (stage.status(1).last, stage.status(4).last);
    assert!(held > removed, "the removed one lags here");
    stage.wipe(2);
    stage.wipe(3);
    stage.restore(1);
    stage.set_bystanders(1, &[4]);
    stage.recover(1, &[1, 2, 3], &[]);
    let ahead = stage.status(1).last >= removed;
    assert_eq!(stage.leads(1), ahead, "{:?}", stage.status(1).missing);
    assert_eq!(stage.verdict(), Ok(()));
}

/// A candidate's own vote counts when it is on disk, like any other; alone, that alone decides.
#[test]
fn a_lone_voter_leads_when_its_vote_is_on_disk() {
    let life = crate::Incarnation(1);
    let configuration = crate::Configuration::of_voters([(NodeId(1), life, bytes::Bytes::new())]);
    let first = crate::Entry {
        index: 1,
        term: crate::Term(1),
        kind: crate::Kind::Configuration,
        payload: configuration.encode(),
    };
    let restored = crate::Restored {
        hard_state: crate::HardState::new(life, false),
        base: crate::Snapshot::default(),
        applied: 0,
        entries: [first],
    };
    let settings = crate::Settings::new(crate::GroupId(1), NodeId(1), 1);
    let mut replica = crate::Replica::new(settings, restored).unwrap();
    replica.run_out_of_patience();
    replica.tick();
    let ready = replica.ready().expect("a vote to be written");
    assert!(ready.must_sync() && replica.status().role == crate::RoleName::Candidate);
    replica.persisted(ready.number);
    assert_eq!(replica.status().role, crate::RoleName::Leader);
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
