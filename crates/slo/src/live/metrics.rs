//! What the evaluator exports.

use service::metrics::{Counter, Family, FloatGauge, Gauge, Histogram, LATENCY_SECONDS, Labels, Metrics};

/// An objective.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Labels)]
pub(super) struct Slo {
    pub(super) slo: String,
}

/// A window of an objective.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Labels)]
pub(super) struct Window {
    pub(super) slo: String,
    pub(super) window: String,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Labels)]
pub(super) struct Alert {
    pub(super) slo: String,
    pub(super) alert: String,
}

/// A channel, and how an attempt went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Labels)]
pub(super) struct Attempt {
    pub(super) channel: String,
    pub(super) result: String,
}

/// All handles.
#[derive(Debug, Clone)]
pub(super) struct Handles {
    pub(super) metrics: Metrics,
    pub(super) objective: Family<Slo, FloatGauge>,
    pub(super) budget: Family<Slo, FloatGauge>,
    pub(super) data: Family<Slo, Gauge>,
    pub(super) burn: Family<Window, FloatGauge>,
    pub(super) alert: Family<Alert, Gauge>,
    pub(super) seconds: Histogram,
    pub(super) failures: Counter,
    pub(super) attempts: Family<Attempt, Counter>,
    pub(super) waiting: Gauge,
}

impl Handles {
    pub(super) fn new() -> Handles {
        let metrics = Metrics::new();
        metrics.register_build_info("slo_build_info", env!("CARGO_PKG_VERSION"));
        metrics.register_process();
        Handles {
            objective: metrics.register(
                "slo_objective",
                "Share of events that has to be good",
                Family::default(),
            ),
            budget: metrics.register(
                "slo_error_budget_remaining_ratio",
                "Share of the period's error budget that is left; below 0 it is overspent",
                Family::default(),
            ),
            data: metrics.register_gauges(
                "slo_data_ok",
                "1 if the objective is measured, 0 if data is missing, stale or makes no sense",
            ),
            burn: metrics.register("slo_burn_rate", "Burn rate over a window", Family::default()),
            alert: metrics.register_gauges(
                "slo_alert_state",
                "0 if an alert is inactive, 1 if it is pending, 2 if it fires",
            ),
            seconds: metrics.register_histogram(
                "slo_eval_duration_seconds",
                "How long it took to look at all objectives",
                LATENCY_SECONDS,
            ),
            failures: metrics.register_counter("slo_query_failures_total", "Queries that were not answered"),
            attempts: metrics.register_counters(
                "slo_notification_attempts_total",
                "Attempts to tell a channel something, by how they went: sent, failed, given-up",
            ),
            waiting: metrics.register_gauge(
                "slo_notifications_waiting",
                "Messages that wait for their channels",
            ),
            metrics,
        }
    }
}
