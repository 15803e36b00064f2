//! Health and metrics over HTTP: on `web_listen`, and health alone on the port of nodes for whoever speaks HTTP there.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Handed;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use peer::http::WebStream;
use peer::stranger::{Seat, Seats};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::metrics::Form;
use super::shared::{Mastery, Shared};

/// The core turns every tick; one that has not for so long is stuck.
const STUCK_MS: u64 = 5000;
/// A client that has not sent its request by then is cut off. Requests are one packet, and one that was lost is sent again within a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// A client that has not taken its answer by then is.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Clients served at once; one more ends the oldest of whoever has most, as on the port of nodes. Whoever is served quickly is never the
/// oldest for long, so clients that say nothing keep nobody out. Each costs a descriptor, and those are for probes.
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
    let seats = Seats::new(CONNECTIONS_MAX);
    let mut last_error = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                // Whoever is being served when the run ends gets an answer all the same.
                tokio::spawn(serve_seated(pages.clone(), stream, seats.take(from.ip())));
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

async fn serve_seated(pages: Router, stream: TcpStream, seat: Seat) {
    tokio::select! {
        () = serve_one(pages, stream) => {}
        () = seat.over() => {}
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

/// What does not turn, or cannot be written, if something is so.
pub fn stuck(shared: &Shared) -> Option<String> {
    if let Some(full) = shared.view()?.full.as_ref() {
        return Some(format!("the disk is full: {full}"));
    }
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

async fn metrics(Handed(shared): Handed<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let form = Form::asked(accept);
    let body = super::metrics::render(&shared, form).await;
    ([(header::CONTENT_TYPE, form.content_type())], body).into_response()
}
