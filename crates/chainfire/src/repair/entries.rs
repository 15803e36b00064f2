//! The log and the hard state as they lie on disk, whether whole or not.

use bytes::Bytes;
use consensus::{Configuration, Entry, HardState, Kind, Snapshot};
use prost::Message as _;
use store::Store;

use crate::error::Result;
use crate::log;
use crate::mvcc::family;
use crate::wire::logpb::Command;

/// One key of the family `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Index it lies under; 0 if its key is none.
    pub(super) index: u64,
    /// What can be read, or what is wrong with it.
    pub(super) entry: std::result::Result<Readable, String>,
}

/// What matters of an entry here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readable {
    /// Its term.
    pub(super) term: u64,
    /// The members from it on, if it changes them.
    pub(super) configuration: Option<Configuration>,
}

/// Gives `each` everything in the family `log`, in order.
pub(super) fn scan(store: &Store, each: &mut dyn FnMut(Found)) -> Result<()> {
    let mut cursor = store.uncached_cursor(family::LOG, None, None);
    cursor.seek_to_first();
    while let Some((key, bytes)) = cursor.entry() {
        each(match key.try_into().map(u64::from_be_bytes) {
            Ok(index) => Found {
                index,
                entry: decode(index, bytes),
            },
            Err(_) => Found {
                index: 0,
                entry: Err("key".to_owned()),
            },
        });
        cursor.next();
    }
    Ok(cursor.check()?)
}

fn decode(index: u64, bytes: &[u8]) -> std::result::Result<Readable, String> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let entry = Entry::decode(index, &mut rest).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("length".to_owned());
    }
    let payload = || "payload".to_owned();
    let configuration = match entry.kind {
        Kind::Blank => None,
        Kind::Command => {
            Command::decode(entry.payload).map_err(|_| payload())?;
            None
        }
        Kind::Configuration => Some(Configuration::decode(entry.payload).map_err(|_| payload())?),
    };
    Ok(Readable {
        term: entry.term.0,
        configuration,
    })
}

/// A record of the family `hard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<T> {
    /// It was never written.
    None,
    /// Bytes that are none.
    Unreadable,
    /// As written.
    Whole(T),
}

fn record<T>(store: &Store, key: &[u8], decode: impl FnOnce(&[u8]) -> Option<T>) -> Result<Record<T>> {
    Ok(match store.get(family::HARD, key)? {
        None => Record::None,
        Some(bytes) => decode(&bytes).map_or(Record::Unreadable, Record::Whole),
    })
}

/// Term, vote, commit and what else the node must not forget.
pub(super) fn hard_state(store: &Store) -> Result<Record<HardState>> {
    record(store, log::HARD_STATE, HardState::decode)
}

/// What the log begins after. A log from its first entry on has none.
pub(super) fn base(store: &Store) -> Result<Record<Snapshot>> {
    record(store, log::BASE, log::decode_base)
}

/// True if the state is being replaced by one of the leader. The next start finishes that, before anything else.
pub(super) fn is_being_replaced(store: &Store) -> Result<bool> {
    Ok(store.get(family::HARD, crate::raft::MARK)?.is_some())
}
