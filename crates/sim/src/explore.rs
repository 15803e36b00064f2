//! Every schedule instead of samples: a small explicit-state explorer.
//!
//! A [`Model`] says where a system begins, what can happen in a state, and what must never be. [`explore`] visits every state that can be
//! reached, breadth first, so the first counterexample is a shortest one; it is returned as the list of actions that lead to it. Where a
//! system is too large for that, bounds stop the search (and the report says that it did not finish), and [`wander`] takes long random
//! walks through the same model and shortens what it finds.
//!
//! What makes a model small enough:
//!
//! - Budgets are part of the state: so many crashes, so many elections. Time is not; what a timer would do is an action.
//! - A lost, late or repeated message needs no action of its own if messages are a set that nothing is ever taken from: each may be
//!   delivered at any time, again, or never. Take out what cannot change anything any more.
//! - States that differ only by the names of equal members are one: [`Model::canonical`] gives the form that is remembered. The search
//!   goes on from the state as it was found, so the actions of a counterexample fit each other.
//! - States are remembered by a 128-bit hash of what `Hash` sees, and kept whole only until their successors are known. So they should
//!   be flat: a model with large parts may number them and keep the numbers.
//!
//! The search is deterministic: the same model gives the same states, in the same order, and the same counterexample.

mod counterexample;
mod fingerprint;
mod wander;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counterexample::Counterexample;
use fingerprint::{Ready, fingerprint};
pub use wander::{Walks, wander};

/// A system to be explored.
pub trait Model {
    /// Everything that decides what can happen next, and what a check needs to remember.
    type State: Clone + Hash;
    /// Something that can happen. Its `Debug` form is the line in a counterexample.
    type Action: Clone + Debug;

    /// Where it begins.
    fn initial(&self) -> Vec<Self::State>;

    /// What may be possible here; [`Model::next`] decides. The order decides which of several shortest counterexamples is found.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// The state after `action`, or nothing if it is not possible here or changes nothing. An error is a violation that shows in the
    /// step itself and not in either state; so is a panic.
    fn next(&self, state: &Self::State, action: &Self::Action) -> Result<Option<Self::State>, String>;

    /// What must hold in every state.
    fn check(&self, state: &Self::State) -> Result<(), String>;

    /// The same state under other names, so that equal ones become identical.
    fn canonical(&self, state: &Self::State) -> Self::State {
        state.clone()
    }

    /// Names of what has been reached here, so that a test can see that its model was not asleep: an election that nobody wins breaks
    /// no rule.
    fn landmarks(&self, _state: &Self::State) -> Vec<&'static str> {
        Vec::new()
    }
}

/// Where a search stops even though there is more.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Different states.
    pub states: usize,
    /// Actions from the beginning.
    pub depth: u32,
}

impl Bounds {
    /// None but those of memory: the number of a state has 32 bits.
    pub const NONE: Bounds = Bounds {
        states: u32::MAX as usize,
        depth: u32::MAX,
    };
}

/// What a search saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Different states, up to symmetry.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// Actions to the state that is farthest from the beginning.
    pub depth: u32,
    /// Whether that was all there is.
    pub complete: bool,
    /// By landmark: the states that show it.
    pub landmarks: BTreeMap<&'static str, u64>,
}

/// Visits every state within `bounds`.
///
/// # Errors
/// A shortest way to a state or step that must not be.
pub fn explore<M: Model>(model: &M, bounds: Bounds) -> Result<Report, Counterexample<M::Action>> {
    let mut search = Search {
        model,
        bounds,
        known: HashSet::default(),
        origins: Vec::new(),
        frontier: VecDeque::new(),
        report: Report {
            complete: true,
            ..Report::default()
        },
    };
    for (start, state) in model.initial().into_iter().enumerate() {
        search.meet(Origin::Start(number(start)), 0, state)?;
    }
    while let Some(visit) = search.frontier.pop_front() {
        search.expand(&visit)?;
    }
    Ok(search.report)
}

/// How a state was reached first.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// It is one of the initial ones.
    Start(u32),
    /// From that state, by its action with that number.
    Step { from: u32, action: u32 },
}

/// A state whose successors are not known yet.
struct Visit<S> {
    id: u32,
    depth: u32,
    state: S,
}

struct Search<'m, M: Model> {
    model: &'m M,
    bounds: Bounds,
    known: HashSet<u128, Ready>,
    /// By the number of the state.
    origins: Vec<Origin>,
    frontier: VecDeque<Visit<M::State>>,
    report: Report,
}

type Found<M> = Counterexample<<M as Model>::Action>;

impl<M: Model> Search<'_, M> {
    fn expand(&mut self, visit: &Visit<M::State>) -> Result<(), Found<M>> {
        if visit.depth >= self.bounds.depth {
            self.report.complete = false;
            return Ok(());
        }
        for (at, action) in self.model.actions(&visit.state).into_iter().enumerate() {
            let origin = Origin::Step {
                from: visit.id,
                action: number(at),
            };
            match attempt(|| self.model.next(&visit.state, &action)) {
                Ok(None) => {}
                Ok(Some(state)) => {
                    self.report.steps += 1;
                    self.meet(origin, visit.depth + 1, state)?;
                }
                Err(violation) => return Err(self.counterexample(origin, violation)),
            }
        }
        Ok(())
    }

    fn meet(&mut self, origin: Origin, depth: u32, state: M::State) -> Result<(), Found<M>> {
        let print = fingerprint(&self.model.canonical(&state));
        if self.known.contains(&print) {
            return Ok(());
        }
        if self.origins.len() >= self.bounds.states {
            self.report.complete = false;
            return Ok(());
        }
        self.known.insert(print);
        if let Err(violation) = attempt(|| self.model.check(&state)) {
            return Err(self.counterexample(origin, violation));
        }
        for landmark in self.model.landmarks(&state) {
            *self.report.landmarks.entry(landmark).or_default() += 1;
        }
        let id = number(self.origins.len());
        self.origins.push(origin);
        self.report.states += 1;
        self.report.depth = depth;
        self.frontier.push_back(Visit { id, depth, state });
        Ok(())
    }

    /// Only numbers were kept, so the way is walked once more.
    fn counterexample(&self, last: Origin, violation: String) -> Found<M> {
        let mut numbers = Vec::new();
        let mut origin = last;
        let start = loop {
            match origin {
                Origin::Start(start) => break start,
                Origin::Step { from, action } => {
                    numbers.push(action);
                    origin = self.origins[from as usize];
                }
            }
        };
        let mut state = self.model.initial().swap_remove(start as usize);
        let mut actions = Vec::with_capacity(numbers.len());
        while let Some(at) = numbers.pop() {
            let action = self.model.actions(&state).swap_remove(at as usize);
            if !numbers.is_empty()
                && let Ok(Some(next)) = self.model.next(&state, &action)
            {
                state = next;
            }
            actions.push(action);
        }
        Counterexample {
            violation,
            start: start as usize,
            actions,
        }
    }
}

/// A panic in the model, or in the code it drives, is a violation like any other.
fn attempt<T>(what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("bounded by 32 bits")
}

#[cfg(test)]
mod tests;
