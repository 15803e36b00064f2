//! Each clause of the rule that a search can miss: without it, some schedule within small bounds breaks an invariant, and the shortest one
//! is printed.

use sim::explore::explore;

use super::searches::{
    LED, NOTHING, SHORT_APPENDS, THREE_APPENDS, TWO_APPENDS, TWO_CHANGES, TWO_WIPES, bounds,
};
use super::{Action, Budget, Exhaustive, Rules};
use crate::Mutation;

/// The search finds nothing with the protocol as it is, and this without the clause.
#[track_caller]
fn needed(mutation: Mutation, model: impl Fn(Mutation) -> Exhaustive, expected: &str) {
    let report = explore(&model(Mutation::None), bounds());
    assert!(report.is_ok(), "{report:?}");
    let found = explore(&model(mutation), bounds()).expect_err("a clause is missing");
    println!("{mutation:?}: {found}");
    assert!(found.violation.contains(expected), "{found}");
}

fn with(rules: Rules) -> impl Fn(Mutation) -> Exhaustive {
    move |mutation| Exhaustive::new(Rules { mutation, ..rules })
}

#[test]
fn candidates_have_advanced_logs() {
    needed(Mutation::VotesIgnoreLog, with(TWO_APPENDS), "which member 1 held");
}

#[test]
fn votes_are_given_once() {
    needed(Mutation::VotesTwice, with(TWO_WIPES), "election safety");
}

#[test]
fn entries_of_earlier_terms_are_not_counted() {
    needed(
        Mutation::CommitsOlderTerms,
        with(SHORT_APPENDS),
        "leader completeness",
    );
}

#[test]
fn a_leader_commits_in_its_own_term_before_it_changes_anything() {
    needed(
        Mutation::ChangesUnsettled,
        with(TWO_CHANGES),
        "leader completeness",
    );
}

#[test]
fn flagged_acknowledgements_do_not_count() {
    needed(
        Mutation::FlaggedAcksCount,
        with(THREE_APPENDS),
        "leader completeness",
    );
}

#[test]
fn flagged_votes_do_not_count() {
    needed(
        Mutation::FlaggedVotesCount,
        with(THREE_APPENDS),
        "election safety",
    );
}

/// The rule before this one: a leader's word, and then normal.
#[test]
fn contact_is_no_admission() {
    needed(
        Mutation::NormalAfterContact,
        with(TWO_APPENDS),
        "leader completeness",
    );
}

#[test]
fn an_admission_must_be_known_to_be_committed() {
    needed(
        Mutation::NormalBeforeCommit,
        with(THREE_APPENDS),
        "leader completeness",
    );
}

#[test]
fn only_the_admitted_life_counts() {
    needed(
        Mutation::AnyIncarnationCounts,
        with(TWO_APPENDS),
        "leader completeness",
    );
}

#[test]
fn recovery_elections_compare_logs() {
    needed(Mutation::RecoveryIgnoresLog, with(TWO_WIPES), "recovery:");
}

#[test]
fn recovery_elections_need_everybody() {
    needed(Mutation::RecoveryByMajority, with(TWO_APPENDS), "recovery:");
}

#[test]
fn recovery_elections_begin_an_epoch() {
    needed(Mutation::RecoveryInNextTerm, with(TWO_WIPES), "election safety");
}

/// A removal that one member alone has appended does not take the removed one's voice.
#[test]
fn recovery_elections_ask_the_voters_of_every_configuration() {
    let rules = Rules {
        budget: Budget {
            campaigns: 2,
            recoveries: 1,
            wipes: 1,
            appends: 1,
            changes: 1,
            ..NOTHING
        },
        ..LED
    };
    needed(Mutation::RecoveryAsksNewest, with(rules), "recovery:");
}

/// Member 2 once won an epoch far ahead. Members 1 and 3 have lost that, and so has 2, but what it said to the new life of 3 is still on
/// its way when 1 wins a recovery election in an epoch below. The fence keeps 3, which granted it, from listening. Otherwise the log of a
/// leader that no longer exists is the most advanced one, and wins the next recovery election over what was committed since.
fn a_forgotten_epoch(guarded: bool) -> impl Fn(Mutation) -> Exhaustive {
    let budget = Budget {
        campaigns: 3,
        recoveries: 3,
        wipes: 3,
        restores: 1,
        appends: 3,
        ..NOTHING
    };
    let opening = [
        Action::Recover { by: 1, wide: true },
        Action::HearAll(0),
        Action::HearAll(2),
        Action::HearAll(1),
        Action::Restore(0),
        Action::Wipe(2),
        Action::Append {
            from: 1,
            to: 2,
            short: false,
        },
        Action::Wipe(1),
    ];
    move |mutation| {
        let rules = Rules {
            budget,
            mutation,
            ..LED
        };
        let mut model = Exhaustive::new(rules).after(&opening);
        model.rules.guarded = guarded;
        model
    }
}

#[test]
fn without_the_fence_a_forgotten_epoch_replaces_what_was_committed() {
    for guarded in [false, true] {
        needed(Mutation::NoFence, a_forgotten_epoch(guarded), "recovery:");
    }
}
