//! One number for the content of the store, equal on all members that hold the same.
//!
//! CRC-32C over every version that can still be read at or below a revision: keys in order, the versions of a key from old to
//! new, each as `key length, key, created, modified, version, lease, value length, value` with integers as 8 bytes
//! big-endian. A version that was replaced at or below the compaction point, and a tombstone at or below it, are left out
//! whether or not this member has swept them away yet.

use super::codec::{Head, hist_parts};
use super::state::Mvcc;
use super::{Revision, family};
use crate::error::{Error, Result};

/// A hash and what it is the hash of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C.
    pub hash: u32,
    /// The compaction point it was taken at.
    pub compacted: Revision,
    /// The revision up to which versions are in it.
    pub revision: Revision,
}

/// Accumulates versions.
#[derive(Default)]
struct Hasher(u32);

impl Hasher {
    fn number(&mut self, number: i64) {
        self.0 = crc32c::crc32c_append(self.0, &number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as i64);
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    fn version(&mut self, key: &[u8], head: Head, value: &[u8]) {
        self.bytes(key);
        self.number(head.created);
        self.number(head.modified);
        self.number(head.version);
        self.number(head.lease);
        self.bytes(value);
    }
}

impl Mvcc {
    /// Hash of what can be read at revisions up to `at` (0: now).
    pub fn hash_kv(&self, at: Revision) -> Result<KvHash> {
        let at = self.readable(at)?;
        let compacted = self.compacted();
        let mut hasher = Hasher::default();

        // In this order a version that moves from `key` to `hist` meanwhile is seen twice rather than not at all.
        let mut newest = self.store.uncached_cursor(family::KEY, None, None);
        let mut hist = self.store.uncached_cursor(family::HIST, None, None);
        hist.seek_to_first();
        newest.seek_to_first();
        let mut old = Vec::new();
        while let Some((key, bytes)) = newest.entry() {
            let (head, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
            old.clear();
            while let Some((found, bytes)) = hist.entry() {
                let (hist_key, written) = hist_parts(found).ok_or_else(Mvcc::damaged_version)?;
                if hist_key.as_slice() > key {
                    break;
                }
                // Versions of a key that is gone from `key` wait to be swept and cannot be read.
                if hist_key.as_slice() == key && written < head.modified {
                    old.push(bytes.to_vec());
                }
                hist.next();
            }
            // Each version is followed by the revision that replaced it.
            for (index, bytes) in old.iter().enumerate() {
                let (this, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
                let replaced = match old.get(index + 1) {
                    Some(next) => Head::decode(next).ok_or_else(Mvcc::damaged_version)?.0.modified,
                    None => head.modified,
                };
                if this.modified <= at && replaced > compacted {
                    hasher.readable(key, this, value, compacted);
                }
            }
            if head.modified <= at {
                hasher.readable(key, head, value, compacted);
            }
            newest.next();
        }
        newest.check()?;
        hist.check()?;
        if self.compacted() != compacted {
            return if at < self.compacted() {
                Err(Error::Compacted)
            } else {
                self.hash_kv(at)
            };
        }
        Ok(KvHash {
            hash: hasher.0,
            compacted,
            revision: at,
        })
    }
}

impl Hasher {
    fn readable(&mut self, key: &[u8], head: Head, value: &[u8], compacted: Revision) {
        if !(head.tombstone && head.modified <= compacted) {
            self.version(key, head, value);
        }
    }
}
