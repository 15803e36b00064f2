//! gRPC over HTTP/2 by hand, so that a test decides when frames are sent, windows opened and streams reset.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Longest wait for what has to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";

/// One connection.
#[derive(Clone)]
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    server: SocketAddr,
}

/// A call of which the request may not be finished.
pub(crate) struct Open {
    pub(crate) request: SendStream<Bytes>,
    pub(crate) response: ResponseFuture,
}

/// How a call was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// `grpc-status`, wherever it stands.
    pub(crate) fn code(&self) -> i32 {
        let headers = self.trailers.as_ref().unwrap_or(&self.head);
        headers["grpc-status"].to_str().unwrap().parse().unwrap()
    }

    /// `grpc-message` as sent.
    pub(crate) fn text(&self) -> &str {
        let headers = self.trailers.as_ref().unwrap_or(&self.head);
        headers
            .get("grpc-message")
            .map_or("", |text| text.to_str().unwrap())
    }

    /// The message of a call that succeeded.
    #[track_caller]
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.code(), 0, "{self:?}");
        assert_eq!(self.body[0], 0);
        let size = u32::from_be_bytes(self.body[1..5].try_into().unwrap()) as usize;
        assert_eq!(size, self.body.len() - 5);
        M::decode(self.body.slice(5..)).unwrap()
    }
}

/// A message with its frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    raw_frame(0, &message.encode_to_vec())
}

pub(crate) fn raw_frame(flag: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// Fails the test if `future` takes too long.
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        tokio::time::timeout(LIMIT, future)
            .await
            .unwrap_or_else(|_| panic!("nothing came in {LIMIT:?} for {place}"))
    }
}

impl Client {
    /// With a window as clients have it. What `h2` tolerates in unread small frames depends on it.
    pub(crate) async fn open(server: SocketAddr) -> Client {
        let mut builder = Builder::new();
        builder.initial_connection_window_size(8 << 20);
        Client::open_with(server, &builder).await.0
    }

    /// The task ends when the connection does.
    pub(crate) async fn open_with(
        server: SocketAddr,
        builder: &Builder,
    ) -> (Client, JoinHandle<Result<(), h2::Error>>) {
        let socket = TcpStream::connect(server).await.unwrap();
        let (requests, connection) = builder.handshake(socket).await.unwrap();
        (Client { requests, server }, tokio::spawn(connection))
    }

    /// Sends the head of a call.
    pub(crate) async fn begin(&self, path: &str, headers: &[(&'static str, &str)]) -> Open {
        let mut request = Request::post(format!("http://{}{path}", self.server))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = soon(self.requests.clone().ready()).await.unwrap();
        let (response, request) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        Open { request, response }
    }

    /// A whole call with whatever bytes.
    pub(crate) async fn send(&self, path: &str, headers: &[(&'static str, &str)], body: Bytes) -> Answer {
        let mut open = self.begin(path, headers).await;
        open.request.send_data(body, true).unwrap();
        open.answer().await
    }

    /// A call as it should be.
    pub(crate) async fn call(&self, path: &str, message: &impl Message) -> Answer {
        self.send(path, &[], frame(message)).await
    }

    /// A request of any method and content type, none if empty; its head alone.
    pub(crate) async fn raw(&self, method: &str, path: &str, kind: &str, body: Bytes) -> Response<()> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let mut requests = soon(self.requests.clone().ready()).await.unwrap();
        let (response, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(body, true).unwrap();
        soon(response).await.unwrap().map(drop)
    }

    /// A request that is no call.
    pub(crate) async fn page(&self, method: &str, path: &str) -> (Response<()>, Bytes) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server))
            .body(())
            .unwrap();
        let mut requests = soon(self.requests.clone().ready()).await.unwrap();
        let (response, _) = requests.send_request(request, true).unwrap();
        let (head, mut body) = soon(response).await.unwrap().into_parts();
        (Response::from_parts(head, ()), read(&mut body).await)
    }
}

impl Open {
    pub(crate) async fn answer(self) -> Answer {
        let (head, mut body) = soon(self.response).await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-type"], "application/grpc");
        let bytes = read(&mut body).await;
        Answer {
            head: head.headers,
            body: bytes,
            trailers: soon(body.trailers()).await.unwrap(),
        }
    }
}

/// Reads a body to its end, opening the window as it goes.
pub(crate) async fn read(body: &mut RecvStream) -> Bytes {
    let mut all = BytesMut::new();
    while let Some(part) = soon(body.data()).await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        all.extend_from_slice(&part);
    }
    all.freeze()
}
