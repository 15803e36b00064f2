//! Nodes that find nearly everything broken while nobody else does: it is their own uplink, not the world.
//!
//! Such a node's votes stop counting until it agrees with the others again. Below [`CHECKS_MIN`] checks nothing can be told apart.

use std::collections::BTreeMap;

use super::rounds::LastRound;
use crate::identity::NodeId;

/// Checks from which a judgement is possible.
pub const CHECKS_MIN: usize = 5;
/// Share of a node's votes that must be bad, in percent.
const BAD_PERCENT: usize = 80;
/// Judgements in a row that must say the same.
const IN_A_ROW: u32 = 2;

/// Judges nodes by their votes.
#[derive(Debug, Default)]
pub struct Judge {
    streaks: BTreeMap<NodeId, (bool, u32)>,
    seen: BTreeMap<String, u64>,
}

impl Judge {
    /// Looks at the last rounds once each of them is a new one. Returns nodes whose mark should change, with what it should be.
    pub fn look<'a>(
        &mut self,
        rounds: impl Iterator<Item = (&'a str, &'a LastRound)>,
        marked: impl Fn(NodeId) -> bool,
    ) -> Vec<(NodeId, bool)> {
        let rounds: Vec<(&str, &LastRound)> = rounds.filter(|(_, last)| last.verdict.is_some()).collect();
        let all_new = rounds
            .iter()
            .all(|(check, last)| self.seen.get(*check).is_none_or(|seen| last.number > *seen));
        if rounds.len() < CHECKS_MIN || !all_new {
            return Vec::new();
        }
        self.seen = rounds
            .iter()
            .map(|(check, last)| ((*check).to_owned(), last.number))
            .collect();
        let mut changes = Vec::new();
        for (node, tally) in tallies(&rounds) {
            if tally.votes < CHECKS_MIN {
                continue;
            }
            let looks_impaired = tally.bad * 100 >= tally.votes * BAD_PERCENT && tally.alone * 2 > tally.bad;
            let streak = self.streaks.entry(node).or_insert((looks_impaired, 0));
            if streak.0 == looks_impaired {
                streak.1 += 1;
            } else {
                *streak = (looks_impaired, 1);
            }
            if streak.1 >= IN_A_ROW && marked(node) != looks_impaired {
                changes.push((node, looks_impaired));
            }
        }
        changes
    }
}

#[derive(Default)]
struct Tally {
    votes: usize,
    bad: usize,
    /// Bad, while most of the others found it well.
    alone: usize,
}

fn tallies(rounds: &[(&str, &LastRound)]) -> BTreeMap<NodeId, Tally> {
    let mut tallies: BTreeMap<NodeId, Tally> = BTreeMap::new();
    for (_, last) in rounds {
        for (node, good) in &last.votes {
            let others = last.votes.iter().filter(|(other, _)| other != node);
            let (mut well, mut count) = (0, 0);
            for (_, good) in others {
                count += 1;
                well += usize::from(*good);
            }
            let tally = tallies.entry(*node).or_default();
            tally.votes += 1;
            if !good {
                tally.bad += 1;
                tally.alone += usize::from(well * 2 > count);
            }
        }
    }
    tallies
}

#[cfg(test)]
mod tests;
