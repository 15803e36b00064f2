//! HTTP/1.1 by hand, so that a test sees each chunk when it arrives and can send what no client library would.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for bytes that have to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer, its body read to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = headers
        .iter()
        .find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(value)
}

/// One request on a connection of its own.
pub(crate) fn request(server: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut connection = Connection::open(server);
    connection.send(method, path, headers, body);
    connection.answer()
}

/// `POST` of JSON.
pub(crate) fn post(server: SocketAddr, path: &str, body: &str) -> Answer {
    request(server, "POST", path, &[], body)
}

/// `GET`.
pub(crate) fn get(server: SocketAddr, path: &str) -> Answer {
    request(server, "GET", path, &[], "")
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends what the other side may refuse to read to the end.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) {
        // Refusing it is what the caller looks at next.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// A request with a body whose length is known.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &str) {
        let extra = [headers, &[""]].concat().join("\r\n");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n{extra}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.write(&[head.as_bytes(), body.as_bytes()].concat());
    }

    /// The head of a request whose body comes in chunks.
    pub(crate) fn begin(&mut self, path: &str) {
        self.write(
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
        );
    }

    /// One chunk of a body; an empty one ends it.
    pub(crate) fn send_chunk(&mut self, text: &str) {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Status and headers.
    pub(crate) fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let line = self.line();
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                return (status, headers);
            };
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The next chunk of a body in chunks; none at its end.
    pub(crate) fn chunk(&mut self) -> Option<String> {
        let length = self.line();
        let length =
            usize::from_str_radix(&length, 16).unwrap_or_else(|_| panic!("no length of a chunk: {length:?}"));
        let mut content = vec![0; length + 2];
        self.stream.read_exact(&mut content).unwrap();
        content.truncate(length);
        (length > 0).then(|| String::from_utf8(content).unwrap())
    }

    /// The next chunk, which has to be one line of JSON.
    #[track_caller]
    pub(crate) fn json_line(&mut self) -> Value {
        let chunk = self.chunk().expect("the stream goes on");
        let line = chunk
            .strip_suffix('\n')
            .unwrap_or_else(|| panic!("no whole line: {chunk:?}"));
        assert!(!line.contains('\n'), "{chunk:?}");
        serde_json::from_str(line).unwrap()
    }

    /// A whole answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let (status, headers) = self.head();
        let mut body = String::new();
        if header(&headers, "transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = self.chunk() {
                body += &chunk;
            }
        } else if let Some(length) = header(&headers, "content-length") {
            let mut bytes = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes).unwrap();
        } else {
            self.stream.read_to_string(&mut body).unwrap();
        }
        Answer {
            status,
            headers,
            body,
        }
    }

    /// Everything until the server closes the connection. A reset is a close too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}"),
        }
        bytes
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }
}
