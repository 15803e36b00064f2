//! Plain HTTP pages: health, version, metrics.

use consensus::NodeId;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::json;
use service::health::{Check, Health};
use tonic::body::Body;

use super::Server;
use super::dispatch::whole;
use crate::node::{VERSION, is_learner, role_name};
use crate::wire::etcdserverpb::{AlarmType, RangeRequest};

const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// A page of text.
pub(super) fn page(
    status: StatusCode,
    kind: &'static str,
    content: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(whole(content));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Answers a request that is neither gRPC nor under `/v3`.
pub(super) async fn answer(server: &Server, request: &Request<()>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/v2" || path.starts_with("/v2/") {
        let text = "the etcd v2 API is not served here; use v3 (gRPC, or JSON under /v3)\n";
        return page(StatusCode::NOT_FOUND, TEXT, text);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "only GET is answered here\n";
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        refusal
            .headers_mut()
            .insert(header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let query = Query::of(request.uri().query().unwrap_or_default());
    match path {
        "/health" => health(server, &query).await,
        "/healthz" | "/livez" => checks(&live(server), &query),
        "/readyz" => checks(&ready(server, &query).await, &query),
        "/version" => version(server),
        "/metrics" => metrics(server, request),
        _ => page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
    }
}

/// The few parameters these pages know.
struct Query {
    serializable: bool,
    verbose: bool,
    exclude: Vec<String>,
}

impl Query {
    fn of(text: &str) -> Query {
        let mut query = Query {
            serializable: false,
            verbose: false,
            exclude: Vec::new(),
        };
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "serializable" => query.serializable = value.eq_ignore_ascii_case("true"),
                "verbose" => query.verbose = true,
                "exclude" => query.exclude.push(value.to_owned()),
                _ => {}
            }
        }
        query
    }

    fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|excluded| excluded == name)
    }
}

/// etcd's `/health`: one word and a reason.
async fn health(server: &Server, query: &Query) -> Response<Body> {
    let mut reason = String::new();
    for alarm in server.node.machine.alarms() {
        let name = AlarmType::try_from(alarm.alarm)
            .unwrap_or(AlarmType::None)
            .as_str_name();
        if !query.excludes(name) {
            reason = format!("ALARM {name}");
            break;
        }
    }
    // What would be alarm NOSPACE if it could still be written down.
    if reason.is_empty() && server.node.refuses_writes() && !query.excludes(AlarmType::Nospace.as_str_name())
    {
        "DISK FULL: writes are refused".clone_into(&mut reason);
    }
    if reason.is_empty() && !query.serializable && server.node.raft.view().leader.is_none() {
        "RAFT NO LEADER".clone_into(&mut reason);
    }
    if reason.is_empty()
        && let Err(error) = read_something(server, query.serializable).await
    {
        reason = format!("RANGE ERROR:{error}");
    }
    let status = if reason.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({ "health": if reason.is_empty() { "true" } else { "false" }, "reason": reason });
    page(status, JSON, body.to_string())
}

/// A read through the whole path, of a key that need not be there.
async fn read_something(server: &Server, serializable: bool) -> Result<(), crate::error::Error> {
    if serializable {
        server.node.check_local_read()?;
    } else {
        server.node.read_barrier().await?;
    }
    let request = RangeRequest {
        key: bytes::Bytes::from_static(b"health"),
        limit: 1,
        ..Default::default()
    };
    server.node.machine.mvcc.range(&request).map(drop)
}

fn live(server: &Server) -> Health {
    let failed = server.shutdown.is_triggered();
    Health::new(vec![if failed {
        Check::failed("process", "draining")
    } else {
        Check::ok("process")
    }])
}

async fn ready(server: &Server, query: &Query) -> Health {
    let mut checks = Vec::new();
    let corrupt = server.node.machine.has_alarm(AlarmType::Corrupt);
    checks.push(if corrupt {
        Check::failed("data_corruption", "alarm CORRUPT is raised")
    } else {
        Check::ok("data_corruption")
    });
    checks.push(Check::of("serializable_read", read_something(server, true).await));
    let view = server.node.raft.view();
    // A learner serves reads of its own state, and no others.
    if !is_learner(&view, server.node.id()) || view.configuration.member(NodeId(server.node.id())).is_none() {
        let read = read_something(server, false).await;
        checks.push(Check::of("linearizable_read", read));
    }
    checks.push(if server.node.is_published() {
        Check::ok("membership")
    } else {
        Check::failed(
            "membership",
            "the cluster does not know this member's name and URL yet",
        )
    });
    checks.push(if server.shutdown.is_triggered() {
        Check::failed("serving", "draining")
    } else {
        Check::ok("serving")
    });
    checks.retain(|check| !query.excludes(check.name));
    Health::new(checks)
}

fn checks(health: &Health, query: &Query) -> Response<Body> {
    let status = StatusCode::from_u16(health.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    page(status, TEXT, health.text(query.verbose))
}

fn version(server: &Server) -> Response<Body> {
    let compat = &server.node.config.compat;
    let body = json!({
        "etcdserver": compat.etcd_server_version,
        "etcdcluster": compat.etcd_cluster_version,
        "chainfire": VERSION,
    });
    page(StatusCode::OK, JSON, body.to_string())
}

fn metrics(server: &Server, request: &Request<()>) -> Response<Body> {
    let node = &server.node;
    let view = node.raft.view();
    let role = role_name(&view, node.id());
    node.metrics
        .refresh(&node.snapshot(), role, view.leader.is_some());
    node.metrics.refresh_peers(&node.peers.statuses(), &view);
    node.metrics.refresh_gossip(&node.around());
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (kind, body) = node.metrics.registry.reply(accept);
    page(StatusCode::OK, kind, body)
}
