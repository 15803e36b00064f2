//! What was found wrong, as it is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Findings of one kind that are printed in full; the others are counted.
const SHOWN_PER_KIND: usize = 3;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// No order explains what was done with a key.
    NotLinearizable,
    /// An answer was older than one that was known before it was asked for.
    WentBack,
    /// Two tell different things of one revision, or one write has two.
    Disagreement,
    /// A watch has left out or repeated a revision.
    WatchBroken,
    /// An acknowledged write is gone, or something is there that nobody wrote.
    WrongState,
    /// Members differ at the end.
    MembersDiffer,
    /// No write succeeds though nothing is in the way.
    NoProgress,
    /// A member ended that nobody ended.
    MemberEnded,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::NotLinearizable => "not linearizable",
            Self::WentBack => "went back",
            Self::Disagreement => "disagreement",
            Self::WatchBroken => "watch broken",
            Self::WrongState => "wrong state",
            Self::MembersDiffer => "members differ",
            Self::NoProgress => "no progress",
            Self::MemberEnded => "member ended",
        }
    }
}

/// All findings of a run; shared by everybody who looks.
#[derive(Debug)]
pub(crate) struct Findings {
    dir: PathBuf,
    counts: Mutex<BTreeMap<Kind, usize>>,
}

impl Findings {
    /// None yet; details go to files in `dir`.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            counts: Mutex::default(),
        }
    }

    /// Tells of something wrong.
    pub(crate) fn add(&self, kind: Kind, text: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(kind).or_default();
        *count += 1;
        if *count <= SHOWN_PER_KIND {
            terminal::error(&format!("{}: {text}", kind.words()));
        }
    }

    /// The same with details that are kept in a file of this name.
    pub(crate) fn add_with(&self, kind: Kind, text: &str, file: &str, details: &str) {
        let path = self.dir.join(file);
        match std::fs::write(&path, details) {
            Ok(()) => self.add(kind, &format!("{text}; see {}", path.display())),
            Err(error) => self.add(
                kind,
                &format!("{text} (write {}: {error})\n{details}", path.display()),
            ),
        }
    }

    /// How many of each kind.
    pub(crate) fn counts(&self) -> Vec<(&'static str, usize)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(kind, &count)| (kind.words(), count))
            .collect()
    }

    /// True if nothing was found.
    pub(crate) fn none(&self) -> bool {
        self.counts().is_empty()
    }
}
