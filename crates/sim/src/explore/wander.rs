//! Random walks through a model that is too large to be explored.

use super::{Counterexample, Model, Report, attempt};
use crate::Rng;

/// How far and how often.
#[derive(Debug, Clone, Copy)]
pub struct Walks {
    /// Of the first walk; each has its own.
    pub seed: u64,
    /// Walks, each from the beginning.
    pub count: u64,
    /// Steps of a walk, if it does not end before.
    pub steps: u32,
}

/// Walks at random; of what is possible, each action is as likely as any other. The report's states are counted once per visit.
///
/// # Errors
/// A way to a state or step that must not be, shortened, but not the shortest there is.
pub fn wander<M: Model>(model: &M, walks: Walks) -> Result<Report, Counterexample<M::Action>> {
    let mut report = Report::default();
    for seed in walks.seed..walks.seed + walks.count {
        let mut rng = Rng::new(seed);
        let starts: Vec<usize> = (0..model.initial().len()).collect();
        let start = *rng.pick(&starts);
        let mut state = model.initial().swap_remove(start);
        let mut taken = Vec::new();
        for depth in 1..=walks.steps {
            let mut actions = model.actions(&state);
            rng.shuffle(&mut actions);
            let step = actions.into_iter().find_map(|action| {
                let next = attempt(|| {
                    let next = model.next(&state, &action)?;
                    next.as_ref().map_or(Ok(()), |next| model.check(next))?;
                    Ok(next)
                });
                next.transpose().map(|next| (action, next))
            });
            let Some((action, next)) = step else { break };
            taken.push(action);
            match next {
                Ok(next) => state = next,
                Err(violation) => {
                    let found = Counterexample {
                        violation,
                        start,
                        actions: taken,
                    };
                    return Err(found.shortened(model, |_| true));
                }
            }
            report.steps += 1;
            report.states += 1;
            report.depth = report.depth.max(depth);
        }
        for landmark in model.landmarks(&state) {
            *report.landmarks.entry(landmark).or_default() += 1;
        }
    }
    Ok(report)
}
