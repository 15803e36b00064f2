//! Keys in use, and their histories until they are judged.
//!
//! A few keys are in use at a time. When a key has had its operations it is replaced by a new one, and when the last of them has ended
//! its history is judged by a thread of its own and dropped; only the values that it may hold at the end are kept.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sim::history::{Operation, Record, Records, Violation};

use crate::findings::{Findings, Kind};

/// A key and what was done with it.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) number: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Records,
    /// What was seen last, for compare-and-swap to have a chance.
    seen: Option<u64>,
    begun: u32,
    ended: u32,
    full: bool,
}

impl Key {
    fn new(number: u64) -> Arc<Self> {
        Arc::new(Self {
            number,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen last.
    pub(crate) fn seen(&self) -> Option<u64> {
        self.state().seen
    }
}

/// The name of the key with this number.
pub(crate) fn name(number: u64) -> Vec<u8> {
    format!("key-{number:08}").into_bytes()
}

/// The number of the key with this name.
pub(crate) fn number(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.strip_prefix("key-")?.parse().ok()
}

/// The keys in use.
#[derive(Debug)]
pub(crate) struct Keys {
    slots: Mutex<Slots>,
    per_key: u32,
}

#[derive(Debug)]
struct Slots {
    keys: Vec<Arc<Key>>,
    next: u64,
    judge: Sender<Arc<Key>>,
}

impl Keys {
    /// So many keys in use, each for so many operations; full ones go to `judge`.
    pub(crate) fn new(in_use: u32, per_key: u32, judge: Sender<Arc<Key>>) -> Self {
        let next = u64::from(in_use);
        Self {
            slots: Mutex::new(Slots {
                keys: (0..next).map(Key::new).collect(),
                next,
                judge,
            }),
            per_key,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key in a slot, for one operation, which must be ended with [`Keys::end`].
    pub(crate) fn begin(&self, slot: u64) -> Arc<Key> {
        let mut slots = self.slots();
        let at = (slot % slots.keys.len() as u64) as usize;
        let key = Arc::clone(&slots.keys[at]);
        let mut state = key.state();
        state.begun += 1;
        if state.begun == self.per_key {
            state.full = true;
            slots.keys[at] = Key::new(slots.next);
            slots.next += 1;
        }
        drop(state);
        key
    }

    /// Ends an operation: what it was, unless nothing was done.
    pub(crate) fn end(&self, key: &Arc<Key>, record: Option<Record>) {
        let mut state = key.state();
        if let Some(record) = record {
            state.records.record(record);
            if record.returned.is_some() {
                state.seen = match record.operation {
                    Operation::Read(value) => value,
                    Operation::Write(value) | Operation::Swap { new: value, .. } => Some(value),
                };
            }
        }
        state.ended += 1;
        let done = state.full && state.ended == state.begun;
        // Whoever begins an operation takes the two locks the other way round.
        drop(state);
        if done {
            // The judge is gone only if it panicked, which is told when it is joined.
            let _ = self.slots().judge.send(Arc::clone(key));
        }
    }

    /// Gives all keys to the judge. To be called when all operations have ended.
    pub(crate) fn retire(self) {
        let slots = self.slots.into_inner().unwrap_or_else(PoisonError::into_inner);
        for key in slots.keys {
            let _ = slots.judge.send(key);
        }
    }
}

/// What the judge knows when all keys were judged.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) operations: usize,
    /// Of each key, the values that it may hold.
    pub(crate) finals: BTreeMap<u64, Vec<Option<u64>>>,
}

/// Judges keys until no more can come.
pub(crate) fn judge(keys: &Receiver<Arc<Key>>, findings: &Findings) -> Judged {
    let mut judged = Judged::default();
    for key in keys {
        let records = std::mem::take(&mut key.state().records);
        let number = key.number;
        judged.operations += records.len();
        match records.check() {
            Ok(()) => {
                judged.finals.insert(number, records.finals());
            }
            Err(records) => findings.add_with(
                Kind::NotLinearizable,
                &format!(
                    "no order explains the {} operations on key {number}",
                    records.len()
                ),
                &format!("history-of-key-{number}.txt"),
                &Violation { key: number, records }.to_string(),
            ),
        }
    }
    judged
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_full_key_is_judged_when_its_last_operation_has_ended() {
        let (judge, judged) = mpsc::channel();
        let keys = Keys::new(1, 2, judge);
        let (one, two) = (keys.begin(0), keys.begin(0));
        let next = keys.begin(0);
        assert_eq!((one.number, two.number, next.number), (0, 0, 1));
        keys.end(&one, None);
        assert!(judged.try_recv().is_err());
        let record = Record {
            called: 1,
            returned: Some(2),
            operation: Operation::Write(7),
        };
        keys.end(&two, Some(record));
        assert_eq!(judged.try_recv().unwrap().number, 0);
        assert_eq!((one.seen(), next.seen()), (Some(7), None));
        keys.end(&next, None);
        keys.retire();
        assert_eq!(judged.recv().unwrap().number, 1);
        assert!(judged.recv().is_err());
    }

    #[test]
    fn a_stale_read_is_found_and_its_history_kept() {
        let dir = tempfile::tempdir().unwrap();
        let findings = Findings::new(dir.path().to_owned());
        let (judge, judged) = mpsc::channel();
        let keys = Keys::new(1, 100, judge);
        for (called, operation) in [(1, Operation::Write(1)), (3, Operation::Read(None))] {
            let key = keys.begin(0);
            let record = Record {
                called,
                returned: Some(called + 1),
                operation,
            };
            keys.end(&key, Some(record));
        }
        keys.retire();
        super::judge(&judged, &findings);
        assert_eq!(findings.counts(), [("not linearizable", 1)]);
        let kept = std::fs::read_to_string(dir.path().join("history-of-key-0.txt")).unwrap();
        assert!(kept.contains("Read(None)"), "{kept}");
    }

    #[test]
    fn names_and_numbers_of_keys_belong_together() {
        assert_eq!(number(&name(17)), Some(17));
        assert_eq!(number(b"other"), None);
    }
}
