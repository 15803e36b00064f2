//! The log on disk: every accepted command, in order, each with a checksum, and the hard state beside it.
//!
//! Entries are only ever appended here, and synced before anyone is told of them. On one node what is appended is committed;
//! replication puts its agreement between the two and changes nothing else. An entry is laid out as
//! `index, term, kind, length, payload, CRC-32C` (big-endian; the checksum covers all before it) under its index.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use store::{Durability, Store};

use crate::mvcc::family;

/// What an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`crate::wire::logpb::Command`].
    Command = 1,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position, from 1.
    pub index: u64,
    /// Term of the leader that accepted it.
    pub term: u64,
    /// What the payload is.
    pub kind: Kind,
    /// The encoded command.
    pub payload: Bytes,
}

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

const HEADER: usize = 8 + 8 + 1 + 4;
const CHECKSUM: usize = 4;

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(HEADER + self.payload.len() + CHECKSUM);
        out.put_u64(self.index);
        out.put_u64(self.term);
        out.put_u8(self.kind as u8);
        out.put_u32(u32::try_from(self.payload.len()).expect("a request is far below 4 GiB"));
        out.put_slice(&self.payload);
        out.put_u32(crc32c::crc32c(out));
    }

    /// Reads the entry stored under `index`.
    pub fn decode(index: u64, bytes: &[u8]) -> Result<Entry, Error> {
        let corrupt = |reason| Error::Corrupt { index, reason };
        if bytes.len() < HEADER + CHECKSUM {
            return Err(corrupt("length"));
        }
        let (covered, mut checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if crc32c::crc32c(covered) != checksum.get_u32() {
            return Err(corrupt("checksum"));
        }
        let mut covered = covered;
        let found = covered.get_u64();
        let term = covered.get_u64();
        let kind = match covered.get_u8() {
            1 => Kind::Command,
            _ => return Err(corrupt("kind")),
        };
        let length = covered.get_u32() as usize;
        if found != index || length != covered.len() {
            return Err(corrupt("header"));
        }
        Ok(Entry {
            index,
            term,
            kind,
            payload: Bytes::copy_from_slice(covered),
        })
    }
}

/// What a node must not forget between two messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// Newest term seen.
    pub term: u64,
    /// Whom this node voted for in it; 0 for nobody.
    pub vote: u64,
    /// Highest index known to be committed when this was written.
    pub commit: u64,
}

const HARD_STATE: &[u8] = b"state";

/// The log of one node.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Log {
    store: Arc<Store>,
    hard: HardState,
    first: u64,
    last: u64,
    scratch: Vec<u8>,
}

impl Log {
    /// Opens the log and checks every entry of it.
    ///
    /// `applied` is the last index whose effects are in the state: the log may start right after it, if everything up to it
    /// has been dropped.
    pub fn open(store: Arc<Store>, applied: u64) -> Result<Log, Error> {
        let hard = match store.get(family::HARD, HARD_STATE)? {
            None => HardState::default(),
            Some(bytes) => {
                let mut bytes = bytes.as_ref();
                if bytes.len() != 24 {
                    return Err(Error::Corrupt {
                        index: 0,
                        reason: "hard state",
                    });
                }
                HardState {
                    term: bytes.get_u64(),
                    vote: bytes.get_u64(),
                    commit: bytes.get_u64(),
                }
            }
        };
        let mut log = Log {
            store,
            hard,
            first: applied + 1,
            last: applied,
            scratch: Vec::new(),
        };
        let mut expected: Option<u64> = None;
        log.scan(0, &mut |entry| {
            match expected {
                None => log_start(&entry, applied)?,
                Some(expected) if expected != entry.index => return Err(Error::Missing { index: expected }),
                Some(_) => {}
            }
            expected = Some(entry.index + 1);
            Ok(())
        })?;
        if let Some(next) = expected {
            log.last = next - 1;
            log.first = log.first_index()?.unwrap_or(log.first);
        }
        if log.last < applied {
            return Err(Error::Missing { index: log.last + 1 });
        }
        Ok(log)
    }

    fn first_index(&self) -> Result<Option<u64>, Error> {
        let mut cursor = self.store.cursor(family::LOG, None, None);
        cursor.seek_to_first();
        let first = cursor
            .entry()
            .and_then(|(key, _)| key.try_into().ok())
            .map(u64::from_be_bytes);
        cursor.check()?;
        Ok(first)
    }

    /// Calls `each` with every entry from `from` on, in order.
    pub fn scan(&self, from: u64, each: &mut dyn FnMut(Entry) -> Result<(), Error>) -> Result<(), Error> {
        let mut cursor = self.store.cursor(family::LOG, None, None);
        cursor.seek(&from.to_be_bytes());
        while let Some((key, bytes)) = cursor.entry() {
            let index = key.try_into().map(u64::from_be_bytes);
            let index = index.map_err(|_| Error::Corrupt {
                index: 0,
                reason: "key",
            })?;
            each(Entry::decode(index, bytes)?)?;
            cursor.next();
        }
        cursor.check()?;
        Ok(())
    }

    /// Index of the oldest entry that is kept; one above [`Log::last`] if none is.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Index of the newest entry.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The hard state as it is on disk.
    pub fn hard_state(&self) -> HardState {
        self.hard
    }

    /// Replaces the hard state; on disk when it returns.
    pub fn set_hard_state(&mut self, hard: HardState) -> Result<(), Error> {
        let mut batch = self.store.batch();
        let mut bytes = Vec::with_capacity(24);
        bytes.put_u64(hard.term);
        bytes.put_u64(hard.vote);
        bytes.put_u64(hard.commit);
        batch.put(family::HARD, HARD_STATE, &bytes);
        self.store.write(batch, Durability::Synced)?;
        self.hard = hard;
        Ok(())
    }

    /// Appends `entries`, which continue the log; all of them are on disk when it returns. One sync for all.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut batch = self.store.batch();
        let mut next = self.last + 1;
        for entry in entries {
            assert_eq!(entry.index, next, "entries continue the log");
            entry.encode(&mut self.scratch);
            batch.put(family::LOG, &entry.index.to_be_bytes(), &self.scratch);
            next += 1;
        }
        self.store.write(batch, Durability::Synced)?;
        self.last = next - 1;
        Ok(())
    }

    /// Forgets entries up to and including `index`. Their effects must be in the state *on disk*.
    pub fn drop_prefix(&mut self, index: u64) -> Result<(), Error> {
        if index < self.first {
            return Ok(());
        }
        let mut batch = self.store.batch();
        batch.delete_range(family::LOG, &self.first.to_be_bytes(), &(index + 1).to_be_bytes());
        self.store.write(batch, Durability::Logged)?;
        self.first = index + 1;
        Ok(())
    }
}

/// The oldest entry kept may lie anywhere up to right behind the state, not beyond.
fn log_start(first: &Entry, applied: u64) -> Result<(), Error> {
    if first.index > applied + 1 {
        Err(Error::Missing { index: applied + 1 })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        Entry {
            index,
            term: 1,
            kind: Kind::Command,
            payload: Bytes::from(format!("command {index}")),
        }
    }

    fn open(path: &std::path::Path) -> Arc<Store> {
        Arc::new(Store::open(path, &store::Options::default(), family::ALL).expect("open"))
    }

    #[test]
    fn entries_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let written: Vec<Entry> = (1..=20).map(entry).collect();
        {
            let mut log = Log::open(open(dir.path()), 0).unwrap();
            log.append(&written).unwrap();
            log.set_hard_state(HardState {
                term: 3,
                vote: 1,
                commit: 20,
            })
            .unwrap();
        }
        let mut log = Log::open(open(dir.path()), 0).unwrap();
        assert_eq!((log.first(), log.last(), log.hard_state().term), (1, 20, 3));
        let mut read = Vec::new();
        log.scan(1, &mut |entry| {
            read.push(entry);
            Ok(())
        })
        .unwrap();
        assert_eq!(read, written);
        log.drop_prefix(15).unwrap();
        drop(log);
        let log = Log::open(open(dir.path()), 17).unwrap();
        assert_eq!((log.first(), log.last()), (16, 20));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let mut bytes = Vec::new();
        entry(7).encode(&mut bytes);
        assert_eq!(Entry::decode(7, &bytes).unwrap(), entry(7));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x20;
            assert!(matches!(
                Entry::decode(7, &damaged),
                Err(Error::Corrupt { index: 7, .. })
            ));
        }
        assert!(Entry::decode(8, &bytes).is_err());
    }

    #[test]
    fn a_gap_refuses_to_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut log = Log::open(store.clone(), 0).unwrap();
        log.append(&[entry(1), entry(2), entry(3)]).unwrap();
        let mut batch = store.batch();
        batch.delete(family::LOG, &2u64.to_be_bytes());
        store.write(batch, Durability::Synced).unwrap();
        assert!(matches!(
            Log::open(store.clone(), 0),
            Err(Error::Missing { index: 2 })
        ));
        assert!(matches!(Log::open(store, 9), Err(Error::Missing { .. })));
    }
}
