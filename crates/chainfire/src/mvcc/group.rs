//! The writes of one apply round.
//!
//! A group collects what a run of log entries changes and writes it as one batch, with the index of the last of them. Until
//! then later commands see earlier ones through `pending`: reads of a group are the database with `pending` laid over it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use store::{Batch, Durability};

use super::codec::{Change, Head, Version, hist_key, rev_key};
use super::range::KeyRange;
use super::state::{Meta, Mvcc};
use super::view::{Changed, Source, Visit};
use super::{Revision, family};
use crate::error::Result;
use crate::lease;

/// What watchers are told.
pub type Event = Changed;

/// Writes under construction. Nothing of it can be read outside before [`Group::commit`].
#[allow(missing_debug_implementations, reason = "holds a batch of the database")]
pub struct Group<'a> {
    mvcc: &'a Mvcc,
    batch: Batch<'a>,
    /// Newest versions, tombstones included, that are not in the database yet.
    pending: BTreeMap<Bytes, Version>,
    /// Tombstones at or below the compaction point that were moved to `hist`.
    leaving: Vec<(Bytes, Revision)>,
    /// As of the last finished revision.
    meta: Meta,
    /// Changes of the revision under construction.
    position: u32,
    events: Vec<Event>,
    value: Vec<u8>,
    old: Vec<u8>,
}

impl<'a> Group<'a> {
    /// An empty group. Only the apply thread makes groups, one after the other.
    pub fn new(mvcc: &'a Mvcc) -> Group<'a> {
        Group {
            mvcc,
            batch: mvcc.store.batch(),
            pending: BTreeMap::new(),
            leaving: Vec::new(),
            meta: mvcc.meta(),
            position: 0,
            events: Vec::new(),
            value: Vec::new(),
            old: Vec::new(),
        }
    }

    /// Newest finished revision, this group's included.
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// The compaction point, this group's included.
    pub fn compacted(&self) -> Revision {
        self.meta.compacted
    }

    /// The revision that changes made now will have.
    pub fn next_revision(&self) -> Revision {
        self.meta.revision + 1
    }

    /// True if the revision under construction has changes.
    pub fn has_changes(&self) -> bool {
        self.position > 0
    }

    /// Number of changes collected so far.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// True if nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(crate) fn mvcc(&self) -> &'a Mvcc {
        self.mvcc
    }

    /// For what is stored beside keys (leases, users) with the same group.
    pub fn batch(&mut self) -> &mut Batch<'a> {
        &mut self.batch
    }

    /// The newest version of `key`; a tombstone counts as none.
    pub fn newest(&self, key: &[u8]) -> Result<Option<Version>> {
        Ok(self
            .newest_or_tombstone(key)?
            .filter(|version| !version.is_tombstone()))
    }

    fn newest_or_tombstone(&self, key: &[u8]) -> Result<Option<Version>> {
        match self.pending.get(key) {
            Some(version) => Ok(Some(version.clone())),
            None => self.mvcc.newest_to_replace(key),
        }
    }

    /// Writes `key`; returns what it was before.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> Result<Option<Version>> {
        let revision = self.next_revision();
        let before = self.newest_or_tombstone(&key)?;
        let live = before.as_ref().filter(|version| !version.is_tombstone());
        let version = Version {
            created: live.map_or(revision, |live| live.created),
            modified: revision,
            version: live.map_or(0, |live| live.version) + 1,
            lease,
            value: Some(value),
        };
        Ok(self.change(key, before, version))
    }

    /// Deletes `key`; returns what it was, `None` if it was not there and nothing changed.
    pub fn delete(&mut self, key: Bytes) -> Result<Option<Version>> {
        let before = self.newest(&key)?;
        if before.is_none() {
            return Ok(None);
        }
        let tombstone = Version::tombstone(self.next_revision());
        Ok(self.change(key, before, tombstone))
    }

    /// Replaces `before` by `after` everywhere; returns `before` if it was live.
    fn change(&mut self, key: Bytes, before: Option<Version>, after: Version) -> Option<Version> {
        if let Some(before) = &before {
            debug_assert!(
                before.modified < after.modified,
                "a key changes at most once in a revision"
            );
            // A tombstone too, even one below the compaction point: what it deleted may not be swept yet, and must not be
            // taken for the key's value at that point.
            hist_key(&key, before.modified, &mut self.old);
            before.encode(&mut self.value);
            self.batch.put(family::HIST, &self.old, &self.value);
            if before.is_tombstone() && before.modified <= self.meta.compacted {
                self.leaving.push((key.clone(), before.modified));
            }
        }
        let live = before.filter(|version| !version.is_tombstone());
        let change = Change {
            key: key.clone(),
            deleted: after.is_tombstone(),
            previous: live.as_ref().map_or(0, |live| live.modified),
            previous_len: live.as_ref().map_or(0, Version::value_len) as u64,
        };
        change.encode(&mut self.value);
        self.batch
            .put(family::REV, &rev_key(after.modified, self.position), &self.value);
        after.encode(&mut self.value);
        self.batch.put(family::KEY, &key, &self.value);

        let old_lease = live.as_ref().map_or(0, |live| live.lease);
        if old_lease != after.lease {
            if old_lease != 0 {
                self.batch
                    .delete(family::LEASE, &lease::attachment_key(old_lease, &key));
            }
            if after.lease != 0 {
                self.batch
                    .put(family::LEASE, &lease::attachment_key(after.lease, &key), &[]);
            }
        }

        self.meta.written_bytes += Version::cost(&key, after.value_len());
        self.position += 1;
        self.events.push(Event {
            revision: after.modified,
            key: key.clone(),
            version: (!after.is_tombstone()).then(|| after.clone()),
            previous: live.clone(),
        });
        self.pending.insert(key, after);
        live
    }

    /// Ends the revision under construction. Without changes the revision stays as it is.
    pub fn finish_revision(&mut self) -> Revision {
        if self.position > 0 {
            self.meta.revision += 1;
            self.position = 0;
        }
        self.meta.revision
    }

    /// Moves the compaction point. What lies below it can no longer be read once the group is committed.
    pub fn compact(&mut self, revision: Revision) {
        self.meta.compacted = revision;
    }

    /// Notes that everything up to this log entry is in the group.
    pub fn applied(&mut self, index: u64, term: u64) {
        debug_assert!(
            index > self.meta.applied_index,
            "entries are applied in order, each once"
        );
        self.meta.applied_index = index;
        self.meta.applied_term = term;
    }

    /// Writes the group and makes it readable. The log already has what is in it, so the write itself need not reach the
    /// disk now. Returns the events, in order.
    pub fn commit(mut self) -> Result<Vec<Event>> {
        debug_assert_eq!(self.position, 0, "a group ends between revisions");
        self.meta.save(&mut self.batch);
        {
            let _writing = self.mvcc.writing.lock();
            // The sweep may have removed a tombstone since it was read, and will not come again for the copy.
            let swept = self.mvcc.swept_revision();
            for (key, revision) in &self.leaving {
                if *revision <= swept {
                    hist_key(key, *revision, &mut self.old);
                    self.batch.delete(family::HIST, &self.old);
                }
            }
            self.mvcc.store.write(self.batch, Durability::Volatile)?;
        }
        self.mvcc.publish(&self.meta);
        Ok(self.events)
    }
}

impl Source for Group<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Version>> {
        self.newest(key)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut over = self
            .pending
            .range(range.start.clone()..)
            .take_while(|(key, _)| range.end.as_ref().is_none_or(|end| *key < end))
            .peekable();
        let mut cursor = self.mvcc.store.cursor(family::KEY, None, range.end.as_deref());
        cursor.seek(&range.start);
        loop {
            let stored = cursor.entry();
            let take_pending = match (over.peek(), stored) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((pending, _)), Some((key, _))) => pending.as_ref() <= key,
            };
            let flow = if take_pending {
                let (key, version) = over.next().expect("peeked just now");
                if stored.is_some_and(|(stored, _)| stored == key.as_ref()) {
                    cursor.next();
                }
                match &version.value {
                    None => ControlFlow::Continue(()),
                    Some(value) => {
                        let head = Head {
                            created: version.created,
                            modified: version.modified,
                            version: version.version,
                            lease: version.lease,
                            tombstone: false,
                        };
                        visit(key, head, value)
                    }
                }
            } else {
                let (key, bytes) = stored.expect("taken because it is there");
                let (head, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
                let flow = if head.tombstone {
                    ControlFlow::Continue(())
                } else {
                    visit(key, head, value)
                };
                cursor.next();
                flow
            };
            if flow.is_break() {
                return Ok(());
            }
        }
        cursor.check()?;
        Ok(())
    }
}
