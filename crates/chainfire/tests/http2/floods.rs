//! Frames by the hundred thousand that make a server answer, remember or compute: it goes on, and holds little.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use testkit::Chainfire;

use crate::client::LIMIT;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY: u8 = 2;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&size[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST /x` over http, HPACK with literals that need no table.
fn head() -> Vec<u8> {
    [
        &[0x83, 0x86, 0x04, 2, b'/', b'x'][..],
        &[0x0f, 0x10, 16],
        b"application/grpc",
    ]
    .concat()
}

fn resident_kib(server: &Chainfire) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn open(server: &Chainfire) -> TcpStream {
    let mut socket = TcpStream::connect(server.socket()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.write_all(PREFACE).unwrap();
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    socket
}

/// Sends `pieces` until the server takes no more at once, or has closed; it need not take them all.
fn push(socket: &mut TcpStream, pieces: impl Iterator<Item = Vec<u8>>) {
    socket
        .set_write_timeout(Some(std::time::Duration::from_millis(500)))
        .unwrap();
    for piece in pieces {
        if socket.write_all(&piece).is_err() {
            return;
        }
    }
}

/// The error code of GOAWAY, if the server sends one before it closes.
fn farewell(socket: &mut TcpStream) -> Option<u32> {
    let mut bytes = Vec::new();
    // A reset instead of an end is one, too.
    let _ = socket.read_to_end(&mut bytes);
    let mut rest = &bytes[..];
    let mut code = None;
    while let Some(head) = rest.first_chunk::<9>() {
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == GOAWAY {
            code = rest
                .get(13..17)
                .map(|code| u32::from_be_bytes(code.try_into().unwrap()));
        }
        rest = rest.get(9 + size..).unwrap_or_default();
    }
    code
}

#[test]
fn what_asks_for_an_answer_is_not_read_faster_than_answers_are() {
    let server = Chainfire::start_new().unwrap();
    let before = resident_kib(&server);
    let mut sockets = Vec::new();
    let kinds = [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
        // Answers that nobody reads, and so many that they would be tens of megabytes.
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    ];
    for kind in &kinds {
        let mut socket = open(&server);
        let thousand = kind.repeat(1000);
        push(&mut socket, std::iter::repeat_n(thousand, 1000));
        sockets.push(socket);
    }
    let held = resident_kib(&server).saturating_sub(before);
    assert!(held < 64 << 10, "{held} KiB");
    assert_eq!(server.get("/health").unwrap().status, 200);
}

#[test]
fn streams_reset_at_once_end_the_connection() {
    let server = Chainfire::start_new().unwrap();
    let before = resident_kib(&server);
    let mut socket = open(&server);
    let pairs = (0..100_000_u32).map(|n| {
        let stream = 2 * n + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &head());
        [head, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    let all: Vec<u8> = pairs.flatten().collect();
    push(&mut socket, all.chunks(64 << 10).map(<[u8]>::to_vec));
    let _ = socket.shutdown(Shutdown::Write);
    assert_eq!(farewell(&mut socket), Some(ENHANCE_YOUR_CALM));
    let held = resident_kib(&server).saturating_sub(before);
    assert!(held < 64 << 10, "{held} KiB");
    assert_eq!(server.get("/health").unwrap().status, 200);
}

#[test]
fn headers_without_end_end_the_connection() {
    let server = Chainfire::start_new().unwrap();
    let before = resident_kib(&server);
    let mut socket = open(&server);
    let mut begun = frame(HEADERS, END_STREAM, 1, &head());
    // A literal without indexing: name of one byte, value of 100.
    let field = [&[0, 1, b'a', 100][..], &[b'v'; 100]].concat();
    begun.extend(frame(CONTINUATION, 0, 1, &field));
    socket.write_all(&begun).unwrap();
    push(
        &mut socket,
        std::iter::repeat_n(frame(CONTINUATION, 0, 1, &field), 100_000),
    );
    let _ = socket.shutdown(Shutdown::Write);
    assert!(farewell(&mut socket).is_some_and(|code| code != 0));
    let held = resident_kib(&server).saturating_sub(before);
    assert!(held < 32 << 10, "{held} KiB");
    assert_eq!(server.get("/health").unwrap().status, 200);
}
