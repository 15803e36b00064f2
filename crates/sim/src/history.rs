//! Judges what clients saw: is there an order of the operations, each at one instant between its call and its return, in which a plain
//! register per key would have answered the same?
//!
//! The search is Wing and Gong's, with Lowe's memory of configurations already tried, key by key (linearizability is local). Operations
//! whose outcome is unknown may take effect at any time after their call, or never.

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

/// What all clients did.
#[derive(Debug, Clone, Default)]
pub struct History {
    keys: BTreeMap<u64, Vec<Record>>,
}

impl History {
    /// Adds an operation. A read that never returned says nothing and need not be recorded.
    pub fn record(&mut self, key: u64, record: Record) {
        self.keys.entry(key).or_default().push(record);
    }

    /// Operations recorded.
    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// True if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the history is linearizable.
    pub fn check(&self) -> Result<(), Box<Violation>> {
        for (key, records) in &self.keys {
            let mut records = records.clone();
            records.sort_by_key(|record| record.called);
            if !is_linearizable(&records) {
                return Err(Box::new(Violation { key: *key, records }));
            }
        }
        Ok(())
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
