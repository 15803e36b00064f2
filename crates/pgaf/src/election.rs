//! Who is promoted.
//!
//! An election is the record with `open` set; the revision of that write names it. Each member that is asked first makes its cut durable,
//! so that no primary gets another confirmation from it, and then reports where its log ends, with that revision ([`crate::promise`]).
//! `need` reports are enough: among them somebody has every acknowledged row, and that is whoever is most advanced. Any later write of
//! the record, the old primary taking its lock again for one, voids all reports.

use std::collections::BTreeMap;

use crate::{Kind, NodeId, Position, Record};

/// What a member says after it has cut itself off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Report {
    /// The revision of the record it answers to.
    pub revision: u64,
    /// Where its log ends.
    pub position: Position,
    /// 0 to 100; 0 is never promoted.
    pub priority: u8,
}

/// Who wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winner {
    /// Who is to be promoted.
    pub node: NodeId,
    /// From whom it has to fetch the end of the log first, if not from nobody.
    pub fetch_from: Option<NodeId>,
}

/// Why there is no winner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Open {
    /// The record does not allow an election.
    #[error("the record allows no election: {0}")]
    NotAllowed(&'static str),
    /// Not enough members have reported.
    #[error("{have} of {need} reports are there")]
    Waiting {
        /// Reports with the election's revision.
        have: u32,
        /// Reports it takes.
        need: u32,
    },
    /// Everybody who reported has priority 0.
    #[error("every node that reported has candidate priority 0")]
    NoCandidate,
}

/// Judges the reports there are.
pub fn judge(record: &Record, revision: u64, reports: &BTreeMap<NodeId, Report>) -> Result<Winner, Open> {
    if !matches!(record.kind, Kind::Sync | Kind::Forced) {
        return Err(Open::NotAllowed(
            "no standby is known to have every acknowledged row",
        ));
    }
    if !record.open {
        return Err(Open::NotAllowed("no election is open"));
    }
    let valid: Vec<(NodeId, Report)> = reports
        .iter()
        .filter(|(node, report)| record.members.contains(node) && report.revision == revision)
        .map(|(node, report)| (*node, *report))
        .collect();
    let have = u32::try_from(valid.len()).expect("a group has few nodes");
    if have < record.need {
        return Err(Open::Waiting {
            have,
            need: record.need,
        });
    }
    let best = valid
        .iter()
        .filter(|(_, report)| report.priority > 0)
        .max_by_key(|(node, report)| (report.priority, report.position, std::cmp::Reverse(*node)))
        .ok_or(Open::NoCandidate)?;
    let ahead = valid
        .iter()
        .max_by_key(|(node, report)| (report.position, std::cmp::Reverse(*node)))
        .expect("at least the candidate");
    Ok(Winner {
        node: best.0,
        fetch_from: (ahead.1.position > best.1.position).then_some(ahead.0),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Names;

    fn open() -> Record {
        let names = Names::of(BTreeSet::from([2, 3]), 1).expect("fits");
        Record::first(1).settled(&names).opened()
    }

    fn report(lsn: u64, priority: u8) -> Report {
        Report {
            revision: 7,
            position: Position { timeline: 1, lsn },
            priority,
        }
    }

    #[test]
    fn priority_wins_and_fetches_what_it_lacks() {
        let reports = BTreeMap::from([(2, report(50, 90)), (3, report(60, 50))]);
        let winner = judge(&open(), 7, &reports);
        assert_eq!(
            winner,
            Ok(Winner {
                node: 2,
                fetch_from: Some(3)
            })
        );
    }

    #[test]
    fn the_longest_log_wins_among_equals_then_the_lowest_number() {
        let reports = BTreeMap::from([(2, report(50, 50)), (3, report(60, 50))]);
        assert_eq!(judge(&open(), 7, &reports).map(|winner| winner.node), Ok(3));
        let reports = BTreeMap::from([(2, report(60, 50)), (3, report(60, 50))]);
        assert_eq!(judge(&open(), 7, &reports).map(|winner| winner.node), Ok(2));
    }

    #[test]
    fn reports_of_another_election_or_of_strangers_do_not_count() {
        let other = Report {
            revision: 6,
            ..report(60, 50)
        };
        for reports in [
            BTreeMap::from([(2, report(50, 50)), (3, other)]),
            BTreeMap::from([(2, report(50, 50)), (4, report(60, 50))]),
        ] {
            assert_eq!(
                judge(&open(), 7, &reports),
                Err(Open::Waiting { have: 1, need: 2 })
            );
        }
    }

    #[test]
    fn priority_zero_is_never_promoted() {
        let reports = BTreeMap::from([(2, report(50, 0)), (3, report(60, 0))]);
        assert_eq!(judge(&open(), 7, &reports), Err(Open::NoCandidate));
    }

    #[test]
    fn who_was_chosen_by_the_operator_wins_alone() {
        let forced = Record::first(1).forced(2);
        let reports = BTreeMap::from([(2, report(50, 50)), (3, report(60, 80))]);
        let winner = Winner {
            node: 2,
            fetch_from: None,
        };
        assert_eq!(judge(&forced, 7, &reports), Ok(winner));
        assert!(judge(&forced, 8, &reports).is_err(), "cut for another election");
    }

    #[test]
    fn without_an_open_election_nobody_is_promoted() {
        let reports = BTreeMap::from([(2, report(50, 50)), (3, report(60, 50))]);
        for record in [
            Record {
                open: false,
                ..open()
            },
            open().taken_again(),
            Record::first(1).opened(),
        ] {
            assert!(matches!(judge(&record, 7, &reports), Err(Open::NotAllowed(_))));
        }
    }
}
