//! Small systems whose answers are known.

use super::*;

/// Two jugs, of three and five litres, a tap and a drain: how does one measure four litres?
struct Jugs;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pour {
    FillSmall,
    FillLarge,
    EmptySmall,
    EmptyLarge,
    SmallToLarge,
    LargeToSmall,
}

impl Model for Jugs {
    type State = (u8, u8);
    type Action = Pour;

    fn initial(&self) -> Vec<(u8, u8)> {
        vec![(0, 0)]
    }

    fn actions(&self, _: &(u8, u8)) -> Vec<Pour> {
        use Pour::{EmptyLarge, EmptySmall, FillLarge, FillSmall, LargeToSmall, SmallToLarge};
        vec![
            FillSmall,
            FillLarge,
            EmptySmall,
            EmptyLarge,
            SmallToLarge,
            LargeToSmall,
        ]
    }

    fn next(&self, &(small, large): &(u8, u8), action: &Pour) -> Result<Option<(u8, u8)>, String> {
        let next = match action {
            Pour::FillSmall => (3, large),
            Pour::FillLarge => (small, 5),
            Pour::EmptySmall => (0, large),
            Pour::EmptyLarge => (small, 0),
            Pour::SmallToLarge => (small.saturating_sub(5 - large), (small + large).min(5)),
            Pour::LargeToSmall => ((small + large).min(3), large.saturating_sub(3 - small)),
        };
        Ok((next != (small, large)).then_some(next))
    }

    fn check(&self, state: &(u8, u8)) -> Result<(), String> {
        if state.1 == 4 {
            return Err("four litres".to_owned());
        }
        Ok(())
    }
}

#[test]
fn a_counterexample_is_a_shortest_one() {
    use Pour::{EmptySmall, FillLarge, LargeToSmall};

    let found = explore(&Jugs, Bounds::NONE).expect_err("it can be done");
    let shortest = [
        FillLarge,
        LargeToSmall,
        EmptySmall,
        LargeToSmall,
        FillLarge,
        LargeToSmall,
    ];
    assert_eq!(found.actions, shortest);
    let text = found.to_string();
    assert!(
        text.starts_with("four litres, after 6 steps:\n   1. FillLarge\n"),
        "{text}"
    );
}

#[test]
fn bounds_stop_a_search_and_the_report_says_so() {
    let shallow = Bounds {
        depth: 5,
        ..Bounds::NONE
    };
    let report = explore(&Jugs, shallow).expect("five steps are not enough");
    assert!(!report.complete && report.depth == 5, "{report:?}");
    let small = Bounds {
        states: 4,
        ..Bounds::NONE
    };
    let report = explore(&Jugs, small).expect("four states are not enough");
    assert!(!report.complete && report.states == 4, "{report:?}");
}

#[test]
fn a_random_walk_is_shortened() {
    let walks = Walks {
        seed: 1,
        count: 10,
        steps: 1000,
    };
    let found = wander(&Jugs, walks).expect_err("a thousand steps lead everywhere");
    assert_eq!(found.violation, "four litres");
    for left_out in 0..found.actions.len() {
        let mut fewer = found.actions.clone();
        fewer.remove(left_out);
        assert_eq!(counterexample::replay(&Jugs, 0, &fewer), None, "{found}");
    }
}

/// Processes that want a lock one after the other. They look whether it is free and then take it: in one step, or in two.
struct Lock {
    processes: usize,
    in_one_step: bool,
    symmetric: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Process {
    Idle,
    SawItFree,
    Holds,
    Done,
}

impl Model for Lock {
    type State = Vec<Process>;
    type Action = usize;

    fn initial(&self) -> Vec<Vec<Process>> {
        vec![vec![Process::Idle; self.processes]]
    }

    fn actions(&self, _: &Vec<Process>) -> Vec<usize> {
        (0..self.processes).collect()
    }

    fn next(&self, state: &Vec<Process>, process: &usize) -> Result<Option<Vec<Process>>, String> {
        let free = !state.contains(&Process::Holds);
        let mut next = state.clone();
        next[*process] = match state[*process] {
            Process::Idle if free && self.in_one_step => Process::Holds,
            Process::Idle if free => Process::SawItFree,
            Process::SawItFree => Process::Holds,
            Process::Holds => Process::Done,
            Process::Idle | Process::Done => return Ok(None),
        };
        Ok(Some(next))
    }

    fn check(&self, state: &Vec<Process>) -> Result<(), String> {
        let holders = state.iter().filter(|process| **process == Process::Holds).count();
        assert!(holders <= 1, "{holders} processes hold the lock");
        Ok(())
    }

    fn canonical(&self, state: &Vec<Process>) -> Vec<Process> {
        let mut state = state.clone();
        if self.symmetric {
            state.sort_unstable();
        }
        state
    }

    fn landmarks(&self, state: &Vec<Process>) -> Vec<&'static str> {
        let done = state.iter().all(|process| *process == Process::Done);
        done.then_some("everybody had it").into_iter().collect()
    }
}

#[test]
fn a_planted_race_is_found_with_its_shortest_trace() {
    for symmetric in [false, true] {
        let lock = Lock {
            processes: 3,
            in_one_step: false,
            symmetric,
        };
        let found = explore(&lock, Bounds::NONE).expect_err("two saw it free");
        assert_eq!(found.actions.len(), 4, "both look, both take: {found}");
        assert_eq!(found.violation, "panicked: 2 processes hold the lock");
        let replayed = counterexample::replay(&lock, found.start, &found.actions);
        assert_eq!(replayed, Some((4, found.violation.clone())), "the trace is one");
    }
}

#[test]
fn symmetry_saves_states_and_finds_the_same() {
    let lock = |symmetric| Lock {
        processes: 6,
        in_one_step: true,
        symmetric,
    };
    let all = explore(&lock(false), Bounds::NONE).expect("it is a lock");
    let few = explore(&lock(true), Bounds::NONE).expect("it is a lock");
    // Each is idle or done, and one may hold it.
    assert_eq!(all.states, 64 + 6 * 32);
    assert_eq!(few.states, 7 + 6);
    assert!(all.complete && few.complete);
    assert_eq!((all.depth, few.depth), (12, 12));
    assert_eq!(few.landmarks, BTreeMap::from([("everybody had it", 1)]));
}
