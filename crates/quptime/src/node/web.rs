//! Health and metrics over HTTP: on `web_listen`, and health alone on the port of nodes for whoever speaks HTTP there.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Handed;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use peer::http::WebStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::shared::{Mastery, Shared};
use super::wire::Found;
use crate::machine::state::Status;

/// The core turns every tick; one that has not for so long is stuck.
const STUCK_MS: u64 = 5000;
/// A client that has not sent its request by then is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has not taken its answer by then is.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Clients served at once; more wait in the kernel's queue. Each costs a descriptor, and those are for probes.
const CONNECTIONS_MAX: usize = 64;
/// Pause after a connection that could not be taken, for want of descriptors most likely.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// All pages.
pub fn pages(shared: Arc<Shared>) -> Router {
    health(shared.clone()).merge(Router::new().route("/metrics", get(metrics)).with_state(shared))
}

fn health(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(shared)
}

/// Serves pages until the run ends.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let stop = shared.stop.clone();
    let pages = pages(shared);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut last_error = None;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let pages = pages.clone();
                // Whoever is being served when the run ends gets an answer all the same.
                tokio::spawn(async move {
                    serve_one(pages, stream).await;
                    drop(place);
                });
                last_error = None;
            }
            Err(error) => {
                let text = error.to_string();
                if last_error.as_ref() != Some(&text) {
                    tracing::error!(target: "quptime", error = text, "a reader of pages was not let in");
                    last_error = Some(text);
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one request. Connections are not kept: whoever holds one and says nothing would hold a place.
async fn serve_one<S: AsyncRead + AsyncWrite + Unpin>(pages: Router, stream: S) {
    let service = hyper_util::service::TowerToHyperService::new(pages);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever went away, or was cut off, has no use for an error.
    drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection).await);
}

/// Serves health on a connection to the port of nodes.
pub async fn serve_health(shared: Arc<Shared>, stream: WebStream) {
    serve_one(health(shared), stream).await;
}

fn text(status: StatusCode, body: String) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        body,
    )
        .into_response()
}

async fn healthz(Handed(shared): Handed<Arc<Shared>>) -> Response {
    match stuck(&shared) {
        None => text(StatusCode::OK, "ok\n".to_owned()),
        Some(what) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
    }
}

/// What does not turn, if something does not.
pub fn stuck(shared: &Shared) -> Option<String> {
    let silent = shared.wall().saturating_sub(shared.view()?.turned);
    (silent > STUCK_MS).then(|| format!("the group has not turned for {} s", silent / 1000))
}

async fn readyz(Handed(shared): Handed<Arc<Shared>>) -> Response {
    match (stuck(&shared), shared.mastery()) {
        (Some(what), _) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
        (None, Mastery::Is(master)) => text(StatusCode::OK, format!("ok, master {master}\n")),
        (None, Mastery::NoQuorum) => text(StatusCode::SERVICE_UNAVAILABLE, "no quorum\n".to_owned()),
        (None, Mastery::Election) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "election in progress\n".to_owned(),
        ),
        (None, Mastery::Removed) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "removed from cluster\n".to_owned(),
        ),
    }
}

async fn metrics(Handed(shared): Handed<Arc<Shared>>) -> Response {
    let body = render(&shared);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

struct Page {
    out: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(
            self.out,
            "# HELP quptime_{name} {help}.\n# TYPE quptime_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
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
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The metrics, made of what is known at this moment: nothing is counted beside the state it would have to agree with.
fn render(shared: &Shared) -> String {
    let mut page = Page { out: String::new() };
    page.family("build", "info", "What runs here");
    page.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let master = shared.master();
    page.gauge(
        "has_quorum",
        "Whether this node knows a master",
        f64::from(u8::from(master.is_some())),
    );
    page.gauge(
        "is_master",
        "Whether this node is the master",
        f64::from(u8::from(master == Some(shared.me))),
    );
    let document = shared.document();
    page.gauge(
        "config_version",
        "Version of the configuration applied here",
        document.version as f64,
    );
    let pending = shared.file.lock().is_pending();
    page.gauge(
        "pending_hand_edit",
        "Whether an edit of cluster.yaml waits",
        f64::from(u8::from(pending)),
    );
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
        page.gauge(
            "deliveries_queued",
            "Messages that are not delivered yet",
            view.state.deliveries.len() as f64,
        );
    }
    probes(&mut page, shared, &document);
    page.out.push_str("# EOF\n");
    page.out
}

fn peers(page: &mut Page, shared: &Shared, document: &crate::document::Document) {
    let (now, dead_after) = (shared.now(), shared.dead_after());
    let ears = shared.ears.lock();
    let others = || document.peers.iter().filter(|peer| peer.node_id != shared.me);
    page.family("peer_live", "gauge", "Whether a peer is heard");
    for peer in others() {
        let live = ears.is_live(peer.node_id, now, dead_after);
        page.sample(
            "peer_live",
            &[("peer", &peer.advertise)],
            f64::from(u8::from(live)),
        );
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

fn checks(page: &mut Page, state: &crate::machine::state::State) {
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
        page.sample(
            "check_transitions_total",
            &[("check", &check.name)],
            known.transitions as f64,
        );
    }
    page.family(
        "node_impaired",
        "gauge",
        "Whether the votes of a node do not count",
    );
    for peer in &state.document.peers {
        let impaired = state.impaired.contains(&peer.node_id);
        page.sample(
            "node_impaired",
            &[("peer", &peer.advertise)],
            f64::from(u8::from(impaired)),
        );
    }
}

fn probes(page: &mut Page, shared: &Shared, document: &crate::document::Document) {
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
        let value = f64::from(u8::from(arrived.result == Found::Up));
        page.sample("probe_success", &[("check", &check.name)], value);
    }
    page.family(
        "probe_seconds",
        "gauge",
        "How long the newest probe of this node took",
    );
    for (check, arrived) in known() {
        page.sample(
            "probe_seconds",
            &[("check", &check.name)],
            arrived.took as f64 / 1000.0,
        );
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
}
