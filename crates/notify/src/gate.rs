//! [`Gate`]: the caller's last word, asked when the connection stands and nothing of the message has been sent.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a message may still be handed over.
#[derive(Clone)]
pub struct Gate(Arc<dyn Fn() -> bool + Send + Sync>);

impl Gate {
    /// Asks `may_go` at the last moment.
    pub fn new(may_go: impl Fn() -> bool + Send + Sync + 'static) -> Gate {
        Gate(Arc::new(may_go))
    }

    /// Always open.
    pub fn open() -> Gate {
        Gate::new(|| true)
    }

    /// Asks.
    pub(crate) fn is_open(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// What ends a request whose gate is closed.
#[derive(Debug, thiserror::Error)]
#[error("held back")]
pub(crate) struct Held;

/// A request's body behind a gate. HTTP/1.1 asks for it before it flushes the head, so a closed gate means that not a byte is sent.
#[derive(Debug)]
pub(crate) struct Gated {
    body: Option<Bytes>,
    gate: Gate,
    length: u64,
}

impl Gated {
    pub(crate) fn new(body: Vec<u8>, gate: Gate) -> Gated {
        Gated {
            length: body.len() as u64,
            body: Some(body.into()),
            gate,
        }
    }
}

impl Body for Gated {
    type Data = Bytes;
    type Error = Held;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Held>>> {
        let Some(body) = self.body.take() else {
            return Poll::Ready(None);
        };
        let frame = if self.gate.is_open() {
            Ok(Frame::data(body))
        } else {
            Err(Held)
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
