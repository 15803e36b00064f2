//! The connection under the mail library, with two bounds that the library lacks.
//!
//! *Amount.* A relay that never ends its line is cut off.
//!
//! *Before TLS.* The library reads through a buffer and keeps the buffer when TLS starts. Whoever sits in the middle could put
//! a made-up answer behind the relay's consent to STARTTLS, and it would be taken for one that came through TLS. So until TLS
//! starts, reads give one byte each: the buffer never holds more than the line that was asked for, and whatever is smuggled
//! behind it breaks the handshake.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Bytes that a relay may say during a delivery. Certificates are the largest part of it; an ordinary delivery takes 10 KiB.
const READ_MAX: usize = 1 << 20;

/// Bytes of one read: more than any answer, and than most records of a handshake.
const READ_AT_ONCE: usize = 2048;

/// The first byte of a TLS handshake (RFC 8446, 5.1). Commands of SMTP begin with a letter.
const HANDSHAKE: u8 = 0x16;

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection to a relay.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Whether TLS is still to start.
    byte_by_byte: bool,
    left: usize,
}

impl Wire {
    /// One that stays in plain text.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Plain(stream),
            byte_by_byte: false,
            left: READ_MAX,
        }
    }

    /// One on which TLS is going to start.
    pub(super) fn before_tls(stream: TcpStream) -> Self {
        Self {
            byte_by_byte: true,
            ..Self::plain(stream)
        }
    }

    /// One within TLS.
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream: Stream::Tls(Box::new(stream)),
            byte_by_byte: false,
            left: READ_MAX,
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(Err(Error::new(
                ErrorKind::InvalidData,
                format!("the relay says more than {READ_MAX} bytes"),
            )));
        }
        // Through a buffer of our own, since a part of the caller's cannot be handed on without unsafe code.
        let mut space = [0; READ_AT_ONCE];
        let want = if this.byte_by_byte { 1 } else { space.len() };
        let want = want.min(this.left).min(buffer.remaining());
        let mut part = ReadBuf::new(&mut space[..want]);
        ready!(this.poll_inner(cx, &mut part))?;
        buffer.put_slice(part.filled());
        this.left -= part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if bytes.first() == Some(&HANDSHAKE) {
            self.byte_by_byte = false;
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> Result<SocketAddr> {
        match &self.stream {
            Stream::Plain(stream) => stream.peer_addr(),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}
