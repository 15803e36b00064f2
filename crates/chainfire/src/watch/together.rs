//! Which of many watches a change concerns: what lets them read the past together, each change once, however many they are.

use std::collections::HashMap;

use bytes::Bytes;

use super::hub::WatchId;
use super::intervals::IntervalMap;
use crate::mvcc::{KeyRange, Revision};

/// Watches by the keys they are for, each with the first revision it still lacks.
#[derive(Debug, Default)]
pub(super) struct Together {
    keys: HashMap<Bytes, Vec<(WatchId, Revision)>>,
    ranges: IntervalMap<Vec<(WatchId, Revision)>>,
}

impl Together {
    /// Adds a watch that lacks everything from revision `from` on.
    pub(super) fn add(&mut self, id: WatchId, range: &KeyRange, from: Revision) {
        match range.as_single() {
            Some(key) => self.keys.entry(key.clone()).or_default().push((id, from)),
            None => match self.ranges.get_mut(range) {
                Some(watches) => watches.push((id, from)),
                None => self.ranges.insert(range.clone(), vec![(id, from)]),
            },
        }
    }

    /// True if a change of `key` concerns one of them, whatever its revision.
    pub(super) fn concerns(&self, key: &[u8]) -> bool {
        let mut found = self.keys.contains_key(key);
        if !found {
            self.ranges.containing(key, &mut |_| found = true);
        }
        found
    }

    /// Calls `each` with those that lack the change of `key` in `revision`.
    pub(super) fn lacking(&self, key: &[u8], revision: Revision, each: &mut dyn FnMut(WatchId)) {
        let mut give = |watches: &Vec<(WatchId, Revision)>| {
            for (id, from) in watches {
                if *from <= revision {
                    each(*id);
                }
            }
        };
        self.keys.get(key).into_iter().for_each(&mut give);
        self.ranges.containing(key, &mut give);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_those_who_have_its_key_and_lack_its_revision() {
        let mut together = Together::default();
        together.add(1, &KeyRange::single(Bytes::from_static(b"a")), 5);
        together.add(2, &KeyRange::single(Bytes::from_static(b"a")), 7);
        together.add(3, &KeyRange::prefix(b"a"), 6);
        together.add(4, &KeyRange::prefix(b"a"), 2);
        let lacking = |key: &[u8], revision| {
            let mut ids = Vec::new();
            together.lacking(key, revision, &mut |id| ids.push(id));
            ids.sort_unstable();
            ids
        };
        assert_eq!(lacking(b"a", 6), [1, 3, 4]);
        assert_eq!(lacking(b"ab", 9), [3, 4]);
        assert_eq!(lacking(b"b", 9), Vec::<WatchId>::new());
        assert!(together.concerns(b"a") && together.concerns(b"ab") && !together.concerns(b"b"));
    }
}
