//! For each clause of the protocol: without it, a random schedule breaks an invariant. A simulation that cannot find these could not be
//! trusted when it finds nothing. Clauses whose counterexample is too rare to be met at random are broken in `scenarios`.

use sim::seeds::first_failure;

use super::cluster::{Flaw, Profile};
use super::schedules::{founding, membership, plain, play, recovery};
use crate::Mutation;

/// Schedules tried before a clause counts as not noticed. The search begins at a seed that is known to notice, which saves time as long as
/// nothing changes what seeds mean.
const SCHEDULES: u64 = 400;

#[track_caller]
fn noticed(mutation: Mutation, profile: fn(u64) -> Profile, expected: &[&str], first: u64) {
    let found = first_failure(first..first + SCHEDULES, play(profile, mutation));
    let (seed, failure) =
        found.unwrap_or_else(|| panic!("{mutation:?} was not noticed in {SCHEDULES} schedules"));
    println!("{mutation:?}: seed {seed}: {failure}");
    assert!(
        expected.iter().any(|text| failure.contains(text)),
        "{mutation:?} was noticed by something else: {failure}"
    );
}

const SAFETY: &[&str] = &[
    "election safety",
    "log matching",
    "leader completeness",
    "state machine safety",
    "no order explains",
    "recovery:",
];

/// A member that forgot what it promised may also just hang.
const ANYTHING: &[&str] = &[
    "safety",
    "log matching",
    "leader completeness",
    "no order explains",
    "liveness",
];

#[test]
fn votes_compare_logs() {
    noticed(Mutation::VotesIgnoreLog, plain, SAFETY, 30);
}

#[test]
fn votes_are_given_once() {
    noticed(Mutation::VotesTwice, plain, SAFETY, 294);
}

#[test]
fn promises_wait_for_the_disk() {
    noticed(Mutation::PromisesBeforeDisk, plain, ANYTHING, 115);
}

#[test]
fn a_leader_waits_for_its_own_disk() {
    noticed(Mutation::LeaderCountsUnsynced, plain, SAFETY, 256);
}

#[test]
fn appends_fit_the_entry_before() {
    noticed(Mutation::AppendIgnoresPrevious, plain, SAFETY, 416);
}

#[test]
fn reads_are_confirmed() {
    noticed(Mutation::ReadsWithoutRound, plain, SAFETY, 414);
}

#[test]
fn a_new_leader_commits_before_it_answers_reads() {
    noticed(Mutation::ReadsUnsettled, plain, SAFETY, 345);
}

#[test]
fn recovery_votes_compare_logs() {
    noticed(Mutation::RecoveryIgnoresLog, recovery, SAFETY, 49);
}

#[test]
fn recovery_elections_are_unanimous() {
    noticed(Mutation::RecoveryByMajority, recovery, SAFETY, 0);
}

#[test]
fn configurations_are_in_force_when_appended() {
    noticed(Mutation::ConfigurationAtCommit, membership, ANYTHING, 0);
}

#[test]
fn a_group_is_founded_by_all_of_its_members() {
    let profile = |seed| Profile {
        flaw: Flaw::FoundsWithSome,
        ..founding(seed)
    };
    noticed(Mutation::None, profile, &["founding:"], 150);
}

#[test]
fn a_member_that_noted_its_group_and_crashed_is_told_again() {
    let profile = |seed| Profile {
        flaw: Flaw::ToldOnce,
        ..founding(seed)
    };
    noticed(Mutation::None, profile, &["liveness"], 0);
}
