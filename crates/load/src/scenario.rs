//! The scenarios: what is done to a fresh server and which figures come of it.

pub(crate) mod cluster;
mod get;
mod million;
mod preload;
mod put;
pub(crate) mod qu;
mod range;
mod watch;

use anyhow::Result;

use crate::bench::Bench;
use crate::closed_loop::Measurement;
use crate::figure::{Figure, Goal, Unit};
use crate::system::System;

/// Names of figures that goals or several scenarios use.
const THROUGHPUT: &str = "throughput";
const P50: &str = "p50";
const P99: &str = "p99";
const P999: &str = "p99.9";
const SERVER_CPU: &str = "server CPU/op";
const GENERATOR_CPU: &str = "load CPU/op";
const RESIDENT: &str = "RSS";

/// One thing to measure.
pub(crate) trait Scenario {
    /// The name for `--only` and reports.
    fn name(&self) -> String;

    /// One line on what is done.
    fn about(&self) -> String;

    /// What it is to reach.
    fn goals(&self) -> Vec<Goal>;

    /// Whether this system can do it.
    fn takes(&self, _system: System) -> bool {
        true
    }

    /// One run on a fresh server, which is gone afterwards.
    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>>;
}

/// All scenarios in the order in which they run.
pub(crate) fn all(million_keys: u64) -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(put::Put::scattered(1)),
        Box::new(put::Put::scattered(64)),
        Box::new(put::Put::scattered(512)),
        Box::new(put::Put::ordered(64)),
        Box::new(get::Get::linearizable()),
        Box::new(get::Get::serializable()),
        Box::new(range::RangeOfThousand),
        Box::new(watch::Watch::Idle),
        Box::new(watch::Watch::Fanout),
        Box::new(million::Million { keys: million_keys }),
    ]
}

/// The figures every closed loop has.
fn throughput_figures(measurement: &Measurement) -> Vec<Figure> {
    let operations = measurement.operations();
    let quantile = |at: f64| measurement.latency.value_at_quantile(at) as f64 / 1000.0;
    vec![
        Figure::new(
            THROUGHPUT,
            Unit::PerSecond,
            operations / measurement.elapsed.as_secs_f64(),
        ),
        Figure::new(P50, Unit::Milliseconds, quantile(0.5)),
        Figure::new(P99, Unit::Milliseconds, quantile(0.99)),
        Figure::new(P999, Unit::Milliseconds, quantile(0.999)),
        Figure::new(
            SERVER_CPU,
            Unit::Microseconds,
            measurement.server_cpu.as_secs_f64() * 1e6 / operations,
        ),
        Figure::new(
            GENERATOR_CPU,
            Unit::Microseconds,
            measurement.generator_cpu.as_secs_f64() * 1e6 / operations,
        ),
    ]
}

fn mebibytes(name: &'static str, bytes: u64) -> Figure {
    Figure::new(name, Unit::Mebibytes, bytes as f64 / f64::from(1 << 20))
}
