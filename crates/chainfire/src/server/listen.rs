//! Accepting connections, telling their protocols apart, and letting go of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use service::Shutdown;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use super::authority::Lenient;
use super::dispatch::Services;
use super::http2::Socket;
use super::tls::{self, Peer, Tls};
use super::transport::Transport;
use super::{Server, http2};
use crate::metrics::Metrics;

/// A bound port.
pub type Listener = std::net::TcpListener;

/// How long a client may take to show which protocol it speaks, and to send the head of an HTTP/1.1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long connections may finish what they have begun when the server drains.
const DRAIN: Duration = Duration::from_secs(5);

/// Open files that are neither connections nor tables: logs, sockets, checkpoints.
const FILES_BESIDE: u64 = 128;

/// After a failed accept (no file descriptors left, say) the next one waits a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves clients on `listener`, with TLS if there is some, until the server's shutdown is triggered, then drains.
pub async fn serve(server: Server, listener: Listener, tls: Option<Arc<Tls>>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let metrics = server.node.metrics.clone();
    let shutdown = server.shutdown.clone();
    let files_for_storage = u64::from(server.node.config.storage.max_open_files);
    let services = Arc::new(Services::new(server));
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(connections_max(files_for_storage)));
    loop {
        // Beyond the limit clients wait in the listener's queue.
        let accepted = tokio::select! {
            accepted = async {
                let place = room.clone().acquire_owned().await.expect("it is never closed");
                listener.accept().await.map(|accepted| (place, accepted))
            } => accepted,
            () = shutdown.wait() => break,
        };
        let (place, (socket, peer)) = match accepted {
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
        let (services, metrics, shutdown) = (services.clone(), metrics.clone(), shutdown.clone());
        let tls = tls.clone();
        connections.spawn(async move {
            if let Some((transport, shown)) = secured(socket, peer, tls, &metrics, &shutdown).await {
                connection(Lenient::new(transport), peer, shown, services, metrics, shutdown).await;
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(target: "chainfire_network", "Some connections did not finish in time");
    }
    Ok(())
}

/// Connections served at a time: what the limit on open files leaves beside the database, which must never find none left.
fn connections_max(files_for_storage: u64) -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    // A service started from a shell often gets less than it may have.
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let left = limit.saturating_sub(files_for_storage + FILES_BESIDE);
    if left < limit / 4 {
        tracing::warn!(
            target: "chainfire_network",
            open_files_limit = limit,
            max_open_files = files_for_storage,
            "Few open files are left for connections"
        );
    }
    usize::try_from(left.max(limit / 4))
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// The connection after what TLS has to do first. Nothing if that failed.
async fn secured(
    socket: TcpStream,
    from: SocketAddr,
    tls: Option<Arc<Tls>>,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Option<(Transport, Peer)> {
    match tls {
        None => Some((Transport::Plain(socket), Peer::default())),
        // Boxed, so that connections without TLS do not carry the room for a handshake.
        Some(tls) => Box::pin(tls.accept(socket, from, metrics, shutdown)).await,
    }
}

async fn connection(
    mut socket: Socket,
    peer: SocketAddr,
    shown: Peer,
    services: Arc<Services>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let ended = |error: &dyn std::fmt::Display| {
        tracing::debug!(target: "chainfire_network", peer = %peer, error = %error, "Connection ended");
    };
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(HEAD_TIMEOUT, sniff(&mut socket)) => sniffed,
        () = shutdown.wait() => return,
    };
    let (seen, is_http2) = match sniffed {
        Ok(Ok(sniffed)) => sniffed,
        Ok(Err(error)) => return ended(&error),
        Err(late) => {
            metrics.bad_connections.inc();
            return ended(&late);
        }
    };
    if is_http2 {
        if let Err(error) = http2::serve(socket, seen, shown, services, &shutdown).await {
            if error.is_misuse() {
                metrics.bad_connections.inc();
            }
            ended(&error);
        }
    } else if !seen.is_empty() {
        if tls::is_tls(&seen) {
            tls::tell_tls_to_plain_port(peer, services.server.node.clock.now());
        }
        if let Err(error) = serve_http1(socket, seen, shown, services, &shutdown).await {
            metrics.bad_connections.inc();
            ended(&error);
        }
    }
}

/// Reads until it is clear whether HTTP/2 is spoken. Nothing read means that the client has gone.
async fn sniff(socket: &mut Socket) -> io::Result<(Bytes, bool)> {
    let mut seen = BytesMut::with_capacity(http2::PREFACE.len());
    while seen.len() < http2::PREFACE.len() && http2::PREFACE.starts_with(&seen) {
        if socket.read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    let is_http2 = seen.starts_with(http2::PREFACE);
    Ok((seen.freeze(), is_http2))
}

async fn serve_http1(
    socket: Socket,
    seen: Bytes,
    shown: Peer,
    services: Arc<Services>,
    shutdown: &Shutdown,
) -> Result<(), hyper::Error> {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let services = services.clone();
        shown.mark(request.headers_mut());
        async move { Ok::<_, std::convert::Infallible>(services.answer(request.map(Body::new)).await) }
    });
    let (reader, writer) = tokio::io::split(socket);
    let io = tokio::io::join(AsyncReadExt::chain(io::Cursor::new(seen), reader), writer);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.wait() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
