//! Whether the families of the store agree with each other: what a repair leaves must, and what a server wrote does.
//!
//! Everything is read once, so this is for a database that nobody serves from. The books kept for the quota are the strongest
//! witness: they count every version that was ever written and not swept away, so a version that is gone, or back, shows.

use super::codec::{Change, Head, Version, hist_parts, rev_of};
use super::state::Mvcc;
use super::{Revision, family};
use crate::error::{Error, Result};
use crate::lease;

/// Problems told in full; of more there is only the number.
const TOLD_MAX: usize = 20;

/// What does not fit, a line each.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    lines: Vec<String>,
    more: usize,
}

impl Problems {
    pub(crate) fn add(&mut self, problem: String) {
        if self.lines.len() < TOLD_MAX {
            self.lines.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more of these", self.more));
        }
        self.lines
    }
}

/// A key as a person can read it.
fn shown(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}

/// Sums over the versions that are there.
#[derive(Default)]
struct Versions {
    bytes: u64,
    /// Written after the compaction point.
    recent: u64,
}

impl Mvcc {
    /// What does not fit together, a line each. An error means that not all could be read.
    pub fn audit(&self) -> Result<Vec<String>> {
        let mut problems = Problems::default();
        let meta = self.meta();
        if meta.compacted > meta.revision || self.swept_revision() > meta.compacted.max(0) {
            problems.add(format!(
                "revision {}, compaction at {} and sweep at {} are not in this order",
                meta.revision,
                meta.compacted,
                self.swept_revision()
            ));
        }
        let mut versions = Versions::default();
        self.audit_newest(&mut versions, &mut problems)?;
        self.audit_history(&mut versions, &mut problems)?;
        let recent = self.audit_changes(&mut problems)?;
        self.audit_leases(&mut problems)?;
        if recent != versions.recent {
            problems.add(format!(
                "{} versions were written after the compaction at {}, the changes speak of {recent}",
                versions.recent, meta.compacted
            ));
        }
        if versions.bytes != self.bytes_in_use() {
            problems.add(format!(
                "the versions that are there take {} bytes, the books say {}",
                versions.bytes,
                self.bytes_in_use()
            ));
        }
        Ok(problems.into_lines())
    }

    fn count(&self, versions: &mut Versions, key: &[u8], head: Head, value: &[u8]) {
        versions.bytes += Version::cost(key, value.len());
        versions.recent += u64::from(head.modified > self.compacted());
    }

    fn audit_newest(&self, versions: &mut Versions, problems: &mut Problems) -> Result<()> {
        let mut cursor = self.store.uncached_cursor(family::KEY, None, None);
        cursor.seek_to_first();
        while let Some((key, bytes)) = cursor.entry() {
            let (head, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
            self.count(versions, key, head, value);
            let sensible = if head.tombstone {
                head.version == 0
            } else {
                head.version > 0 && head.created <= head.modified
            };
            if !sensible || head.modified > self.revision() {
                problems.add(format!("key {}: its numbers cannot be", shown(key)));
            }
            if head.lease != 0 {
                let attachment = lease::attachment_key(head.lease, key);
                let lease = self.store.get(family::LEASE, &head.lease.to_be_bytes())?;
                if lease.is_none() || self.store.get(family::LEASE, &attachment)?.is_none() {
                    let lease = head.lease;
                    problems.add(format!(
                        "key {} hangs on lease {lease:x}, which does not know it",
                        shown(key)
                    ));
                }
            }
            cursor.next();
        }
        Ok(cursor.check()?)
    }

    fn audit_history(&self, versions: &mut Versions, problems: &mut Problems) -> Result<()> {
        let mut cursor = self.store.uncached_cursor(family::HIST, None, None);
        cursor.seek_to_first();
        while let Some((place, bytes)) = cursor.entry() {
            let (key, revision) = hist_parts(place).ok_or_else(Mvcc::damaged_version)?;
            let (head, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
            self.count(versions, &key, head, value);
            let replaced = match self.newest(&key)? {
                Some(newest) => newest.modified > revision,
                // Deleted, and the tombstone swept away first.
                None => revision <= self.compacted(),
            };
            if head.modified != revision || !replaced {
                problems.add(format!(
                    "key {}: nothing replaced its version {revision}",
                    shown(&key)
                ));
            }
            cursor.next();
        }
        Ok(cursor.check()?)
    }

    /// Number of changes after the compaction point.
    fn audit_changes(&self, problems: &mut Problems) -> Result<u64> {
        let compacted = self.compacted();
        let mut recent = 0;
        // The first revision of a store is 1 and has no changes.
        let mut last = (compacted.max(1), 0);
        let mut cursor = self.store.uncached_cursor(family::REV, None, None);
        cursor.seek_to_first();
        while let Some((place, bytes)) = cursor.entry() {
            let revision = rev_of(place).ok_or_else(Mvcc::damaged_change)?;
            let position = place.get(8..).and_then(|place| place.try_into().ok());
            let position = u32::from_be_bytes(position.ok_or_else(Mvcc::damaged_change)?);
            let change = Change::decode(bytes).ok_or_else(Mvcc::damaged_change)?;
            if revision > compacted {
                recent += 1;
                let next = if revision == last.0 { last.1 + 1 } else { 0 };
                if position != next || revision - last.0 > 1 {
                    problems.add(format!(
                        "changes between revisions {} and {revision} are missing",
                        last.0
                    ));
                }
                last = (revision, position);
                self.audit_change(revision, &change, problems)?;
            }
            cursor.next();
        }
        cursor.check()?;
        if last.0 != self.revision() {
            problems.add(format!(
                "changes end at revision {}, the store is at {}",
                last.0,
                self.revision()
            ));
        }
        Ok(recent)
    }

    fn audit_change(&self, revision: Revision, change: &Change, problems: &mut Problems) -> Result<()> {
        let key = shown(&change.key);
        match self.version_at(&change.key, revision)? {
            None => problems.add(format!("key {key}: its version {revision} is missing")),
            Some(version) if version.is_tombstone() != change.deleted => {
                problems.add(format!("key {key}: revision {revision} wrote something else"));
            }
            Some(_) => {}
        }
        if change.previous != 0 {
            let previous = self.version_at(&change.key, change.previous)?;
            if previous.is_none_or(|previous| previous.value_len() as u64 != change.previous_len) {
                let previous = change.previous;
                problems.add(format!(
                    "key {key}: the version {previous} before {revision} is missing"
                ));
            }
        }
        Ok(())
    }

    fn audit_leases(&self, problems: &mut Problems) -> Result<()> {
        let mut cursor = self.store.uncached_cursor(family::LEASE, None, None);
        cursor.seek_to_first();
        while let Some((place, _)) = cursor.entry() {
            let Some((id, key)) = place.split_first_chunk() else {
                return Err(Error::Damaged(
                    "read leases: the database holds bytes that are none of ours".to_owned(),
                ));
            };
            let id = i64::from_be_bytes(*id);
            let hangs = || Ok::<_, Error>(self.newest(key)?.is_some_and(|newest| newest.lease == id));
            if !key.is_empty() && !hangs()? {
                problems.add(format!(
                    "lease {id:x} knows key {}, which does not hang on it",
                    shown(key)
                ));
            }
            cursor.next();
        }
        Ok(cursor.check()?)
    }
}
