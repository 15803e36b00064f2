//! The order of steps in which names and record change.
//!
//! 1. *Cover*: the record is written so that it covers the old names and the new ones. It is written even if it stays the same: that it
//!    succeeded makes an earlier write whose outcome nobody knows (a timeout, a keeper that died) fail from now on.
//! 2. *Effect*: the names are put into the file, and PostgreSQL is watched until no backend can acknowledge by the old ones any more.
//! 3. *Barrier*: enough members of the new names have flushed everything up to a position read after step 2; with it all that the old
//!    names acknowledged.
//! 4. *Settle*: the record is narrowed to the new names.
//!
//! A change that cannot go on is dropped where it stands: after every step record and names fit, and the next change begins with step 1.

use crate::{Names, Record};

/// A change under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    old: Names,
    new: Names,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Cover,
    Effect,
    Barrier,
    Settle,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work<'a> {
    /// Write this record, comparing lock, epoch and the revision of the record it was made from. Until that is known to have succeeded
    /// PostgreSQL stays as it is; if it fails or nobody knows, the change is dropped.
    Write(Record),
    /// Bring the names into effect, and see that they are.
    Effect(&'a Names),
    /// Read the position, then wait until as many members of the names have flushed it as the names ask for.
    Barrier(&'a Names),
}

impl Change {
    /// From what is in effect now to something else.
    #[must_use]
    pub fn new(old: Names, new: Names) -> Change {
        Change {
            old,
            new,
            step: Step::Cover,
        }
    }

    /// What comes next, given the record as it was last read or written.
    #[must_use]
    pub fn work(&self, record: &Record) -> Work<'_> {
        match self.step {
            Step::Cover => Work::Write(record.covering(&self.old, &self.new)),
            Step::Effect => Work::Effect(&self.new),
            Step::Barrier => Work::Barrier(&self.new),
            Step::Settle => Work::Write(record.settled(&self.new)),
        }
    }

    /// Whether the covering write comes next.
    #[must_use]
    pub fn covers(&self) -> bool {
        self.step == Step::Cover
    }

    /// Names before and after.
    #[must_use]
    pub fn names(&self) -> (&Names, &Names) {
        (&self.old, &self.new)
    }

    /// The change after its next work has been done, or nothing if that was the last.
    #[must_use]
    pub fn advance(self) -> Option<Change> {
        let step = match self.step {
            Step::Cover => Step::Effect,
            Step::Effect => Step::Barrier,
            Step::Barrier => Step::Settle,
            Step::Settle => return None,
        };
        Some(Change { step, ..self })
    }
}
