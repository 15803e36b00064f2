//! What must hold after every step, however it came about.
//!
//! - *Election safety*: a term has one leader.
//! - *Log matching*: entries with the same index and term are equal and follow the same position, wherever they are.
//! - *Leader completeness*: a leader holds every entry that was committed in an earlier term.
//! - *State machine safety*: what is committed at an index is the same for everybody, for ever; nothing committed is lost.
//! - *Recovery*: a recovery election loses a committed entry only if no voter that answered held it.

use std::collections::BTreeMap;

use super::node::Node;
use crate::{Entry, Fence, Incarnation, Index, NodeId, Position, Replica, RoleName, Term};

#[derive(Debug, Clone, Copy)]
struct Committed {
    position: Position,
    /// Term of the leader that committed it.
    in_term: Term,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    leaders: BTreeMap<Term, (NodeId, Incarnation)>,
    /// By position: a fingerprint of the entry, and the position before it.
    entries: BTreeMap<Position, (u32, Position)>,
    committed: BTreeMap<Index, Committed>,
    digests: BTreeMap<Index, u64>,
    /// By the term of a recovery election: the lives it is held with.
    recoveries: BTreeMap<Term, Fence>,
    /// Committed entries that recovery elections lost, within their rights.
    pub(super) lost: u64,
    /// Leaders elected by recovery elections.
    pub(super) recovered: u64,
    pub(super) elections: u64,
}

type Judgement = Result<(), String>;

impl Ledger {
    /// A new group is founded while nobody holds anything of an earlier one.
    pub(super) fn begin_anew(&mut self) {
        *self = Ledger {
            lost: self.lost + self.committed.len() as u64,
            recovered: self.recovered,
            elections: self.elections,
            ..Ledger::default()
        };
    }

    /// `candidate` holds a recovery election. With whom is noted here, because a broken clause may make it forget.
    pub(super) fn begin_recovery(&mut self, term: Term, candidate: &Replica) {
        let asked = candidate.asked_in_recovery().cloned().unwrap_or_default();
        self.recoveries.insert(term, asked);
    }

    /// An entry is about to be written after `previous`.
    pub(super) fn append(&mut self, previous: Position, entry: &Entry) -> Judgement {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let found = (crc32c::crc32c(&bytes), previous);
        let known = *self.entries.entry(entry.position()).or_insert(found);
        if known == found {
            Ok(())
        } else {
            Err(format!(
                "log matching: entry {:?} exists in two versions",
                entry.position()
            ))
        }
    }

    /// `node` knows more to be committed than before.
    pub(super) fn commit(&mut self, node: &Node, replica: &Replica, from: Index) -> Judgement {
        let status = replica.status();
        for index in from + 1..=status.commit {
            let Some(position) = node.position(index) else {
                continue;
            };
            let committed = Committed {
                position,
                in_term: status.term,
            };
            let known = self.committed.entry(index).or_insert(committed);
            if known.position != position {
                return Err(format!(
                    "state machine safety: {:?} was committed, and member {} commits {position:?} in term {:?}",
                    known.position, node.id, status.term
                ));
            }
            known.in_term = known.in_term.min(status.term);
        }
        Ok(())
    }

    /// `node` has applied everything up to `index`.
    pub(super) fn apply(&mut self, node: NodeId, index: Index, digest: u64) -> Judgement {
        if *self.digests.entry(index).or_insert(digest) == digest {
            Ok(())
        } else {
            Err(format!(
                "state machine safety: member {node} has another state at {index}"
            ))
        }
    }

    /// `leader` became one. `others` are all members, itself included.
    pub(super) fn elect(
        &mut self,
        leader: &Node,
        replica: &Replica,
        others: &BTreeMap<NodeId, Node>,
    ) -> Judgement {
        let status = replica.status();
        assert_eq!(status.role, RoleName::Leader, "asked right after the election");
        let life = (leader.id, status.incarnation);
        self.elections += 1;
        let known = *self.leaders.entry(status.term).or_insert(life);
        if known != life {
            return Err(format!(
                "election safety: members {} and {} both lead term {:?}",
                known.0, leader.id, status.term
            ));
        }
        let asked = self.recoveries.get(&status.term);
        let recovery = asked.is_some();
        // With every disk that knew of a later epoch gone, a recovery election may well end in an earlier one.
        let missing: Vec<Committed> = self
            .committed
            .values()
            .filter(|committed| committed.in_term < status.term || recovery)
            .filter(|committed| !leader.holds(committed.position))
            .copied()
            .collect();
        self.recovered += u64::from(recovery);
        let Some(first) = missing.first() else {
            return Ok(());
        };
        let Some(asked) = asked else {
            return Err(format!(
                "leader completeness: member {} leads term {:?} without {:?}, committed in term {:?}",
                leader.id, status.term, first.position, first.in_term
            ));
        };
        for committed in &missing {
            for (node, life) in asked {
                let holder = others.get(node).filter(|other| other.life() == Some(*life));
                if holder.is_some_and(|other| other.holds(committed.position)) {
                    return Err(format!(
                        "recovery: member {} won term {:?} without {:?}, which member {node} held when it answered",
                        leader.id, status.term, committed.position
                    ));
                }
            }
        }
        self.lost += missing.len() as u64;
        let from = first.position.index;
        self.committed.split_off(&from);
        self.digests.split_off(&from);
        Ok(())
    }
}
