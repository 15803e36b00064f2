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
    /// A message that was due never came.
    MessageLost,
    /// A message came that nothing asked for, or it says something else than it should.
    MessageWrong,
    /// A message came again without a reason.
    Repeated,
    /// A message that may have come before does not say so.
    Unmarked,
    /// A message came after a later one of the same check.
    OutOfOrder,
    /// One term has two masters.
    TwoMasters,
    /// A message came from a node that was cut off from the majority.
    SentAlone,
    /// A check is not what its target is, although nothing was in the way.
    WrongVerdict,
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
            Self::MessageLost => "message lost",
            Self::MessageWrong => "message wrong",
            Self::Repeated => "repeated without a reason",
            Self::Unmarked => "repeat without a mark",
            Self::OutOfOrder => "out of order",
            Self::TwoMasters => "two masters",
            Self::SentAlone => "sent without a majority",
            Self::WrongVerdict => "wrong verdict",
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

    /// Keeps details in a file of this name.
    pub(crate) fn write(&self, file: &str, details: &str) {
        let path = self.dir.join(file);
        match std::fs::write(&path, details) {
            Ok(()) => terminal::note(&format!("see {}", path.display())),
            Err(error) => terminal::error(&format!("write {}: {error}", path.display())),
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
