//! Real processes of a cluster under faults, and a judge: `cargo xtask trial chainfire`, `cargo xtask trial qu`.
//!
//! `qu.rs` says how the second is tried; the rest of this page, and of this folder, is about the first. They share the ground (`ground.rs`,
//! `namespaces.rs`, `network.rs`, `process.rs`, `findings.rs`).
//!
//! Three members of a system (Chainfire, or etcd to calibrate the instrument) run in network namespaces of their own, joined by a bridge
//! in a namespace of this program's own. Clients put, read and compare-and-swap values, none of which is ever written twice, on a few
//! keys through all members. Meanwhile a nemesis kills, pauses, cuts off and misleads members, by a seed. In the end everything is
//! healed and judged:
//!
//! - each key's history is linearizable (`sim::history`), with reads and writes of unknown outcome kept as unknown;
//! - across keys, no answer is older than one that was known when it was asked for (revisions never go back);
//! - each revision means the same write, whoever tells of it: an answer, a read, a watch on any member, the state at the end;
//! - watches, those that lived through the faults and new ones from revision 1, have every revision once, on every member;
//! - all members end with the same state, in which every acknowledged write is found or was overwritten;
//! - the cluster writes again soon after each fault.
//!
//! Read on in `run.rs` (the order of things), `nemesis.rs` (faults), `workload.rs` (what clients do), `ledger.rs` and `keys.rs` (what is
//! remembered of it). The seed fixes what is chosen, not how it meets: keep the folder of a run that failed.
#![allow(
    clippy::disallowed_methods,
    reason = "a trial of real processes measures real time and waits for it to pass"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: the report to stdout, progress to stderr"
)]

mod client;
mod clock;
mod findings;
mod finish;
mod ground;
mod keys;
mod ledger;
mod member;
mod namespaces;
mod nemesis;
mod network;
mod options;
mod process;
mod qu;
mod run;
mod system;
mod watcher;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;

use crate::namespaces::Entry;
use crate::options::{Arguments, Place, Subject};

/// Exit status when something else than the judge stopped the run: no program, a cluster that does not start.
const EXIT_BROKEN: u8 = 2;

/// Exit status when this machine has no namespaces.
const EXIT_CANNOT: u8 = 3;

/// The program.
pub fn main() -> ExitCode {
    let subject = match Arguments::try_parse() {
        Ok(arguments) => arguments.subject,
        Err(error) => {
            let wrong_usage = error.use_stderr();
            // Nothing is left to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if wrong_usage { 64 } else { 0 });
        }
    };
    let on_loopback = matches!(&subject, Subject::Chainfire(options) if options.network == Place::Loopback);
    if !on_loopback {
        match namespaces::enter() {
            Ok(Entry::Inside) => {}
            Ok(Entry::Done(status)) => return status,
            Err(error) => {
                let error = match subject {
                    Subject::Chainfire(_) => format!("{error:#}, or without partitions: --network loopback"),
                    Subject::Qu(_) => format!("{error:#}"),
                };
                terminal::error(&error);
                return ExitCode::from(EXIT_CANNOT);
            }
        }
    }
    let passed = match &subject {
        Subject::Chainfire(options) => run::run(options),
        Subject::Qu(options) => qu::run(options),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            ExitCode::from(EXIT_BROKEN)
        }
    }
}
