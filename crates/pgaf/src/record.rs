//! Who may be promoted without losing an acknowledged row.
//!
//! A commit that was acknowledged under `ANY n (P)` is on n standbys of P. Whoever asks enough nodes of a set that covers P finds one that
//! has it: if `need` nodes of `members` answer, they meet every n nodes of P exactly if `need + n > |members ∪ P|`. That inequality, for
//! every value of the names that PostgreSQL may be using at the moment, is the invariant everything else serves ([`Record::covers`]).
//!
//! The record lies in the store, the names in PostgreSQL's configuration, and no transaction holds both. So the record is made to cover the
//! old and the new names before the names change, and is narrowed to the new names only when these are certainly in effect and certainly
//! have everything that was acknowledged under the old ones. [`crate::change`] has the steps.
//!
//! The record stands on no lease: when everybody's clock is wrong it still says the same.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Names, NodeId};

/// Where somebody is in the write-ahead log. The timeline decides first: an old timeline may be longer than the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The timeline's number.
    pub timeline: u32,
    /// Byte position, as PostgreSQL's `pg_lsn`.
    pub lsn: u64,
}

/// On whose word somebody may be promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `need` members that have cut themselves off decide; nothing acknowledged is lost.
    Sync,
    /// Acknowledged rows may be on `node` only: nobody but it, or who has all it had when it was stopped cleanly.
    Alone,
    /// No standby takes part in acknowledging, by the operator's wish; some rows may be lost.
    Async,
    /// The one member may be promoted by the word of the operator, who accepts that rows are lost.
    Forced,
}

/// What the store holds about a group's acknowledged rows. Every write of it compares the revision of what it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Grows with every taking of the lock.
    pub epoch: u64,
    /// Who took it.
    pub node: NodeId,
    /// Who may be promoted.
    pub kind: Kind,
    /// Standbys that may have acknowledged rows, or the one that the operator has chosen; empty if `kind` is another one.
    pub members: BTreeSet<NodeId>,
    /// How many of them certainly have, among them, every acknowledged row.
    pub need: u32,
    /// Whether an election is open; the record's revision is its name.
    pub open: bool,
    /// Where `node` was when it stopped cleanly, if it did and has not begun again.
    pub released: Option<Position>,
}

impl Record {
    /// The first record of a group, of a node that is alone in it.
    #[must_use]
    pub fn first(node: NodeId) -> Record {
        Record {
            epoch: 1,
            node,
            kind: Kind::Alone,
            members: BTreeSet::new(),
            need: 0,
            open: false,
            released: None,
        }
    }

    /// Whether somebody promoted by this record has all that is acknowledged under `names`.
    #[must_use]
    pub fn covers(&self, names: &Names) -> bool {
        match self.kind {
            Kind::Alone | Kind::Async | Kind::Forced => true,
            Kind::Sync => {
                let all = self.members.union(names.members()).count();
                names.any() > 0 && (self.need + names.any()) as usize > all
            }
        }
    }

    /// What is stored before names change: covers the old ones and the new ones, whichever acknowledges.
    ///
    /// It demands of the old members at least what was demanded before: an earlier change may have ended halfway, with rows that were
    /// acknowledged by fewer than either of these names asks. And who is alone stays alone: the standbys may lack what came before.
    #[must_use]
    pub fn covering(&self, old: &Names, new: &Names) -> Record {
        if self.kind != Kind::Sync || old.any() == 0 || new.any() == 0 {
            return self.alone();
        }
        let members: BTreeSet<NodeId> = [&self.members, old.members(), new.members()]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let all = count(&members);
        let joined = all - count(&self.members);
        Record {
            need: (all - old.any().min(new.any()) + 1).max(self.need + joined),
            members,
            open: false,
            released: None,
            ..self.clone()
        }
    }

    /// What is stored when `names` are in effect and enough of their members have everything.
    #[must_use]
    pub fn settled(&self, names: &Names) -> Record {
        if names.any() == 0 {
            return self.alone();
        }
        Record {
            kind: Kind::Sync,
            members: names.members().clone(),
            need: count(names.members()) - names.any() + 1,
            open: false,
            released: None,
            ..self.clone()
        }
    }

    fn alone(&self) -> Record {
        Record {
            kind: Kind::Alone,
            members: BTreeSet::new(),
            need: 0,
            open: false,
            released: None,
            ..self.clone()
        }
    }

    /// What whoever takes the lock from another node stores with it: as yet nobody has what it will acknowledge.
    #[must_use]
    pub fn taken_by(&self, node: NodeId) -> Record {
        Record {
            epoch: self.epoch + 1,
            node,
            ..self.alone()
        }
    }

    /// What `node` itself stores when it takes the lock again. An election that was open is void, and so is the operator's word: nothing is
    /// lost, and who had been chosen does not have what is acknowledged from now on.
    #[must_use]
    pub fn taken_again(&self) -> Record {
        let base = if self.kind == Kind::Forced {
            self.alone()
        } else {
            self.clone()
        };
        Record {
            epoch: self.epoch + 1,
            open: false,
            released: None,
            ..base
        }
    }

    /// With an election open that `chosen` wins as soon as it has cut itself off, whatever it lacks: the operator accepts the loss.
    #[must_use]
    pub fn forced(&self, chosen: NodeId) -> Record {
        Record {
            kind: Kind::Forced,
            members: BTreeSet::from([chosen]),
            need: 1,
            open: true,
            released: None,
            ..self.clone()
        }
    }

    /// With an election open.
    #[must_use]
    pub fn opened(&self) -> Record {
        Record {
            open: true,
            ..self.clone()
        }
    }

    /// With the position at which `node` stopped cleanly.
    #[must_use]
    pub fn released_at(&self, position: Position) -> Record {
        Record {
            released: Some(position),
            ..self.clone()
        }
    }
}

fn count(members: &BTreeSet<NodeId>) -> u32 {
    u32::try_from(members.len()).expect("a group has few nodes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_names() -> impl Strategy<Value = Names> {
        prop::collection::btree_set(2_u32..7, 0..5).prop_flat_map(|members| {
            let most = count(&members);
            (most.min(1)..=most).prop_map(move |any| Names::of(members.clone(), any).expect("within bounds"))
        })
    }

    /// A record as it is at rest under `names`.
    fn at_rest(names: &Names) -> Record {
        Record::first(1).settled(names)
    }

    proptest! {
        #[test]
        fn between_old_and_new_names_both_are_covered(old in any_names(), new in any_names(), newer in any_names()) {
            let rest = at_rest(&old);
            prop_assert!(rest.covers(&old));
            let first = rest.covering(&old, &new);
            prop_assert!(first.covers(&old) && first.covers(&new));
            // The change ended halfway, with the new names in effect; another begins.
            let second = first.covering(&new, &newer);
            prop_assert!(second.covers(&old) && second.covers(&new) && second.covers(&newer));
            prop_assert!(second.settled(&newer).covers(&newer));
        }
    }

    #[test]
    fn at_rest_any_one_of_two_takes_both() {
        let names: Names = "ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"
            .parse()
            .expect("ours");
        assert_eq!(at_rest(&names).need, 2);
    }

    #[test]
    fn who_is_alone_stays_alone_until_a_change_has_ended() {
        let names: Names = "ANY 1 (pgautofailover_standby_2)".parse().expect("ours");
        let taken = at_rest(&names).taken_by(2);
        assert_eq!(taken.kind, Kind::Alone);
        assert_eq!(taken.covering(&names, &names).kind, Kind::Alone);
    }

    #[test]
    fn the_operators_word_is_void_when_the_old_primary_goes_on() {
        let names: Names = "ANY 2 (pgautofailover_standby_2, pgautofailover_standby_3)"
            .parse()
            .expect("ours");
        let forced = at_rest(&names).forced(2);
        assert!(forced.open && forced.need == 1 && forced.members == BTreeSet::from([2]));
        for next in [
            forced.taken_again(),
            forced.taken_by(2),
            forced.covering(&names, &names),
        ] {
            assert_eq!(
                (next.kind, next.members.len(), next.open),
                (Kind::Alone, 0, false)
            );
        }
        assert_eq!(forced.taken_by(2).epoch, forced.epoch + 1);
    }

    #[test]
    fn the_record_is_written_as_the_specification_names_it() {
        let names: Names = "ANY 1 (pgautofailover_standby_2)".parse().expect("ours");
        let text = serde_json::to_string(&at_rest(&names)).expect("plain data");
        assert_eq!(
            text,
            r#"{"epoch":1,"node":1,"kind":"sync","members":[2],"need":1,"open":false,"released":null}"#
        );
    }

    #[test]
    fn timelines_decide_before_positions() {
        let old = Position {
            timeline: 1,
            lsn: 900,
        };
        let new = Position {
            timeline: 2,
            lsn: 100,
        };
        assert!(new > old);
    }
}
