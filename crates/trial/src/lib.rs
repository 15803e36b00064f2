//! Real processes of a cluster under faults, and a judge: `cargo xtask trial chainfire`.
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
mod keys;
mod ledger;
mod member;
mod namespaces;
mod nemesis;
mod network;
mod options;
mod run;
mod system;
mod watcher;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;

use crate::namespaces::Entry;
use crate::options::Options;

/// Exit status when this machine cannot do what was asked: no namespaces, no program to run.
const EXIT_CANNOT: u8 = 3;

/// The program.
pub fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let wrong_usage = error.use_stderr();
            // Nothing is left to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if wrong_usage { 64 } else { 0 });
        }
    };
    match namespaces::enter(&options) {
        Ok(Entry::Inside) => {}
        Ok(Entry::Done(status)) => return status,
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            return ExitCode::from(EXIT_CANNOT);
        }
    }
    match run::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            ExitCode::from(EXIT_CANNOT)
        }
    }
}
