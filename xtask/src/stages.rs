//! A run made of named stages: each prints its name when it starts and its time when it ends, and a failure does not keep later
//! stages from running unless they stand on the failed one.
//!
//! Invariant: a stage that did not run is never reported as passed.

use std::time::Instant;

use anyhow::Result;

use crate::counts::Counts;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// Not run, because a stage it stands on failed.
    NotRun,
}

struct Stage {
    name: &'static str,
    outcome: Outcome,
    seconds: f64,
}

/// The stages of one run so far, and the test counts they reported.
pub(crate) struct Stages {
    done: Vec<Stage>,
    counts: Counts,
}

impl Stages {
    /// A run without stages yet.
    pub(crate) fn new() -> Stages {
        Stages {
            done: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Runs a stage that only passes or fails. Answers whether it passed.
    pub(crate) fn check(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        self.run(name, || work().map(|()| Counts::default()))
    }

    /// Runs a stage that counts tests. It passes if none of them failed. Answers whether it passed.
    pub(crate) fn tests(&mut self, name: &'static str, work: impl FnOnce() -> Result<Counts>) -> bool {
        self.run(name, work)
    }

    /// Notes a stage that cannot be run.
    pub(crate) fn not_run(&mut self, name: &'static str) {
        eprintln!("==> {name}: not run, it stands on a stage that failed");
        self.done.push(Stage {
            name,
            outcome: Outcome::NotRun,
            seconds: 0.0,
        });
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a stage's time is for the person reading, nothing is decided by it"
    )]
    fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<Counts>) -> bool {
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        let outcome = match result {
            Ok(counts) => {
                self.counts += counts;
                if counts.failed == 0 {
                    Outcome::Passed
                } else {
                    Outcome::Failed
                }
            }
            Err(error) => {
                eprintln!("xtask: {name}: {error:#}");
                // A stage that fails without counting tests is one failure of the closing line.
                self.counts.failed += 1;
                Outcome::Failed
            }
        };
        eprintln!("    {name}: {} in {seconds:.1} s", word(outcome));
        self.done.push(Stage {
            name,
            outcome,
            seconds,
        });
        outcome == Outcome::Passed
    }

    /// Prints the summary and the closing line; answers whether every stage passed.
    pub(crate) fn finish(&self) -> bool {
        println!();
        for stage in &self.done {
            println!(
                "{:<8} {:>7.1} s  {}",
                word(stage.outcome),
                stage.seconds,
                stage.name
            );
        }
        println!("{}", self.counts);
        self.done.iter().all(|stage| stage.outcome == Outcome::Passed) && self.counts.failed == 0
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "FAILED",
        Outcome::NotRun => "not run",
    }
}
