//! What a node that has reported in an election must not do any more.
//!
//! The report says: what I have now is all I ever had of the old primary, and it gets no confirmation from me again. So before it leaves,
//! the node makes durable that it has cut itself off and for which revision of the record; and from then on it follows nobody on the word
//! of a record that is not later. Reads of the store may be stale, and messages late; the revision tells.
//!
//! And a node that has once followed a primary of some epoch never follows one of an earlier epoch.

use serde::{Deserialize, Serialize};

/// What a node remembers on its own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Promise {
    /// The highest revision of the record for which it has cut itself off.
    pub cut_for: u64,
    /// The highest epoch it knows of.
    pub epoch: u64,
}

/// Why a node does not follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The record it was told of is not later than an election it took part in.
    #[error("cut off for the election of revision {cut_for}; this is revision {revision}")]
    Promised {
        /// The election's revision.
        cut_for: u64,
        /// What it was told of.
        revision: u64,
    },
    /// It knows of a later primary.
    #[error("epoch {epoch} is over; epoch {known} is known here")]
    Epoch {
        /// The epoch it was to follow.
        epoch: u64,
        /// What it knows.
        known: u64,
    },
}

impl Promise {
    /// After a cut for the election of that revision; to be made durable, with the cut, before the report leaves.
    #[must_use]
    pub fn cut(self, revision: u64) -> Promise {
        Promise {
            cut_for: self.cut_for.max(revision),
            ..self
        }
    }

    /// After it was told to follow the primary of `epoch` by a record of that revision; to be made durable before it follows.
    pub fn follow(self, revision: u64, epoch: u64) -> Result<Promise, Refusal> {
        if revision <= self.cut_for {
            return Err(Refusal::Promised {
                cut_for: self.cut_for,
                revision,
            });
        }
        if epoch < self.epoch {
            return Err(Refusal::Epoch {
                epoch,
                known: self.epoch,
            });
        }
        Ok(Promise { epoch, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_cut_follows_only_on_later_word() {
        let promise = Promise::default().cut(7);
        assert!(matches!(promise.follow(7, 2), Err(Refusal::Promised { .. })));
        assert_eq!(promise.follow(8, 2), Ok(Promise { cut_for: 7, epoch: 2 }));
    }

    #[test]
    fn no_earlier_cut_or_epoch_takes_a_promise_back() {
        let promise = Promise { cut_for: 7, epoch: 3 };
        assert_eq!(promise.cut(5), promise);
        assert!(matches!(promise.follow(9, 2), Err(Refusal::Epoch { .. })));
    }
}
