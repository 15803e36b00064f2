//! Asking a service whether it is ready: raw HTTP/1.1 or a bare TCP connection, each with short time limits.
//!
//! One request of one line needs no HTTP client, and the lab must not depend on the stacks of the programs it
//! starts.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::topology::Readiness;

/// Longest time for one look; a service that is slower than this is asked again.
const LOOK: Duration = Duration::from_secs(2);

/// Largest part of an answer that is read.
const ANSWER_MAX: u64 = 1 << 20;

/// The answer of an HTTP server: status code and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Body as text; a chunked body is returned with its chunk lines.
    pub body: String,
}

/// Whether the service answers as it should.
pub fn is_ready(address: IpAddr, readiness: &Readiness) -> bool {
    match readiness {
        Readiness::Tcp { port } => TcpStream::connect_timeout(&SocketAddr::new(address, *port), LOOK).is_ok(),
        Readiness::Http { port, path } => {
            get(SocketAddr::new(address, *port), path).is_ok_and(|answer| answer.status == 200)
        }
    }
}

/// One plain-text `GET`, at most 2 s per step and 1 MiB.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, LOOK)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(LOOK))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status_line = head.lines().next()?;
    let status = status_line
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reads_status_and_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n")
                .unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let answer = get(address, "/readyz").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 503,
                body: "no\n".into()
            }
        );
        assert!(
            server
                .join()
                .unwrap()
                .starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:")
        );
    }

    #[test]
    fn an_answer_that_is_not_http_is_no_answer() {
        assert_eq!(parse("SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\n\r\n"),
            Some(Answer {
                status: 200,
                body: String::new()
            })
        );
    }
}
