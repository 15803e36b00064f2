//! The load generator behind `cargo xtask bench`: a system of ours and its rival under the same load, alternately, on one disk: Chainfire
//! and etcd, qu and Prometheus with its blackbox exporter.
//!
//! One run starts one fresh server on an empty directory, warms it up, loads it over gRPC and reads its CPU time and memory from
//! `/proc`. Runs of the two systems take turns (A, B, A, B, ...), so that a slow minute of the machine hits both; the median of the
//! rounds is printed, with the ratio and the goal. When syncs are fast both systems are bound by the CPU, and the generator shares
//! it with them: therefore CPU time per operation is printed for the server and for the generator.
//!
//! What it does not do: assert anything. A missed goal is printed as MISS and the exit code stays 0; it is 1 only if something could
//! not be measured.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and waits for it to pass"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool: the report to stdout, progress to stderr"
)]

mod bench;
mod closed_loop;
mod cluster;
mod connection;
mod data;
mod figure;
mod interrupt;
mod machine;
mod options;
mod procfs;
mod qu;
mod report;
mod scenario;
mod server;
mod system;
mod uptime;
mod writer;

use std::process::ExitCode;

use clap::Parser as _;

use crate::options::Options;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let wrong_usage = error.use_stderr();
            // Nothing is left to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if wrong_usage { 64 } else { 0 });
        }
    };
    let scenarios = match bench::scenarios(&options) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            return ExitCode::from(64);
        }
    };
    // Without a subscriber the spans inside h2 look for a logger at every call; this one turns them off for good.
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default())
        .expect("no other subscriber is set in this program");
    match interrupt::install().and_then(|()| bench::run(&options, &scenarios)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            terminal::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
