//! Whole groups in virtual time: keepers that do what they are told, nodes that die, hosts that are cut off, monitors that are replaced.
//!
//! It asks two things. Is every group whole again when everything has been well for a while, so that no way leads to a state that nobody
//! gets out of? And does everybody who takes over have every row that was acknowledged, unless the operator accepted the loss? The second has its own, far sharper judge in
//! [`crate::model`]; here it shows that what the monitor asks for keeps within those rules.

mod keeper;
mod world;

use std::cell::RefCell;

use sim::seeds::Campaign;
use world::{Plan, World};

/// What was met on the way.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    takeovers: u32,
    planned: u32,
    elections: u32,
    fetched: u32,
    alone: u32,
    given_back: u32,
    forced: u32,
    acknowledged: usize,
}

#[test]
fn groups_get_whole_again_and_lose_nothing() {
    let all = RefCell::new(Seen::default());
    let campaign = Campaign {
        package: env!("CARGO_PKG_NAME"),
        folder: env!("CARGO_MANIFEST_DIR"),
        name: "groups_get_whole_again_and_lose_nothing",
        schedules: 600,
    };
    let total = campaign.run(|seed| {
        let mut world = World::new(seed, Plan::from_seed(seed));
        world.found()?;
        world.trouble()?;
        world.heal()?;
        let (seen, mut all) = (world.seen, all.borrow_mut());
        all.takeovers += seen.takeovers;
        all.planned += seen.planned;
        all.elections += seen.elections;
        all.fetched += seen.fetched;
        all.alone += seen.alone;
        all.given_back += seen.given_back;
        all.forced += seen.forced;
        all.acknowledged += seen.acknowledged;
        Ok(world.ticks)
    });
    let all = all.into_inner();
    let awake = all.takeovers > 300
        && all.planned > 50
        && all.elections > 100
        && all.fetched > 5
        && all.alone > 100
        && all.given_back > 20
        && all.forced > 20
        && all.acknowledged > 5_000;
    // A single seed that is being replayed need not come by everything.
    assert!(total.schedules < 600 || awake, "never came by: {all:?}");
}
