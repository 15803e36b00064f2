//! The calls that come by the thousand, from their first byte to their last, without a task of their own.
//!
//! Reads of one key and writes are short and wait only for the pipeline, so the connection's own task carries them. Whatever
//! may read many keys goes to a task, so that a scan does not hold up the calls beside it.
//!
//! Only plain gRPC is taken here: another encoding or content type is left to the full stack, which refuses it properly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, header};
use prost::Message;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::reply::{self, Backlog, FRAME_HEADER, Outgoing, Reply};
use crate::mvcc;
use crate::server::deadline::{self, DEADLINE};
use crate::server::dispatch::Services;
use crate::server::unfinished::{Full, TIME_MAX, Unfinished};
use crate::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};

/// A call carried out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hot {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Hot {
    /// The call a request asks for, if it is one for here.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Hot> {
        let hot = match request.uri().path() {
            "/etcdserverpb.KV/Range" => Hot::Range,
            "/etcdserverpb.KV/Put" => Hot::Put,
            "/etcdserverpb.KV/DeleteRange" => Hot::DeleteRange,
            "/etcdserverpb.KV/Txn" => Hot::Txn,
            _ => return None,
        };
        let headers = request.headers();
        let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
        let is_plain = matches!(kind, b"application/grpc" | b"application/grpc+proto")
            && headers
                .get("grpc-encoding")
                .is_none_or(|encoding| encoding == "identity");
        (is_plain && request.method() == Method::POST).then_some(hot)
    }
}

/// Why a call has no reply.
#[derive(Debug)]
pub(super) enum Refused {
    /// The client is told in words.
    Status(Status),
    /// Its stream is reset, which says that it may try again.
    Reset(Reason),
}

impl Refused {
    /// The end did not come within this time.
    pub(super) fn late(limit: Duration) -> Refused {
        let text = format!("the request did not come in whole within {} s", limit.as_secs());
        Refused::Status(Status::deadline_exceeded(text))
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Refused {
        Refused::Status(status)
    }
}

impl From<Full> for Refused {
    fn from(full: Full) -> Refused {
        Refused::Reset(match full {
            Full::Requests => Reason::REFUSED_STREAM,
            Full::Bytes => Reason::ENHANCE_YOUR_CALM,
        })
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Reply, Refused>> + Send>>;

/// A call under way: ends when the answer is with the engine or the client has given up.
pub(super) struct Call {
    respond: SendResponse<Outgoing>,
    work: Work,
    backlog: Arc<Backlog>,
    deadline: Option<Instant>,
}

impl Call {
    pub(super) fn new(
        hot: Hot,
        services: Arc<Services>,
        request: Request<RecvStream>,
        respond: SendResponse<Outgoing>,
        backlog: Arc<Backlog>,
        unfinished: Arc<Unfinished>,
    ) -> Call {
        let (head, body) = request.into_parts();
        let deadline = deadline::of(&head.headers);
        let body = Body {
            stream: body,
            unfinished,
            time_max: TIME_MAX,
        };
        let work = start(hot, services, backlog.clone(), head.headers, body);
        Call {
            respond,
            work,
            backlog,
            deadline,
        }
    }

    /// Until when the client wants an answer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Tells the client that it is too late.
    pub(super) fn expire(mut self) {
        let late = Err(deadline::exceeded().into());
        // Fails if the client has given up just now, which is as good.
        drop(reply::send(&mut self.respond, late, &self.backlog));
    }
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let call = &mut *self;
        let worked = DEADLINE.sync_scope(call.deadline, || call.work.as_mut().poll(cx));
        if let Poll::Ready(result) = worked {
            // Fails if the client has given up just now.
            if let Err(error) = reply::send(&mut call.respond, result, &call.backlog) {
                tracing::debug!(target: "chainfire_network", error = %error, "Answer not sent");
            }
            return Poll::Ready(());
        }
        // An answer to nobody need not be waited for.
        call.respond.poll_reset(cx).map(drop)
    }
}

fn start(hot: Hot, services: Arc<Services>, backlog: Arc<Backlog>, headers: HeaderMap, body: Body) -> Work {
    let most = services.message_bytes_max;
    match hot {
        Hot::Put => Box::pin(async move {
            let request: PutRequest = body.message(most).await?;
            let reply = services.server.call_put(&headers, request).await?;
            Ok(reply::encode(reply.get_ref())?)
        }),
        Hot::Range => Box::pin(async move {
            let request: RangeRequest = body.message(most).await?;
            if request.range_end.is_empty() {
                let reply = services.server.call_range(&headers, request).await?;
                return Ok(reply::encode(reply.get_ref())?);
            }
            let work = async move {
                let reply = services.server.call_range(&headers, request).await?;
                reply::encode(reply.get_ref())
            };
            Ok(apart(&backlog, work).await?)
        }),
        Hot::DeleteRange => Box::pin(async move {
            let request: DeleteRangeRequest = body.message(most).await?;
            let reply = services.server.call_delete_range(&headers, request).await?;
            Ok(reply::encode(reply.get_ref())?)
        }),
        Hot::Txn => Box::pin(async move {
            let request: TxnRequest = body.message(most).await?;
            if mvcc::writes(&request) {
                let reply = services.server.call_txn(&headers, request).await?;
                return Ok(reply::encode(reply.get_ref())?);
            }
            let work = async move {
                let reply = services.server.call_txn(&headers, request).await?;
                reply::encode(reply.get_ref())
            };
            Ok(apart(&backlog, work).await?)
        }),
    }
}

/// Runs what may read many keys as a task, which ends with the call.
async fn apart(
    backlog: &Backlog,
    work: impl Future<Output = Result<Reply, Status>> + Send + 'static,
) -> Result<Reply, Status> {
    let leave = backlog.scan().await?;
    let work = DEADLINE.scope(deadline::of_this_call(), work);
    match AbortOnDropHandle::new(tokio::spawn(work)).await {
        Ok(reply) => Ok(Reply {
            scan: Some(leave),
            ..reply?
        }),
        Err(error) => Err(Status::internal(format!("the call's task failed: {error}"))),
    }
}

/// A request on its way in.
struct Body {
    stream: RecvStream,
    unfinished: Arc<Unfinished>,
    time_max: Duration,
}

impl Body {
    /// The one message of a unary call.
    async fn message<M: Message + Default>(mut self, most: usize) -> Result<M, Refused> {
        let mut gathered = Gathered::Nothing;
        let ended = std::future::poll_fn(|cx| Poll::Ready(self.take(cx, &mut gathered, most))).await?;
        if !ended {
            // Boxed, because few calls come here and all would have to be as large.
            gathered = Box::pin(self.rest(gathered, most)).await?;
        }
        let mut message = whole_message(gathered.bytes(), most)?;
        // Text and code as those of the full stack.
        M::decode(&mut message).map_err(|error| Status::internal(error.to_string()).into())
    }

    /// Takes what is there; true if that was the end.
    fn take(&mut self, cx: &mut Context<'_>, gathered: &mut Gathered, most: usize) -> Result<bool, Status> {
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(part)) => gathered.add(part.map_err(broken)?),
                Poll::Ready(None) => return Ok(true),
                Poll::Pending => return Ok(false),
            }
            if self.stream.is_end_stream() {
                return Ok(true);
            }
            // Nonsense is refused as soon as it shows, not when it ends.
            if let Some(size) = announced(gathered.as_ref(), most)?
                && gathered.len() > FRAME_HEADER + size
            {
                return Err(surplus());
            }
        }
    }

    /// Waits for what has not come yet.
    async fn rest(&mut self, mut gathered: Gathered, most: usize) -> Result<Gathered, Refused> {
        let mut released = 0;
        let mut waiting = self.unfinished.wait(gathered.len())?;
        let waited = tokio::time::timeout(self.time_max, async {
            loop {
                // What is here no longer fills the windows, which must not be full of halves that wait for one another. It is
                // counted instead. Fails only if the stream is gone, and then so says the next read.
                let held = gathered.len();
                drop(self.stream.flow_control().release_capacity(held - released));
                released = held;
                let ended = std::future::poll_fn(|cx| match self.take(cx, &mut gathered, most) {
                    Ok(false) if gathered.len() == held => Poll::Pending,
                    taken => Poll::Ready(taken),
                });
                if ended.await? {
                    return Ok(());
                }
                waiting.hold(gathered.len())?;
            }
        });
        match waited.await {
            Ok(result) => result.map(|()| gathered),
            Err(_) => Err(Refused::late(self.time_max)),
        }
    }
}

/// The parts of a request that are there. One part, which is the rule, is not copied.
enum Gathered {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn add(&mut self, part: Bytes) {
        match self {
            Gathered::Nothing => *self = Gathered::One(part),
            Gathered::One(first) => {
                let mut all = BytesMut::with_capacity(first.len() + part.len());
                all.extend_from_slice(first);
                all.extend_from_slice(&part);
                *self = Gathered::Many(all);
            }
            Gathered::Many(all) => all.extend_from_slice(&part),
        }
    }

    fn len(&self) -> usize {
        self.as_ref().len()
    }

    fn bytes(self) -> Bytes {
        match self {
            Gathered::Nothing => Bytes::new(),
            Gathered::One(part) => part,
            Gathered::Many(all) => all.freeze(),
        }
    }
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        match self {
            Gathered::Nothing => &[],
            Gathered::One(part) => part,
            Gathered::Many(all) => all,
        }
    }
}

/// The size that a frame says it has, once its header is there. Fails if the header is not one we take.
fn announced(frame: &[u8], most: usize) -> Result<Option<usize>, Status> {
    let Some((flag, rest)) = frame.split_first() else {
        return Ok(None);
    };
    match flag {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1)"
            )));
        }
    }
    let Some(size) = rest.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*size) as usize;
    if size > most {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message larger than max ({most})"
        )));
    }
    Ok(Some(size))
}

/// The message in a frame that is all there.
fn whole_message(mut frame: Bytes, most: usize) -> Result<Bytes, Status> {
    let size = announced(&frame, most)?;
    match size.map(|size| (FRAME_HEADER + size).cmp(&frame.len())) {
        Some(std::cmp::Ordering::Equal) => {
            frame.advance(FRAME_HEADER);
            Ok(frame)
        }
        Some(std::cmp::Ordering::Less) => Err(surplus()),
        None if frame.is_empty() => Err(Status::internal("Missing request message.")),
        Some(std::cmp::Ordering::Greater) | None => Err(Status::internal("Unexpected EOF decoding stream.")),
    }
}

fn surplus() -> Status {
    Status::internal("more than one message in a unary call")
}

fn broken(error: h2::Error) -> Status {
    Status::cancelled(format!("the request broke off: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_plain_message() {
        let take = |bytes: &'static [u8]| whole_message(Bytes::from_static(bytes), 10).map_err(|s| s.code());
        assert_eq!(take(b"\0\0\0\0\x02hi").unwrap(), "hi");
        assert_eq!(take(b"\0\0\0\0\0").unwrap(), "");
        for short in [
            &b""[..],
            b"\0",
            b"\0\0\0\0",
            b"\0\0\0\0\x02h",
            b"\0\0\0\0\x02hi!",
            b"\x01\0\0\0\0",
            b"\x02\0\0\0\0",
        ] {
            assert_eq!(take(short).unwrap_err(), tonic::Code::Internal, "{short:?}");
        }
        assert_eq!(take(b"\0\0\0\0\x0b").unwrap_err(), tonic::Code::ResourceExhausted);
    }
}
