//! A receiver of HTTP that records what comes and answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_secs(20);

/// How it answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// With these bytes.
    Bytes(String),
    /// Not at all; the connection stays open.
    Silence,
    /// By closing the connection.
    Close,
    /// With a failure whose text never ends.
    Endless,
}

/// An answer with a status, headers and a body.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> Answer {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        text += header;
        text += "\r\n";
    }
    Answer::Bytes(format!("{text}\r\n{body}"))
}

/// What came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// `POST /path HTTP/1.1`
    pub(crate) line: String,
    /// `name: value`, names in small letters.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|header| header.strip_prefix(&format!("{name}: ")))
    }
}

pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Bytes of an endless answer that could be written.
    written: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Sink {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::start_with(answer, None).await
    }

    pub(crate) async fn start_with(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(vec![]));
        let written = Arc::new(Mutex::new(0));
        let (seen, sent) = (requests.clone(), written.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, sent, tls) = (answer.clone(), seen.clone(), sent.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, answer, &seen, &sent).await,
                        Some(tls) => {
                            // A client that does not believe the certificate goes away.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer, &seen, &sent).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            requests,
            written,
            task,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request.
    #[track_caller]
    pub(crate) fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    pub(crate) fn written(&self) -> usize {
        *self.written.lock().unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: Answer,
    seen: &Mutex<Vec<Request>>,
    sent: &Mutex<usize>,
) {
    let Ok(Some(request)) = timeout(LIMIT, read(&mut stream)).await else {
        return;
    };
    seen.lock().unwrap().push(request);
    match answer {
        Answer::Bytes(text) => {
            // The client may have seen enough.
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Answer::Silence => {
            // Until the client goes away.
            let _ = stream.read_u8().await;
        }
        Answer::Close => {}
        Answer::Endless => {
            let _ = stream
                .write_all(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
                .await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                *sent.lock().unwrap() += 4096;
            }
        }
    }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Request> {
    let mut bytes = vec![];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        bytes.push(stream.read_u8().await.ok()?);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let mut request = Request {
        line: lines.next()?,
        headers: lines.collect(),
        body: String::new(),
    };
    let length = request.header("content-length").unwrap_or("0").parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}
