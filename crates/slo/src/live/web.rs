//! /metrics, /healthz and /readyz.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use service::Shutdown;
use service::metrics::Metrics;
use tokio::net::TcpListener;

/// What the pages know.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) metrics: Metrics,
    /// Why it is not ready; nothing if it is.
    pub(super) unready: Arc<Mutex<Option<String>>>,
}

/// Serves them until the end.
pub(super) async fn serve(listener: TcpListener, pages: Pages, shutdown: Shutdown) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages);
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.signal())
        .await
    {
        tracing::error!(target: "slo", error = %error, "pages are not served any more");
    }
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.unready.lock().clone() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let (kind, text) = pages.metrics.reply(accept);
    ([(header::CONTENT_TYPE, kind)], text)
}
