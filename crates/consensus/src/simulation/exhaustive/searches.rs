//! What holds in every schedule within small bounds.
//!
//! A normal run looks at so many states of each search, which is all of the smaller ones; `SIM_STATES=N` raises the bound of all.

use sim::explore::{Bounds, explore};

use super::{Budget, Exhaustive, Rules};
use crate::Mutation;

pub(super) const NOTHING: Budget = Budget {
    campaigns: 0,
    recoveries: 0,
    wipes: 0,
    restores: 0,
    copies: 0,
    appends: 0,
    puts: 0,
    changes: 0,
    restarts: 0,
};

/// Three voters that know each other and nothing else.
pub(super) const THREE: Rules = Rules {
    voters: 3,
    learner: false,
    led: false,
    budget: NOTHING,
    wide_leaps: false,
    short_appends: false,
    guarded: false,
    mutation: Mutation::None,
};

/// Three voters that have a leader.
pub(super) const LED: Rules = Rules { led: true, ..THREE };

/// States of one search in a normal run.
const STATES: usize = 210_000;

pub(super) fn bounds() -> Bounds {
    let states = std::env::var("SIM_STATES")
        .ok()
        .and_then(|text| text.parse().ok());
    Bounds {
        states: states.unwrap_or(STATES),
        ..Bounds::NONE
    }
}

/// Nothing that must not be is reached, but these landmarks are. `complete`: a normal run sees all of it.
#[track_caller]
fn holds(model: &Exhaustive, landmarks: &[&str], complete: bool) {
    let report = explore(model, bounds()).unwrap_or_else(|found| panic!("{found}"));
    println!("{report:?}");
    for landmark in landmarks {
        assert!(report.landmarks.contains_key(landmark), "{landmark}: {report:?}");
    }
    assert!(report.complete || !complete, "{report:?}");
}

#[track_caller]
fn all(rules: Rules, landmarks: &[&str]) {
    holds(&Exhaustive::new(rules), landmarks, true);
}

#[track_caller]
fn nearest(rules: Rules, landmarks: &[&str]) {
    holds(&Exhaustive::new(rules), landmarks, false);
}

pub(super) const TWO_WIPES: Rules = Rules {
    budget: Budget {
        campaigns: 2,
        recoveries: 2,
        wipes: 2,
        appends: 1,
        ..NOTHING
    },
    ..THREE
};

#[test]
fn two_wipes_two_elections_one_append() {
    all(
        TWO_WIPES,
        &["elected twice", "admitted again", "lost by recovery"],
    );
}

pub(super) const TWO_APPENDS: Rules = Rules {
    budget: Budget {
        campaigns: 2,
        recoveries: 2,
        wipes: 1,
        appends: 2,
        ..NOTHING
    },
    ..THREE
};

#[test]
fn one_wipe_two_elections_two_appends() {
    all(TWO_APPENDS, &["elected twice", "admitted again", "recovered"]);
}

#[test]
fn one_wipe_one_election_one_change_three_appends() {
    let rules = Rules {
        learner: true,
        budget: Budget {
            campaigns: 1,
            recoveries: 1,
            wipes: 1,
            changes: 1,
            appends: 3,
            ..NOTHING
        },
        ..THREE
    };
    all(rules, &["committed", "admitted again", "recovered"]);
}

#[test]
fn five_voters_one_wiped_after_its_vote() {
    let rules = Rules {
        voters: 5,
        budget: Budget {
            campaigns: 1,
            wipes: 1,
            appends: 1,
            ..NOTHING
        },
        ..LED
    };
    all(rules, &["elected twice"]);
}

#[test]
fn two_wipes_under_a_leader_and_a_command() {
    let rules = Rules {
        budget: Budget {
            campaigns: 1,
            recoveries: 1,
            wipes: 2,
            appends: 2,
            puts: 1,
            ..NOTHING
        },
        ..LED
    };
    all(rules, &["admitted again", "lost by recovery"]);
}

pub(super) const TWO_CHANGES: Rules = Rules {
    voters: 4,
    budget: Budget {
        campaigns: 2,
        changes: 2,
        appends: 1,
        ..NOTHING
    },
    ..LED
};

#[test]
fn four_voters_two_elections_two_removals() {
    all(TWO_CHANGES, &["elected twice"]);
}

pub(super) const SHORT_APPENDS: Rules = Rules {
    short_appends: true,
    budget: Budget {
        campaigns: 3,
        appends: 1,
        puts: 1,
        ..NOTHING
    },
    ..LED
};

#[test]
fn three_elections_and_an_append_that_ends_early() {
    all(SHORT_APPENDS, &["elected twice"]);
}

pub(super) const THREE_APPENDS: Rules = Rules {
    budget: Budget {
        campaigns: 2,
        recoveries: 2,
        wipes: 1,
        appends: 3,
        ..NOTHING
    },
    ..LED
};

#[test]
fn one_wipe_two_elections_three_appends_under_a_leader() {
    nearest(THREE_APPENDS, &["elected twice", "admitted again", "recovered"]);
}

#[test]
fn one_wipe_a_command_and_no_recovery_election() {
    let rules = Rules {
        budget: Budget {
            campaigns: 2,
            wipes: 1,
            appends: 3,
            puts: 1,
            ..NOTHING
        },
        ..LED
    };
    nearest(rules, &["elected twice", "admitted again"]);
}

#[test]
fn one_disk_put_back_two_elections_three_appends() {
    let rules = Rules {
        budget: Budget {
            campaigns: 2,
            recoveries: 2,
            restores: 1,
            appends: 3,
            ..NOTHING
        },
        ..LED
    };
    nearest(rules, &["elected twice", "admitted again", "recovered"]);
}

#[test]
fn one_wipe_two_elections_one_removal_two_appends() {
    let rules = Rules {
        budget: Budget {
            campaigns: 2,
            recoveries: 2,
            wipes: 1,
            appends: 2,
            changes: 1,
            ..NOTHING
        },
        ..LED
    };
    nearest(rules, &["elected twice", "admitted again", "recovered"]);
}

#[test]
fn four_voters_one_wipe_two_elections_one_removal() {
    let rules = Rules {
        voters: 4,
        budget: Budget {
            campaigns: 2,
            recoveries: 2,
            wipes: 1,
            appends: 1,
            changes: 1,
            ..NOTHING
        },
        ..LED
    };
    nearest(rules, &["elected twice", "recovered"]);
}

/// Members that start again know nothing to be committed, so their recovery elections ask more.
#[test]
fn one_restart_one_wipe_two_elections() {
    let rules = Rules {
        budget: Budget {
            campaigns: 2,
            recoveries: 2,
            wipes: 1,
            appends: 1,
            restarts: 1,
            ..NOTHING
        },
        ..LED
    };
    nearest(rules, &["elected twice", "recovered"]);
}
