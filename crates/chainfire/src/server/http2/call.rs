//! The calls that come by the thousand, from their first byte to their last, without a task of their own.
//!
//! Reads of one key and writes are short and wait only for the pipeline, so the connection's own task carries them. Whatever
//! may read many keys goes to a task, so that a scan does not hold up the calls beside it.
//!
//! Only plain gRPC is taken here: another encoding or content type is left to the full stack, which refuses it properly.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Request, header};
use prost::Message;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::reply::{self, Backlog, FRAME_HEADER, Outgoing, Reply};
use crate::error::Error;
use crate::mvcc;
use crate::server::dispatch::Services;
use crate::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};

/// Bytes of an unfinished request that its stream's window alone may hold. Beyond them the window is opened again, so that a
/// message larger than it gets through, and the connection counts them.
const WINDOW_HOLDS: usize = 256 << 10;

/// Bytes of unfinished large requests on one connection beyond which they are refused.
const UNFINISHED_MAX: usize = 256 << 20;

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

/// Bytes of unfinished large requests of a connection.
pub(super) type Unfinished = Arc<AtomicUsize>;

type Work = Pin<Box<dyn Future<Output = Result<Reply, Status>> + Send>>;

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
        unfinished: Unfinished,
    ) -> Call {
        let (head, body) = request.into_parts();
        let deadline = timeout(&head.headers).and_then(|limit| Instant::now().checked_add(limit));
        let work = start(
            hot,
            services,
            backlog.clone(),
            head.headers,
            Body { body, unfinished },
        );
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
        let late = Status::deadline_exceeded("context deadline exceeded");
        // Fails if the client has given up just now, which is as good.
        drop(reply::send(&mut self.respond, Err(late), &self.backlog));
    }
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let call = &mut *self;
        if let Poll::Ready(result) = call.work.as_mut().poll(cx) {
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
            reply::encode(services.server.call_put(&headers, request).await?.get_ref())
        }),
        Hot::Range => Box::pin(async move {
            let request: RangeRequest = body.message(most).await?;
            if request.range_end.is_empty() {
                return reply::encode(services.server.call_range(&headers, request).await?.get_ref());
            }
            apart(&backlog, async move {
                reply::encode(services.server.call_range(&headers, request).await?.get_ref())
            })
            .await
        }),
        Hot::DeleteRange => Box::pin(async move {
            let request: DeleteRangeRequest = body.message(most).await?;
            reply::encode(
                services
                    .server
                    .call_delete_range(&headers, request)
                    .await?
                    .get_ref(),
            )
        }),
        Hot::Txn => Box::pin(async move {
            let request: TxnRequest = body.message(most).await?;
            if mvcc::writes(&request) {
                return reply::encode(services.server.call_txn(&headers, request).await?.get_ref());
            }
            apart(&backlog, async move {
                reply::encode(services.server.call_txn(&headers, request).await?.get_ref())
            })
            .await
        }),
    }
}

/// Runs what may read many keys as a task, which ends with the call.
async fn apart(
    backlog: &Backlog,
    work: impl Future<Output = Result<Reply, Status>> + Send + 'static,
) -> Result<Reply, Status> {
    let leave = backlog.scan().await?;
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
    body: RecvStream,
    unfinished: Unfinished,
}

impl Body {
    /// The one message of a unary call.
    async fn message<M: Message + Default>(mut self, most: usize) -> Result<M, Status> {
        let mut frame = match self.body.data().await {
            Some(part) => part.map_err(broken)?,
            None => return Err(Status::internal("Missing request message.")),
        };
        if !self.body.is_end_stream() {
            frame = self.rest(frame, most).await?;
        }
        let mut message = whole_message(frame, most)?;
        // Text and code as those of the full stack.
        M::decode(&mut message).map_err(|error| Status::internal(error.to_string()))
    }

    /// Gathers a request that did not come in one piece.
    async fn rest(&mut self, first: Bytes, most: usize) -> Result<Bytes, Status> {
        let mut counted = Counted {
            unfinished: self.unfinished.clone(),
            bytes: 0,
        };
        let mut gathered = BytesMut::from(&*first);
        let mut held = gathered.len();
        loop {
            // Nonsense is refused as soon as it shows, not when it ends.
            if let Some(size) = announced(&gathered, most)?
                && gathered.len() > FRAME_HEADER + size
            {
                return Err(surplus());
            }
            if held > WINDOW_HOLDS {
                counted.add(held)?;
                // Fails only if the stream is gone, and then so says the next read.
                drop(self.body.flow_control().release_capacity(held));
                held = 0;
            }
            match self.body.data().await {
                Some(part) => {
                    let part = part.map_err(broken)?;
                    held += part.len();
                    gathered.extend_from_slice(&part);
                }
                None => return Ok(gathered.freeze()),
            }
        }
    }
}

/// Bytes counted as unfinished until dropped.
struct Counted {
    unfinished: Unfinished,
    bytes: usize,
}

impl Counted {
    fn add(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        if self.unfinished.fetch_add(bytes, Ordering::Relaxed) + bytes > UNFINISHED_MAX {
            return Err(Error::TooManyRequests.into());
        }
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.unfinished.fetch_sub(self.bytes, Ordering::Relaxed);
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

/// The `grpc-timeout` header: up to eight digits and a unit. One that is not understood is none.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_eight_digits_and_a_unit() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(parse("20m"), Some(Duration::from_millis(20)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "5", "5x", "-5S", "+5S", "999999999S", "5 S"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

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
