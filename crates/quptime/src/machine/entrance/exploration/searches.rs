//! What holds in every schedule within small bounds. `SIM_STATES=N` raises the bound of all searches, `SIM_WALKS=N` the number of walks.

use sim::explore::{Bounds, Walks, explore, wander};

use super::{Beginning, Budget, Exploration, Rules};
use crate::machine::entrance::Mutation;

pub(super) const NOTHING: Budget = Budget {
    crashes: 0,
    cuts: 0,
    elections: 0,
    puts: 0,
    foundings: 0,
    wipes: 0,
    zeros: 0,
    edits: 0,
    same_version: false,
    surgeries: 0,
    backups: 0,
};

pub(super) const TWO: Rules = Rules {
    nodes: 2,
    beginning: Beginning::Group,
    budget: NOTHING,
    slow_disk: false,
    mutation: [Mutation::None; 2],
    fair_every: 1,
    walk: false,
};

pub(super) const THREE: Rules = Rules {
    nodes: 3,
    fair_every: 7,
    ..TWO
};

fn bounds() -> Bounds {
    Bounds {
        states: sim::seeds::number("SIM_STATES", 15_000) as usize,
        ..Bounds::NONE
    }
}

#[track_caller]
fn holds(rules: Rules, landmarks: &[&str], complete: bool) {
    let model = Exploration::new(rules);
    let report = explore(&model, bounds()).unwrap_or_else(|found| panic!("{found}"));
    let seen = model.seen.borrow();
    println!("{report:?} {seen:?}");
    for landmark in landmarks {
        assert!(seen.contains_key(*landmark), "{landmark}: {report:?} {seen:?}");
    }
    assert!(report.complete || !complete, "{report:?}");
}

#[track_caller]
pub(super) fn walks(rules: Rules, seed: u64, count: u64, landmarks: &[&str]) {
    let model = Exploration::new(rules);
    let walks = Walks {
        seed,
        count: sim::seeds::number("SIM_WALKS", count),
        steps: 120,
    };
    let report = wander(&model, walks).unwrap_or_else(|found| panic!("{found}"));
    let seen = model.seen.borrow();
    println!("{report:?} {seen:?}");
    for landmark in landmarks {
        assert!(seen.contains_key(*landmark), "{landmark}: {report:?} {seen:?}");
    }
}

#[test]
fn two_nodes_with_files_alone() {
    let budget = Budget {
        crashes: 1,
        cuts: 1,
        elections: 1,
        foundings: 2,
        ..NOTHING
    };
    let rules = Rules {
        beginning: Beginning::Files,
        budget,
        ..TWO
    };
    holds(rules, &["FoundsUnanimously", "Follows", "Adopts"], true);
}

#[test]
fn two_nodes_with_files_alone_and_slow_disks() {
    let budget = Budget {
        crashes: 2,
        elections: 1,
        foundings: 1,
        ..NOTHING
    };
    let rules = Rules {
        beginning: Beginning::Files,
        budget,
        slow_disk: true,
        ..TWO
    };
    holds(rules, &["FoundsUnanimously", "Follows", "Adopts"], true);
}

#[test]
fn two_members_and_a_wipe() {
    let budget = Budget {
        crashes: 1,
        elections: 2,
        puts: 1,
        wipes: 1,
        foundings: 2,
        ..NOTHING
    };
    holds(Rules { budget, ..TWO }, &["FoundsUnanimously", "Follows"], true);
}

#[test]
fn two_members_and_an_edited_file() {
    let budget = Budget {
        elections: 2,
        puts: 1,
        edits: 2,
        foundings: 2,
        ..NOTHING
    };
    holds(Rules { budget, ..TWO }, &["FoundsUnanimously", "Follows"], true);
}

#[test]
fn two_members_and_an_edited_file_of_the_same_version() {
    let budget = Budget {
        elections: 2,
        puts: 1,
        edits: 2,
        same_version: true,
        foundings: 2,
        ..NOTHING
    };
    holds(Rules { budget, ..TWO }, &["StartsWithEdit", "elected"], true);
    // Without that the files themselves have to lead to a group, as they do where nobody knows what was written.
    let mutation = [Mutation::EditsWait, Mutation::None];
    holds(
        Rules {
            budget,
            mutation,
            ..TWO
        },
        &["FoundsUnanimously", "Follows"],
        true,
    );
}

#[test]
fn three_members_and_an_edited_file_of_the_same_version() {
    let budget = Budget {
        crashes: 1,
        elections: 2,
        puts: 1,
        edits: 3,
        same_version: true,
        foundings: 1,
        ..NOTHING
    };
    holds(Rules { budget, ..THREE }, &["StartsWithEdit", "elected"], false);
}

#[test]
fn two_members_and_a_damaged_log() {
    let budget = Budget {
        elections: 2,
        puts: 1,
        wipes: 1,
        foundings: 2,
        ..NOTHING
    };
    holds(Rules { budget, ..TWO }, &["damaged", "FoundsUnanimously"], false);
}

#[test]
fn two_members_an_old_file_and_a_placeholder() {
    let budget = Budget {
        elections: 2,
        puts: 1,
        backups: 2,
        zeros: 1,
        foundings: 1,
        ..NOTHING
    };
    holds(
        Rules { budget, ..TWO },
        &["FoundsUnanimously", "PlaceholderReplaced"],
        true,
    );
}

#[test]
fn three_nodes_with_files_alone() {
    let budget = Budget {
        crashes: 1,
        elections: 1,
        foundings: 1,
        ..NOTHING
    };
    let rules = Rules {
        beginning: Beginning::Files,
        budget,
        ..THREE
    };
    holds(
        rules,
        &["FoundsUnanimously", "FoundsByMajority", "Follows"],
        false,
    );
}

#[test]
fn three_members_and_a_wipe() {
    let budget = Budget {
        elections: 2,
        puts: 1,
        wipes: 1,
        foundings: 1,
        ..NOTHING
    };
    holds(Rules { budget, ..THREE }, &["EntersRunning"], false);
}

/// That members which can elect are left alone is courtesy: safety does not rest on it.
#[test]
fn three_members_whose_group_is_disturbed() {
    let budget = Budget {
        crashes: 1,
        elections: 2,
        puts: 1,
        foundings: 1,
        ..NOTHING
    };
    let mutation = [Mutation::DisturbsElectable, Mutation::None];
    let rules = Rules {
        budget,
        mutation,
        ..THREE
    };
    holds(rules, &["FoundsUnanimously", "Follows"], false);
}

#[test]
fn three_members_and_an_edited_file() {
    let budget = Budget {
        elections: 1,
        puts: 1,
        edits: 3,
        foundings: 1,
        ..NOTHING
    };
    holds(Rules { budget, ..THREE }, &["HigherVersionEdit"], false);
}

#[test]
fn three_members_and_surgery() {
    let budget = Budget {
        elections: 2,
        crashes: 1,
        puts: 1,
        surgeries: 2,
        foundings: 1,
        ..NOTHING
    };
    holds(Rules { budget, ..THREE }, &["HigherVersionEdit"], false);
}

pub(super) const MUCH: Budget = Budget {
    crashes: 4,
    cuts: 3,
    elections: 6,
    puts: 4,
    foundings: 6,
    wipes: 3,
    zeros: 1,
    edits: 3,
    same_version: false,
    surgeries: 0,
    backups: 3,
};

#[test]
fn three_nodes_at_random() {
    let rules = Rules {
        budget: MUCH,
        fair_every: 9,
        walk: true,
        ..THREE
    };
    walks(
        rules,
        0,
        100,
        &["Adopts", "EntersRunning", "FoundsByMajority", "GivesUpTrial"],
    );
}

#[test]
fn three_nodes_at_random_with_edits_of_the_same_version() {
    let rules = Rules {
        budget: Budget {
            same_version: true,
            ..MUCH
        },
        fair_every: 9,
        walk: true,
        ..THREE
    };
    walks(
        rules,
        0,
        100,
        &[
            "Adopts",
            "EntersRunning",
            "StartsWithEdit",
            "damaged",
            "damaged trial",
        ],
    );
}

#[test]
fn three_nodes_at_random_with_slow_disks() {
    let rules = Rules {
        budget: MUCH,
        fair_every: 9,
        walk: true,
        slow_disk: true,
        ..THREE
    };
    walks(
        rules,
        0,
        100,
        &["Adopts", "EntersRunning", "FoundsByMajority", "GivesUpTrial"],
    );
}

#[test]
fn three_nodes_at_random_with_surgery() {
    let rules = Rules {
        budget: Budget {
            edits: 0,
            backups: 0,
            surgeries: 4,
            ..MUCH
        },
        fair_every: 9,
        walk: true,
        ..THREE
    };
    walks(
        rules,
        0,
        100,
        &["Adopts", "EntersRunning", "FoundsByMajority", "GivesUpTrial"],
    );
}
