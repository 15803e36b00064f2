//! A node that has promised to give its own group up takes no more changes for it, and promises nothing to anybody else.
//!
//! Between the promise and the end of the run that gives the group up lies a moment in which the node still leads itself. A change made then
//! would be acknowledged and thrown away. So changes are counted while they are made, and a promise is given only when there are none; after
//! it there are none any more.

use parking_lot::Mutex;
use pki::pinned::Fingerprint;

/// Who comes first: changes of the own group, or the promise to leave it.
#[derive(Debug, Default)]
pub struct Promised {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// To whom, by its key.
    to: Option<Fingerprint>,
    under_way: usize,
}

/// A change that is being made.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a Promised);

/// What came of a wish for a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It is given.
    Now,
    /// The same node has it already: its answer was lost.
    Before,
    /// Somebody else has it.
    ToAnother,
    /// A change is under way.
    Busy,
}

impl Promised {
    /// Begins a change, unless the promise has been given.
    pub fn change(&self) -> Option<UnderWay<'_>> {
        let mut inner = self.inner.lock();
        if inner.to.is_some() {
            return None;
        }
        inner.under_way += 1;
        Some(UnderWay(self))
    }

    /// Gives the promise, unless a change is under way or another node has it.
    #[must_use]
    pub fn give(&self, to: Fingerprint) -> Given {
        let mut inner = self.inner.lock();
        match inner.to {
            Some(known) if known == to => Given::Before,
            Some(_) => Given::ToAnother,
            None if inner.under_way > 0 => Given::Busy,
            None => {
                inner.to = Some(to);
                Given::Now
            }
        }
    }

    /// It came to nothing.
    pub fn take_back(&self) {
        self.inner.lock().to = None;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().under_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [Fingerprint; 2] {
        ["one", "two"].map(|key| Fingerprint::of_public_key(key.as_bytes()))
    }

    #[test]
    fn after_the_promise_nothing_is_changed() {
        let (promised, [one, other]) = (Promised::default(), keys());
        drop(promised.change().expect("free"));
        assert_eq!(promised.give(one), Given::Now);
        assert!(promised.change().is_none());
        assert_eq!(promised.give(other), Given::ToAnother);
        assert_eq!(promised.give(one), Given::Before);
        assert!(promised.change().is_none());
        promised.take_back();
        assert!(promised.change().is_some());
    }

    #[test]
    fn nothing_is_promised_while_something_changes() {
        let (promised, [one, _]) = (Promised::default(), keys());
        let change = promised.change();
        assert_eq!(promised.give(one), Given::Busy);
        assert!(promised.change().is_some(), "it was not given");
        drop(change);
        assert_eq!(promised.give(one), Given::Now);
    }
}
