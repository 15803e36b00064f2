//! Which write each revision is, as told by whoever knows: answers, reads, watches and the state at the end must tell the same.
//!
//! Every write of a trial stores another value with one key, and nothing else changes the store, so a revision is one value, and a value
//! has one revision. The ledger remembers what was told first and holds everything told later against it. It also knows the highest
//! revision that anybody was answered with: whoever asks afterwards must not get an older one. A write costs three words.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::findings::{Findings, Kind};

/// What a key has at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: u64,
    pub(crate) value: u64,
}

/// All that is known of revisions.
#[derive(Debug)]
pub(crate) struct Ledger {
    findings: Arc<Findings>,
    known: Mutex<Known>,
    answered: AtomicI64,
    next_value: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    by_revision: HashMap<i64, Write>,
    by_value: HashMap<u64, i64>,
}

impl Ledger {
    /// Knows nothing.
    pub(crate) fn new(findings: Arc<Findings>) -> Self {
        Self {
            findings,
            known: Mutex::default(),
            answered: AtomicI64::new(0),
            next_value: AtomicU64::new(1),
        }
    }

    /// A value that was never written.
    pub(crate) fn new_value(&self) -> u64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    /// `who` says that this revision is this write.
    pub(crate) fn told(&self, revision: i64, write: Write, who: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Write { key, value } = write;
        if value == 0 || value >= self.next_value.load(Ordering::Relaxed) {
            self.findings.add(
                Kind::Disagreement,
                &format!("{who}: value {value} of key {key} at revision {revision} was never written"),
            );
        }
        let first = *known.by_revision.entry(revision).or_insert(write);
        if first != write {
            self.findings.add(
                Kind::Disagreement,
                &format!(
                    "{who}: revision {revision} is value {value} of key {key}; told before: value {} of key {}",
                    first.value, first.key
                ),
            );
        }
        let at = *known.by_value.entry(value).or_insert(revision);
        if at != revision {
            self.findings.add(
                Kind::Disagreement,
                &format!("{who}: value {value} of key {key} was written at revision {revision}; told before: at {at}"),
            );
        }
    }

    /// The highest revision that anybody was answered with. Ask before calling.
    pub(crate) fn answered(&self) -> i64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Somebody who knew of `before` when calling was answered at this revision; a write is a new one.
    pub(crate) fn answer(&self, before: i64, revision: i64, is_write: bool, what: &dyn Fn() -> String) {
        if revision < before || (is_write && revision == before) {
            self.findings.add(
                Kind::WentBack,
                &format!(
                    "{}: answered at revision {revision}, although {before} was answered before it was called",
                    what()
                ),
            );
        }
        self.answered.fetch_max(revision, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Arc<Findings>, Ledger) {
        let findings = Arc::new(Findings::new(std::env::temp_dir()));
        let ledger = Ledger::new(Arc::clone(&findings));
        for _ in 0..10 {
            ledger.new_value();
        }
        (findings, ledger)
    }

    #[test]
    fn what_agrees_is_no_finding() {
        let (findings, ledger) = ledger();
        ledger.told(2, Write { key: 1, value: 1 }, "an answer");
        ledger.told(2, Write { key: 1, value: 1 }, "a watch");
        ledger.told(3, Write { key: 1, value: 2 }, "a watch");
        ledger.answer(0, 3, true, &String::new);
        ledger.answer(3, 3, false, &String::new);
        assert!(findings.none());
        assert_eq!(ledger.answered(), 3);
    }

    #[test]
    fn two_stories_of_a_revision_or_a_value_are_findings() {
        for (revision, key, value) in [(2, 1, 2), (2, 2, 1), (3, 1, 1), (3, 1, 11)] {
            let (findings, ledger) = ledger();
            ledger.told(2, Write { key: 1, value: 1 }, "an answer");
            ledger.told(revision, Write { key, value }, "a watch");
            assert!(!findings.none(), "{revision} {key} {value}");
        }
    }

    #[test]
    fn an_old_answer_is_a_finding() {
        for (before, revision, is_write) in [(5, 4, false), (5, 5, true)] {
            let (findings, ledger) = ledger();
            ledger.answer(before, revision, is_write, &String::new);
            assert_eq!(findings.counts(), [("went back", 1)]);
        }
    }
}
