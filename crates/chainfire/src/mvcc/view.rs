//! Reading: one key, a range, or the changes since a revision, all as of one revision.

use std::ops::ControlFlow;

use bytes::Bytes;
use store::Cursor;

use super::codec::{Change, Head, Version, hist_key, rev_key, rev_of};
use super::range::KeyRange;
use super::state::Mvcc;
use super::{Revision, family};
use crate::error::{Error, Result};
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::etcdserverpb::{RangeRequest, RangeResponse};
use crate::wire::mvccpb::KeyValue;

/// Told key, numbers and value of one live key; says whether to go on.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&[u8], Head, &[u8]) -> ControlFlow<()>;

/// Something that can list live versions in key order: the store as of a revision, or a group under construction.
pub(crate) trait Source {
    /// Calls `visit` with key, numbers and value of every live key of `range`, in order, until it breaks.
    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<()>;

    /// The live version of one key.
    fn get(&self, key: &[u8]) -> Result<Option<Version>>;
}

/// Keys that a scan takes through the block cache. A longer one would push out what others read again and again.
const CACHED_KEYS: usize = 20_000;

/// The store as of one revision.
pub(crate) struct View<'a> {
    mvcc: &'a Mvcc,
    at: Revision,
}

impl<'a> View<'a> {
    pub(crate) fn new(mvcc: &'a Mvcc, at: Revision) -> View<'a> {
        View { mvcc, at }
    }

    /// Moves `cursor`, which walks `hist`, to the newest version of `key` not above the view. True if it is there and live.
    fn seek_old(&self, cursor: &mut Cursor<'_>, key: &[u8], scratch: &mut Vec<u8>) -> bool {
        hist_key(key, self.at, scratch);
        cursor.seek_for_prev(scratch);
        let prefix = scratch.len() - 8;
        cursor
            .entry()
            .is_some_and(|(found, _)| found.len() == scratch.len() && found[..prefix] == scratch[..prefix])
    }
}

impl Source for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Version>> {
        let Some(version) = self.mvcc.newest(key)? else {
            return Ok(None);
        };
        let version = if version.modified <= self.at {
            version
        } else {
            let mut cursor = self.mvcc.store.cursor(family::HIST, None, None);
            if !self.seek_old(&mut cursor, key, &mut Vec::new()) {
                cursor.check()?;
                return Ok(None);
            }
            let (_, bytes) = cursor.entry().expect("seek_old found an entry");
            Version::decode(bytes).ok_or_else(Mvcc::damaged_version)?
        };
        Ok((!version.is_tombstone()).then_some(version))
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let end = range.end.as_deref();
        // Both pieces read as of the same revision, so what is written between them does not show.
        if let Some(next) = self.scan_piece(&range.start, end, true, visit)? {
            self.scan_piece(&next, end, false, visit)?;
        }
        Ok(())
    }
}

impl View<'_> {
    /// Visits keys from `from` on. With `cached` it stops after [`CACHED_KEYS`] and returns the key to go on with.
    fn scan_piece(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        cached: bool,
        visit: Visit<'_>,
    ) -> Result<Option<Vec<u8>>> {
        let store = &self.mvcc.store;
        let mut cursor = if cached {
            store.cursor(family::KEY, None, end)
        } else {
            store.uncached_cursor(family::KEY, None, end)
        };
        // Made only when a key turns out to be newer than the view. It is made after `cursor`, so it sees every version that
        // the ones `cursor` sees have replaced.
        let mut old: Option<Cursor<'_>> = None;
        let mut scratch = Vec::new();
        let mut seen = 0;
        cursor.seek(from);
        while let Some((key, bytes)) = cursor.entry() {
            if cached && seen == CACHED_KEYS {
                return Ok(Some(key.to_vec()));
            }
            seen += 1;
            let (head, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
            let flow = if head.modified <= self.at {
                if head.tombstone {
                    ControlFlow::Continue(())
                } else {
                    visit(key, head, value)
                }
            } else {
                let old = old.get_or_insert_with(|| store.cursor(family::HIST, None, None));
                if self.seek_old(old, key, &mut scratch) {
                    let (_, bytes) = old.entry().expect("seek_old found an entry");
                    let (head, value) = Head::decode(bytes).ok_or_else(Mvcc::damaged_version)?;
                    if head.tombstone {
                        ControlFlow::Continue(())
                    } else {
                        visit(key, head, value)
                    }
                } else {
                    old.check()?;
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() {
                return Ok(None);
            }
            cursor.next();
        }
        cursor.check()?;
        Ok(None)
    }
}

/// Answers a range request from `source`. The request has passed [`super::checks`]; the header is the caller's.
pub(crate) fn range(source: &dyn Source, request: &RangeRequest) -> Result<RangeResponse> {
    let range = KeyRange::new(request.key.clone(), &request.range_end);
    let mut response = RangeResponse::default();

    if let Some(key) = range.as_single() {
        if let Some(version) = source.get(key)? {
            response.count = 1;
            if !request.count_only && wanted(request, version.modified, version.created) {
                let mut found = version.key_value(key.clone());
                if request.keys_only {
                    found.value = Bytes::new();
                }
                response.kvs.push(found);
            }
        }
        return Ok(response);
    }

    let target = SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
    let order = match SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)? {
        SortOrder::None if target != SortTarget::Key => SortOrder::Ascend,
        order => order,
    };
    let limit = usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX);
    // In key order the limit can be kept while scanning; one more than it tells whether there is more.
    let in_key_order = order == SortOrder::None || (order == SortOrder::Ascend && target == SortTarget::Key);
    let keep = if in_key_order {
        limit.saturating_add(1)
    } else {
        usize::MAX
    };

    source.scan(&range, &mut |key, head, value| {
        response.count += 1;
        if !request.count_only && response.kvs.len() < keep && wanted(request, head.modified, head.created) {
            // Sorting by value needs it even when only keys are asked for.
            let with_value = !request.keys_only || target == SortTarget::Value;
            response.kvs.push(KeyValue {
                key: Bytes::copy_from_slice(key),
                create_revision: head.created,
                mod_revision: head.modified,
                version: head.version,
                value: if with_value {
                    Bytes::copy_from_slice(value)
                } else {
                    Bytes::new()
                },
                lease: head.lease,
            });
        }
        ControlFlow::Continue(())
    })?;

    if order != SortOrder::None && !(in_key_order) {
        let compare = |a: &KeyValue, b: &KeyValue| match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        // Equals stay in key order either way, as in etcd.
        if order == SortOrder::Descend {
            response.kvs.sort_by(|a, b| compare(b, a));
        } else {
            response.kvs.sort_by(compare);
        }
    }
    if response.kvs.len() > limit {
        response.kvs.truncate(limit);
        response.more = true;
    }
    if request.keys_only && target == SortTarget::Value {
        for kv in &mut response.kvs {
            kv.value = Bytes::new();
        }
    }
    Ok(response)
}

/// The four revision filters of a range request.
fn wanted(request: &RangeRequest, modified: Revision, created: Revision) -> bool {
    let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(modified, request.min_mod_revision, request.max_mod_revision)
        && within(created, request.min_create_revision, request.max_create_revision)
}

/// What a change counts beside its key and value, and what one counts that concerns nobody: the time it takes, in bytes. A
/// mebibyte of either is then some ten milliseconds.
const READ_COST: usize = 256;
const PASSED_COST: usize = 64;

/// One change as watchers are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// When.
    pub revision: Revision,
    /// Which key.
    pub key: Bytes,
    /// The new version, or `None` for a deletion.
    pub version: Option<Version>,
    /// The version before, if there was one and it is still kept.
    pub previous: Option<Version>,
}

impl Mvcc {
    /// Answers a range request as of `request.revision` (0: now). Sets the header's revision.
    pub fn range(&self, request: &RangeRequest) -> Result<(RangeResponse, Revision)> {
        loop {
            let newest = self.revision();
            let at = self.readable(request.revision)?;
            let response = range(&View::new(self, at), request)?;
            // A compaction that came in between may have taken versions from under the scan: never a partial answer.
            if at >= self.compacted() {
                return Ok((response, newest.max(at)));
            }
            if request.revision > 0 {
                return Err(Error::Compacted);
            }
        }
    }

    /// The changes of revisions `from..=to` for which `concerns` says yes to the key, in order. Stops after the revision in
    /// which `bytes_max` is passed, and what concerns nobody counts too; returns the first revision not looked at.
    pub fn changes(
        &self,
        from: Revision,
        to: Revision,
        concerns: &dyn Fn(&[u8]) -> bool,
        bytes_max: usize,
    ) -> Result<(Vec<Changed>, Revision)> {
        let mut changes = Vec::new();
        let mut bytes = 0usize;
        let mut last = None;
        let end = rev_key(to + 1, 0);
        let mut cursor = self.store.cursor(family::REV, None, Some(&end));
        cursor.seek(&rev_key(from, 0));
        let mut next = to + 1;
        while let Some((key, value)) = cursor.entry() {
            let revision = rev_of(key).ok_or_else(Mvcc::damaged_change)?;
            if bytes > bytes_max && last != Some(revision) {
                next = revision;
                break;
            }
            last = Some(revision);
            let change = Change::decode(value).ok_or_else(Mvcc::damaged_change)?;
            if concerns(&change.key) {
                let changed = self.changed(revision, change)?;
                bytes += changed.key.len() + changed.version.as_ref().map_or(0, Version::value_len);
                bytes += READ_COST;
                changes.push(changed);
            } else {
                bytes += PASSED_COST;
            }
            cursor.next();
        }
        cursor.check()?;
        // Looked at last: a sweep may have taken versions from under the reading, whole or in pieces.
        if from < self.compacted() {
            return Err(Error::Compacted);
        }
        Ok((changes, next))
    }

    fn changed(&self, revision: Revision, change: Change) -> Result<Changed> {
        let version = if change.deleted {
            None
        } else {
            self.version_at(&change.key, revision)?
        };
        let previous = match change.previous {
            0 => None,
            previous => self.version_at(&change.key, previous)?,
        };
        Ok(Changed {
            revision,
            key: change.key,
            version,
            previous,
        })
    }

    /// The version of `key` written at exactly `revision`, unless compaction has taken it.
    pub(super) fn version_at(&self, key: &[u8], revision: Revision) -> Result<Option<Version>> {
        if let Some(newest) = self.newest(key)?.filter(|newest| newest.modified == revision) {
            return Ok(Some(newest));
        }
        let mut old = Vec::new();
        hist_key(key, revision, &mut old);
        match self.store.get(family::HIST, &old)? {
            Some(bytes) => Version::decode(&bytes)
                .map(Some)
                .ok_or_else(Mvcc::damaged_version),
            // A version leaves `key` for `hist` in one step, so it was there unless compaction has taken it.
            None => Ok(None),
        }
    }
}
