//! The log and the hard state as they lie on disk, whether whole or not.

use bytes::{Buf as _, BufMut as _, Bytes};
use consensus::{Configuration, Entry, HardState, Kind, Snapshot};
use prost::Message as _;
use store::{Batch, Store};

use crate::error::Result;
use crate::mvcc::family;
use crate::wire::logpb::Command;

const HARD_STATE: &[u8] = b"state";

/// One key of the family `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Index it lies under; 0 if its key is none.
    pub(super) index: u64,
    /// Its term, or what is wrong with it.
    pub(super) entry: std::result::Result<u64, String>,
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

/// What the log begins after.
pub(super) fn base(store: &Store) -> Result<Option<Snapshot>> {
    Ok(crate::log::read_base(store)?)
}

/// Who belonged to the cluster at `index`, by what can be read: the log, what it begins after, or how the cluster was founded.
pub(super) fn configuration_at(store: &Store, index: u64) -> Result<Option<Configuration>> {
    let mut newest = None;
    let mut cursor = store.uncached_cursor(family::LOG, None, None);
    cursor.seek_to_first();
    while let Some((key, bytes)) = cursor.entry() {
        let entry = key
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
            .and_then(|index| Entry::decode(index, &mut Bytes::copy_from_slice(bytes)).ok());
        if let Some(entry) = entry.filter(|entry| entry.kind == Kind::Configuration && entry.index <= index) {
            newest = Configuration::decode(entry.payload).ok().or(newest);
        }
        cursor.next();
    }
    cursor.check()?;
    let known = |configuration: &Configuration| configuration.members().next().is_some();
    if newest.is_none() {
        newest = base(store)?.map(|base| base.configuration).filter(known);
    }
    if newest.is_none() {
        let group = crate::node::founding::Group::load(store).ok().flatten();
        newest = group.map(|group| group.first).filter(known);
    }
    Ok(newest)
}

fn decode(index: u64, bytes: &[u8]) -> std::result::Result<u64, String> {
    let mut rest = Bytes::copy_from_slice(bytes);
    let entry = Entry::decode(index, &mut rest).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("length".to_owned());
    }
    if entry.kind == Kind::Command && Command::decode(entry.payload).is_err() {
        return Err("payload".to_owned());
    }
    Ok(entry.term.0)
}

/// The hard state in either of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hard {
    /// Of a node that has written none.
    None,
    /// Bytes that are none.
    Unreadable,
    /// Term, vote and commit as 8 bytes each.
    Plain { term: u64, vote: u64, commit: u64 },
    /// With a checksum, and all that members of a group remember.
    Full(HardState),
}

impl Hard {
    pub(super) fn load(store: &Store) -> Result<Hard> {
        let Some(bytes) = store.get(family::HARD, HARD_STATE)? else {
            return Ok(Hard::None);
        };
        let mut bytes = bytes.as_ref();
        if bytes.len() == 24 {
            return Ok(Hard::Plain {
                term: bytes.get_u64(),
                vote: bytes.get_u64(),
                commit: bytes.get_u64(),
            });
        }
        Ok(HardState::decode(bytes).map_or(Hard::Unreadable, Hard::Full))
    }

    pub(super) fn term(&self) -> u64 {
        match self {
            Hard::None | Hard::Unreadable => 0,
            Hard::Plain { term, .. } => *term,
            Hard::Full(hard) => hard.term.0,
        }
    }

    pub(super) fn commit(&self) -> u64 {
        match self {
            Hard::None | Hard::Unreadable => 0,
            Hard::Plain { commit, .. } => *commit,
            Hard::Full(hard) => hard.commit,
        }
    }

    /// The same for a log that ends at `last`, whose entries and state have seen `term`.
    pub(super) fn fitted(self, last: u64, term: u64) -> Hard {
        match self {
            Hard::Full(mut hard) => {
                hard.commit = hard.commit.min(last);
                hard.term = hard.term.max(consensus::Term(term));
                Hard::Full(hard)
            }
            Hard::Plain {
                term: known,
                vote,
                commit,
            } => Hard::Plain {
                term: known.max(term),
                vote: if known < term { 0 } else { vote },
                commit: commit.min(last),
            },
            Hard::None | Hard::Unreadable => Hard::Plain {
                term,
                vote: 0,
                commit: 0,
            },
        }
    }

    pub(super) fn save(&self, batch: &mut Batch<'_>) {
        let bytes = match self {
            Hard::None | Hard::Unreadable => return,
            Hard::Plain { term, vote, commit } => {
                let mut bytes = Vec::with_capacity(24);
                bytes.put_u64(*term);
                bytes.put_u64(*vote);
                bytes.put_u64(*commit);
                bytes
            }
            Hard::Full(hard) => hard.encode(),
        };
        batch.put(family::HARD, HARD_STATE, &bytes);
    }
}
