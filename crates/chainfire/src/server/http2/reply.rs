//! Answering a unary call: head, one message, trailers; or a status alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// gRPC framing: a flag byte and a length.
pub(super) const FRAME_HEADER: usize = 5;

/// Short replies, and their bytes, that a client may leave unread before no more of its calls are taken. Both must be
/// reached, so that a few large ones stop nothing else.
const REPLIES_MAX: usize = 32;
const BYTES_MAX: usize = 64 << 20;

/// Scans of one connection that may run or wait for the client to read them.
const SCANS_MAX: usize = 32;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// A reply with its frame, and the leave to make it if it had to have one.
pub(super) struct Reply {
    pub(super) frame: Bytes,
    pub(super) scan: Option<OwnedSemaphorePermit>,
}

/// Replies of a connection that the engine holds because the client does not take them.
#[derive(Debug)]
pub(super) struct Backlog {
    replies: AtomicUsize,
    bytes: AtomicUsize,
    scans: Arc<Semaphore>,
}

impl Backlog {
    pub(super) fn new() -> Arc<Backlog> {
        Arc::new(Backlog {
            replies: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
        })
    }

    /// True while no more calls should be taken.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= BYTES_MAX && self.replies.load(Ordering::Relaxed) >= REPLIES_MAX
    }

    /// Waits for leave to make a reply that may be of any size. It is given back when the reply is written.
    pub(super) async fn scan(&self) -> Result<OwnedSemaphorePermit, Status> {
        let leave = self.scans.clone().acquire_owned().await;
        leave.map_err(|error| Status::internal(error.to_string()))
    }
}

/// Bytes handed to the engine. Dropped, and so no longer counted, when they are written or their stream is gone.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Bytes,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Nothing,
    /// Short replies are counted.
    Short(Arc<Backlog>, usize),
    Scan(#[allow(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit),
}

impl Outgoing {
    /// Part of a stream, which waits for the client by itself.
    pub(super) fn part(bytes: Bytes) -> Outgoing {
        Outgoing {
            bytes,
            holds: Holds::Nothing,
        }
    }

    fn reply(reply: Reply, backlog: &Arc<Backlog>) -> Outgoing {
        let holds = if let Some(leave) = reply.scan {
            Holds::Scan(leave)
        } else {
            let size = reply.frame.len();
            backlog.replies.fetch_add(1, Ordering::Relaxed);
            backlog.bytes.fetch_add(size, Ordering::Relaxed);
            Holds::Short(backlog.clone(), size)
        };
        Outgoing {
            bytes: reply.frame,
            holds,
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Holds::Short(backlog, size) = &self.holds {
            backlog.replies.fetch_sub(1, Ordering::Relaxed);
            backlog.bytes.fetch_sub(*size, Ordering::Relaxed);
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// A message with its frame.
pub(super) fn encode<M: Message>(message: &M) -> Result<Reply, Status> {
    let size = message.encoded_len();
    let Ok(length) = u32::try_from(size) else {
        return Err(Status::resource_exhausted(format!(
            "grpc: a reply of {size} bytes is larger than a message can be"
        )));
    };
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + size);
    frame.put_u8(0);
    frame.put_u32(length);
    message.encode_raw(&mut frame);
    Ok(Reply {
        frame: frame.freeze(),
        scan: None,
    })
}

/// Hands the whole answer to the engine, which sends it as the client's windows permit. Fails only for a stream that is gone.
pub(super) fn send(
    respond: &mut SendResponse<Outgoing>,
    result: Result<Reply, Status>,
    backlog: &Arc<Backlog>,
) -> Result<(), h2::Error> {
    match result {
        Ok(reply) => {
            let mut head = Response::new(());
            head.headers_mut().insert(header::CONTENT_TYPE, GRPC);
            let mut stream = respond.send_response(head, false)?;
            stream.send_data(Outgoing::reply(reply, backlog), false)?;
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(GRPC_STATUS, OK);
            stream.send_trailers(trailers)
        }
        Err(status) => respond.send_response(status.into_http(), true).map(drop),
    }
}
