//! Lets in gRPC clients that name the server wrongly.
//!
//! The pseudo-header `:authority` of HTTP/2 is `host:port`. Go clients of etcd up to 3.4 send the whole endpoint in calls that
//! are meant for one member (Status, HashKV, Defragment, Snapshot, MoveLeader): `http://host:port`; those of 3.5.0 send
//! `#initially=[host:port]`. etcd does not look at it. The HTTP/2 library here refuses the stream as malformed (RFC 9113,
//! section 8.3.1), rightly, but then `etcdctl --endpoints=http://... endpoint status` would not work.
//!
//! [`Lenient`] looks at what a new connection sends until its first HEADERS frame. If that names the server in one of these
//! ways, the name is replaced by [`SUBSTITUTE`]; nothing here depends on the name. From then on it only passes bytes on.
//!
//! A client names the server once and refers to that name, by its place in the table of HPACK (RFC 7541), in all calls that
//! follow. The substitute is shorter than any name it replaces, so the table here never forgets an entry that the client still
//! refers to (RFC 7541, section 4.1: entries are dropped by size, oldest first).

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream of a frame.
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 0x1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;

/// Frames above this size, before the first HEADERS or that one itself, end the search. It is the most that a peer may send
/// without being told otherwise (RFC 9113, section 4.2).
const FRAME_BYTES_MAX: usize = 16_384;

/// Bytes read at once while searching.
const READ_BYTES: usize = 4096;

/// Takes the place of a name that is none.
const SUBSTITUTE: &[u8] = b"node";

/// Place of `:authority` in HPACK's static table (RFC 7541, appendix A).
const AUTHORITY: usize = 1;

/// How wrong names begin, as text and in HPACK's Huffman code: whole bytes, then the bits of the last one and their mask.
const WRONG: &[(&[u8], &[u8], u8, u8)] = &[
    (b"http://", &[0x9d, 0x29, 0xae, 0xe3, 0x0c], 0x00, 0x80),
    (b"https://", &[0x9d, 0x29, 0xad, 0x17, 0x18], 0x60, 0xfc),
    (b"#", &[0xff], 0xa0, 0xf0),
];

/// A connection whose first HEADERS frame may name the server wrongly.
#[derive(Debug)]
pub(super) struct Lenient<S> {
    socket: S,
    /// Read from the socket and not yet passed on.
    held: BytesMut,
    /// Bytes of `held` that may be passed on.
    cleared: usize,
    searching: bool,
    preface_seen: bool,
}

impl<S> Lenient<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            held: BytesMut::new(),
            cleared: 0,
            searching: true,
            preface_seen: false,
        }
    }

    /// Clears what needs no change, and changes what does.
    fn search(&mut self) {
        if !self.preface_seen {
            let compared = self.held.len().min(PREFACE.len());
            if self.held[..compared] != PREFACE[..compared] {
                self.stop();
                return;
            }
            if compared < PREFACE.len() {
                return;
            }
            self.preface_seen = true;
            self.cleared = PREFACE.len();
        }
        while self.searching {
            let rest = &self.held[self.cleared..];
            if rest.len() < FRAME_HEAD {
                return;
            }
            let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
            let (kind, flags) = (rest[3], rest[4]);
            if length > FRAME_BYTES_MAX {
                self.stop();
            } else if rest.len() < FRAME_HEAD + length {
                return;
            } else if kind == HEADERS {
                if let Some(frame) = corrected(&rest[FRAME_HEAD..FRAME_HEAD + length], flags) {
                    self.replace(length, &frame);
                }
                self.stop();
            } else {
                self.cleared += FRAME_HEAD + length;
            }
        }
    }

    /// Puts `payload` where the frame after the cleared bytes has `length` others.
    fn replace(&mut self, length: usize, payload: &[u8]) {
        let after = self.held.split_off(self.cleared + FRAME_HEAD + length);
        self.held.truncate(self.cleared + FRAME_HEAD);
        let size = payload.len().to_be_bytes();
        self.held[self.cleared..self.cleared + 3].copy_from_slice(&size[size.len() - 3..]);
        self.held.extend_from_slice(payload);
        self.held.unsplit(after);
    }

    fn stop(&mut self) {
        self.searching = false;
        self.cleared = self.held.len();
    }
}

/// The payload of a HEADERS frame with another `:authority`, if it has a wrong one.
fn corrected(payload: &[u8], flags: u8) -> Option<Vec<u8>> {
    let mut at = usize::from(flags & FLAG_PADDED != 0);
    if flags & FLAG_PRIORITY != 0 {
        at += 5;
    }
    loop {
        let first = *payload.get(at)?;
        // RFC 7541, section 6: how many bits of the first byte belong to the index, and whether a value follows.
        let (bits, literal) = match first {
            0x80.. => (7, false),
            0x40..=0x7f => (6, true),
            0x20..=0x3f => (5, false),
            _ => (4, true),
        };
        let index = integer(payload, &mut at, bits)?;
        if !literal {
            continue;
        }
        if index == 0 {
            text(payload, &mut at)?;
        }
        let value_at = at;
        let (huffman, value) = text(payload, &mut at)?;
        if index == AUTHORITY {
            if !is_wrong(huffman, value) {
                return None;
            }
            let mut frame = payload[..value_at].to_vec();
            frame.push(SUBSTITUTE.len() as u8);
            frame.extend_from_slice(SUBSTITUTE);
            frame.extend_from_slice(&payload[at..]);
            return Some(frame);
        }
    }
}

fn is_wrong(huffman: bool, value: &[u8]) -> bool {
    WRONG.iter().any(|(plain, whole, last, mask)| {
        if huffman {
            value
                .strip_prefix(*whole)
                .is_some_and(|rest| rest.first().is_some_and(|byte| byte & mask == *last))
        } else {
            value.starts_with(plain)
        }
    })
}

/// An integer of HPACK (RFC 7541, section 5.1), its first part in the low `bits` of a byte.
fn integer(payload: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let most = (1usize << bits) - 1;
    let mut value = usize::from(*payload.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    // Nothing in a frame is longer than a frame, so three more bytes are enough.
    for shift in [0, 7, 14] {
        let byte = usize::from(*payload.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string of HPACK: whether it is in Huffman code, and its bytes.
fn text<'p>(payload: &'p [u8], at: &mut usize) -> Option<(bool, &'p [u8])> {
    let huffman = *payload.get(*at)? & 0x80 != 0;
    let length = integer(payload, at, 7)?;
    let end = at.checked_add(length)?;
    let value = payload.get(*at..end)?;
    *at = end;
    Some((huffman, value))
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        loop {
            if this.cleared > 0 {
                let length = this.cleared.min(out.remaining());
                out.put_slice(&this.held[..length]);
                this.held.advance(length);
                this.cleared -= length;
                return Poll::Ready(Ok(()));
            }
            if !this.searching {
                return Pin::new(&mut this.socket).poll_read(context, out);
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.socket).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                this.stop();
                if this.cleared == 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.held.extend_from_slice(read.filled());
                this.search();
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let size = (payload.len() as u32).to_be_bytes();
        [&size[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// POST, http, a literal path, the authority, and a field after it.
    fn block(huffman: bool, authority: &[u8]) -> Vec<u8> {
        let length = authority.len() as u8 | if huffman { 0x80 } else { 0 };
        [
            &[0x83, 0x86, 0x45, 2, b'/', b'x', 0x41, length],
            authority,
            &[0x40, 1, b'a', 1, b'b'],
        ]
        .concat()
    }

    /// What comes out of what a client sends in pieces of `piece` bytes.
    async fn passed(sent: &[u8], piece: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut server = Lenient::new(server);
        let mut out = Vec::new();
        let mut held = Vec::new();
        for chunk in sent.chunks(piece) {
            client.write_all(chunk).await.unwrap();
            let mut bytes = [0; 7];
            // Takes what there is without waiting for more.
            while let Ok(Ok(read)) =
                tokio::time::timeout(std::time::Duration::ZERO, server.read(&mut bytes)).await
            {
                held.extend_from_slice(&bytes[..read]);
            }
        }
        drop(client);
        server.read_to_end(&mut out).await.unwrap();
        [held, out].concat()
    }

    #[tokio::test]
    async fn wrong_names_are_replaced_and_all_else_passes() {
        // "http://127.0.0.1:1", "https://a" and "#initially=[a]" in Huffman code are these bits and more.
        let huffman_http: &[u8] = &[0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x04, 0x3d, 0xff];
        let huffman_https: &[u8] = &[0x9d, 0x29, 0xad, 0x17, 0x18, 0x60, 0xff];
        let huffman_initially: &[u8] = &[0xff, 0xa3, 0x54, 0x93];
        let wrong: &[(bool, &[u8])] = &[
            (false, b"http://127.0.0.1:2379"),
            (false, b"#initially=[127.0.0.1:2379]"),
            (true, huffman_http),
            (true, huffman_https),
            (true, huffman_initially),
        ];
        let right: &[(bool, &[u8])] = &[
            (false, b"127.0.0.1:2379"),
            (false, b"http.example:1"),
            (true, &[0x9d, 0x29, 0xae, 0xff]),
        ];
        let settings = frame(4, 0, &[0; 12]);
        let data = frame(0, 1, b"http://data");
        let second = frame(HEADERS, 4, &block(false, b"http://later"));
        let said = |block: &[u8]| [PREFACE, &settings, &frame(HEADERS, 4, block), &data, &second].concat();
        for piece in [1, 5, 1000] {
            for (huffman, name) in wrong {
                let expected = said(&block(false, SUBSTITUTE));
                assert_eq!(
                    passed(&said(&block(*huffman, name)), piece).await,
                    expected,
                    "{name:?}"
                );
            }
            for (huffman, name) in right {
                let sent = said(&block(*huffman, name));
                assert_eq!(passed(&sent, piece).await, sent, "{name:?}");
            }
            for other in [
                &b"GET /health HTTP/1.1\r\nhost: http://x\r\n\r\n"[..],
                b"PRI * HTTP",
                b"",
                b"\xff\xff",
            ] {
                assert_eq!(passed(other, piece).await, other);
            }
        }
    }

    #[tokio::test]
    async fn malformed_blocks_pass_unchanged() {
        for block in [
            &[0x7f, 0xff, 0xff, 0xff, 0xff][..],
            &[0x41],
            &[0x41, 0x20, b'h'],
            &[],
            &[0x83; 40],
        ] {
            let sent = [PREFACE, &frame(HEADERS, 4, block), b"rest"].concat();
            assert_eq!(passed(&sent, 3).await, sent);
        }
    }

    #[tokio::test]
    async fn frames_before_the_first_call_are_not_held_back() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut server = Lenient::new(server);
        let sent = [PREFACE, &frame(4, 0, &[])].concat();
        client.write_all(&sent).await.unwrap();
        let mut bytes = vec![0; sent.len()];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, sent);
    }
}
