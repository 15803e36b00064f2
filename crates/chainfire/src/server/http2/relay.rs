//! Everything that is not carried out on the connection's task: streams, rare calls and pages, between the engine and the
//! full stack. Each has a task of its own.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use service::logs::Throttle;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

use super::call::Refused;
use super::framing::Framing;
use super::reply::Outgoing;
use crate::server::calls;
use crate::server::deadline::{self, DEADLINE};
use crate::server::dispatch::{self, Services};
use crate::server::unfinished::{TIME_MAX, Unfinished, Waiting};

/// Streams and rare calls under way, of all connections. An idle watch stream is some twenty kilobytes in buffers and tasks;
/// watches that share a stream cost one kilobyte each.
pub(in crate::server) const STREAMS_MAX: usize = 64 << 10;

static TOLD: Throttle = Throttle::new(Duration::from_secs(10));

/// Answers a request through the full stack. Ends early when the client gives the stream up, or when its time has passed.
pub(super) async fn relay(
    services: Arc<Services>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Outgoing>,
    unfinished: Arc<Unfinished>,
) {
    let Ok(_place) = services.streams.clone().try_acquire_owned() else {
        if TOLD.permit(services.server.node.clock.now()) {
            let more = TOLD.take_held_back();
            tracing::warn!(target: "chainfire_network", open = STREAMS_MAX, more, "Refused a stream, too many are open");
        }
        return respond.send_reset(Reason::REFUSED_STREAM);
    };
    let is_head = request.method() == Method::HEAD;
    let is_grpc = dispatch::is_grpc(request.headers());
    let until = is_grpc.then(|| deadline::of(request.headers())).flatten();
    let refused = Arc::new(OnceLock::new());
    let is_stream = calls::is_sent_a_stream(request.uri().path());
    // The gateway counts for itself; a page takes no body.
    let bounded = is_grpc.then(|| Bounded {
        unfinished,
        framing: Framing::default(),
        whole: !is_stream,
        waiting: None,
        refused: refused.clone(),
    });
    let request = request.map(|body| {
        Body::new(Receiving {
            body,
            ended: false,
            bounded,
        })
    });
    let response = tokio::select! {
        response = DEADLINE.scope(until, services.answer(request)) => response,
        _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
        () = deadline::passed(until) => deadline::exceeded().into_http(),
    };
    let response = match refused.get() {
        Some(Refused::Reset(reason)) => return respond.send_reset(*reason),
        Some(Refused::Status(status)) => status.clone().into_http(),
        None => response,
    };
    if let Err(error) = send(&mut respond, response, is_head, until).await {
        tracing::debug!(target: "chainfire_network", error = %error, "Stream ended early");
    }
}

async fn send(
    respond: &mut SendResponse<Outgoing>,
    response: Response<Body>,
    is_head: bool,
    until: Option<tokio::time::Instant>,
) -> Result<(), h2::Error> {
    let (mut head, body) = response.into_parts();
    if let Some(size) = body.size_hint().exact()
        && !head.headers.contains_key("grpc-status")
    {
        let size = HeaderValue::from(size);
        head.headers.entry(header::CONTENT_LENGTH).or_insert(size);
    }
    let ends = is_head || body.is_end_stream();
    let mut stream = respond.send_response(Response::from_parts(head, ()), ends)?;
    if ends {
        return Ok(());
    }
    tokio::select! {
        pumped = pump(body, &mut stream) => pumped,
        () = deadline::passed(until) => {
            let mut trailers = HeaderMap::new();
            // Fails only for a text that no header can have.
            drop(deadline::exceeded().add_header(&mut trailers));
            stream.reserve_capacity(0);
            stream.send_trailers(trailers)
        }
    }
}

/// Sends a body as fast as the client takes it: the next part is asked for when the engine has let the last one go.
async fn pump(body: Body, stream: &mut SendStream<Outgoing>) -> Result<(), h2::Error> {
    let mut body = std::pin::pin!(body);
    loop {
        let next = std::future::poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => match stream.poll_reset(cx) {
                Poll::Ready(Ok(reason)) => Poll::Ready(Err(reason.into())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
        });
        let frame: Option<Result<Frame<Bytes>, Status>> = next.await?;
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                tracing::debug!(target: "chainfire_network", error = %error, "Stream failed");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Outgoing::part(Bytes::new()), true),
        };
        match frame.into_data() {
            Ok(part) => {
                let ends = body.is_end_stream();
                if !part.is_empty() {
                    // One byte, because a stream that only waits must not keep the connection's window from the others; the
                    // engine asks for the rest itself.
                    stream.reserve_capacity(1);
                    capacity(stream).await?;
                }
                stream.send_data(Outgoing::part(part), ends)?;
                if ends {
                    return Ok(());
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                stream.reserve_capacity(0);
                return stream.send_trailers(trailers);
            }
        }
    }
}

/// Waits until the client's window has room.
async fn capacity(stream: &mut SendStream<Outgoing>) -> Result<(), h2::Error> {
    while stream.capacity() == 0 {
        let granted = std::future::poll_fn(|cx| {
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
            }
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => Poll::Ready(Ok(())),
                Some(Err(error)) => Poll::Ready(Err(error)),
                None => Poll::Ready(Err(Reason::CANCEL.into())),
            }
        });
        granted.await?;
    }
    Ok(())
}

/// A request body for the full stack. What has been handed on gives the client its window back.
struct Receiving {
    body: RecvStream,
    ended: bool,
    bounded: Option<Bounded>,
}

/// What is counted of a gRPC request, because the full stack gathers it until a message is whole.
struct Bounded {
    unfinished: Arc<Unfinished>,
    framing: Framing,
    /// Waited for until its end, not only until that of a message.
    whole: bool,
    waiting: Option<(Waiting, Pin<Box<Sleep>>)>,
    /// Why nothing more is waited for.
    refused: Arc<OnceLock<Refused>>,
}

impl Bounded {
    /// More has come in.
    fn add(&mut self, part: &[u8]) -> Result<(), h2::Error> {
        self.framing.add(part);
        let bytes = self.framing.unfinished();
        if bytes == 0 && !self.whole {
            self.waiting = None;
        }
        match &mut self.waiting {
            Some((waiting, _)) => waiting.hold(bytes).map_err(|full| self.refuse(full.into())),
            None => Ok(()),
        }
    }

    /// Nothing more is there now. Ready if it will not be waited for.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<h2::Error> {
        let bytes = self.framing.unfinished();
        if bytes == 0 && !self.whole {
            return Poll::Pending;
        }
        let timer = match &mut self.waiting {
            Some((_, timer)) => timer,
            None => match self.unfinished.wait(bytes) {
                Ok(waiting) => {
                    let timer = Box::pin(tokio::time::sleep(TIME_MAX));
                    &mut self.waiting.insert((waiting, timer)).1
                }
                Err(full) => return Poll::Ready(self.refuse(full.into())),
            },
        };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(self.refuse(Refused::late(TIME_MAX)))
    }

    fn refuse(&self, refused: Refused) -> h2::Error {
        let reason = match &refused {
            Refused::Reset(reason) => *reason,
            Refused::Status(_) => Reason::CANCEL,
        };
        // The first reason stands.
        let _ = self.refused.set(refused);
        reason.into()
    }
}

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.ended {
            let Poll::Ready(next) = this.body.poll_data(cx) else {
                return match &mut this.bounded {
                    Some(bounded) => bounded.poll_wait(cx).map(|refused| Some(Err(refused))),
                    None => Poll::Pending,
                };
            };
            match next {
                Some(Ok(part)) => {
                    // Fails only if the stream is gone, and then so says the next read.
                    drop(this.body.flow_control().release_capacity(part.len()));
                    let added = this.bounded.as_mut().map_or(Ok(()), |bounded| bounded.add(&part));
                    return Poll::Ready(Some(added.map(|()| Frame::data(part))));
                }
                // A client that wants no more has nothing more to say either.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.ended = true,
            }
        }
        this.bounded = None;
        let trailers: Option<HeaderMap> = ready!(this.body.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
