//! The store as a whole: the database, and the few numbers every read needs at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::{Buf, BufMut};
use parking_lot::Mutex;
use store::{Batch, Store};

use super::codec::Version;
use super::{Revision, family};
use crate::error::{Error, Result};

/// What the database says about itself, written with every group, so it always fits the data beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Index of the last log entry whose effects are in the data.
    pub applied_index: u64,
    /// Term of that entry.
    pub applied_term: u64,
    /// Newest revision.
    pub revision: Revision,
    /// Everything needed only to read below this is forgotten; -1 before the first compaction, as etcd tells it.
    pub compacted: Revision,
    /// Bytes all changes so far have counted. What compaction took back is in [`Swept`].
    pub written_bytes: u64,
}

impl Default for Meta {
    fn default() -> Self {
        Meta {
            applied_index: 0,
            applied_term: 0,
            revision: 1,
            compacted: -1,
            written_bytes: 0,
        }
    }
}

/// How far compaction has got on this node; other nodes may be ahead or behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Changes up to this revision have given up what they replaced.
    pub(crate) revision: Revision,
    /// Bytes taken back so far.
    pub(crate) removed_bytes: u64,
}

const META: &[u8] = b"state";
const SWEPT: &[u8] = b"swept";

fn damaged(what: &str) -> Error {
    Error::Damaged(format!(
        "read {what}: the database holds bytes that are none of ours"
    ))
}

impl Meta {
    pub(crate) fn load(store: &Store) -> Result<Meta> {
        store
            .get(family::META, META)?
            .map_or(Ok(Meta::default()), |bytes| Meta::decode(&bytes))
    }

    fn decode(mut bytes: &[u8]) -> Result<Meta> {
        if bytes.len() != 40 {
            return Err(damaged("the store's state"));
        }
        Ok(Meta {
            applied_index: bytes.get_u64(),
            applied_term: bytes.get_u64(),
            revision: bytes.get_i64(),
            compacted: bytes.get_i64(),
            written_bytes: bytes.get_u64(),
        })
    }

    pub(crate) fn save(&self, batch: &mut Batch<'_>) {
        let mut bytes = Vec::with_capacity(40);
        bytes.put_u64(self.applied_index);
        bytes.put_u64(self.applied_term);
        bytes.put_i64(self.revision);
        bytes.put_i64(self.compacted);
        bytes.put_u64(self.written_bytes);
        batch.put(family::META, META, &bytes);
    }
}

impl Swept {
    fn load(store: &Store) -> Result<Swept> {
        let Some(bytes) = store.get(family::META, SWEPT)? else {
            return Ok(Swept::default());
        };
        let mut bytes = bytes.as_ref();
        if bytes.len() != 16 {
            return Err(damaged("the compaction's progress"));
        }
        Ok(Swept {
            revision: bytes.get_i64(),
            removed_bytes: bytes.get_u64(),
        })
    }

    pub(crate) fn save(&self, batch: &mut Batch<'_>) {
        let mut bytes = Vec::with_capacity(16);
        bytes.put_i64(self.revision);
        bytes.put_u64(self.removed_bytes);
        batch.put(family::META, SWEPT, &bytes);
    }
}

/// The multi-version store. Many threads read; one applies ([`super::Group`]); one sweeps (compaction).
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Mvcc {
    pub(crate) store: Arc<Store>,
    revision: AtomicI64,
    compacted: AtomicI64,
    applied_index: AtomicU64,
    applied_term: AtomicU64,
    written_bytes: AtomicU64,
    removed_bytes: AtomicU64,
    /// [`Swept::revision`]; set while `writing` is held.
    swept_revision: AtomicI64,
    /// Held while a group is written, and while a sweep looks at tombstones and removes them: otherwise a key written anew
    /// in between would be taken for the tombstone that was looked at.
    pub(crate) writing: Mutex<()>,
    pub(crate) swept: Mutex<Swept>,
}

impl Mvcc {
    /// Takes the state as the database has it.
    pub fn load(store: Arc<Store>) -> Result<Mvcc> {
        let meta = Meta::load(&store)?;
        let swept = Swept::load(&store)?;
        Ok(Mvcc {
            store,
            revision: AtomicI64::new(meta.revision),
            compacted: AtomicI64::new(meta.compacted),
            applied_index: AtomicU64::new(meta.applied_index),
            applied_term: AtomicU64::new(meta.applied_term),
            written_bytes: AtomicU64::new(meta.written_bytes),
            removed_bytes: AtomicU64::new(swept.removed_bytes),
            swept_revision: AtomicI64::new(swept.revision),
            writing: Mutex::new(()),
            swept: Mutex::new(swept),
        })
    }

    /// Lets `change` replace the database while nobody sweeps, then takes the state anew. Nobody may apply anything meanwhile.
    pub fn replace<E: From<Error>>(
        &self,
        change: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        // In the order of the sweep.
        let mut swept = self.swept.lock();
        let _writing = self.writing.lock();
        change()?;
        *swept = Swept::load(&self.store)?;
        self.publish_swept(&swept);
        self.publish(&Meta::load(&self.store)?);
        Ok(())
    }

    /// Newest revision whose data can be read.
    pub fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// The compaction point; -1 before the first compaction.
    pub fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Acquire)
    }

    /// Index of the last applied log entry.
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// Index of the last log entry whose effects a crash right now would leave.
    pub fn flushed_index(&self) -> Result<u64> {
        let flushed = self.store.get_flushed(family::META, META)?;
        Ok(flushed
            .map_or(Ok(Meta::default()), |bytes| Meta::decode(&bytes))?
            .applied_index)
    }

    /// Bytes of all versions that are kept, keys and bookkeeping included. Exact, and the same on every member that has
    /// swept as far.
    pub fn bytes_in_use(&self) -> u64 {
        let written = self.written_bytes.load(Ordering::Acquire);
        written.saturating_sub(self.removed_bytes.load(Ordering::Acquire))
    }

    /// The state as of now, for the next group. Only the apply thread may ask.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            applied_index: self.applied_index(),
            applied_term: self.applied_term.load(Ordering::Acquire),
            revision: self.revision(),
            compacted: self.compacted(),
            written_bytes: self.written_bytes.load(Ordering::Acquire),
        }
    }

    /// Makes what was just written visible. The compaction point goes first: a reader that sees the new revision must not
    /// miss it.
    pub(crate) fn publish(&self, meta: &Meta) {
        self.compacted.store(meta.compacted, Ordering::Release);
        self.written_bytes.store(meta.written_bytes, Ordering::Release);
        self.applied_term.store(meta.applied_term, Ordering::Release);
        self.applied_index.store(meta.applied_index, Ordering::Release);
        self.revision.store(meta.revision, Ordering::Release);
    }

    /// How far the sweep has got. Stays so only while `writing` is held.
    pub(crate) fn swept_revision(&self) -> Revision {
        self.swept_revision.load(Ordering::Acquire)
    }

    /// Makes the progress of the sweep visible. `writing` must be held.
    pub(crate) fn publish_swept(&self, swept: &Swept) {
        self.swept_revision.store(swept.revision, Ordering::Release);
        self.removed_bytes.store(swept.removed_bytes, Ordering::Release);
    }

    /// Says whether data as of `at` can be read: 0 means now. Returns the revision to read at.
    pub fn readable(&self, at: Revision) -> Result<Revision> {
        let newest = self.revision();
        match at {
            at if at > newest => Err(Error::FutureRevision),
            at if at <= 0 => Ok(newest),
            at if at < self.compacted() => Err(Error::Compacted),
            at => Ok(at),
        }
    }

    pub(crate) fn damaged_version() -> Error {
        damaged("a version")
    }

    pub(crate) fn damaged_change() -> Error {
        damaged("a change")
    }

    /// The newest version of `key`, tombstones included, as the database has it.
    pub(crate) fn newest(&self, key: &[u8]) -> Result<Option<Version>> {
        decoded(self.store.get(family::KEY, key)?.as_deref())
    }

    /// The same for a write, which makes what it reads obsolete: nothing of it is worth caching.
    pub(crate) fn newest_to_replace(&self, key: &[u8]) -> Result<Option<Version>> {
        decoded(self.store.get_uncached(family::KEY, key)?.as_deref())
    }
}

fn decoded(stored: Option<&[u8]>) -> Result<Option<Version>> {
    stored
        .map(|bytes| Version::decode(bytes).ok_or_else(Mvcc::damaged_version))
        .transpose()
}
