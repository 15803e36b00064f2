//! What a search returns when something is wrong.

use std::fmt;

use super::{Model, attempt};

/// A way to something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample<A> {
    /// What is wrong at its end.
    pub violation: String,
    /// Which of the initial states it begins in.
    pub start: usize,
    /// What happens, in order.
    pub actions: Vec<A>,
}

impl<A: Clone + fmt::Debug> Counterexample<A> {
    /// Leaves out every action without which the same kind of violation is still reached. (A breadth-first search finds nothing to
    /// leave out; a random walk does.) `same` says whether another violation will do.
    #[must_use]
    pub fn shortened<M: Model<Action = A>>(mut self, model: &M, same: impl Fn(&str) -> bool) -> Self {
        loop {
            let before = self.actions.len();
            let mut at = self.actions.len();
            while at > 0 {
                at -= 1;
                let mut fewer = self.actions.clone();
                fewer.remove(at);
                if let Some((length, violation)) =
                    replay(model, self.start, &fewer).filter(|(_, text)| same(text))
                {
                    fewer.truncate(length);
                    at = at.min(length);
                    (self.actions, self.violation) = (fewer, violation);
                }
            }
            if self.actions.len() == before {
                return self;
            }
        }
    }
}

/// The first violation when these actions happen as far as they are possible, and after how many of them.
pub(super) fn replay<M: Model>(model: &M, start: usize, actions: &[M::Action]) -> Option<(usize, String)> {
    let mut state = model.initial().into_iter().nth(start)?;
    for (at, action) in actions.iter().enumerate() {
        let outcome = attempt(|| {
            let next = model.next(&state, action)?;
            next.as_ref().map_or(Ok(()), |next| model.check(next))?;
            Ok(next)
        });
        match outcome {
            Ok(Some(next)) => state = next,
            Ok(None) => {}
            Err(violation) => return Some((at + 1, violation)),
        }
    }
    None
}

impl<A: fmt::Debug> fmt::Display for Counterexample<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} steps:", self.violation, self.actions.len())?;
        for (at, action) in self.actions.iter().enumerate() {
            writeln!(f, "{:>4}. {action:?}", at + 1)?;
        }
        Ok(())
    }
}
