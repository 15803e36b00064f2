//! What has been agreed on, as nobody in the group can see it: the memory of the checks.
//!
//! The same invariants as in `ledger`, on what a state holds. Log matching needs no memory: see `World::compare`.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::{Fence, Incarnation, Index, NodeId, Position, Replica, Term};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Committed {
    position: Position,
    /// Earliest term in which somebody knew it to be committed.
    in_term: Term,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Truth {
    leaders: BTreeMap<Term, (NodeId, Incarnation)>,
    committed: BTreeMap<Index, Committed>,
    /// Recovery elections won, and whether one of them lost something within its rights.
    recovered: u8,
    lost: bool,
}

impl Truth {
    /// `leader` has won, by a recovery election if `asked` says whose votes it needed; `members` is everybody.
    pub(super) fn elect(
        &mut self,
        leader: &Replica,
        asked: Option<&Fence>,
        members: &[Rc<Replica>],
    ) -> Result<(), String> {
        let (node, term) = (leader.node(), leader.hard().term);
        let life = (node, leader.hard().incarnation);
        let known = *self.leaders.entry(term).or_insert(life);
        if known != life {
            return Err(format!(
                "election safety: members {} and {node} both lead term {term:?}",
                known.0
            ));
        }
        let lacks =
            |committed: &Committed| leader.position(committed.position.index) != Some(committed.position);
        let earlier = self
            .committed
            .values()
            .filter(|committed| committed.in_term < term);
        let missing: Vec<Committed> = earlier.filter(|committed| lacks(committed)).copied().collect();
        let Some(asked) = asked else {
            return missing.first().map_or(Ok(()), |first| {
                Err(format!(
                    "leader completeness: member {node} leads term {term:?} without {:?}, committed in term {:?}",
                    first.position, first.in_term
                ))
            });
        };
        self.recovered += 1;
        // Whoever was not asked, but should have been, is taken to have answered.
        let everybody = leader.voters_that_may_be_in_force();
        let holds = |member: &Replica, position: Position| member.position(position.index) == Some(position);
        for committed in &missing {
            let position = committed.position;
            let holder = members.iter().find(|member| {
                let life = asked.get(&member.node());
                let answered = life.is_none_or(|life| *life == member.hard().incarnation);
                everybody.contains(&member.node()) && answered && holds(member, position)
            });
            if let Some(holder) = holder {
                return Err(format!(
                    "recovery: member {node} won term {term:?} without {position:?}, which member {} held when it answered",
                    holder.node()
                ));
            }
        }
        // What was committed in a term that no disk knows any more is lost as well, even if that term is a later one.
        let forgotten = self.committed.values().filter(|committed| {
            committed.in_term > term && !members.iter().any(|member| holds(member, committed.position))
        });
        let first = missing
            .iter()
            .chain(forgotten)
            .map(|committed| committed.position.index)
            .min();
        if let Some(first) = first {
            self.committed.split_off(&first);
            self.lost = true;
        }
        Ok(())
    }

    /// `member` knows more to be committed than up to `from`.
    pub(super) fn commit(&mut self, member: &Replica, from: Index) -> Result<(), String> {
        let hard = member.hard();
        for index in from + 1..=hard.commit {
            let Some(position) = member.position(index) else {
                continue;
            };
            let committed = Committed {
                position,
                in_term: hard.term,
            };
            let known = self.committed.entry(index).or_insert(committed);
            if known.position != position {
                return Err(format!(
                    "state machine safety: {:?} was committed, and member {} commits {position:?} in term {:?}",
                    known.position,
                    member.node(),
                    hard.term
                ));
            }
            known.in_term = known.in_term.min(hard.term);
        }
        Ok(())
    }

    pub(super) fn landmarks(&self) -> Vec<&'static str> {
        let reached = [
            (!self.leaders.is_empty(), "elected"),
            (self.leaders.len() > 1, "elected twice"),
            (self.recovered > 0, "recovered"),
            (self.committed.len() > 1, "committed"),
            (self.lost, "lost by recovery"),
        ];
        reached
            .into_iter()
            .filter(|(reached, _)| *reached)
            .map(|(_, name)| name)
            .collect()
    }
}
