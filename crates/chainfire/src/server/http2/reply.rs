//! Answering a unary call: head, one message, trailers; or a status alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

use super::call::Refused;
use crate::error::Error;

/// gRPC framing: a flag byte and a length.
pub(super) const FRAME_HEADER: usize = 5;

/// Short replies, and their bytes, that a client may leave unread before no more of its calls are taken. Both must be
/// reached, so that a few large ones stop nothing else.
const REPLIES_MAX: usize = 32;
const BYTES_MAX: usize = 64 << 20;

/// Scans of one connection that may run or wait for the client to read them.
const SCANS_MAX: usize = 32;

/// Bytes of scans that wait for clients to read them, of all connections, beyond which no more are begun.
const SCAN_BYTES_MAX: usize = 1 << 30;

/// How long a client may take nothing of what is there for it before its connection is ended. A client library takes unary
/// replies as they come, whatever its program does.
const STALL: Duration = Duration::from_mins(1);

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
    /// Answers that the engine holds, short ones and scans.
    held: AtomicUsize,
    /// Changes whenever the engine gets rid of some.
    moved: AtomicUsize,
    all: Arc<Unread>,
}

/// Bytes of scans that wait for clients to read them, of the whole server.
#[derive(Debug, Default)]
pub(in crate::server) struct Unread(AtomicUsize);

/// Finds out that a client takes nothing of what is there for it.
#[derive(Debug, Default)]
pub(super) struct Stall {
    moved: usize,
    since: Option<Instant>,
}

impl Stall {
    /// True if nothing has moved for too long at `now`.
    pub(super) fn look(&mut self, backlog: &Backlog, now: Instant) -> bool {
        let moved = backlog.moved.load(Ordering::Relaxed);
        if backlog.held.load(Ordering::Relaxed) == 0 {
            self.since = None;
            return false;
        }
        if self.since.is_none() || moved != self.moved {
            self.moved = moved;
            self.since = Some(now);
        }
        self.since.is_some_and(|since| now >= since + STALL)
    }
}

impl Backlog {
    pub(super) fn new(all: Arc<Unread>) -> Arc<Backlog> {
        Arc::new(Backlog {
            replies: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
            held: AtomicUsize::new(0),
            moved: AtomicUsize::new(0),
            all,
        })
    }

    /// True while no more calls should be taken.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= BYTES_MAX && self.replies.load(Ordering::Relaxed) >= REPLIES_MAX
    }

    /// Waits for leave to make a reply that may be of any size. It is given back when the reply is written.
    pub(super) async fn scan(&self) -> Result<OwnedSemaphorePermit, Status> {
        let leave = self.scans.clone().acquire_owned().await;
        let leave = leave.map_err(|error| Status::internal(error.to_string()))?;
        if self.all.0.load(Ordering::Relaxed) > SCAN_BYTES_MAX {
            return Err(Error::TooManyRequests.into());
        }
        Ok(leave)
    }
}

/// Bytes handed to the engine. Dropped, and so no longer counted, when they are written or their stream is gone.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Bytes,
    /// None for a part of a stream, which waits for the client by itself.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    backlog: Arc<Backlog>,
    size: usize,
    scan: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// Part of a stream.
    pub(super) fn part(bytes: Bytes) -> Outgoing {
        Outgoing { bytes, counted: None }
    }

    fn reply(reply: Reply, backlog: &Arc<Backlog>) -> Outgoing {
        let size = reply.frame.len();
        backlog.held.fetch_add(1, Ordering::Relaxed);
        if reply.scan.is_some() {
            backlog.all.0.fetch_add(size, Ordering::Relaxed);
        } else {
            backlog.replies.fetch_add(1, Ordering::Relaxed);
            backlog.bytes.fetch_add(size, Ordering::Relaxed);
        }
        let counted = Counted {
            backlog: backlog.clone(),
            size,
            scan: reply.scan,
        };
        Outgoing {
            bytes: reply.frame,
            counted: Some(counted),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let backlog = &self.backlog;
        backlog.held.fetch_sub(1, Ordering::Relaxed);
        backlog.moved.fetch_add(1, Ordering::Relaxed);
        if self.scan.is_some() {
            backlog.all.0.fetch_sub(self.size, Ordering::Relaxed);
        } else {
            backlog.replies.fetch_sub(1, Ordering::Relaxed);
            backlog.bytes.fetch_sub(self.size, Ordering::Relaxed);
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
        if let Some(Counted { backlog, .. }) = &self.counted {
            backlog.moved.fetch_add(1, Ordering::Relaxed);
        }
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
    result: Result<Reply, Refused>,
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
        Err(Refused::Status(status)) => respond.send_response(status.into_http(), true).map(drop),
        Err(Refused::Reset(reason)) => {
            respond.send_reset(reason);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_stalls_when_nothing_it_has_to_take_moves() {
        let backlog = Backlog::new(Arc::default());
        let mut stall = Stall::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Nothing to take.
        assert!(!stall.look(&backlog, at(0)));
        assert!(!stall.look(&backlog, at(1000)));
        let reply = || Reply {
            frame: Bytes::from_static(b"reply"),
            scan: None,
        };
        let mut first = Outgoing::reply(reply(), &backlog);
        assert!(!stall.look(&backlog, at(1001)));
        assert!(!stall.look(&backlog, at(1060)));
        first.advance(1);
        assert!(!stall.look(&backlog, at(1062)));
        let second = Outgoing::reply(reply(), &backlog);
        assert!(!stall.look(&backlog, at(1121)));
        assert!(stall.look(&backlog, at(1122)));
        drop(first);
        assert!(!stall.look(&backlog, at(1123)));
        drop(second);
        assert!(!stall.look(&backlog, at(2000)));
    }
}
