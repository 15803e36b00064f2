//! Rounds as lines of votes, and whom they mark.

use super::*;
use crate::machine::state::Status;

fn node(number: usize) -> NodeId {
    format!("{number:08}-0c1d-4e2f-8a3b-4c5d6e7f8091")
        .parse()
        .unwrap()
}

/// One line per check, one letter per node.
fn rounds(number: u64, lines: &[&str]) -> Vec<(String, LastRound)> {
    let round = |(position, line): (usize, &&str)| {
        let votes = line
            .chars()
            .enumerate()
            .map(|(index, letter)| (node(index + 1), letter == '+'));
        let last = LastRound {
            votes: votes.collect(),
            verdict: Some(Status::Up),
            number,
            ..LastRound::default()
        };
        (format!("c{position}"), last)
    };
    lines.iter().enumerate().map(round).collect()
}

fn look(judge: &mut Judge, rounds: &[(String, LastRound)], marked: bool) -> Vec<(NodeId, bool)> {
    judge.look(rounds.iter().map(|(check, last)| (check.as_str(), last)), |_| {
        marked
    })
}

const ALONE: [&str; 5] = ["-++", "-++", "-++", "-++", "+++"];

#[test]
fn a_node_that_is_alone_with_its_view_is_marked_after_two_looks() {
    let mut judge = Judge::default();
    assert!(look(&mut judge, &rounds(1, &ALONE), false).is_empty());
    assert!(
        look(&mut judge, &rounds(1, &ALONE), false).is_empty(),
        "nothing new"
    );
    assert_eq!(look(&mut judge, &rounds(2, &ALONE), false), [(node(1), true)]);
    let well = ["+++"; 5];
    // The others are not marked, so only the first is unmarked.
    let mut judge_again = |number| {
        let rounds = rounds(number, &well);
        judge.look(
            rounds.iter().map(|(check, last)| (check.as_str(), last)),
            |other| other == node(1),
        )
    };
    assert!(judge_again(3).is_empty());
    assert_eq!(judge_again(4), [(node(1), false)]);
}

#[test]
fn an_outage_that_all_see_marks_nobody() {
    let mut judge = Judge::default();
    for number in 1..5 {
        assert!(look(&mut judge, &rounds(number, &["---"; 6]), false).is_empty());
    }
}

#[test]
fn few_checks_say_nothing() {
    let mut judge = Judge::default();
    for number in 1..5 {
        assert!(look(&mut judge, &rounds(number, &["-++"; 4]), false).is_empty());
    }
}
