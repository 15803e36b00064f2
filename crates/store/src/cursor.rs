//! Ordered reading of one family.

use crate::error::{Error, Result};
use crate::families::Database;
use rocksdb::DBRawIteratorWithThreadMode;

/// A position in one family. It sees the family as it was when the cursor was made, whatever is written meanwhile.
#[allow(missing_debug_implementations, reason = "RocksDB's iterator has none")]
pub struct Cursor<'a> {
    pub(crate) inner: DBRawIteratorWithThreadMode<'a, Database>,
}

impl Cursor<'_> {
    /// Goes to the first key at or after `key`.
    pub fn seek(&mut self, key: &[u8]) {
        self.inner.seek(key);
    }

    /// Goes to the last key at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) {
        self.inner.seek_for_prev(key);
    }

    /// Goes to the first key of all.
    pub fn seek_to_first(&mut self) {
        self.inner.seek_to_first();
    }

    /// Goes to the last key of all.
    pub fn seek_to_last(&mut self) {
        self.inner.seek_to_last();
    }

    /// The entry here, or `None` past the end. An error on the way (a damaged block, say) shows in [`Cursor::check`].
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.inner.item()
    }

    /// Goes one forward. Must not be called past the end.
    pub fn next(&mut self) {
        self.inner.next();
    }

    /// Goes one back. Must not be called past the end.
    pub fn prev(&mut self) {
        self.inner.prev();
    }

    /// Tells whether the end was reached because there is no more, or because reading failed. To be called after every scan.
    pub fn check(&self) -> Result<()> {
        self.inner.status().map_err(Error::operation("scan"))
    }
}
