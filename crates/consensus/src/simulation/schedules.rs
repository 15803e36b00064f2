//! Random schedules, by profile. The number run here suits every build; `SIM_SCHEDULES=10000` suits a night.

use sim::seeds::Campaign;

use super::cluster::{Cluster, Profile};
use crate::Mutation;

const SECOND: u64 = 1_000_000;

pub(super) fn plain(seed: u64) -> Profile {
    Profile {
        members: [3, 3, 5, 3, 1, 2][usize::try_from(seed % 6).unwrap()],
        spares: 0,
        crashes: true,
        partitions: true,
        changes: false,
        losses: false,
        operator: false,
        bad_network: !seed.is_multiple_of(4),
        trouble: 20 * SECOND,
    }
}

pub(super) fn membership(seed: u64) -> Profile {
    Profile {
        members: 3,
        spares: 2,
        changes: true,
        ..plain(seed)
    }
}

pub(super) fn losses(seed: u64) -> Profile {
    Profile {
        members: [3, 5][usize::try_from(seed % 2).unwrap()],
        spares: 1,
        changes: seed.is_multiple_of(3),
        losses: true,
        ..plain(seed)
    }
}

pub(super) fn recovery(seed: u64) -> Profile {
    Profile {
        members: [3, 5, 3][usize::try_from(seed % 3).unwrap()],
        losses: true,
        operator: true,
        ..plain(seed)
    }
}

pub(super) fn play(profile: fn(u64) -> Profile, mutation: Mutation) -> impl Fn(u64) -> Result<u64, String> {
    move |seed| Cluster::new(seed, profile(seed), mutation).play()
}

fn run(name: &'static str, schedules: u64, profile: fn(u64) -> Profile) {
    let campaign = Campaign {
        package: "consensus",
        folder: env!("CARGO_MANIFEST_DIR"),
        name,
        schedules,
    };
    let total = campaign.run(play(profile, Mutation::None));
    println!("{} schedules, {} steps", total.schedules, total.steps);
    assert!(total.steps > total.schedules * 100, "something happened");
}

#[test]
fn crashes_partitions_and_bad_networks() {
    run("crashes_partitions_and_bad_networks", 150, plain);
}

#[test]
fn membership_changes() {
    run("membership_changes", 100, membership);
}

#[test]
fn lost_disks_and_old_copies() {
    run("lost_disks_and_old_copies", 100, losses);
}

#[test]
fn recovery_elections() {
    run("recovery_elections", 100, recovery);
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let once = |seed| play(recovery, Mutation::None)(seed);
    for seed in 0..3 {
        assert_eq!(once(seed), once(seed));
    }
}
