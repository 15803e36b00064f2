//! Everything that is not carried out on the connection's task: streams, rare calls and pages, between the engine and the
//! full stack. Each has a task of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use tonic::body::Body;

use super::reply::Outgoing;
use crate::server::dispatch::Services;

/// Answers a request through the full stack. Ends early when the client gives the stream up.
pub(super) async fn relay(
    services: Arc<Services>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Outgoing>,
) {
    let is_head = request.method() == Method::HEAD;
    let request = request.map(|body| Body::new(Receiving { body, ended: false }));
    let mut answer = Box::pin(services.answer(request));
    let response = std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    let Some(response) = response.await else {
        return;
    };
    if let Err(error) = send(&mut respond, response, is_head).await {
        tracing::debug!(target: "chainfire_network", error = %error, "Stream ended early");
    }
}

async fn send(
    respond: &mut SendResponse<Outgoing>,
    response: Response<Body>,
    is_head: bool,
) -> Result<(), h2::Error> {
    let (mut head, body) = response.into_parts();
    if let Some(size) = body.size_hint().exact()
        && !head.headers.contains_key("grpc-status")
    {
        let size = HeaderValue::from(size);
        head.headers.entry(header::CONTENT_LENGTH).or_insert(size);
    }
    let ends = is_head || body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(head, ()), ends)?;
    if ends { Ok(()) } else { pump(body, stream).await }
}

/// Sends a body as fast as the client takes it: the next part is asked for when the engine has let the last one go.
async fn pump(body: Body, mut stream: SendStream<Outgoing>) -> Result<(), h2::Error> {
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
        let frame: Option<Result<Frame<Bytes>, tonic::Status>> = next.await?;
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
                    capacity(&mut stream).await?;
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
}

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.ended {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(part)) => {
                    // Fails only if the stream is gone, and then so says the next read.
                    drop(self.body.flow_control().release_capacity(part.len()));
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                // A client that wants no more has nothing more to say either.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.ended = true,
            }
        }
        let trailers: Option<HeaderMap> = ready!(self.body.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
