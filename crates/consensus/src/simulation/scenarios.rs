//! Counterexamples by name. Each play goes wrong when the clause it is about is left out, and does not with the protocol as it is.

mod agreement;
mod forgotten;
mod membership;
mod recovery;

use super::stage::Stage;
use crate::{Body, Message, Mutation, NodeId};

type Outcome = Result<(), String>;

/// The play ends well, and ends badly without any of these clauses.
#[track_caller]
fn proves(play: fn(Mutation) -> Outcome, clauses: &[Mutation]) {
    assert_eq!(play(Mutation::None), Ok(()));
    for clause in clauses {
        let outcome = sim::seeds::run_one(0, |_| play(*clause).map(|()| 0));
        let failure = outcome.expect_err(&format!("{clause:?} makes no difference"));
        println!("{clause:?}: {failure}");
    }
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// What an unflagged voter in its first life would say.
fn answer_of(stage: &Stage, from: u64, to: u64, body: Body) -> Message {
    Message {
        group: crate::GroupId(1),
        from: NodeId(from),
        to: NodeId(to),
        from_incarnation: crate::Incarnation(from),
        to_incarnation: crate::Incarnation(to),
        recovering: false,
        term: stage.status(to).term,
        body,
    }
}
