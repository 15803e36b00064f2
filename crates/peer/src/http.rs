//! Web clients on the port of members: what they have sent is put back in front of the rest, and the stream is the user's.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::handler::BoxFuture;
use crate::shared::Shared;
use crate::stranger::Seat;
use crate::stream::{BoxReader, BoxWriter};

/// How requests begin (RFC 9110, section 9.3), as far as the first eight bytes show.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"TRACE ",
    b"CONNECT",
];

/// Whether that is the beginning of a request of HTTP/1.
pub(crate) fn begins_request(first: &[u8]) -> bool {
    METHODS.iter().any(|method| first.starts_with(method))
}

/// A connection on which a request of HTTP/1 begins.
pub struct WebStream {
    head: Bytes,
    reader: BoxReader,
    writer: BoxWriter,
}

impl WebStream {
    pub(crate) fn new(head: Bytes, reader: BoxReader, writer: BoxWriter) -> WebStream {
        WebStream { head, reader, writer }
    }
}

impl fmt::Debug for WebStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebStream").finish_non_exhaustive()
    }
}

impl AsyncRead for WebStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.reader).poll_read(cx, into);
        }
        let length = self.head.len().min(into.remaining());
        into.put_slice(&self.head[..length]);
        self.head.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// A web client that is being served.
pub(crate) struct Visit {
    pub(crate) serving: BoxFuture<()>,
    pub(crate) seat: Seat,
}

/// Offers the connection to the user, who may not want it.
pub(crate) fn offer(shared: &Shared, stream: WebStream, from: SocketAddr) -> Option<Visit> {
    let serving = shared.handler.http(stream, from)?;
    Some(Visit {
        serving,
        seat: shared.strangers.seats.take(from.ip()),
    })
}

/// Lets the user serve it, for as long as strangers have.
pub(crate) async fn serve(shared: &Arc<Shared>, visit: Visit) {
    tokio::select! {
        () = visit.serving => {}
        () = tokio::time::sleep(shared.limits.stranger_lifetime) => {}
        () = visit.seat.over() => {}
        () = shared.stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::MAGIC;

    #[test]
    fn requests_are_told_from_members() {
        for first in [
            &b"GET /hea"[..],
            b"HEAD / H",
            b"OPTIONS ",
            b"DELETE /",
            b"POST /ap",
        ] {
            assert!(begins_request(first), "{first:?}");
        }
        for first in [
            &MAGIC[..],
            b"get /hea",
            b"GETS / H",
            b"SSH-2.0-",
            b"\0\0\0\0\0\0\0\0",
        ] {
            assert!(!begins_request(first), "{first:?}");
        }
    }
}
