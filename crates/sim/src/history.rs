//! Judges what clients saw: is there an order of the operations, each at one instant between its call and its return, in which a plain
//! register per key would have answered the same?
//!
//! The search is Wing and Gong's, with Lowe's memory of configurations already tried, key by key (linearizability is local). Operations
//! whose outcome is unknown may take effect at any time after their call, or never. If all values written to a key differ, most of
//! these are decided before the search (see `settle`), so that it stays short however many there are.
//!
//! A long run stays in bounded memory if it goes on to new keys from time to time: a key that nobody writes any more is judged, what it
//! may hold from then on is asked of [`Records::finals`], and its records are dropped.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// What a client did with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Stored this value; outcome unknown if it never returned.
    Write(u64),
    /// Read this value; nothing if the key was not there.
    Read(Option<u64>),
    /// Stored `new` if the value was `old`, and whether it was; `None` if it never returned.
    Swap {
        /// Expected.
        old: Option<u64>,
        /// Stored.
        new: u64,
        /// What the client was told.
        swapped: Option<bool>,
    },
}

/// One operation of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// When it was called.
    pub called: u64,
    /// When it returned; nothing if it is not known to have been carried out.
    pub returned: Option<u64>,
    /// What it was.
    pub operation: Operation,
}

/// No order explains the operations on this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The key.
    pub key: u64,
    /// All that was done with it, by the time of the call.
    pub records: Vec<Record>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no order explains the operations on key {}:", self.key)?;
        for Record {
            called,
            returned,
            operation,
        } in &self.records
        {
            match returned {
                Some(returned) => writeln!(f, "  {called:>10} .. {returned:>10} {operation:?}")?,
                None => writeln!(f, "  {called:>10} ..          ? {operation:?}")?,
            }
        }
        Ok(())
    }
}

/// What was done with one key.
#[derive(Debug, Clone, Default)]
pub struct Records(Vec<Record>);

impl Records {
    /// Adds an operation. A read that never returned says nothing and need not be recorded.
    pub fn record(&mut self, record: Record) {
        self.0.push(record);
    }

    /// Operations recorded.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an order explains them all; otherwise all of them by the time of the call.
    pub fn check(&self) -> Result<(), Vec<Record>> {
        let mut records = self.0.clone();
        records.sort_by_key(|record| record.called);
        if is_linearizable(&settle(&records)) {
            Ok(())
        } else {
            Err(records)
        }
    }

    /// The states that a read may find when everything that was called has ended, or will end unseen: those with which the history is
    /// linearizable. Operations of unknown outcome may still take effect then.
    pub fn finals(&self) -> Vec<Option<u64>> {
        let overwritten = |record: &Record| {
            let Some(returned) = record.returned else {
                return false;
            };
            self.0.iter().any(|other| {
                other.called > returned
                    && other.returned.is_some()
                    && matches!(
                        other.operation,
                        Operation::Write(_)
                            | Operation::Swap {
                                swapped: Some(true),
                                ..
                            }
                    )
            })
        };
        let mut states: Vec<State> = self
            .0
            .iter()
            .filter(|record| !overwritten(record))
            .filter_map(|record| written(&record.operation))
            .map(Some)
            .collect();
        states.push(None);
        states.sort_unstable();
        states.dedup();
        states.retain(|&state| {
            let mut and_then = self.clone();
            and_then.record(Record {
                called: u64::MAX - 1,
                returned: Some(u64::MAX),
                operation: Operation::Read(state),
            });
            and_then.check().is_ok()
        });
        states
    }
}

/// What all clients did.
#[derive(Debug, Clone, Default)]
pub struct History {
    keys: BTreeMap<u64, Records>,
}

impl History {
    /// Adds an operation. A read that never returned says nothing and need not be recorded.
    pub fn record(&mut self, key: u64, record: Record) {
        self.keys.entry(key).or_default().record(record);
    }

    /// Operations recorded.
    pub fn len(&self) -> usize {
        self.keys.values().map(Records::len).sum()
    }

    /// True if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the history is linearizable.
    pub fn check(&self) -> Result<(), Box<Violation>> {
        for (&key, records) in &self.keys {
            records
                .check()
                .map_err(|records| Box::new(Violation { key, records }))?;
        }
        Ok(())
    }
}

/// The value that the operation stores if it is carried out.
fn written(operation: &Operation) -> Option<u64> {
    match *operation {
        Operation::Write(value) => Some(value),
        Operation::Swap {
            new,
            swapped: None | Some(true),
            ..
        } => Some(new),
        Operation::Swap { .. } | Operation::Read(_) => None,
    }
}

/// Decides operations of unknown outcome without a search, if all values written differ and no swap has failed: one whose value was seen
/// has happened, at the latest when the first who saw it returned; one whose value nobody saw might as well not have happened, since
/// whatever came next has overwritten it. Otherwise the records as they are: a failed swap may be explained by a value that nobody
/// else saw, and of two equal values one cannot tell which was seen.
fn settle(records: &[Record]) -> Vec<Record> {
    let mut values: Vec<u64> = records
        .iter()
        .filter_map(|record| written(&record.operation))
        .collect();
    let count = values.len();
    values.sort_unstable();
    values.dedup();
    let failed_swap = |record: &Record| {
        matches!(
            record.operation,
            Operation::Swap {
                swapped: Some(false),
                ..
            }
        )
    };
    if values.len() < count || records.iter().any(failed_swap) {
        return records.to_vec();
    }
    let mut settled = records.to_vec();
    loop {
        // The first return of an operation that saw this value.
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for record in &settled {
            let saw = match record.operation {
                Operation::Read(saw) => saw,
                Operation::Swap {
                    old,
                    swapped: Some(true),
                    ..
                } => old,
                Operation::Swap { .. } | Operation::Write(_) => None,
            };
            if let (Some(saw), Some(returned)) = (saw, record.returned) {
                let first = seen.entry(saw).or_insert(returned);
                *first = returned.min(*first);
            }
        }
        let mut changed = false;
        for record in settled.iter_mut().filter(|record| record.returned.is_none()) {
            let Some(&first) = written(&record.operation).and_then(|value| seen.get(&value)) else {
                continue;
            };
            // Seen before it was called: no order explains that, and the search says so.
            record.returned = Some(first.max(record.called));
            if let Operation::Swap { swapped, .. } = &mut record.operation {
                *swapped = Some(true);
            }
            changed = true;
        }
        // A swap that has happened has seen its old value in its turn.
        if !changed {
            settled.retain(|record| record.returned.is_some());
            return settled;
        }
    }
}

type State = Option<u64>;

/// The state after the operation, if the operation is possible in this state.
fn apply(state: State, record: &Record) -> Option<State> {
    match record.operation {
        Operation::Write(value) => Some(Some(value)),
        Operation::Read(value) => (state == value).then_some(state),
        Operation::Swap { old, new, swapped } => {
            let fits = state == old;
            match swapped {
                Some(told) if told != fits => None,
                _ => Some(if fits { Some(new) } else { state }),
            }
        }
    }
}

/// Which operations are placed, and the state they lead to.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Placed {
    bits: Vec<u64>,
    state: State,
}

impl Placed {
    fn has(&self, at: usize) -> bool {
        self.bits[at / 64] & (1 << (at % 64)) != 0
    }

    fn toggle(&mut self, at: usize) {
        self.bits[at / 64] ^= 1 << (at % 64);
    }
}

/// `records` are in the order of their calls.
fn is_linearizable(records: &[Record]) -> bool {
    let returned: usize = records.iter().filter(|record| record.returned.is_some()).count();
    let mut placed = Placed {
        bits: vec![0; records.len().div_ceil(64)],
        state: None,
    };
    let mut tried: HashSet<Placed> = HashSet::new();
    // Operations placed, the state before each, and whether it counts towards `returned`.
    let mut path: Vec<(usize, State)> = Vec::new();
    let mut done = 0;
    let mut candidate = 0;
    loop {
        if done == returned {
            return true;
        }
        // Whatever comes next must have been called before every operation that is not placed returned.
        let deadline = records
            .iter()
            .enumerate()
            .filter(|(at, _)| !placed.has(*at))
            .filter_map(|(_, record)| record.returned)
            .min()
            .unwrap_or(u64::MAX);
        let next = (candidate..records.len())
            .take_while(|at| records[*at].called <= deadline)
            .find_map(|at| {
                if placed.has(at) {
                    return None;
                }
                let state = apply(placed.state, &records[at])?;
                let mut after = placed.clone();
                after.toggle(at);
                after.state = state;
                tried.insert(after.clone()).then_some((at, after))
            });
        if let Some((at, after)) = next {
            path.push((at, placed.state));
            done += usize::from(records[at].returned.is_some());
            placed = after;
            candidate = 0;
        } else {
            let Some((at, state)) = path.pop() else {
                return false;
            };
            done -= usize::from(records[at].returned.is_some());
            placed.toggle(at);
            placed.state = state;
            candidate = at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{Read, Swap, Write};
    use super::*;

    fn check(records: &[(u64, u64, Operation)]) -> bool {
        let mut history = History::default();
        for (called, returned, operation) in records {
            history.record(
                1,
                Record {
                    called: *called,
                    returned: (*returned != 0).then_some(*returned),
                    operation: *operation,
                },
            );
        }
        history.check().is_ok()
    }

    #[test]
    fn a_stale_read_is_a_violation() {
        assert!(check(&[(1, 2, Write(1)), (3, 4, Read(Some(1)))]));
        assert!(!check(&[(1, 2, Write(1)), (3, 4, Read(None))]));
        assert!(!check(&[
            (1, 2, Write(1)),
            (3, 4, Write(2)),
            (5, 6, Read(Some(1)))
        ]));
    }

    #[test]
    fn operations_at_the_same_time_may_go_either_way() {
        let both = [(1, 9, Write(1)), (1, 9, Write(2))];
        for value in [1, 2] {
            assert!(check(&[both[0], both[1], (10, 11, Read(Some(value)))]));
        }
        let reads = [(10, 11, Read(Some(1))), (12, 13, Read(Some(2)))];
        assert!(!check(&[both[0], both[1], reads[0], reads[1]]));
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never_but_not_twice() {
        let unknown = (1, 0, Write(1));
        assert!(check(&[unknown, (2, 3, Read(None)), (9, 10, Read(Some(1)))]));
        assert!(check(&[unknown, (2, 3, Read(None))]));
        let overwritten = [(4, 5, Write(2)), (6, 7, Read(Some(1))), (8, 9, Read(Some(2)))];
        assert!(!check(&[
            unknown,
            (2, 3, Read(Some(1))),
            overwritten[0],
            overwritten[1],
            overwritten[2]
        ]));
    }

    #[test]
    fn a_swap_happens_only_on_its_value() {
        let swap = |old, new, swapped| Swap { old, new, swapped };
        assert!(check(&[
            (1, 2, Write(1)),
            (3, 4, swap(Some(1), 2, Some(true))),
            (5, 6, Read(Some(2)))
        ]));
        assert!(!check(&[(1, 2, Write(1)), (3, 4, swap(Some(7), 2, Some(true)))]));
        assert!(!check(&[
            (1, 2, Write(1)),
            (3, 9, swap(Some(1), 2, Some(true))),
            (3, 9, swap(Some(1), 3, Some(true)))
        ]));
    }

    #[test]
    fn a_value_seen_before_its_unknown_write_was_called_is_a_violation() {
        assert!(!check(&[(1, 2, Read(Some(1))), (3, 0, Write(1))]));
        assert!(check(&[(1, 4, Read(Some(1))), (3, 0, Write(1))]));
    }

    #[test]
    fn an_unknown_swap_that_was_seen_proves_the_unknown_write_before_it() {
        let swap = Swap {
            old: Some(1),
            new: 2,
            swapped: None,
        };
        assert!(check(&[(1, 0, Write(1)), (3, 0, swap), (5, 6, Read(Some(2)))]));
        assert!(!check(&[
            (1, 0, Write(1)),
            (3, 0, swap),
            (5, 6, Read(Some(2))),
            (7, 8, Read(Some(1)))
        ]));
        assert!(!check(&[(3, 0, swap), (5, 6, Read(Some(2)))]));
    }

    /// Settling is only a short cut: the search alone comes to the same verdict.
    #[test]
    fn settling_changes_no_verdict() {
        let mut verdicts = [0, 0];
        for seed in 0..4_000 {
            let mut rng = crate::Rng::new(seed);
            let mut records = Vec::new();
            for at in 1..=rng.between(3, 8) {
                let seen = |rng: &mut crate::Rng| Some(rng.below(at)).filter(|value| *value > 0);
                let operation = match rng.below(3) {
                    0 => Write(at),
                    1 => Read(seen(&mut rng)),
                    _ => Swap {
                        old: seen(&mut rng),
                        new: at,
                        swapped: (!rng.chance(300)).then_some(true),
                    },
                };
                let called = at * 2 + rng.below(3);
                let ended = match operation {
                    Read(_)
                    | Swap {
                        swapped: Some(true), ..
                    } => true,
                    Write(_) => !rng.chance(300),
                    Swap { .. } => false,
                };
                records.push(Record {
                    called,
                    returned: ended.then(|| called + rng.below(6)),
                    operation,
                });
            }
            records.sort_by_key(|record| record.called);
            let verdict = is_linearizable(&records);
            assert_eq!(
                is_linearizable(&settle(&records)),
                verdict,
                "seed {seed}: {records:?}"
            );
            verdicts[usize::from(verdict)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 100), "{verdicts:?}");
    }

    #[test]
    fn hundreds_of_unknown_writes_cost_no_search() {
        let mut records: Vec<(u64, u64, Operation)> =
            (1..=300).map(|value| (value, 0, Write(value))).collect();
        records.push((400, 401, Read(Some(7))));
        records.push((402, 403, Read(Some(250))));
        assert!(check(&records));
        records.push((404, 405, Read(Some(7))));
        assert!(!check(&records));
    }

    #[test]
    fn finals_are_what_a_late_read_may_find() {
        let finals = |records: &[(u64, u64, Operation)]| {
            let mut all = Records::default();
            for (called, returned, operation) in records {
                all.record(Record {
                    called: *called,
                    returned: (*returned != 0).then_some(*returned),
                    operation: *operation,
                });
            }
            all.finals()
        };
        assert_eq!(finals(&[]), [None]);
        assert_eq!(finals(&[(1, 2, Write(1)), (3, 4, Write(2))]), [Some(2)]);
        assert_eq!(finals(&[(1, 9, Write(1)), (3, 4, Write(2))]), [Some(1), Some(2)]);
        assert_eq!(finals(&[(1, 0, Write(1)), (3, 4, Write(2))]), [Some(1), Some(2)]);
        assert_eq!(finals(&[(1, 0, Write(1))]), [None, Some(1)]);
        let read = (10, 11, Read(Some(1)));
        assert_eq!(finals(&[(1, 9, Write(1)), (3, 4, Write(2)), read]), [Some(1)]);
    }

    /// Many operations at once are decided quickly because configurations are remembered.
    #[test]
    fn wide_histories_are_decided() {
        let mut records: Vec<(u64, u64, Operation)> = (0..12).map(|value| (1, 0, Write(value))).collect();
        records.extend((0..12).map(|at| (10 + at * 2, 11 + at * 2, Read(Some(11 - at)))));
        assert!(check(&records));
        records.push((200, 201, Read(Some(11))));
        assert!(!check(&records));
    }
}
