//! One HTTP/2 connection to a server, shared by many clients, and gRPC on it as cheap as it gets.
//!
//! The generator runs on the server's cores, so what it spends the server lacks. Measured in turns with 512 clients putting into etcd,
//! the generated clients took 22 µs of CPU per put on hyper, not least for a task and an 8 KiB buffer per request; this takes 14. gRPC
//! is little more than five bytes before each message and a status after the last, so it stands directly on the `h2` crate. Deadlines,
//! compression, reconnecting and TLS are left out: a lost connection is a failed run.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use chainfire::wire::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse, TxnRequest,
    TxnResponse, WatchRequest, WatchResponse,
};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use prost::Message;
use tokio::net::TcpStream;

/// Flow-control windows: several large range replies, so that the window never decides the speed.
const WINDOW_BYTES: u32 = 8 << 20;

/// Largest reply accepted: a range of 1000 keys is about 0.3 MB.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// gRPC's frame around a message: a byte for compression, four for the length.
const PREFIX_BYTES: usize = 5;

/// Marks the error of a request that never left.
#[derive(Debug)]
struct NotSent;

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("send the request")
    }
}

/// True if the server certainly did nothing: the request was not sent, or HTTP/2 says that it was not looked at. gRPC clients send such a
/// request once more without telling anybody.
pub(crate) fn untouched(error: &anyhow::Error) -> bool {
    // A stream that the last GOAWAY does not cover, RFC 9113 section 6.8.
    let not_covered = |h2: &h2::Error| h2.is_go_away() && h2.is_remote();
    let refused = |h2: &h2::Error| h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.downcast_ref::<NotSent>().is_some()
        || error
            .downcast_ref::<h2::Error>()
            .is_some_and(|h2| not_covered(h2) || refused(h2))
}

/// One client: its own handle on a connection that it may share with others.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    put: Request<()>,
    range: Request<()>,
    txn: Request<()>,
    watch: Request<()>,
    status: Request<()>,
}

impl Connection {
    /// Connects; must be called within a tokio runtime, which then also drives the connection.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let (sender, driver) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await
            .with_context(|| format!("start HTTP/2 with {address}"))?;
        // A broken connection shows as the error of every call on it, so the driver's own result says nothing new.
        tokio::spawn(async { driver.await.unwrap_or_default() });
        Ok(Self {
            sender,
            put: head(address, "/etcdserverpb.KV/Put")?,
            range: head(address, "/etcdserverpb.KV/Range")?,
            txn: head(address, "/etcdserverpb.KV/Txn")?,
            watch: head(address, "/etcdserverpb.Watch/Watch")?,
            status: head(address, "/etcdserverpb.Maintenance/Status")?,
        })
    }

    pub(crate) async fn put(&mut self, request: &PutRequest) -> Result<PutResponse> {
        let head = self.put.clone();
        self.unary(head, request).await.context("put")
    }

    pub(crate) async fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse> {
        let head = self.range.clone();
        self.unary(head, request).await.context("range")
    }

    pub(crate) async fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse> {
        let head = self.txn.clone();
        self.unary(head, request).await.context("txn")
    }

    pub(crate) async fn status(&mut self) -> Result<StatusResponse> {
        let head = self.status.clone();
        self.unary(head, &StatusRequest::default())
            .await
            .context("status")
    }

    /// Opens a watch stream with its first requests: etcd answers the call only with the first watch.
    pub(crate) async fn watch(&mut self, requests: &[WatchRequest]) -> Result<WatchStream> {
        let mut frames = BytesMut::new();
        for request in requests {
            put_frame(&mut frames, request);
        }
        let head = self.watch.clone();
        let (requests, replies) = self.call(head, frames.freeze(), false).await.context("watch")?;
        Ok(WatchStream {
            _requests: requests,
            replies,
        })
    }

    async fn unary<Q: Message, R: Message + Default>(&mut self, head: Request<()>, request: &Q) -> Result<R> {
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + request.encoded_len());
        put_frame(&mut frame, request);
        let (_, mut replies) = self.call(head, frame.freeze(), true).await?;
        let reply = replies
            .next()
            .await?
            .context("the server sent neither a message nor an error")?;
        if replies.next::<R>().await?.is_some() {
            bail!("the server sent two messages where one is due");
        }
        Ok(reply)
    }

    async fn call(
        &mut self,
        head: Request<()>,
        data: Bytes,
        last: bool,
    ) -> Result<(SendStream<Bytes>, Replies)> {
        poll_fn(|context| self.sender.poll_ready(context))
            .await
            .context(NotSent)?;
        let (response, mut requests) = self.sender.send_request(head, false).context(NotSent)?;
        requests.send_data(data, last)?;
        let response = response.await?;
        if response.status() != StatusCode::OK {
            bail!("the server answered with HTTP status {}", response.status());
        }
        check_status(response.headers())?;
        Ok((
            requests,
            Replies {
                body: response.into_body(),
                received: Bytes::new(),
            },
        ))
    }
}

fn head(address: SocketAddr, path: &str) -> Result<Request<()>> {
    let uri: Uri = format!("http://{address}{path}")
        .parse()
        .context("make a URI of the address")?;
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .context("make the head of a request")
}

fn put_frame(frame: &mut BytesMut, message: &impl Message) {
    let length = message.encoded_len();
    frame.reserve(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode(frame).expect("room for the message was reserved");
}

/// An error if these headers or trailers carry a gRPC status other than OK.
fn check_status(headers: &HeaderMap) -> Result<()> {
    match headers.get("grpc-status") {
        Some(status) if status.as_bytes() != b"0" => {
            let text = |name| {
                headers
                    .get(name)
                    .map_or("", |value| value.to_str().unwrap_or("not text"))
            };
            bail!("gRPC status {}: {}", text("grpc-status"), text("grpc-message"));
        }
        _ => Ok(()),
    }
}

/// An open watch; dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct WatchStream {
    _requests: SendStream<Bytes>,
    replies: Replies,
}

impl WatchStream {
    /// The next reply; `None` when the server has ended the stream without an error.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchResponse>> {
        self.replies.next().await
    }
}

/// The messages that come back on one stream.
#[derive(Debug)]
struct Replies {
    body: RecvStream,
    /// Data that no message was made of yet.
    received: Bytes,
}

impl Replies {
    async fn next<R: Message + Default>(&mut self) -> Result<Option<R>> {
        loop {
            if let Some(message) = take_frame(&mut self.received)? {
                return R::decode(message).map(Some).context("decode a reply");
            }
            let Some(data) = self.body.data().await else { break };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            if self.received.is_empty() {
                self.received = data;
            } else {
                // Taken back without copying if nobody else holds it, so a long reply grows in place.
                let mut whole = BytesMut::from(std::mem::take(&mut self.received));
                whole.extend_from_slice(&data);
                self.received = whole.freeze();
            }
        }
        if let Some(trailers) = self.body.trailers().await? {
            check_status(&trailers)?;
        }
        if !self.received.is_empty() {
            bail!("the stream ended within a message");
        }
        Ok(None)
    }
}

/// Cuts the first message off, if all of it is there.
fn take_frame(received: &mut Bytes) -> Result<Option<Bytes>> {
    if received.len() < PREFIX_BYTES {
        return Ok(None);
    }
    let mut prefix = &received[..PREFIX_BYTES];
    if prefix.get_u8() != 0 {
        bail!("the server sent a compressed message, which was not asked for");
    }
    let length = prefix.get_u32() as usize;
    if length > REPLY_BYTES_MAX {
        bail!("the server announced a message of {length} bytes, at most {REPLY_BYTES_MAX} are expected");
    }
    if received.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    received.advance(PREFIX_BYTES);
    Ok(Some(received.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_only_when_complete() {
        let request = PutRequest {
            key: Bytes::from_static(b"key"),
            ..PutRequest::default()
        };
        let mut frames = BytesMut::new();
        put_frame(&mut frames, &request);
        put_frame(&mut frames, &request);
        let whole = frames.freeze();
        let half = whole.len() / 2;

        let mut received = whole.slice(..half - 1);
        assert_eq!(take_frame(&mut received).unwrap(), None);
        received = whole.clone();
        for _ in 0..2 {
            let message = take_frame(&mut received).unwrap().unwrap();
            assert_eq!(PutRequest::decode(message).unwrap(), request);
        }
        assert!(received.is_empty());
    }

    #[test]
    fn a_grpc_error_names_code_and_message() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        assert!(check_status(&trailers).is_ok());
        trailers.insert("grpc-status", "8".parse().unwrap());
        trailers.insert("grpc-message", "etcdserver: too many requests".parse().unwrap());
        assert_eq!(
            check_status(&trailers).unwrap_err().to_string(),
            "gRPC status 8: etcdserver: too many requests"
        );
    }
}
