//! What the core has the disk keep.

use std::sync::Arc;
use std::time::Duration;

use consensus::{Ready, Snapshot};
use service::clock::Stopwatch;

use super::Worker;
use crate::raft::disk::DiskError;

/// Log entries, and bytes of them, after which the log is replaced by a snapshot.
const COMPACT_ENTRIES: u64 = 2000;
const COMPACT_BYTES: u64 = 8 << 20;
/// How often it is tried to shorten the log when there was no room for a snapshot.
const COMPACT_RETRY: Duration = Duration::from_secs(30);

impl Worker {
    /// Takes the newest commit index to disk, so that the next start knows more.
    pub(super) fn finish(&mut self) {
        if let Some(hard_state) = self.hard_state.take() {
            // It may as well be lost.
            drop(self.disk.write(&[], Some(&hard_state)));
        }
    }

    /// Writes what must be written. Can be repeated if there was no room.
    pub(super) fn write(&mut self, ready: &Ready) -> Result<(), DiskError> {
        let hard_state = ready.hard_state.clone().or_else(|| self.hard_state.clone());
        if ready.discard || ready.snapshot.is_some() {
            let hard_state = hard_state.clone();
            let hard_state = hard_state.unwrap_or_else(|| self.disk.hard_state().clone());
            let (base, state) = match &ready.snapshot {
                Some(snapshot) => {
                    let staged = self.staged.get(&snapshot.position.index);
                    let (_, state) = staged.expect("messages of snapshots without content are not taken");
                    (snapshot.clone(), state.clone())
                }
                None => (Snapshot::default(), Arc::default()),
            };
            self.disk.rebase(&base, &state, &hard_state, false)?;
            self.applied = base.position.index;
            self.state = state;
            if ready.entries.is_empty() {
                self.staged.remove(&base.position.index);
                self.hard_state = None;
                return Ok(());
            }
        }
        if !ready.must_sync() {
            if ready.hard_state.is_some() {
                self.hard_state.clone_from(&ready.hard_state);
            }
            return Ok(());
        }
        if ready.entries.is_empty() && hard_state.is_none() {
            return Ok(());
        }
        self.disk.write(&ready.entries, hard_state.as_ref())?;
        self.hard_state = None;
        if let Some(snapshot) = &ready.snapshot {
            self.staged.remove(&snapshot.position.index);
        }
        Ok(())
    }

    /// Whether the log has grown so long that a snapshot should take its place.
    pub(super) fn is_long(&self) -> bool {
        let long = self.applied.saturating_sub(self.disk.base().position.index) >= COMPACT_ENTRIES;
        let waits = self
            .compacts_again
            .is_some_and(|since| since.elapsed() < COMPACT_RETRY);
        (long || self.disk.log_bytes() >= COMPACT_BYTES) && !waits
    }

    pub(super) fn compact(&mut self) -> Result<(), DiskError> {
        let Some(snapshot) = self.replica.describe_snapshot(self.applied) else {
            return Ok(());
        };
        let hard_state = self.hard_state.clone();
        let hard_state = hard_state.unwrap_or_else(|| self.disk.hard_state().clone());
        match self.disk.rebase(&snapshot, &self.state, &hard_state, true) {
            Ok(()) => self.compacts_again = None,
            // The log can grow for a while; what does not fit into it any more is told then.
            Err(error @ DiskError::Full { .. }) => {
                if self.compacts_again.replace(Stopwatch::start()).is_none() {
                    tracing::error!(target: "quptime", "the log of changes cannot be shortened, the disk is nearly full: {error}");
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.hard_state = None;
        self.replica.compact(snapshot.position.index);
        Ok(())
    }
}
