//! Recovery elections: who is asked, who wins, what is lost and what is not.

use super::{Outcome, answer_of, ensure, proves};
use crate::simulation::stage::Stage;
use crate::{Body, Change, Message, Missing, Mutation, NodeId, Refusal};

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
