//! Giving back the space of what nobody can read any more.
//!
//! A committed compaction only moves the compaction point. The sweep then follows in the background, change by change: each
//! change up to the point gives up the version it replaced, and a deletion gives up its tombstone. How far it got is written
//! with what it removed, so a crash resumes; members may be at different places without differing in any answer.

use std::ops::ControlFlow;

use store::Durability;

use super::codec::{Change, Head, Version, hist_key, rev_key, rev_of};
use super::state::{Mvcc, Swept};
use super::{Revision, family};
use crate::error::Result;

/// Changes looked at before the sweep lets others write. Small enough that no client notices the pause.
const CHANGES_PER_STEP: usize = 1000;

impl Mvcc {
    /// Sweeps up to the compaction point, calling `pause` between steps until it breaks. Returns true when there is nothing
    /// left to sweep.
    pub fn sweep(&self, pause: &mut dyn FnMut() -> ControlFlow<()>) -> Result<bool> {
        self.sweep_in_steps(CHANGES_PER_STEP, pause)
    }

    /// The same, looking at about `changes` changes (at least 1) between two pauses.
    pub fn sweep_in_steps(&self, changes: usize, pause: &mut dyn FnMut() -> ControlFlow<()>) -> Result<bool> {
        loop {
            if !self.sweep_step(changes)? {
                return Ok(true);
            }
            if pause().is_break() {
                return Ok(false);
            }
        }
    }

    /// True if the sweep has reached the compaction point.
    pub fn is_swept(&self) -> bool {
        self.swept.lock().revision >= self.compacted()
    }

    /// One step; false if there was nothing to do.
    fn sweep_step(&self, changes: usize) -> Result<bool> {
        let mut swept = self.swept.lock();
        let point = self.compacted();
        if swept.revision >= point {
            return Ok(false);
        }
        let mut batch = self.store.batch();
        let mut tombstones = Vec::new();
        let mut next = Swept {
            revision: point,
            ..*swept
        };
        let mut scratch = Vec::new();
        let mut seen = 0usize;
        let mut last: Option<Revision> = None;

        let end = rev_key(point + 1, 0);
        let mut cursor = self.store.cursor(family::REV, None, Some(&end));
        cursor.seek(&rev_key(swept.revision + 1, 0));
        while let Some((key, bytes)) = cursor.entry() {
            let revision = rev_of(key).ok_or_else(Mvcc::damaged_change)?;
            // Steps end between revisions, so that the progress is one number.
            if seen >= changes && last.is_some_and(|last| last != revision) {
                next.revision = revision - 1;
                break;
            }
            last = Some(revision);
            seen += 1;
            let change = Change::decode(bytes).ok_or_else(Mvcc::damaged_change)?;
            if change.previous != 0 {
                hist_key(&change.key, change.previous, &mut scratch);
                batch.delete(family::HIST, &scratch);
                next.removed_bytes += Version::cost(&change.key, change.previous_len as usize);
            }
            if change.deleted {
                next.removed_bytes += Version::cost(&change.key, 0);
                hist_key(&change.key, revision, &mut scratch);
                batch.delete(family::HIST, &scratch);
                tombstones.push((change.key, revision));
            }
            cursor.next();
        }
        cursor.check()?;

        // A watch may still start at the compaction point itself, so its changes stay.
        batch.delete_range(family::REV, &rev_key(0, 0), &rev_key(next.revision, 0));
        next.save(&mut batch);
        {
            let _writing = self.writing.lock();
            for (key, revision) in tombstones {
                let stored = self.store.get(family::KEY, &key)?;
                let head = stored.as_deref().and_then(Head::decode).map(|(head, _)| head);
                if head.is_some_and(|head| head.tombstone && head.modified == revision) {
                    batch.delete(family::KEY, &key);
                }
            }
            self.store.write(batch, Durability::Volatile)?;
            self.publish_swept(&next);
        }
        *swept = next;
        Ok(true)
    }
}
