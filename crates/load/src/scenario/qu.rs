//! The scenarios of qu: what many checks cost, and how long everything takes that somebody waits for.

mod alerts;
mod catch_up;
mod checks;
mod master_kill;
mod status;

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Scenario;
use crate::figure::{Figure, Unit};

/// Sizes that options decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) quick: bool,
    pub(crate) checks: u32,
    pub(crate) kills: u32,
}

/// All of them in the order in which they run.
pub(crate) fn all(extent: &Extent) -> Vec<Box<dyn Scenario>> {
    let Extent { quick, checks, kills } = *extent;
    vec![
        Box::new(checks::Checks::new(checks, quick)),
        Box::new(alerts::Alerts::new(quick)),
        Box::new(master_kill::MasterKill { kills }),
        Box::new(status::StatusOfMany),
        Box::new(catch_up::CatchUp),
    ]
}

/// A quantile of a histogram of microseconds.
fn quantile(name: &'static str, latencies: &Histogram<u64>, at: f64) -> Figure {
    let value = latencies.value_at_quantile(at) as f64 / 1000.0;
    Figure::new(name, Unit::Milliseconds, value)
}

/// The checks of `cluster.yaml`, one line each; half of them pages, half ports.
fn list(uptime: &crate::uptime::Uptime, count: usize, interval: Duration) -> String {
    let interval = format!("{}ms", interval.as_millis());
    let line = |number: usize| {
        let (kind, target) = if number.is_multiple_of(2) {
            ("http", uptime.page(number))
        } else {
            ("tcp", uptime.port(number))
        };
        format!(
            "  - {{id: id{number}, name: check{number}, type: {kind}, target: \"{target}\", interval: {interval}, timeout: 2s}}\n"
        )
    };
    (0..count).map(line).collect()
}
