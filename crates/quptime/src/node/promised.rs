//! A node that has promised to give its own group up takes no more changes for it.
//!
//! Between the promise and the end of the run that gives the group up lies a moment in which the node still leads itself. A change made then
//! would be acknowledged and thrown away. So changes are counted while they are made, and a promise is given only when there are none; after
//! it there are none any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Who comes first: changes of the own group, or the promise to leave it.
#[derive(Debug, Default)]
pub struct Promised {
    given: AtomicBool,
    under_way: AtomicUsize,
}

/// A change that is being made.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a Promised);

impl Promised {
    /// Begins a change, unless the promise has been given.
    pub fn change(&self) -> Option<UnderWay<'_>> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let change = UnderWay(self);
        // Counted first: a promise that is given at the same time sees it, or is seen.
        (!self.given.load(Ordering::SeqCst)).then_some(change)
    }

    /// Gives the promise, unless a change is under way.
    #[must_use]
    pub fn give(&self) -> bool {
        self.given.store(true, Ordering::SeqCst);
        let free = self.under_way.load(Ordering::SeqCst) == 0;
        if !free {
            self.take_back();
        }
        free
    }

    /// It came to nothing.
    pub fn take_back(&self) {
        self.given.store(false, Ordering::SeqCst);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_promise_nothing_is_changed() {
        let promised = Promised::default();
        drop(promised.change().expect("free"));
        assert!(promised.give());
        assert!(promised.change().is_none());
        promised.take_back();
        assert!(promised.change().is_some());
    }

    #[test]
    fn nothing_is_promised_while_something_changes() {
        let promised = Promised::default();
        let change = promised.change();
        assert!(!promised.give());
        assert!(promised.change().is_some(), "it was not given");
        drop(change);
        assert!(promised.give());
    }
}
