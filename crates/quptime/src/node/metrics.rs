//! `/metrics`: the page of numbers, made of the replicated state, the newest probes and what this node has counted ([`super::counts`]).
//!
//! In OpenMetrics, or in the older text form for whoever does not ask for it. Series are named by what people call things, so a check that is
//! renamed begins a new series, and one that is removed has none any more.

use std::fmt::Write as _;

use super::counts::{Counted, Histogram};
use super::shared::Shared;
use super::status::own_table;
use super::wire::{CheckLine, Found};
use crate::document::Document;
use crate::machine::state::{State, Status};

/// Which text form a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// With `# EOF` at its end.
    OpenMetrics,
    /// Version 0.0.4, which everybody reads.
    Classic,
}

impl Form {
    /// What an `Accept` header asks for.
    pub fn asked(accept: Option<&str>) -> Form {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Form::OpenMetrics
        } else {
            Form::Classic
        }
    }

    /// As `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::OpenMetrics => service::metrics::CONTENT_TYPE,
            Form::Classic => service::metrics::CONTENT_TYPE_CLASSIC,
        }
    }
}

struct Page {
    form: Form,
    out: String,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // The older form has the names of counters as their samples have them.
        let ending = match self.form {
            Form::Classic if kind == "counter" => "_total",
            Form::Classic | Form::OpenMetrics => "",
        };
        // Writing to a text does not fail.
        let _ = writeln!(
            self.out,
            "# HELP quptime_{name}{ending} {help}.\n# TYPE quptime_{name}{ending} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
            .collect();
        let _ = if labels.is_empty() {
            writeln!(self.out, "quptime_{name} {value}")
        } else {
            writeln!(self.out, "quptime_{name}{{{}}} {value}", labels.join(","))
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut last = 0;
        for (bound, count) in histogram.buckets() {
            let bound = if bound.is_finite() {
                format!("{bound:?}")
            } else {
                "+Inf".to_owned()
            };
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, count as f64);
            last = count;
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.sample(&format!("{name}_count"), labels, last as f64);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The page as of now.
pub async fn render(shared: &Shared, form: Form) -> String {
    let table = own_table(shared).await;
    let mut page = Page {
        form,
        out: String::new(),
    };
    page.family("build_info", "gauge", "Always 1; the labels say what is running");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let document = shared.document();
    shared.counts.follow(&document);
    let counted = shared.counts.counted();
    cluster(&mut page, shared, &document, &counted);
    peers(&mut page, shared, &document);
    if let Some(view) = shared.view() {
        page.gauge("term", "Term of the group", view.term as f64);
        page.gauge(
            "raft_commit_index",
            "Last entry known to be committed",
            view.commit as f64,
        );
        page.gauge(
            "raft_applied_index",
            "Last entry applied here",
            view.applied as f64,
        );
        checks(&mut page, &view.state);
        impaired(&mut page, &view.state);
        page.gauge(
            "deliveries_queued",
            "Messages that are not delivered yet",
            view.state.deliveries.len() as f64,
        );
    }
    if let Some(table) = table {
        reports(&mut page, &table);
    }
    probes(&mut page, shared, &document, &counted);
    phases(&mut page, &document, &counted);
    deliveries(&mut page, &document, &counted);
    if form == Form::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
    page.out
}

fn cluster(page: &mut Page, shared: &Shared, document: &Document, counted: &Counted) {
    let master = shared.master();
    page.gauge(
        "has_quorum",
        "Whether this node knows a master",
        flag(master.is_some()),
    );
    page.gauge(
        "is_master",
        "Whether this node is the master",
        flag(master == Some(shared.me)),
    );
    page.family(
        "master_changes",
        "counter",
        "How often the master changed, as seen by this node",
    );
    page.sample("master_changes_total", &[], counted.master_changes as f64);
    page.gauge(
        "config_version",
        "Version of the configuration applied here",
        document.version as f64,
    );
    let pending = shared.file.lock().is_pending();
    page.gauge(
        "pending_hand_edit",
        "Whether an edit of cluster.yaml waits",
        flag(pending),
    );
}

fn peers(page: &mut Page, shared: &Shared, document: &Document) {
    let (now, dead_after) = (shared.now(), shared.dead_after());
    let ears = shared.ears.lock();
    let others = || document.peers.iter().filter(|peer| peer.node_id != shared.me);
    page.family("peer_live", "gauge", "Whether a peer is heard");
    for peer in others() {
        let live = ears.is_live(peer.node_id, now, dead_after);
        page.sample("peer_live", &[("peer", &peer.advertise)], flag(live));
    }
    page.family(
        "peer_last_seen_seconds",
        "gauge",
        "Seconds since a peer was heard",
    );
    for peer in others() {
        if let Some(heard) = ears.of(peer.node_id) {
            let seconds = now.saturating_sub(heard.last) as f64 / 1000.0;
            page.sample("peer_last_seen_seconds", &[("peer", &peer.advertise)], seconds);
        }
    }
}

fn checks(page: &mut Page, state: &State) {
    let known = || {
        let checks = state.document.checks.iter();
        checks.filter_map(|check| Some((check, state.checks.get(&check.id)?)))
    };
    page.family("check_state", "gauge", "1 up, 0 down, -1 unknown");
    for (check, known) in known() {
        let value = match known.status {
            Status::Up => 1.0,
            Status::Down => 0.0,
            Status::Unknown => -1.0,
        };
        page.sample(
            "check_state",
            &[("check", &check.name), ("type", check.kind.name())],
            value,
        );
    }
    page.family("check_transitions", "counter", "Changes of state");
    for (check, known) in known() {
        for (to, count) in transitions(known.status, known.transitions) {
            page.sample(
                "check_transitions_total",
                &[("check", &check.name), ("to", to)],
                count as f64,
            );
        }
    }
}

/// How many of a check's transitions led up, and how many down. They alternate, since there is no way back to unknown, so the last state
/// and their number say it.
fn transitions(status: Status, all: u64) -> [(&'static str, u64); 2] {
    let (last, other) = (all.div_ceil(2), all / 2);
    match status {
        Status::Down => [("up", other), ("down", last)],
        Status::Up | Status::Unknown => [("up", last), ("down", other)],
    }
}

fn impaired(page: &mut Page, state: &State) {
    page.family(
        "node_impaired",
        "gauge",
        "Whether the votes of a node do not count",
    );
    for peer in &state.document.peers {
        let impaired = state.impaired.contains(&peer.node_id);
        page.sample("node_impaired", &[("peer", &peer.advertise)], flag(impaired));
    }
}

/// Only the master knows.
fn reports(page: &mut Page, table: &[CheckLine]) {
    page.family(
        "check_reports",
        "gauge",
        "Reports of the last round, on the master",
    );
    for line in table {
        page.sample("check_reports", &[("check", &line.name)], f64::from(line.total));
    }
    page.family(
        "check_reports_ok",
        "gauge",
        "Reports of the last round that found it well, on the master",
    );
    for line in table {
        page.sample("check_reports_ok", &[("check", &line.name)], f64::from(line.ok));
    }
}

fn probes(page: &mut Page, shared: &Shared, document: &Document, counted: &Counted) {
    let node = shared.me.to_string();
    let found = shared.found.lock();
    let known = || {
        document
            .checks
            .iter()
            .filter_map(|check| Some((check, found.get(&check.id)?)))
    };
    page.family(
        "probe_success",
        "gauge",
        "Whether the newest probe of this node found the target well",
    );
    for (check, arrived) in known().filter(|(_, arrived)| arrived.result != Found::Unable) {
        let labels = [("check", check.name.as_str()), ("node", &node)];
        page.sample("probe_success", &labels, flag(arrived.result == Found::Up));
    }
    page.family(
        "probe_seconds",
        "gauge",
        "How long the newest probe of this node took",
    );
    for (check, arrived) in known() {
        let seconds = arrived.took as f64 / 1000.0;
        page.sample("probe_seconds", &[("check", &check.name)], seconds);
    }
    page.family(
        "probe_cert_expiry_timestamp_seconds",
        "gauge",
        "End of the certificate seen",
    );
    for (check, arrived) in known() {
        if let Some(end) = arrived.certificate_end {
            page.sample(
                "probe_cert_expiry_timestamp_seconds",
                &[("check", &check.name)],
                end as f64,
            );
        }
    }
    page.family("probes", "counter", "Probes of this node, by what they found");
    for ((kind, result), count) in &counted.probes {
        page.sample(
            "probes_total",
            &[("type", kind.name()), ("result", result)],
            *count as f64,
        );
    }
    page.family(
        "probe_queue_delay_seconds",
        "histogram",
        "How much later than due probes of this node began",
    );
    page.histogram("probe_queue_delay_seconds", &[], &counted.queue_delay);
}

fn phases(page: &mut Page, document: &Document, counted: &Counted) {
    page.family(
        "probe_duration_seconds",
        "histogram",
        "Where the time of probes of this node went",
    );
    for check in &document.checks {
        for (phase, histogram) in counted.phases.get(&check.id).into_iter().flatten() {
            let labels = [("check", check.name.as_str()), ("phase", phase)];
            page.histogram("probe_duration_seconds", &labels, histogram);
        }
    }
}

fn deliveries(page: &mut Page, document: &Document, counted: &Counted) {
    page.family(
        "deliveries",
        "counter",
        "Attempts of this node to tell somebody, by how they ended",
    );
    for alert in &document.alerts {
        for (result, count) in counted.deliveries.get(&alert.id).into_iter().flatten() {
            let labels = [("alert", alert.name.as_str()), ("result", result)];
            page.sample("deliveries_total", &labels, *count as f64);
        }
    }
    page.family(
        "delivery_seconds",
        "histogram",
        "From what happened until a channel took the message of this node",
    );
    for alert in &document.alerts {
        if let Some(histogram) = counted.delivery_seconds.get(&alert.id) {
            page.histogram("delivery_seconds", &[("alert", &alert.name)], histogram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_are_split_by_where_they_led() {
        // unknown, up, down, up.
        assert_eq!(transitions(Status::Unknown, 0), [("up", 0), ("down", 0)]);
        assert_eq!(transitions(Status::Up, 1), [("up", 1), ("down", 0)]);
        assert_eq!(transitions(Status::Down, 2), [("up", 1), ("down", 1)]);
        assert_eq!(transitions(Status::Up, 3), [("up", 2), ("down", 1)]);
        // unknown, down, up.
        assert_eq!(transitions(Status::Down, 1), [("up", 0), ("down", 1)]);
        assert_eq!(transitions(Status::Up, 2), [("up", 1), ("down", 1)]);
    }

    #[test]
    fn names_cannot_break_out_of_their_label() {
        for form in [Form::Classic, Form::OpenMetrics] {
            let mut page = Page {
                form,
                out: String::new(),
            };
            page.sample("x", &[("check", "a\"} 1\n\\")], 1.0);
            assert_eq!(page.out, "quptime_x{check=\"a\\\"} 1\\n\\\\\"} 1\n");
        }
    }

    #[test]
    fn counters_are_described_as_each_form_wants_it() {
        let described = |form| {
            let mut page = Page {
                form,
                out: String::new(),
            };
            page.family("probes", "counter", "Probes");
            page.out
        };
        assert!(described(Form::OpenMetrics).ends_with("# TYPE quptime_probes counter\n"));
        assert!(described(Form::Classic).ends_with("# TYPE quptime_probes_total counter\n"));
    }
}
