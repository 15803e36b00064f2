//! Elections, commits and reads among members that forget nothing.

use std::collections::BTreeSet;

use super::{Outcome, ensure, proves};
use crate::simulation::stage::Stage;
use crate::{Body, Mutation, NodeId};

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
