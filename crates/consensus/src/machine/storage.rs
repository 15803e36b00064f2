//! What is on disk, what is on its way there, and what waits for it.
//!
//! **Invariant:** a promise (a vote, an acknowledgement) leaves only after everything decided before it is on disk, and nothing else
//! leaves while the disk does not know the term, vote, life or fence that it speaks with.

use std::collections::VecDeque;

use super::Replica;
use crate::log::Slice;
use crate::mutation::broken;
use crate::ready::Ready;
use crate::types::{Index, Position};

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Progress {
    /// Highest entry known to be on disk.
    stable: Index,
    /// Highest entry handed out to be written.
    handed: Index,
    /// Highest committed entry handed out to be applied.
    handed_committed: Index,
    /// Number of the last [`Ready`].
    number: u64,
    /// Highest number reported as written.
    persisted: u64,
    /// The hard state changed in a way that must be on disk before anything is said.
    hard_changed: bool,
    commit_changed: bool,
    /// The last [`Ready`] that carried such a change.
    hard_number: u64,
    /// The end of the log as of each [`Ready`] on its way.
    on_their_way: VecDeque<(u64, Position)>,
}

impl Progress {
    pub(super) fn restored(last: Index, applied: Index) -> Progress {
        Progress {
            stable: last,
            handed: last,
            handed_committed: applied,
            number: 0,
            persisted: 0,
            hard_changed: false,
            commit_changed: false,
            hard_number: 0,
            on_their_way: VecDeque::new(),
        }
    }

    pub(super) fn stable(&self) -> Index {
        self.stable
    }

    /// Whether the disk knows the term, vote, life and fence that are in force.
    pub(super) fn knows_hard_state(&self) -> bool {
        !self.hard_changed && self.persisted >= self.hard_number
    }

    pub(super) fn hard_changed(&mut self) {
        self.hard_changed = true;
    }

    pub(super) fn commit_changed(&mut self) {
        self.commit_changed = true;
    }

    /// The log now ends at `end`; what is written beyond it by a [`Ready`] on its way will be gone again.
    pub(super) fn truncated(&mut self, end: Position) {
        self.stable = self.stable.min(end.index);
        self.handed = self.handed.min(end.index);
        for (_, written) in &mut self.on_their_way {
            if written.index > end.index {
                *written = end;
            }
        }
    }

    pub(super) fn installed(&mut self, index: Index) {
        self.truncated(Position::default());
        self.handed = index;
        self.handed_committed = index;
        self.hard_changed = true;
    }

    pub(super) fn discarded(&mut self) {
        self.truncated(Position::default());
        self.handed_committed = 0;
    }
}

impl Replica {
    /// What is to be done since the last call; nothing if nothing is.
    pub fn ready(&mut self) -> Option<Ready> {
        self.start_round();
        self.flush();
        let progress = &mut self.storage;
        let out = std::mem::take(&mut self.outbox);
        let entries = match self.log.slice(progress.handed + 1, self.log.last(), usize::MAX) {
            Slice::Cached(entries) => entries,
            Slice::Evicted { .. } => unreachable!("entries that are not on disk stay in memory"),
        };
        let committed = match self.log.slice(
            progress.handed_committed + 1,
            self.hard.commit.min(progress.stable),
            self.settings.apply_bytes_max,
        ) {
            Slice::Cached(entries) => entries,
            Slice::Evicted { .. } => unreachable!("entries that are not applied stay in memory"),
        };
        let hard_state = (progress.hard_changed || progress.commit_changed).then(|| self.hard.clone());
        let mut ready = Ready {
            number: progress.number + 1,
            discard: out.discard,
            snapshot: out.snapshot,
            entries,
            hard_state,
            committed,
            reads: out.reads,
            reads_failed: out.reads_failed,
            fetches: out.fetches,
            snapshots_wanted: out.snapshots_wanted,
            events: out.events,
            sync: progress.hard_changed,
            ..Ready::default()
        };
        let speaks_as_on_disk = progress.knows_hard_state();
        for message in out.messages {
            let waits = message.body.is_promise() || !speaks_as_on_disk;
            if waits && !broken!(self.settings, PromisesBeforeDisk) {
                ready.messages_after.push(message);
            } else {
                ready.messages.push(message);
            }
        }
        let nothing = ready.messages.is_empty()
            && ready.messages_after.is_empty()
            && !ready.must_write()
            && ready.committed.is_empty()
            && ready.reads.is_empty()
            && ready.reads_failed.is_empty()
            && ready.fetches.is_empty()
            && ready.snapshots_wanted.is_empty()
            && ready.events.is_empty();
        if nothing {
            return None;
        }
        progress.number += 1;
        if progress.hard_changed {
            progress.hard_number = progress.number;
        }
        progress.hard_changed = false;
        progress.commit_changed = false;
        progress.handed = self.log.last();
        progress
            .on_their_way
            .push_back((progress.number, self.log.last_position()));
        if let Some(last) = ready.committed.last() {
            progress.handed_committed = last.index;
        }
        Some(ready)
    }

    /// Everything up to the [`Ready`] of this number is on disk.
    pub fn persisted(&mut self, number: u64) {
        let progress = &mut self.storage;
        progress.persisted = progress.persisted.max(number);
        while let Some((_, end)) = progress.on_their_way.front().filter(|(of, _)| *of <= number) {
            // If the log was changed behind it meanwhile, a later one tells.
            if self.log.holds(*end) {
                progress.stable = progress.stable.max(end.index);
            }
            progress.on_their_way.pop_front();
        }
        self.tally();
        self.advance_commit();
    }

    /// Everything up to and including this index is applied. (More than is committed here can only be meant for a state that was
    /// discarded meanwhile.)
    pub fn applied(&mut self, index: Index) {
        if index > self.hard.commit {
            return;
        }
        self.applied = self.applied.max(index);
        let until = self.applied.min(self.storage.stable);
        self.log.evict(until, self.settings.cache_bytes_max);
    }

    /// The log on disk was cut off up to and including `index`, which must have been applied and be part of the state on disk.
    pub fn compact(&mut self, index: Index) {
        if index <= self.applied.min(self.storage.stable) {
            self.log.compact(index);
        }
    }
}
