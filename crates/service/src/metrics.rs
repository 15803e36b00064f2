//! Metrics in the Prometheus text format, over `prometheus-client`.
//!
//! A [`Metrics`] is a value that a service owns, never a global, so that two nodes live in one test. Each system
//! registers a struct of handles once and updates those; handles are cheap to clone and lock-free (families take a short
//! lock to find their member).
//!
//! Names are given in full and appear as given, with one exception: `prometheus-client` appends `_total` to counters. The
//! `counter` methods here take the name *with* `_total` and strip it, so that a search for a metric's name finds it in
//! the code. Help texts are given without a final full stop (one is added).

mod process;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::{Metric, Registry};

pub use prometheus_client::encoding::{EncodeLabelSet as Labels, EncodeLabelValue as LabelValue};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::{Family, MetricConstructor};
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// A gauge of fractions or seconds.
pub type FloatGauge = Gauge<f64, AtomicU64>;
/// A counter of seconds or other fractions.
pub type FloatCounter = Counter<f64, AtomicU64>;
/// Histograms by label.
pub type HistogramFamily<L> = Family<L, Histogram, Buckets>;

/// The `Content-Type` of [`Metrics::encode_classic`].
pub const CONTENT_TYPE_CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds for request latencies: 100 µs to 13 s, each twice the one before, as etcd's dashboards expect
/// of `_duration_seconds`.
pub const LATENCY_SECONDS: Buckets = Buckets(&[
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048, 0.4096,
    0.8192, 1.6384, 3.2768, 6.5536, 13.1072,
]);

/// Upper bounds in seconds for fsync and commit times: 1 ms to 8 s, each twice the one before (etcd's own).
pub const DISK_SECONDS: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
]);

/// Upper bounds of a histogram, ascending, without infinity.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(pub &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// The metrics of one service. Clones share one registry.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
}

impl Metrics {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a metric of any other kind. Handles are clones of `metric`.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.registry.write().register(name, help, metric.clone());
        metric
    }

    /// Registers something that works out its metrics when asked.
    pub fn register_collector(&self, collector: impl Collector) {
        self.registry.write().register_collector(Box::new(collector));
    }

    /// A counter. `name` ends in `_total`.
    pub fn register_counter(&self, name: &str, help: &str) -> Counter {
        self.register(stem(name), help, Counter::default())
    }

    /// A counter of fractions. `name` ends in `_total`.
    pub fn register_float_counter(&self, name: &str, help: &str) -> FloatCounter {
        self.register(stem(name), help, FloatCounter::default())
    }

    /// Counters by label. `name` ends in `_total`.
    pub fn register_counters<L: LabelSet>(&self, name: &str, help: &str) -> Family<L, Counter> {
        self.register(stem(name), help, Family::default())
    }

    /// A gauge of whole numbers.
    pub fn register_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// A gauge of fractions.
    pub fn register_float_gauge(&self, name: &str, help: &str) -> FloatGauge {
        self.register(name, help, FloatGauge::default())
    }

    /// Gauges by label.
    pub fn register_gauges<L: LabelSet>(&self, name: &str, help: &str) -> Family<L, Gauge> {
        self.register(name, help, Family::default())
    }

    /// A histogram with fixed buckets.
    pub fn register_histogram(&self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        self.register(name, help, buckets.new_metric())
    }

    /// Histograms by label.
    pub fn register_histograms<L: LabelSet>(
        &self,
        name: &str,
        help: &str,
        buckets: Buckets,
    ) -> HistogramFamily<L> {
        self.register(name, help, Family::new_with_constructor(buckets))
    }

    /// `<name>{version="..."} 1`, as dashboards use to show what runs where.
    pub fn register_build_info(&self, name: &str, version: &str) {
        let labels = vec![("version".to_owned(), version.to_owned())];
        self.register_gauges::<Vec<(String, String)>>(name, "Always 1; the labels say what is running")
            .get_or_create(&labels)
            .set(1);
    }

    /// Adds the standard metrics of this process: resident memory, CPU time, open files and its limit, start time.
    pub fn register_process(&self) {
        self.register_collector(process::Process);
    }

    /// Everything, in the OpenMetrics text form that ends in `# EOF`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.read())
            .expect("writing to a string cannot fail");
        text
    }

    /// Everything, in the older text form, for readers that do not know OpenMetrics (`promtool check metrics`, old
    /// scrapers): there the name in a counter's description carries `_total` too.
    pub fn encode_classic(&self) -> String {
        let text = self.encode();
        let counters: HashSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
            .collect();
        let mut classic = String::with_capacity(text.len());
        for line in text.lines() {
            let about = line
                .strip_prefix("# HELP ")
                .or_else(|| line.strip_prefix("# TYPE "));
            if let Some((name, rest)) = about.and_then(|about| about.split_once(' ')) {
                let ending = if counters.contains(name) { "_total" } else { "" };
                classic.extend([&line[..7], name, ending, " ", rest, "\n"]);
            } else if !line.starts_with('#') {
                classic.extend([line, "\n"]);
            }
        }
        classic
    }

    /// The body of `/metrics` and its `Content-Type`, in the form that the request's `Accept` header asks for.
    pub fn reply(&self, accept: Option<&str>) -> (&'static str, String) {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            (CONTENT_TYPE, self.encode())
        } else {
            (CONTENT_TYPE_CLASSIC, self.encode_classic())
        }
    }
}

/// What the label types of a family must be.
pub trait LabelSet: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static {}
impl<L: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static> LabelSet for L {}

/// The name as the library wants it.
fn stem(name: &str) -> &str {
    debug_assert!(name.ends_with("_total"), "counter {name} must end in _total");
    name.strip_suffix("_total").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct Role {
        role: &'static str,
    }

    #[test]
    fn names_appear_as_given() {
        let metrics = Metrics::new();
        metrics
            .register_counter("chainfire_leader_changes_total", "Leader changes seen")
            .inc();
        metrics
            .register_gauge("chainfire_has_leader", "1 when a leader is known")
            .set(1);
        metrics
            .register_histogram(
                "chainfire_write_duration_seconds",
                "Write latency",
                LATENCY_SECONDS,
            )
            .observe(0.015);
        metrics
            .register_float_counter("chainfire_rocksdb_stall_seconds_total", "Stalls")
            .inc_by(0.5);
        metrics.register_build_info("chainfire_build_info", "0.1.0");
        // A gauge may end in `_total` too: a seed compares one with a number.
        metrics
            .register_gauge("flaredb_pending_peers_total", "Pending peers")
            .set(2);
        let text = metrics.encode();
        for line in [
            "# HELP chainfire_leader_changes Leader changes seen.",
            "chainfire_leader_changes_total 1",
            "chainfire_has_leader 1",
            "chainfire_write_duration_seconds_bucket{le=\"0.0128\"} 0",
            "chainfire_write_duration_seconds_bucket{le=\"0.0256\"} 1",
            "chainfire_write_duration_seconds_count 1",
            "chainfire_rocksdb_stall_seconds_total 0.5",
            "chainfire_build_info{version=\"0.1.0\"} 1",
            "flaredb_pending_peers_total 2",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn one_series_of_a_family_replaces_another() {
        let metrics = Metrics::new();
        let index = metrics.register_gauges::<Role>("chainfire_raft_index", "Index of the last entry");
        index.get_or_create(&Role { role: "follower" }).set(7);
        index.clear();
        index.get_or_create(&Role { role: "leader" }).set(8);
        let text = metrics.encode();
        assert!(
            text.contains("chainfire_raft_index{role=\"leader\"} 8\n"),
            "{text}"
        );
        assert!(!text.contains("follower"), "{text}");
    }

    #[test]
    fn histograms_by_label_share_their_buckets() {
        let metrics = Metrics::new();
        let fsync = metrics.register_histograms::<Role>("fsync_seconds", "Fsync time", DISK_SECONDS);
        fsync.get_or_create(&Role { role: "leader" }).observe(9.0);
        let text = metrics.encode();
        assert!(
            text.contains("fsync_seconds_bucket{le=\"8.192\",role=\"leader\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("fsync_seconds_bucket{le=\"+Inf\",role=\"leader\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn each_reader_gets_its_form() {
        let metrics = Metrics::new();
        metrics
            .register_counter("leader_changes_total", "Leader changes")
            .inc();
        metrics
            .register_gauge("has_leader", "1 when a leader is known")
            .set(1);
        let (kind, text) = metrics.reply(Some("text/plain;version=0.0.4"));
        assert_eq!(kind, CONTENT_TYPE_CLASSIC);
        assert_eq!(
            text,
            "\
# HELP leader_changes_total Leader changes.
# TYPE leader_changes_total counter
leader_changes_total 1
# HELP has_leader 1 when a leader is known.
# TYPE has_leader gauge
has_leader 1
"
        );
        assert_eq!(metrics.reply(None).0, CONTENT_TYPE_CLASSIC);
        let (kind, text) = metrics.reply(Some(
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        ));
        assert_eq!(kind, CONTENT_TYPE);
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn buckets_ascend() {
        for Buckets(bounds) in [LATENCY_SECONDS, DISK_SECONDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
