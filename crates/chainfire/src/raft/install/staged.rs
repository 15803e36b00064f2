//! Snapshots that have arrived and are prepared, and which of their directories are in use.
//!
//! Snapshots arrive on one thread and are installed on another. A newer one makes older ones superfluous, but not one that is being
//! installed at that moment: a crash would then leave a mark that names nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use consensus::Position;
use parking_lot::Mutex;

/// Prepared snapshots, by the position that they are of.
#[derive(Debug, Default)]
pub struct Staged(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    prepared: BTreeMap<Position, PathBuf>,
    /// The driver has seen a message about these and may be about to install them.
    reserved: BTreeSet<Position>,
    installing: Option<PathBuf>,
}

impl Staged {
    /// The tables of a snapshot lie in `directory`, whole and synced.
    pub fn put(&self, position: Position, directory: PathBuf) {
        self.0.lock().prepared.insert(position, directory);
    }

    /// True if this snapshot is here.
    pub fn has(&self, position: Position) -> bool {
        self.0.lock().prepared.contains_key(&position)
    }

    /// Forgets all others but this one. Returns the directories that must stay.
    pub fn keep_only(&self, position: Position) -> Vec<PathBuf> {
        let mut inner = self.0.lock();
        let Inner {
            prepared,
            reserved,
            installing,
        } = &mut *inner;
        prepared.retain(|at, _| *at == position || reserved.contains(at));
        prepared.values().chain(installing.iter()).cloned().collect()
    }

    pub(super) fn reserve(&self, position: Position) -> bool {
        let mut inner = self.0.lock();
        let is_here = inner.prepared.contains_key(&position);
        if is_here {
            inner.reserved.insert(position);
        }
        is_here
    }

    pub(super) fn release(&self) {
        self.0.lock().reserved.clear();
    }

    pub(super) fn take(&self, position: Position) -> Option<PathBuf> {
        let mut inner = self.0.lock();
        inner.installing = inner.prepared.remove(&position);
        inner.installing.clone()
    }

    pub(super) fn installed(&self) {
        self.0.lock().installing = None;
    }
}

#[cfg(test)]
mod tests {
    use consensus::Term;

    use super::*;

    fn at(index: u64) -> Position {
        Position { term: Term(1), index }
    }

    #[test]
    fn what_is_about_to_be_installed_is_not_forgotten() {
        let staged = Staged::default();
        for index in 1..=4 {
            staged.put(at(index), PathBuf::from(index.to_string()));
        }
        assert!(staged.reserve(at(1)) && !staged.reserve(at(9)));
        assert_eq!(staged.take(at(2)), Some(PathBuf::from("2")));
        let kept = staged.keep_only(at(4));
        assert_eq!(kept, ["1", "4", "2"].map(PathBuf::from));
        assert!(!staged.has(at(3)) && !staged.has(at(2)));
        staged.installed();
        staged.release();
        assert_eq!(staged.keep_only(at(4)), ["4"].map(PathBuf::from));
    }
}
