//! One HTTP/2 connection to a server, shared by many clients, as cheap as it gets.
//!
//! tonic's own channel puts a buffer task, a reconnecting layer and a load balancer in front of every call. A benchmark wants none of
//! them: a lost connection is a failed run. So the generated clients stand directly on hyper's connection.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::Service;

/// Flow-control windows: several large range replies, so that the window never decides the speed.
const WINDOW_BYTES: u32 = 8 << 20;

/// Largest reply accepted: a range of 1000 keys is about 0.3 MB.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// A handle on the connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Body>,
    origin: Uri,
}

impl Connection {
    /// Connects; must be called within a tokio runtime, which then also drives the connection.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("start HTTP/2 with {address}"))?;
        // A broken connection shows as the error of every call on it, so the driver's own result says nothing new.
        tokio::spawn(async { driver.await.unwrap_or_default() });
        let origin = format!("http://{address}")
            .parse()
            .context("make a URI of the address")?;
        Ok(Self { sender, origin })
    }

    /// A client of the KV service.
    pub(crate) fn kv(&self) -> KvClient<Self> {
        KvClient::with_origin(self.clone(), self.origin.clone()).max_decoding_message_size(REPLY_BYTES_MAX)
    }

    /// A client of the Watch service.
    pub(crate) fn watch(&self) -> WatchClient<Self> {
        WatchClient::with_origin(self.clone(), self.origin.clone()).max_decoding_message_size(REPLY_BYTES_MAX)
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
