//! Clients that speak plain text to a port with TLS, or TLS to one without: each side gets one clear line.

use std::net::SocketAddr;
use std::time::Duration;

use service::clock::Moment;
use service::logs::Throttle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The first byte of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// In the words of Go's servers, which people have seen before.
const TO_HTTP1: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
Client sent an HTTP request to an HTTPS server: use https://\n";

/// Empty SETTINGS, then GOAWAY (RFC 9113, sections 6.5 and 6.8): last stream 0, INADEQUATE_SECURITY (0xc), and a text of 47 bytes.
const TO_HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
\0\0\x37\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthe server wants TLS on this port: use https://";

/// Read and thrown away before closing: unread bytes would turn the close into a reset, which takes the answer with it.
const DISCARD_BYTES: u64 = 64 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(1);

static TLS_TO_PLAIN: Throttle = Throttle::new(Duration::from_secs(1));

/// Whether a connection begins as TLS does.
pub(in crate::server) fn is_tls(seen: &[u8]) -> bool {
    seen.first() == Some(&HANDSHAKE) && seen.get(1).is_none_or(|major| *major == 3)
}

/// Notes a client that came with TLS to a port without.
pub(in crate::server) fn tell_tls_to_plain_port(from: SocketAddr, now: Moment) {
    if TLS_TO_PLAIN.permit(now) {
        let held_back = TLS_TO_PLAIN.held_back_field();
        tracing::warn!(target: "chainfire_network", peer = %from, held_back, "TLS sent to the plain-text port, want http");
    }
}

/// Tells the client in its own protocol that TLS is wanted. Failures are the client's loss.
pub(super) async fn answer_plain_text(socket: &mut TcpStream) {
    let mut first = [0];
    let answer = match socket.peek(&mut first).await {
        Ok(1) if first[0].is_ascii_uppercase() => {
            let mut start = [0; 4];
            match socket.read_exact(&mut start).await {
                Ok(_) if &start == b"PRI " => TO_HTTP2,
                _ => TO_HTTP1,
            }
        }
        // No HTTP: nothing that could be answered.
        _ => return,
    };
    if socket.write_all(answer).await.is_err() || socket.shutdown().await.is_err() {
        return;
    }
    let mut rest = socket.take(DISCARD_BYTES);
    let mut nowhere = tokio::io::sink();
    let discard = tokio::io::copy(&mut rest, &mut nowhere);
    // Whether it reads the answer is its own matter from here on.
    let _ = tokio::time::timeout(DISCARD_TIME, discard).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_in_frames_are_right() {
        let goaway = &TO_HTTP2[9..];
        let length = u32::from_be_bytes([0, goaway[0], goaway[1], goaway[2]]) as usize;
        assert_eq!(length, goaway.len() - 9);
    }

    #[test]
    fn handshakes_are_recognised() {
        assert!(is_tls(&[0x16]) && is_tls(&[0x16, 3, 1]));
        assert!(!is_tls(&[]) && !is_tls(b"GET") && !is_tls(&[0x16, 9]));
    }
}
