//! Random schedules. The number run here suits every build; `SIM_SCHEDULES=10000` suits a night.

use std::cell::Cell;

use sim::seeds::{Campaign, first_failure};

use super::ledger::Ledger;
use super::world::{Event, World};
use crate::machine::Millis;
use crate::machine::mutation::{BROKEN, Mutation};

const MINUTE: Millis = 60_000;

/// Trouble, then a fair time in which some checks are down, then one in which all are well. Yields steps and messages.
fn play(seed: u64) -> Result<(u64, u64), String> {
    let mut world = World::new(seed);
    // Trouble that begins sooner would hide from the nodes that it flaps.
    let (trouble, calm) = if world.comes_and_goes() {
        (9 * MINUTE, 16)
    } else {
        (30_000, 10)
    };
    world.queue.after(trouble, Event::Trouble);
    let mut steps = world.play(calm * MINUTE)?;
    world.calm();
    steps += world.play((calm + 1) * MINUTE)?;
    Ledger::none_is_damped(&world.truth, world.wall(0))?;
    world.tidy();
    steps += world.play((calm + 28) * MINUTE)?;
    let downs: Vec<String> = world
        .targets
        .iter()
        .filter(|(_, target)| target.down)
        .map(|(id, _)| id.clone())
        .collect();
    for id in &downs {
        let excused = id == "web" && downs.iter().any(|id| id == "gateway");
        if !excused {
            world.ledger.all_know(&world.truth, id)?;
        }
    }
    // What depends on something comes back before it, after it, or not at all for a while.
    world.set_target("gateway", false);
    steps += world.play((calm + 32) * MINUTE)?;
    if downs.iter().any(|id| id == "web") {
        steps += world.play((calm + 40) * MINUTE)?;
        world.ledger.all_know(&world.truth, "web")?;
    }
    for id in ["web", "db"] {
        world.set_target(id, false);
    }
    let end = world.now() + 15 * MINUTE;
    steps += world.play(end)?;
    Ledger::none_is_damped(&world.truth, world.wall(0))?;
    world.ledger.all_closed(&world.truth)?;
    world.states_are_equal()?;
    Ok((steps, world.ledger.taken))
}

#[test]
fn outages_are_told_once_whatever_happens() {
    let campaign = Campaign {
        package: "quptime",
        folder: env!("CARGO_MANIFEST_DIR"),
        name: "outages_are_told_once_whatever_happens",
        schedules: 50,
    };
    let taken = Cell::new(0);
    let total = campaign.run(|seed| {
        let (steps, messages) = play(seed)?;
        taken.set(taken.get() + messages);
        Ok(steps)
    });
    println!("{total:?}, {} messages", taken.get());
    assert!(taken.get() > 5 * total.schedules, "something was told");
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    for seed in 0..3 {
        assert_eq!(play(seed), play(seed));
    }
}

/// Without this clause one of these schedules fails, and says something like this.
#[track_caller]
fn is_noticed(mutation: Mutation, schedules: u64, says: &str) {
    BROKEN.set(mutation);
    let found = first_failure(0..schedules, |seed| play(seed).map(|(steps, _)| steps));
    BROKEN.set(Mutation::None);
    let (seed, text) = found.unwrap_or_else(|| panic!("{mutation:?} is not noticed"));
    println!("{mutation:?}: seed {seed}: {text}");
    assert!(text.contains(says), "{mutation:?}: seed {seed}: {text}");
}

#[test]
fn a_takeover_without_a_mark_is_noticed() {
    is_noticed(Mutation::TakeoversUnmarked, 150, "");
}

#[test]
fn messages_that_overtake_each_other_are_noticed() {
    is_noticed(Mutation::NoOrder, 150, "");
}

#[test]
fn a_forgotten_end_of_an_attempt_is_noticed() {
    is_noticed(Mutation::EndsAreForgotten, 150, "");
}

#[test]
fn a_parent_that_excuses_nobody_is_noticed() {
    is_noticed(Mutation::ParentsIgnored, 150, "");
}

#[test]
fn a_held_outage_that_is_told_unseen_is_noticed() {
    is_noticed(Mutation::NoOwnRound, 150, "only what it depends on was down");
}

#[test]
fn announced_work_that_silences_nobody_is_noticed() {
    is_noticed(Mutation::WorkIgnored, 150, "during announced work");
}

#[test]
fn a_check_that_ends_without_a_word_is_noticed() {
    is_noticed(Mutation::EndedSilently, 150, "nobody told the end");
}

#[test]
fn a_closing_word_to_whom_nothing_was_told_is_noticed() {
    is_noticed(Mutation::ClosedUnheard, 150, "never told");
}

#[test]
fn a_forgotten_outage_is_noticed() {
    is_noticed(Mutation::EndsForgotten, 150, "ended and is forgotten");
}

#[test]
fn waiting_for_a_clock_is_noticed() {
    is_noticed(Mutation::WaitsFollowClock, 150, "");
}

#[test]
fn damping_that_cannot_be_switched_off_is_noticed() {
    is_noticed(Mutation::AlwaysDamps, 150, "although damping is off");
}

#[test]
fn a_time_of_flapping_that_nobody_ends_for_whom_it_was_told_is_noticed() {
    is_noticed(Mutation::DetachedUnclosed, 150, "nobody told the end");
}
