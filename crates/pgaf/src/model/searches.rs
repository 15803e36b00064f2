//! The searches: groups with all their rules, and the same with one rule taken away, which has to be found.

use sim::explore::{Bounds as Search, Report, Walks, explore, wander};

use super::rules::{Rule, Rules};
use super::{Bounds, Group};

/// Two nodes and little that may happen: every schedule there is.
const SMALL: Group = Group {
    nodes: 2,
    sync: 0,
    also_any: None,
    bounds: Bounds {
        writes: 1,
        changes: 1,
        elections: 1,
        crashes: 1,
        releases: 0,
        takings: 2,
    },
    eager: false,
    rules: Rules { without: None },
};

/// A group in which much may happen, for random walks.
const fn wide(nodes: u32, sync: u32, also_any: Option<u32>) -> Group {
    Group {
        nodes,
        sync,
        also_any,
        bounds: Bounds {
            writes: 8,
            changes: 8,
            elections: 6,
            crashes: 4,
            releases: 2,
            takings: 8,
        },
        eager: true,
        rules: Rules { without: None },
    }
}

/// What every search has to have come by; otherwise it proves nothing.
fn assert_awake(report: &Report) {
    for landmark in [
        "a row acknowledged",
        "another primary",
        "a row survived a failover",
        "sync again after a failover",
    ] {
        assert!(
            report.landmarks.contains_key(landmark),
            "never seen: {landmark}; {report:?}"
        );
    }
}

#[test]
fn two_nodes_lose_nothing_whatever_happens() {
    let report = explore(&SMALL, Search::NONE).unwrap_or_else(|found| panic!("{found}"));
    assert!(report.complete);
    assert_awake(&report);
    assert!(report.landmarks.contains_key("an old primary that does not know"));
}

#[test]
fn two_nodes_that_stop_cleanly_lose_nothing_whatever_happens() {
    let group = Group {
        bounds: Bounds {
            releases: 1,
            crashes: 0,
            ..SMALL.bounds
        },
        ..SMALL
    };
    let report = explore(&group, Search::NONE).unwrap_or_else(|found| panic!("{found}"));
    assert!(report.complete);
    assert_awake(&report);
}

#[test]
fn three_nodes_lose_nothing_in_few_steps() {
    let group = Group {
        nodes: 3,
        sync: 1,
        bounds: Bounds {
            changes: 0,
            takings: 1,
            ..SMALL.bounds
        },
        ..SMALL
    };
    let report = explore(&group, Search::NONE).unwrap_or_else(|found| panic!("{found}"));
    assert!(report.complete);
    assert!(report.landmarks.contains_key("a row survived a failover"));
}

#[test]
fn larger_groups_lose_nothing_on_random_ways() {
    for group in [
        wide(2, 0, None),
        wide(3, 0, None),
        wide(3, 1, Some(2)),
        wide(4, 1, Some(2)),
        wide(4, 2, Some(1)),
    ] {
        let walks = Walks {
            seed: 1,
            count: 1_500,
            steps: 150,
        };
        let report = wander(&group, walks).unwrap_or_else(|found| panic!("{group:?}: {found}"));
        assert_awake(&report);
    }
}

/// Takes the rule away and wants to see a row lost. `scenarios` has the three that chance does not come by.
fn assert_missed(rule: Rule, group: Group) {
    let rules = Rules { without: Some(rule) };
    let walks = Walks {
        seed: 1,
        count: 20_000,
        steps: 150,
    };
    match wander(&Group { rules, ..group }, walks) {
        Ok(_) => panic!("nothing is lost without {rule:?}: is it needed?"),
        Err(found) => assert!(found.violation.contains("was acknowledged"), "{rule:?}: {found}"),
    }
}

#[test]
fn covering_before_names_change_is_needed() {
    assert_missed(Rule::CoverFirst, wide(2, 0, None));
}

#[test]
fn a_write_that_changes_nothing_is_needed() {
    assert_missed(Rule::FreshWrite, wide(2, 0, None));
}

#[test]
fn waiting_until_names_are_in_effect_is_needed() {
    assert_missed(Rule::AwaitEffect, wide(2, 0, None));
}

#[test]
fn the_barrier_is_needed() {
    assert_missed(Rule::Barrier, wide(3, 0, None));
}

#[test]
fn staying_alone_until_a_change_has_ended_is_needed() {
    assert_missed(Rule::AloneStays, wide(2, 0, None));
}

#[test]
fn the_number_of_reports_is_needed() {
    assert_missed(Rule::Need, wide(3, 0, None));
}

#[test]
fn the_cut_is_needed() {
    assert_missed(Rule::Cut, wide(3, 0, None));
}

#[test]
fn a_cut_that_outlives_a_restart_is_needed() {
    assert_missed(Rule::DurableCut, wide(3, 0, None));
}

#[test]
fn the_revision_of_reports_is_needed() {
    assert_missed(Rule::Revision, wide(3, 0, None));
}

#[test]
fn comparing_the_record_is_needed() {
    assert_missed(Rule::Compare, wide(2, 0, None));
}

#[test]
fn the_promise_is_needed() {
    assert_missed(Rule::Promise, wide(3, 0, None));
}

#[test]
fn the_name_in_the_record_is_needed() {
    assert_missed(Rule::NamedOnly, wide(2, 0, None));
}

#[test]
fn forgetting_where_somebody_stopped_is_needed() {
    assert_missed(Rule::ReleaseVoid, wide(2, 0, None));
}

#[test]
fn the_names_on_disk_are_needed() {
    assert_missed(Rule::NamesOnDisk, wide(2, 0, None));
}
