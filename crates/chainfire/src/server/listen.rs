//! Accepting connections, and letting go of them.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use super::Server;
use super::authority::Lenient;
use super::dispatch::Services;

/// A bound port.
pub type Listener = std::net::TcpListener;

/// Bytes a stream, and a connection, may have on the way to us. Large enough that big puts never wait for the window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How long a client may take to send the head of an HTTP/1.1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing moves is asked for a sign of life after this time, and closed if none comes within the
/// second one.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long connections may finish what they have begun when the server drains.
const DRAIN: Duration = Duration::from_secs(5);

/// After a failed accept (no file descriptors left, say) the next one waits a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves clients on `listener` until the server's shutdown is triggered, then drains.
pub async fn serve(server: Server, listener: Listener) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let metrics = server.node.metrics.clone();
    let shutdown = server.shutdown.clone();
    let services = Arc::new(Services::new(server));

    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(None)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();

    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "chainfire_network", error = %error, "Accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(target: "chainfire_network", peer = %peer, error = %error, "Socket option refused");
        }
        let services = services.clone();
        let service = tower::service_fn(move |request| {
            let services = services.clone();
            async move { Ok::<_, std::convert::Infallible>(services.answer(request).await) }
        });
        let builder = builder.clone();
        let watcher = graceful.watcher();
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let connection = builder
                .serve_connection_with_upgrades(TokioIo::new(Lenient::new(socket)), TowerToHyperService::new(service));
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                metrics.bad_connections.inc();
                tracing::debug!(target: "chainfire_network", peer = %peer, error = %error, "Connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(target: "chainfire_network", "Some connections did not finish in time");
    }
    Ok(())
}
