//! Ways to lose a row that chance does not come by in reasonable time, step by step: possible to the end without the rule, and stopped by
//! the rule at the step it is for.

use std::collections::BTreeSet;

use sim::explore::Model;

use super::actions::Action::{
    self, Acknowledge, Begin, Crash, Demote, Follow, Land, Open, Promote, Report, Row, Start, Step, Stream,
    Take, TakeAgain,
};
use super::rules::{Rule, Rules};
use super::{Bounds, Group};
use crate::{Names, NodeId};

fn group(nodes: u32, sync: u32, also_any: Option<u32>) -> Group {
    Group {
        nodes,
        sync,
        also_any,
        bounds: Bounds {
            writes: 8,
            changes: 8,
            elections: 8,
            crashes: 8,
            releases: 8,
            takings: 8,
        },
        eager: false,
        rules: Rules { without: None },
    }
}

fn any<const N: usize>(any: u32, members: [NodeId; N]) -> Names {
    Names::of(BTreeSet::from(members), any).expect("fits")
}

/// Plays from the start at which `names` are in effect. How many steps were possible, and the violation if there was one.
fn play(group: Group, names: &Names, steps: &[Action]) -> (usize, Option<String>) {
    let mut state = group
        .initial()
        .into_iter()
        .find(|state| state.nodes[&1].file == *names)
        .expect("one of the beginnings");
    for (done, step) in steps.iter().enumerate() {
        match group.next(&state, step) {
            Ok(Some(next)) => state = next,
            Ok(None) => return (done, None),
            Err(violation) => return (done, Some(violation)),
        }
        if let Err(violation) = group.check(&state) {
            return (done + 1, Some(violation));
        }
    }
    (steps.len(), None)
}

/// With all rules the steps end before `stopped`; without this one they lead to a lost row.
fn assert_stops(
    rule: Rule,
    group: Group,
    names: Names,
    before: &[Action],
    stopped: Action,
    after: &[Action],
) {
    let steps: Vec<Action> = before
        .iter()
        .cloned()
        .chain([stopped])
        .chain(after.iter().cloned())
        .collect();
    assert_eq!(play(group, &names, &steps), (before.len(), None), "with {rule:?}");
    let rules = Rules { without: Some(rule) };
    let (_, violation) = play(Group { rules, ..group }, &names, &steps);
    let violation = violation.unwrap_or_else(|| panic!("nothing is lost without {rule:?}"));
    assert!(violation.contains("was acknowledged"), "{violation}");
}

/// A row is acknowledged by one standby. The names ask for two then; that comes into effect, and the keeper dies before the barrier. The
/// next change begins from names that ask for two, but the row is on one.
#[test]
fn a_change_that_ended_halfway_is_remembered() {
    let one = any(1, [2, 3]);
    let two = any(2, [2, 3]);
    let before = [
        Row(1),
        Stream(2),
        Acknowledge(1),
        Begin(1, two.clone()),
        Step(1),
        Land(0, true),
        Step(1),
        Step(1),
        Crash(1),
        TakeAgain(1),
        Begin(1, two),
        Step(1),
        Land(0, true),
        Open,
        Report(3),
    ];
    assert_stops(
        Rule::KeepDemand,
        group(3, 1, Some(2)),
        one,
        &before,
        Take(3),
        &[Land(0, true)],
    );
}

/// Two rows nobody else has stay in the log of the old primary; one row, acknowledged, follows the new timeline. The old log is as long.
#[test]
fn an_old_timeline_may_be_longer() {
    let names = any(1, [1, 3]);
    let before = [
        Row(1),
        Row(1),
        Open,
        Report(2),
        Report(3),
        Take(2),
        Land(0, true),
        Promote(2, names.clone()),
        Follow(3, 2),
        Begin(2, names),
        Step(2),
        Land(0, true),
        Step(2),
        Step(2),
        Stream(3),
        Step(2),
        Step(2),
        Land(0, true),
        Row(2),
        Stream(3),
        Acknowledge(2),
        Demote(1),
        Start(1),
        Open,
        Report(1),
        Report(3),
    ];
    assert_stops(
        Rule::Timeline,
        group(3, 1, None),
        any(1, [2, 3]),
        &before,
        Take(1),
        &[Land(0, true)],
    );
}

/// A standby that took no part in the election has followed the new primary and confirmed a row. The old primary still runs; a word of
/// long ago says that it is the one to follow, and following it throws the row away.
#[test]
fn nobody_goes_back_to_an_earlier_primary() {
    let names = any(2, [1, 3, 4]);
    let before = [
        Open,
        Report(2),
        Report(3),
        Take(2),
        Land(0, true),
        Promote(2, names.clone()),
        Follow(3, 2),
        Follow(4, 2),
        Begin(2, names),
        Step(2),
        Land(0, true),
        Step(2),
        Step(2),
        Stream(3),
        Stream(4),
        Step(2),
        Step(2),
        Land(0, true),
        Row(2),
        Stream(3),
        Stream(4),
        Acknowledge(2),
    ];
    let after = [
        Demote(1),
        Start(1),
        Open,
        Report(1),
        Report(4),
        Take(1),
        Land(0, true),
    ];
    assert_stops(
        Rule::Epoch,
        group(4, 2, None),
        any(2, [2, 3, 4]),
        &before,
        Follow(4, 1),
        &after,
    );
}
