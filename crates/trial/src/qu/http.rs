//! As much of HTTP as targets and sinks need: a request with a length, and an answer after which the connection ends.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than any message of qu has.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 1 << 20;

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then_some(value.trim())
        })
    }
}

/// Reads a request whole; nothing if the connection ends before, or it is none.
pub(crate) async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, head, body };
    let length = request
        .header("content-length")
        .unwrap_or("0")
        .parse::<usize>()
        .ok()?;
    while request.body.len() < length.min(BODY_MAX) {
        if stream.read_buf(&mut request.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(request)
}

/// Answers with a status line such as `200 OK`, and more headers, each with its line break.
pub(crate) async fn answer(stream: &mut TcpStream, status: &str, headers: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n");
    // Whoever asked may be dead by now.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
