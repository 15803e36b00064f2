//! The socket of an HTTP/2 connection, read and written in large pieces.
//!
//! The protocol engine reads into the little room its buffer happens to have and flushes after every larger frame; done on
//! the socket, that is a system call for each. Here the engine holds a [`Facade`] of the [`Wire`]: what it reads is taken from
//! one large read, and what it writes gathers until the driver flushes, once per turn.
//!
//! **Invariant:** whoever polls the engine flushes the wire afterwards; the engine's own flush promises nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use service::clock::Stopwatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::server::authority::Lenient;
use crate::server::transport::Transport;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 16 << 10;

/// Room for written bytes to begin with.
const WRITE_BYTES: usize = 8 << 10;

/// Written bytes beyond which the engine has to wait for the socket.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// An accepted connection.
pub(in crate::server) type Socket = Lenient<Transport>;

/// The socket and what is on its way to and from the engine.
pub(super) struct Wire {
    socket: Socket,
    /// Read, and not yet taken by the engine.
    unread: BytesMut,
    /// Written by the engine, and not yet by the socket.
    unsent: BytesMut,
    /// The socket had nothing more in this turn, so the engine need not ask it again.
    exhausted: bool,
    heard: Stopwatch,
}

impl Wire {
    /// `seen` was read while finding out which protocol is spoken.
    pub(super) fn new(socket: Socket, seen: Bytes) -> Wire {
        Wire {
            socket,
            unread: BytesMut::from(seen),
            unsent: BytesMut::new(),
            exhausted: false,
            heard: Stopwatch::start(),
        }
    }

    /// Lets the engine ask the socket again.
    pub(super) fn begin_turn(&mut self) {
        self.exhausted = false;
    }

    /// Time since the peer was last heard of.
    pub(super) fn silence(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Gives the buffers of an idle connection back; most connections are idle most of the time.
    pub(super) fn rest(&mut self) {
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        if self.unsent.is_empty() {
            self.unsent = BytesMut::new();
        }
    }

    /// Writes what has gathered, as far as the socket takes it now.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        // With TLS, records may wait in the session even when nothing is left here.
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            if self.exhausted {
                return Poll::Pending;
            }
            self.unread.reserve(READ_BYTES);
            let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.unread) else {
                self.exhausted = true;
                return Poll::Pending;
            };
            if read? > 0 {
                self.heard = Stopwatch::start();
            }
        }
        let count = self.unread.len().min(into.remaining());
        into.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unsent.len() >= WRITE_BYTES_MAX {
            ready!(self.poll_flush(cx))?;
        }
        if self.unsent.is_empty() {
            self.unsent.reserve(WRITE_BYTES);
        }
        let count = bytes.len().min(WRITE_BYTES_MAX);
        self.unsent.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
}

/// What the engine takes for its socket.
pub(super) struct Facade(pub(super) Arc<Mutex<Wire>>);

impl AsyncRead for Facade {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, into)
    }
}

impl AsyncWrite for Facade {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock();
        ready!(wire.poll_flush(cx))?;
        Pin::new(&mut wire.socket).poll_shutdown(cx)
    }
}
