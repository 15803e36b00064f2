//! A group of changes that happens whole or not at all.

use crate::families::Store;
use rocksdb::WriteBatch;

/// What a crash may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk when `write` returns.
    Synced,
    /// In the write-ahead log, synced with the next synced batch.
    Logged,
    /// In memory until the next flush; for state that a log can rebuild.
    Volatile,
}

/// Changes to be written together. Made by [`Store::batch`], carried out by [`Store::write`].
#[allow(missing_debug_implementations, reason = "RocksDB's batch has none")]
pub struct Batch<'a> {
    pub(crate) store: &'a Store,
    pub(crate) inner: WriteBatch,
}

impl Batch<'_> {
    /// Sets `key` in `family` to `value`.
    pub fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) {
        self.inner.put_cf(self.store.handle(family), key, value);
    }

    /// Removes `key` from `family`.
    pub fn delete(&mut self, family: &'static str, key: &[u8]) {
        self.inner.delete_cf(self.store.handle(family), key);
    }

    /// Removes every key of `family` in `[from, to)`.
    pub fn delete_range(&mut self, family: &'static str, from: &[u8], to: &[u8]) {
        self.inner.delete_range_cf(self.store.handle(family), from, to);
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}
