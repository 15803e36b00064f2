//! Random schedules, by profile. The number run here suits every build; `SIM_SCHEDULES=10000` suits a night.

use std::cell::Cell;

use sim::seeds::Campaign;

use super::cluster::{Cluster, Flaw, Played, Profile};
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
        founding: false,
        flaw: Flaw::None,
        bad_network: !seed.is_multiple_of(4),
        trouble: 20 * SECOND,
    }
}

pub(super) fn membership(seed: u64) -> Profile {
    Profile {
        members: [3, 1][usize::from(seed.is_multiple_of(3))],
        spares: 2 + 2 * u64::from(seed.is_multiple_of(3)),
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

/// Members that begin empty. Half of the schedules also lose disks meanwhile.
pub(super) fn founding(seed: u64) -> Profile {
    Profile {
        members: [3, 5, 3, 2][usize::try_from(seed / 2 % 4).unwrap()],
        losses: !seed.is_multiple_of(2),
        founding: true,
        trouble: 10 * SECOND,
        ..plain(seed)
    }
}

pub(super) fn play(profile: fn(u64) -> Profile, mutation: Mutation) -> impl Fn(u64) -> Result<u64, String> {
    move |seed| {
        Cluster::new(seed, profile(seed), mutation)
            .play()
            .map(|played| played.steps)
    }
}

/// Plays the schedules of a profile; returns what they were made of.
fn run(name: &'static str, schedules: u64, profile: fn(u64) -> Profile) -> Played {
    let campaign = Campaign {
        package: "consensus",
        folder: env!("CARGO_MANIFEST_DIR"),
        name,
        schedules,
    };
    let sum = Cell::new(Played::default());
    let total = campaign.run(|seed| {
        let played = Cluster::new(seed, profile(seed), Mutation::None).play()?;
        let before = sum.get();
        sum.set(Played {
            steps: before.steps + played.steps,
            elections: before.elections + played.elections,
            recovered: before.recovered + played.recovered,
            lost: before.lost + played.lost,
            operations: before.operations + played.operations,
        });
        Ok(played.steps)
    });
    println!("{} schedules: {:?}", total.schedules, sum.get());
    let sum = sum.get();
    assert!(
        sum.elections >= total.schedules && sum.operations > 50 * total.schedules,
        "something happened"
    );
    sum
}

#[test]
fn crashes_partitions_and_bad_networks() {
    let played = run("crashes_partitions_and_bad_networks", 150, plain);
    assert_eq!((played.recovered, played.lost), (0, 0));
}

#[test]
fn membership_changes() {
    let played = run("membership_changes", 100, membership);
    assert_eq!((played.recovered, played.lost), (0, 0));
}

#[test]
fn lost_disks_and_old_copies() {
    let played = run("lost_disks_and_old_copies", 100, losses);
    assert_eq!((played.recovered, played.lost), (0, 0));
}

#[test]
fn recovery_elections() {
    let played = run("recovery_elections", 100, recovery);
    assert!(sim::seeds::is_traced() || played.recovered > 10, "{played:?}");
}

#[test]
fn foundings() {
    let played = run("foundings", 100, founding);
    assert_eq!(played.recovered, 0);
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let once = |seed| play(recovery, Mutation::None)(seed);
    for seed in 0..3 {
        assert_eq!(once(seed), once(seed));
    }
}
