//! What a replica knows of its log without reading the disk: the term of every entry (as runs, so a few words for millions of
//! entries), every configuration that may still be in force, and the newest entries themselves.
//!
//! Entries that left this memory are asked of the user when a follower needs them ([`crate::Fetch`]); nothing is ever read here.
//!
//! **Invariant:** entries above what has been applied or what is on disk are always in memory.

use std::collections::VecDeque;

use crate::configuration::{Configuration, DecodeError};
use crate::entry::{Entry, Kind};
use crate::types::{Index, Position, Term};

/// The state that a log begins after: what a snapshot contains, or where the log was cut off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry whose effects are in it.
    pub position: Position,
    /// The configuration in force there.
    pub configuration: Configuration,
}

/// Entries asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    /// Here they are.
    Cached(Vec<Entry>),
    /// They have left the memory, up to and including this index.
    Evicted { until: Index },
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Log {
    base: Position,
    last: Index,
    /// First index of each run of equal terms after the base.
    runs: VecDeque<(Index, Term)>,
    /// Configurations by the index they are in force from; the first is the one at the base.
    configurations: VecDeque<(Index, Configuration)>,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
}

impl Log {
    pub(crate) fn new(base: Snapshot) -> Log {
        Log {
            base: base.position,
            last: base.position.index,
            runs: VecDeque::new(),
            configurations: VecDeque::from([(base.position.index, base.configuration)]),
            cache: VecDeque::new(),
            cache_bytes: 0,
        }
    }

    /// The position right before the first entry.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn last(&self) -> Index {
        self.last
    }

    pub(crate) fn last_position(&self) -> Position {
        self.position(self.last).expect("the last entry has a term")
    }

    /// The term of an entry, if it lies between the base and the end.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last {
            return None;
        }
        let run = self.runs.partition_point(|(start, _)| *start <= index);
        Some(self.runs[run - 1].1)
    }

    pub(crate) fn position(&self, index: Index) -> Option<Position> {
        self.term(index).map(|term| Position { term, index })
    }

    /// True if this log and any other that holds `position` are equal up to it.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term(position.index) == Some(position.term)
    }

    /// The last position at or below `at` that a log whose term there is `at.term` could share.
    pub(crate) fn shared_at_most(&self, at: Position) -> Position {
        let mut index = at.index.min(self.last);
        while let Some(term) = self.term(index) {
            if term <= at.term || index == self.base.index {
                return Position { term, index };
            }
            let run = self.runs.partition_point(|(start, _)| *start <= index);
            index = self.runs[run - 1].0 - 1;
        }
        self.base
    }

    /// Adds an entry at the end.
    pub(crate) fn append(&mut self, entry: Entry) -> Result<(), DecodeError> {
        assert_eq!(entry.index, self.last + 1, "entries continue the log");
        if entry.kind == Kind::Configuration {
            let configuration = Configuration::decode(entry.payload.clone())?;
            self.configurations.push_back((entry.index, configuration));
        }
        let newest_term = self.runs.back().map_or(self.base.term, |(_, term)| *term);
        if self.runs.is_empty() || newest_term != entry.term {
            assert!(entry.term >= newest_term, "terms never fall along a log");
            self.runs.push_back((entry.index, entry.term));
        }
        self.last = entry.index;
        self.cache_bytes += entry.size();
        self.cache.push_back(entry);
        Ok(())
    }

    /// Removes the entry at `from` and all after it; configurations among them are undone.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(
            from > self.base.index,
            "what a snapshot holds cannot be truncated"
        );
        while self.runs.back().is_some_and(|(start, _)| *start >= from) {
            self.runs.pop_back();
        }
        while self.configurations.len() > 1 && self.newest_configuration_index() >= from {
            self.configurations.pop_back();
        }
        while self.cache.back().is_some_and(|entry| entry.index >= from) {
            self.cache_bytes -= self.cache.pop_back().map_or(0, |entry| entry.size());
        }
        self.last = self.last.min(from - 1);
    }

    /// Forgets entries up to and including `index`.
    pub(crate) fn compact(&mut self, index: Index) {
        let Some(position) = self.position(index).filter(|_| index > self.base.index) else {
            return;
        };
        while self.runs.get(1).is_some_and(|(start, _)| *start <= index) {
            self.runs.pop_front();
        }
        while self.configurations.get(1).is_some_and(|(at, _)| *at <= index) {
            self.configurations.pop_front();
        }
        while self.cache.front().is_some_and(|entry| entry.index <= index) {
            self.cache_bytes -= self.cache.pop_front().map_or(0, |entry| entry.size());
        }
        self.base = position;
        if index == self.last {
            self.runs.clear();
        }
    }

    /// Lets entries up to and including `until` leave the memory, oldest first, while more than `bytes_max` are kept.
    pub(crate) fn evict(&mut self, until: Index, bytes_max: usize) {
        while self.cache_bytes > bytes_max && self.cache.front().is_some_and(|entry| entry.index <= until) {
            self.cache_bytes -= self.cache.pop_front().map_or(0, |entry| entry.size());
        }
    }

    /// Entries from `from` on: as many as fit into `bytes_max`, but at least one if there is one.
    pub(crate) fn slice(&self, from: Index, until: Index, bytes_max: usize) -> Slice {
        let until = until.min(self.last);
        if from > until {
            return Slice::Cached(Vec::new());
        }
        let first = self.cache.front().map_or(self.last + 1, |entry| entry.index);
        if from < first {
            return Slice::Evicted {
                until: (first - 1).min(until),
            };
        }
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let fits = bytes == 0 || bytes + entry.size() <= bytes_max;
            bytes += entry.size();
            fits
        };
        let start = usize::try_from(from - first).expect("the cache is in memory");
        let count = usize::try_from(until - from + 1).expect("the cache is in memory");
        Slice::Cached(
            self.cache
                .iter()
                .skip(start)
                .take(count)
                .take_while(fits)
                .cloned()
                .collect(),
        )
    }

    /// The configuration in force: the newest one appended.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configurations.back().expect("there is always one").1
    }

    pub(crate) fn newest_configuration_index(&self) -> Index {
        self.configurations.back().expect("there is always one").0
    }

    /// The configuration as of `index`, and where it began.
    pub(crate) fn configuration_at(&self, index: Index) -> (Index, &Configuration) {
        let after = self.configurations.partition_point(|(at, _)| *at <= index);
        let (at, configuration) = &self.configurations[after.saturating_sub(1)];
        (*at, configuration)
    }

    /// Every configuration from the one in force at `index` to the newest.
    pub(crate) fn configurations_from(&self, index: Index) -> impl Iterator<Item = &Configuration> {
        let (from, _) = self.configuration_at(index);
        self.configurations
            .iter()
            .filter(move |(at, _)| *at >= from)
            .map(|(_, configuration)| configuration)
    }

    /// What a snapshot taken at `index` is described by.
    pub(crate) fn snapshot_at(&self, index: Index) -> Option<Snapshot> {
        self.position(index).map(|position| Snapshot {
            position,
            configuration: self.configuration_at(index).1.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Incarnation, NodeId};

    fn voters(ids: std::ops::RangeInclusive<u64>) -> Configuration {
        Configuration::of_voters(ids.map(|id| (NodeId(id), Incarnation(id), Bytes::new())))
    }

    fn entry(index: Index, term: u64) -> Entry {
        Entry {
            index,
            term: Term(term),
            kind: Kind::Command,
            payload: Bytes::from_static(b"xxxxxxxx"),
        }
    }

    fn change(index: Index, term: u64, configuration: &Configuration) -> Entry {
        Entry {
            kind: Kind::Configuration,
            payload: configuration.encode(),
            ..entry(index, term)
        }
    }

    fn log() -> Log {
        let mut log = Log::new(Snapshot::default());
        log.append(change(1, 1, &voters(1..=3))).unwrap();
        for (index, term) in [(2, 1), (3, 1), (4, 2), (5, 4), (6, 4)] {
            log.append(entry(index, term)).unwrap();
        }
        log.append(change(7, 4, &voters(1..=4))).unwrap();
        log
    }

    #[test]
    fn terms_and_configurations_survive_compaction() {
        let mut log = log();
        let terms = |log: &Log| {
            (0..=8)
                .map(|index| log.term(index).map(|term| term.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            terms(&log)[1..],
            [
                Some(1),
                Some(1),
                Some(1),
                Some(2),
                Some(4),
                Some(4),
                Some(4),
                None
            ]
        );
        log.compact(4);
        assert_eq!(
            terms(&log),
            [None, None, None, None, Some(2), Some(4), Some(4), Some(4), None]
        );
        assert_eq!(log.configuration_at(6).1, &voters(1..=3));
        log.compact(7);
        assert_eq!(log.configuration(), &voters(1..=4));
        log.append(entry(8, 4)).unwrap();
        assert_eq!((log.term(7), log.term(8)), (Some(Term(4)), Some(Term(4))));
    }

    #[test]
    fn truncation_undoes_configurations() {
        let mut log = log();
        assert_eq!(log.configuration(), &voters(1..=4));
        log.truncate(7);
        assert_eq!(log.configuration(), &voters(1..=3));
        assert_eq!(log.last(), 6);
        log.truncate(2);
        assert_eq!((log.last(), log.term(2)), (1, None));
        assert_eq!(log.configurations_from(0).count(), 2);
    }

    #[test]
    fn the_search_for_a_shared_position_skips_newer_terms() {
        let log = log();
        let at = |index, term| {
            log.shared_at_most(Position {
                term: Term(term),
                index,
            })
        };
        assert_eq!(at(6, 3).index, 4);
        assert_eq!(at(9, 9).index, 7);
        assert_eq!(at(6, 0).index, 0);
    }

    #[test]
    fn old_entries_leave_the_memory_and_are_asked_for() {
        let mut log = log();
        log.evict(3, 0);
        assert_eq!(log.slice(2, 9, 1000), Slice::Evicted { until: 3 });
        let Slice::Cached(entries) = log.slice(4, 6, 1) else {
            panic!("cached")
        };
        assert_eq!(entries, [entry(4, 2)]);
    }
}
