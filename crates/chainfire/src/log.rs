//! The log on disk: every entry in order, each with a checksum, the hard state beside it, and where the log begins.
//!
//! An entry lies under its index, big-endian, as [`consensus::Entry`] lays it out. What a [`consensus::Ready`] wants written goes
//! into one batch: entries replace whatever lies at or above the first of them, and the hard state is never older than they are. The
//! *base* says what the log begins after: the last entry that was dropped, its term, and who belonged to the cluster there. How a cut end is
//! told from one that a crash left is in `synced`.

mod synced;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use consensus::{Configuration, Entry, HardState, Position, Snapshot, Term};
use store::{Batch, Durability, Store};

use self::synced::Synced;
pub(crate) use self::synced::is_cut;
use crate::mvcc::family;

/// Reading or writing the log failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry is not what was written. The node must stop: what it would serve is not what was agreed.
    #[error("corrupted log entry, index={index}, error={reason}")]
    Corrupt {
        /// Index under which it lies.
        index: u64,
        /// `checksum`, or what else is wrong.
        reason: &'static str,
    },
    /// An index is missing between two others.
    #[error("corrupted log entry, index={index}, error=missing")]
    Missing {
        /// The first index that is not there.
        index: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

pub(crate) const HARD_STATE: &[u8] = b"state";
pub(crate) const BASE: &[u8] = b"base";

/// The log of one node.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Log {
    store: Arc<Store>,
    base: Snapshot,
    last: u64,
    synced: Synced,
    scratch: Vec<u8>,
}

impl Log {
    /// Opens the log and checks every entry of it. `applied` is the last index whose effects are in the state.
    pub fn open(store: Arc<Store>, applied: u64) -> Result<Log, Error> {
        let base = match store.get(family::HARD, BASE)? {
            None => Snapshot::default(),
            Some(bytes) => decode_base(&bytes).ok_or(Error::Corrupt {
                index: 0,
                reason: "base",
            })?,
        };
        let is_cut = is_cut(&store)?;
        let mut log = Log {
            synced: Synced::at_the_end_of(&store)?,
            store,
            last: base.position.index,
            base,
            scratch: Vec::new(),
        };
        let mut next = log.first();
        log.scan(1, &mut |entry| {
            if entry.index < next {
                // Left behind by a truncation that never happens at the front.
                return Err(Error::Corrupt {
                    index: entry.index,
                    reason: "base",
                });
            }
            if entry.index != next {
                return Err(Error::Missing { index: next });
            }
            next += 1;
            Ok(())
        })?;
        log.last = next - 1;
        if log.last < applied || log.first() > applied + 1 {
            return Err(Error::Missing {
                index: (log.last + 1).min(applied + 1),
            });
        }
        if is_cut {
            return Err(Error::Missing { index: log.last + 1 });
        }
        log.synced.begin(&log.store);
        Ok(log)
    }

    /// The hard state as it is on disk; none in a new directory.
    pub fn hard_state(&self) -> Result<Option<HardState>, Error> {
        let Some(bytes) = self.store.get(family::HARD, HARD_STATE)? else {
            return Ok(None);
        };
        HardState::decode(&bytes).map(Some).ok_or(Error::Corrupt {
            index: 0,
            reason: "hard state",
        })
    }

    /// Calls `each` with every entry from `from` on, in order.
    pub fn scan(&self, from: u64, each: &mut dyn FnMut(Entry) -> Result<(), Error>) -> Result<(), Error> {
        let mut cursor = self.store.cursor(family::LOG, None, None);
        cursor.seek(&from.to_be_bytes());
        while let Some((key, bytes)) = cursor.entry() {
            each(decode(key, bytes)?)?;
            cursor.next();
        }
        cursor.check()?;
        Ok(())
    }

    /// Entries from `from` to `until`, at least one, and no more once `bytes` are reached.
    pub fn read(&self, from: u64, until: u64, bytes: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut size = 0;
        let mut cursor = self.store.uncached_cursor(family::LOG, None, None);
        cursor.seek(&from.to_be_bytes());
        while let Some((key, stored)) = cursor.entry() {
            let entry = decode(key, stored)?;
            if entry.index > until {
                break;
            }
            size += entry.size();
            entries.push(entry);
            if size >= bytes {
                break;
            }
            cursor.next();
        }
        cursor.check()?;
        Ok(entries)
    }

    /// What the log begins after.
    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    /// Index of the oldest entry that is kept; one above [`Log::last`] if none is.
    pub fn first(&self) -> u64 {
        self.base.position.index + 1
    }

    /// Index of the newest entry.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Writes `entries` in place of whatever lies at or above the first of them, and the hard state, as one. On disk when it returns.
    pub fn write(&mut self, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), Error> {
        let mut batch = self.store.batch();
        let mut last = self.last;
        if let Some(first) = entries.first() {
            assert!(
                first.index > self.base.position.index && first.index <= last + 1,
                "entries continue the log"
            );
            if first.index <= last {
                batch.delete_range(family::LOG, &first.index.to_be_bytes(), &(last + 1).to_be_bytes());
            }
            last = first.index - 1;
        }
        for entry in entries {
            last += 1;
            assert_eq!(entry.index, last, "entries have no gap");
            self.scratch.clear();
            entry.encode(&mut self.scratch);
            batch.put(family::LOG, &entry.index.to_be_bytes(), &self.scratch);
        }
        if let Some(hard_state) = hard_state {
            put_hard_state(&mut batch, hard_state);
        }
        self.synced.count(&mut batch);
        self.store.write(batch, Durability::Synced)?;
        self.synced.done();
        self.last = last;
        Ok(())
    }

    /// Writes down how far the log was synced; a few times a second will do.
    pub fn tell_synced(&mut self) {
        self.synced.tell();
    }

    /// Forgets entries up to the position of `base`, which describes the state there. Their effects must be in the state *on disk*.
    pub fn drop_prefix(&mut self, base: Snapshot) -> Result<(), Error> {
        if base.position.index < self.first() {
            return Ok(());
        }
        let mut batch = self.store.batch();
        batch.delete_range(
            family::LOG,
            &self.first().to_be_bytes(),
            &(base.position.index + 1).to_be_bytes(),
        );
        batch.put(family::HARD, BASE, &encode_base(&base));
        self.store.write(batch, Durability::Logged)?;
        self.base = base;
        Ok(())
    }

    /// The log was replaced on disk, by [`replace`], and now begins after `base`.
    pub fn replaced(&mut self, base: Snapshot) {
        self.last = base.position.index;
        self.base = base;
    }
}

/// Adds to `batch` what makes the log an empty one that begins after `base`.
pub fn replace(batch: &mut Batch<'_>, base: &Snapshot) {
    batch.delete_range(family::LOG, &0u64.to_be_bytes(), &u64::MAX.to_be_bytes());
    batch.put(family::HARD, BASE, &encode_base(base));
}

/// Adds the hard state to `batch`.
pub fn put_hard_state(batch: &mut Batch<'_>, hard_state: &HardState) {
    batch.put(family::HARD, HARD_STATE, &hard_state.encode());
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<Entry, Error> {
    let index = key
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| Error::Corrupt {
            index: 0,
            reason: "key",
        })?;
    let mut rest = Bytes::copy_from_slice(bytes);
    match Entry::decode(index, &mut rest) {
        Ok(entry) if rest.is_empty() => Ok(entry),
        Ok(_) => Err(Error::Corrupt {
            index,
            reason: "length",
        }),
        Err(error) => Err(Error::Corrupt {
            index,
            reason: match error {
                consensus::entry::DecodeError::Torn => "length",
                consensus::entry::DecodeError::Checksum => "checksum",
                consensus::entry::DecodeError::Kind => "kind",
                consensus::entry::DecodeError::Index => "header",
            },
        }),
    }
}

/// Term, index, configuration, CRC-32C over all before it.
pub fn encode_base(base: &Snapshot) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(base.position.term.0);
    out.put_u64(base.position.index);
    out.put_slice(&base.configuration.encode());
    let checksum = crc32c::crc32c(&out);
    out.put_u32(checksum);
    out
}

/// Reads what [`encode_base`] wrote; nothing if a single bit of it differs.
pub fn decode_base(bytes: &[u8]) -> Option<Snapshot> {
    let (mut rest, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if rest.len() < 16 || crc32c::crc32c(rest) != checksum.get_u32() {
        return None;
    }
    let position = Position {
        term: Term(rest.get_u64()),
        index: rest.get_u64(),
    };
    let configuration = Configuration::decode(Bytes::copy_from_slice(rest)).ok()?;
    Some(Snapshot {
        position,
        configuration,
    })
}

#[cfg(test)]
mod tests {
    use consensus::{Incarnation, Kind, NodeId};

    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term: Term(term),
            kind: Kind::Command,
            payload: Bytes::from(format!("command {index} of term {term}")),
        }
    }

    fn open(path: &std::path::Path) -> Arc<Store> {
        Arc::new(Store::open(path, &store::Options::default(), family::ALL).expect("open"))
    }

    fn base(index: u64) -> Snapshot {
        Snapshot {
            position: Position { term: Term(1), index },
            configuration: Configuration::of_voters([(NodeId(1), Incarnation(5), Bytes::from_static(b"x"))]),
        }
    }

    fn entries(log: &Log) -> Vec<Entry> {
        let mut read = Vec::new();
        log.scan(1, &mut |entry| {
            read.push(entry);
            Ok(())
        })
        .unwrap();
        read
    }

    #[test]
    fn entries_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let written: Vec<Entry> = (1..=20).map(|index| entry(index, 1)).collect();
        let mut hard = HardState::new(Incarnation(5), false);
        hard.term = Term(3);
        {
            let mut log = Log::open(open(dir.path()), 0).unwrap();
            assert_eq!(log.hard_state().unwrap(), None);
            log.write(&written, Some(&hard)).unwrap();
        }
        let mut log = Log::open(open(dir.path()), 0).unwrap();
        assert_eq!((log.first(), log.last()), (1, 20));
        assert_eq!(log.hard_state().unwrap(), Some(hard));
        assert_eq!(entries(&log), written);
        assert_eq!(log.read(3, 5, usize::MAX).unwrap(), written[2..5]);
        assert_eq!(log.read(3, 5, 1).unwrap(), written[2..3]);
        log.drop_prefix(base(15)).unwrap();
        drop(log);
        let log = Log::open(open(dir.path()), 17).unwrap();
        assert_eq!((log.first(), log.last()), (16, 20));
        assert_eq!(log.base(), &base(15));
    }

    #[test]
    fn later_entries_replace_what_lay_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(open(dir.path()), 0).unwrap();
        let old: Vec<Entry> = (1..=9).map(|index| entry(index, 1)).collect();
        log.write(&old, None).unwrap();
        log.write(&[entry(4, 2), entry(5, 2)], None).unwrap();
        assert_eq!(log.last(), 5);
        drop(log);
        let log = Log::open(open(dir.path()), 0).unwrap();
        let mut expected = old[..3].to_vec();
        expected.extend([entry(4, 2), entry(5, 2)]);
        assert_eq!(entries(&log), expected);
    }

    #[test]
    fn a_gap_refuses_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut log = Log::open(store.clone(), 0).unwrap();
        log.write(&[entry(1, 1), entry(2, 1), entry(3, 1)], None).unwrap();
        let mut batch = store.batch();
        batch.delete(family::LOG, &2u64.to_be_bytes());
        store.write(batch, Durability::Synced).unwrap();
        assert!(matches!(
            Log::open(store.clone(), 0),
            Err(Error::Missing { index: 2 })
        ));
        assert!(matches!(Log::open(store, 9), Err(Error::Missing { .. })));
    }

    #[test]
    fn any_flipped_byte_of_the_base_is_noticed() {
        let bytes = encode_base(&base(15));
        assert_eq!(decode_base(&bytes), Some(base(15)));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x20;
            assert_eq!(decode_base(&damaged), None);
            assert_eq!(decode_base(&bytes[..position]), None);
        }
    }
}
