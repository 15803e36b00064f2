//! For each clause of the rule whose loss breaks something in so small a world: a shortest story that does. A model that could not find these could
//! not be trusted when it finds nothing.
//!
//! Most stories also leave out the clause about members that can elect: it keeps the rule away from most groups that live, so it hides what
//! the others are for. No story needs only that one: see `searches`, where it is left out alone and nothing is lost.

use super::searches::{MUCH, THREE, TWO};
use super::world::Kind;
use super::{Beginning, Exploration, Move, Rules, fair};
use crate::machine::entrance::Mutation;
use Move::{Ask, Crash, Cut, Elect, File, HalfAMinute, Heal, Look, Put, Send, Start, Wipe, Written};

const RULES: Rules = Rules {
    budget: MUCH,
    fair_every: 0,
    ..THREE
};

/// The story ends like this without the clauses; with them it is not even possible to its end, or nothing happens.
#[track_caller]
fn breaks(rules: Rules, mutation: [Mutation; 2], story: &[Move], expected: &str) {
    let broken = Exploration::new(Rules { mutation, ..rules });
    let violation = broken.tell(story).expect_err("the clause is not noticed");
    assert!(violation.contains(expected), "{violation}");
    let last = mutation
        .iter()
        .position(|one| *one == Mutation::None)
        .unwrap_or(2);
    for left_out in 0..last {
        let mut fewer = [Mutation::None; 2];
        if last == 2 {
            fewer[0] = mutation[1 - left_out];
        }
        let kept = Exploration::new(Rules {
            mutation: fewer,
            ..rules
        });
        kept.tell(story)
            .unwrap_or_else(|violation| panic!("{fewer:?}: {violation}"));
    }
}

const fn ask(node: usize, peer: usize) -> Move {
    Ask { node, peer }
}

const fn send(from: usize, to: usize) -> Move {
    Send { from, to }
}

const LOST: &str = "acknowledged changes are lost";

#[test]
fn a_ticket_is_void_when_the_log_moves() {
    let story = [
        ask(0, 1),
        ask(0, 2),
        Elect(1),
        send(1, 2),
        Put(1),
        send(1, 2),
        Look(0),
        Crash(1),
        ask(2, 0),
        Look(2),
        Elect(0),
        send(0, 2),
    ];
    breaks(
        RULES,
        [Mutation::DisturbsElectable, Mutation::TicketOutlivesLog],
        &story,
        LOST,
    );
    breaks(
        RULES,
        [Mutation::DisturbsElectable, Mutation::FollowsAnyLife],
        &story,
        LOST,
    );
}

/// Member 3 holds a change in its log that no file shows; member 2, which led, was wiped and got the old file.
const BEHIND: [Move; 7] = [
    Elect(1),
    send(1, 2),
    Put(1),
    send(1, 2),
    Wipe(1),
    File(1, Kind::Backup),
    Start(1),
];

#[test]
fn who_holds_the_most_founds() {
    let end = [
        ask(0, 1),
        ask(0, 2),
        Look(0),
        ask(2, 0),
        Look(2),
        Elect(0),
        send(0, 2),
    ];
    let story = [&BEHIND[..], &end].concat();
    breaks(
        RULES,
        [Mutation::DisturbsElectable, Mutation::SmallestFounds],
        &story,
        LOST,
    );
}

#[test]
fn a_log_that_is_ahead_of_all_files_is_taken_whole() {
    let end = [
        ask(2, 0),
        ask(2, 1),
        Look(2),
        ask(0, 2),
        Look(0),
        Elect(2),
        send(2, 0),
    ];
    let story = [&BEHIND[..], &end].concat();
    breaks(
        RULES,
        [Mutation::DisturbsElectable, Mutation::AlwaysFromFile],
        &story,
        LOST,
    );
}

#[test]
fn old_data_is_kept_until_the_new_group_begins() {
    let end = [
        ask(2, 0),
        ask(2, 1),
        Look(2),
        Cut(0, 2),
        Cut(1, 2),
        ask(2, 0),
        ask(2, 1),
        HalfAMinute(2),
        Look(2),
        Heal(0, 2),
        Heal(1, 2),
        ask(0, 1),
        ask(0, 2),
        Look(0),
        ask(1, 0),
        Look(1),
        Elect(0),
        send(0, 1),
    ];
    let story = [&BEHIND[..], &end].concat();
    breaks(
        RULES,
        [Mutation::DisturbsElectable, Mutation::DropsOldData],
        &story,
        LOST,
    );
}

#[test]
fn a_majority_of_empty_nodes_looks_for_state() {
    let end = [
        Crash(2),
        ask(0, 1),
        ask(0, 2),
        HalfAMinute(0),
        Look(0),
        ask(1, 0),
        Look(1),
        Elect(0),
        send(0, 1),
    ];
    let story = [&BEHIND[..], &end].concat();
    breaks(
        RULES,
        [Mutation::MajorityDespiteState, Mutation::None],
        &story,
        LOST,
    );
}

#[test]
fn leaving_is_on_disk_before_the_new_replica_starts() {
    let story = [
        ask(0, 1),
        ask(0, 2),
        Look(0),
        Written(0),
        ask(1, 0),
        Look(1),
        Elect(0),
        send(0, 1),
        Put(0),
        send(0, 1),
        Crash(1),
        Start(1),
        Elect(1),
        send(1, 2),
    ];
    let rules = Rules {
        slow_disk: true,
        ..RULES
    };
    breaks(
        rules,
        [Mutation::DisturbsElectable, Mutation::FollowsBeforeDisk],
        &story,
        LOST,
    );
}

#[test]
fn what_has_begun_is_not_given_up() {
    let rules = Rules {
        beginning: Beginning::Files,
        budget: MUCH,
        fair_every: 0,
        ..TWO
    };
    let story = [
        ask(0, 1),
        Look(0),
        ask(1, 0),
        Look(1),
        Elect(0),
        send(0, 1),
        Put(0),
        send(0, 1),
        Cut(0, 1),
        ask(0, 1),
        HalfAMinute(0),
        Look(0),
        Heal(0, 1),
        ask(1, 0),
        Look(1),
        ask(0, 1),
        Look(0),
        ask(1, 0),
        Look(1),
        Elect(0),
        send(0, 1),
    ];
    breaks(rules, [Mutation::GivesUpBegun, Mutation::None], &story, LOST);
}

#[test]
fn a_follower_has_the_file_that_was_agreed_to() {
    let story = [
        File(0, Kind::Edited),
        File(1, Kind::Edited),
        Start(0),
        Start(1),
        ask(0, 1),
        Look(0),
        File(1, Kind::Backup),
        Start(1),
        ask(1, 0),
        Look(1),
    ];
    // A restart draws another ticket as well, so both are left out.
    let rules = Rules {
        budget: MUCH,
        fair_every: 0,
        ..TWO
    };
    breaks(
        rules,
        [Mutation::FollowsOtherFile, Mutation::FollowsAnyLife],
        &story,
        "another file",
    );
}

#[test]
fn a_placeholder_is_not_proposed() {
    let story = [
        Elect(0),
        send(0, 1),
        File(2, Kind::Zero),
        Start(2),
        ask(2, 0),
        Look(2),
    ];
    breaks(
        RULES,
        [Mutation::PlaceholderIsEdit, Mutation::None],
        &story,
        "a placeholder is proposed",
    );
}

#[test]
fn a_founding_that_cannot_be_is_given_up() {
    let rules = Rules {
        beginning: Beginning::Files,
        budget: MUCH,
        fair_every: 0,
        ..TWO
    };
    let story = [ask(0, 1), Look(0), Crash(1), Start(1)];
    for (mutation, stuck) in [(Mutation::None, false), (Mutation::NeverGivesUp, true)] {
        let model = Exploration::new(Rules {
            mutation: [mutation, Mutation::None],
            ..rules
        });
        let state = model.tell(&story).unwrap();
        assert_eq!(
            fair::run(&state, &model.rules, &model.seen).is_err(),
            stuck,
            "{mutation:?}"
        );
    }
}
