//! The JSON gateway: `/v3/...` spoken as the gRPC services behind it.
//!
//! A request's JSON becomes the protocol message it describes, the message goes through the same gRPC service a gRPC client
//! would reach (tokens included), and the replies become JSON again. Types come from the protocol files' descriptors at run
//! time, so there is one list here, [`ROUTES`], and no code for each call. The JSON form is protobuf's (bytes in base64,
//! 64-bit numbers as strings, default values left out), with fields under their own names as etcd's gateway has them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status};

use super::dispatch::{Services, whole};
use super::pages::page;
use super::unfinished::{TIME_MAX, Unfinished, Waiting};
use super::values::Values;
use crate::error::Error;
use crate::wire::DESCRIPTORS;

/// Path below `/v3` → gRPC method. The same paths are served below `/v3beta`.
const ROUTES: &[(&str, &str)] = &[
    ("/kv/range", "etcdserverpb.KV/Range"),
    ("/kv/put", "etcdserverpb.KV/Put"),
    ("/kv/deleterange", "etcdserverpb.KV/DeleteRange"),
    ("/kv/txn", "etcdserverpb.KV/Txn"),
    ("/kv/compaction", "etcdserverpb.KV/Compact"),
    ("/watch", "etcdserverpb.Watch/Watch"),
    ("/lease/grant", "etcdserverpb.Lease/LeaseGrant"),
    ("/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("/kv/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("/lease/keepalive", "etcdserverpb.Lease/LeaseKeepAlive"),
    ("/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("/kv/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("/kv/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("/cluster/member/add", "etcdserverpb.Cluster/MemberAdd"),
    ("/cluster/member/remove", "etcdserverpb.Cluster/MemberRemove"),
    ("/cluster/member/update", "etcdserverpb.Cluster/MemberUpdate"),
    ("/cluster/member/list", "etcdserverpb.Cluster/MemberList"),
    ("/cluster/member/promote", "etcdserverpb.Cluster/MemberPromote"),
    ("/maintenance/alarm", "etcdserverpb.Maintenance/Alarm"),
    ("/maintenance/status", "etcdserverpb.Maintenance/Status"),
    ("/maintenance/defragment", "etcdserverpb.Maintenance/Defragment"),
    ("/maintenance/hash", "etcdserverpb.Maintenance/Hash"),
    ("/maintenance/hashkv", "etcdserverpb.Maintenance/HashKV"),
    ("/maintenance/snapshot", "etcdserverpb.Maintenance/Snapshot"),
    (
        "/maintenance/transfer-leadership",
        "etcdserverpb.Maintenance/MoveLeader",
    ),
    ("/maintenance/downgrade", "etcdserverpb.Maintenance/Downgrade"),
    ("/auth/enable", "etcdserverpb.Auth/AuthEnable"),
    ("/auth/disable", "etcdserverpb.Auth/AuthDisable"),
    ("/auth/status", "etcdserverpb.Auth/AuthStatus"),
    ("/auth/authenticate", "etcdserverpb.Auth/Authenticate"),
    ("/auth/user/add", "etcdserverpb.Auth/UserAdd"),
    ("/auth/user/get", "etcdserverpb.Auth/UserGet"),
    ("/auth/user/list", "etcdserverpb.Auth/UserList"),
    ("/auth/user/delete", "etcdserverpb.Auth/UserDelete"),
    ("/auth/user/changepw", "etcdserverpb.Auth/UserChangePassword"),
    ("/auth/user/grant", "etcdserverpb.Auth/UserGrantRole"),
    ("/auth/user/revoke", "etcdserverpb.Auth/UserRevokeRole"),
    ("/auth/role/add", "etcdserverpb.Auth/RoleAdd"),
    ("/auth/role/get", "etcdserverpb.Auth/RoleGet"),
    ("/auth/role/list", "etcdserverpb.Auth/RoleList"),
    ("/auth/role/delete", "etcdserverpb.Auth/RoleDelete"),
    ("/auth/role/grant", "etcdserverpb.Auth/RoleGrantPermission"),
    ("/auth/role/revoke", "etcdserverpb.Auth/RoleRevokePermission"),
    ("/lock/lock", "v3lockpb.Lock/Lock"),
    ("/lock/unlock", "v3lockpb.Lock/Unlock"),
    ("/election/campaign", "v3electionpb.Election/Campaign"),
    ("/election/proclaim", "v3electionpb.Election/Proclaim"),
    ("/election/leader", "v3electionpb.Election/Leader"),
    ("/election/observe", "v3electionpb.Election/Observe"),
    ("/election/resign", "v3electionpb.Election/Resign"),
];

/// Messages on their way in either direction of a stream.
const IN_FLIGHT: usize = 16;

/// Headers that begin like this are metadata of the call; these are the ones with a meaning here.
const METADATA_PREFIX: &str = "grpc-metadata-";
const FORWARDED: [&str; 3] = ["authorization", "hasleader", "token"];

/// gRPC framing: a flag byte and a length.
const FRAME_HEADER: usize = 5;

#[derive(Debug, Clone)]
struct Route {
    /// `/package.Service/Method`.
    grpc_path: String,
    input: MessageDescriptor,
    output: MessageDescriptor,
    client_streams: bool,
    server_streams: bool,
}

/// All routes with their types.
#[derive(Debug)]
pub(super) struct Gateway {
    routes: HashMap<&'static str, Route>,
    /// JSON of the largest message: base64 takes four bytes for three.
    json_bytes_max: usize,
}

impl Gateway {
    pub(super) fn new(message_bytes_max: usize) -> Gateway {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the committed descriptors are readable");
        let route = |(path, grpc): &(&'static str, &'static str)| {
            let (service, method) = grpc.split_once('/').expect("routes name service and method");
            let service = pool
                .get_service_by_name(service)
                .expect("routes name services that exist");
            let method = service
                .methods()
                .find(|candidate| candidate.name() == method)
                .expect("routes name methods that exist");
            let route = Route {
                grpc_path: format!("/{grpc}"),
                input: method.input(),
                output: method.output(),
                client_streams: method.is_client_streaming(),
                server_streams: method.is_server_streaming(),
            };
            (*path, route)
        };
        Gateway {
            routes: ROUTES.iter().map(route).collect(),
            json_bytes_max: message_bytes_max / 3 * 4 + 4096,
        }
    }

    fn route(&self, path: &str) -> Option<&Route> {
        let path = path
            .strip_prefix("/v3beta")
            .or_else(|| path.strip_prefix("/v3"))?;
        self.routes.get(path)
    }
}

/// Answers a request below `/v3`.
pub(super) async fn answer(services: Arc<Services>, request: Request<Body>) -> Response<Body> {
    let Some(route) = services.gateway.route(request.uri().path()).cloned() else {
        return failure(&Status::not_found("Not Found"));
    };
    if request.method() != Method::POST {
        let mut response = failure(&Status::unimplemented("Method Not Allowed"));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(header::ALLOW, http::HeaderValue::from_static("POST"));
        return response;
    }
    let headers = request.headers().clone();
    let body = request.into_body();
    if route.client_streams {
        stream(services, route, &headers, body).await
    } else {
        unary(services, route, &headers, body).await
    }
}

/// How much of a body that is too large is read all the same, in multiples of what would do: a client that is still sending
/// when the connection closes never sees why.
const READ_ANYWAY: usize = 8;

/// A request body as it comes in, counted among what is unfinished while more is waited for.
struct Incoming {
    body: Body,
    unfinished: Arc<Unfinished>,
    waiting: Option<(Waiting, Instant)>,
}

impl Incoming {
    fn new(body: Body, services: &Services) -> Incoming {
        Incoming {
            body,
            unfinished: services.unfinished.clone(),
            waiting: None,
        }
    }

    /// The next part, or none at the end. `held` bytes of a message are there already; between two messages of a stream
    /// nothing is held and the client may take its time, but a request that is one message is waited for from its start.
    async fn part(&mut self, held: Option<usize>) -> Result<Option<Bytes>, Status> {
        loop {
            let next = std::future::poll_fn(|cx| {
                Poll::Ready(match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(next) => Some(next),
                    Poll::Pending => None,
                })
            });
            let next = match (next.await, held) {
                (Some(next), _) => next,
                (None, None) => {
                    self.waiting = None;
                    self.body.frame().await
                }
                (None, Some(held)) => {
                    let until = self.wait(held)?;
                    let Ok(next) = tokio::time::timeout_at(until, self.body.frame()).await else {
                        let limit = TIME_MAX.as_secs();
                        let text = format!("the request did not come in whole within {limit} s");
                        return Err(Status::cancelled(text));
                    };
                    next
                }
            };
            match next {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Status::invalid_argument(format!(
                        "the request broke off: {error}"
                    )));
                }
                // Trailers say nothing here.
                Some(Ok(part)) => {
                    if let Ok(data) = part.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Counts `held` bytes; answers until when more is waited for.
    fn wait(&mut self, held: usize) -> Result<Instant, Status> {
        let full = |_| Status::from(Error::TooManyRequests);
        if let Some((waiting, until)) = &mut self.waiting {
            waiting.hold(held).map_err(full)?;
            return Ok(*until);
        }
        let until = Instant::now() + TIME_MAX;
        self.waiting = Some((self.unfinished.wait(held).map_err(full)?, until));
        Ok(until)
    }
}

/// A body of up to `most` bytes.
async fn read_whole(mut body: Incoming, most: usize) -> Result<Bytes, Status> {
    let mut read = BytesMut::new();
    let mut length = 0;
    while let Some(part) = body.part(Some(read.len())).await? {
        length += part.len();
        if length <= most {
            read.extend_from_slice(&part);
        } else if length > most * READ_ANYWAY {
            break;
        }
    }
    if length > most {
        return Err(too_large(most));
    }
    Ok(read.freeze())
}

fn too_large(most: usize) -> Status {
    Status::resource_exhausted(format!("request message is larger than {most} bytes"))
}

/// One request message; one reply, or a stream of them.
async fn unary(services: Arc<Services>, route: Route, headers: &HeaderMap, body: Body) -> Response<Body> {
    let most = services.gateway.json_bytes_max;
    let body = Incoming::new(body, &services);
    let json = match read_whole(body, most).await {
        Ok(json) => json,
        Err(status) => return failure(&status),
    };
    let message = match parse_one(&route.input, &json) {
        Ok(message) => message,
        Err(status) => return failure(&status),
    };
    let request = grpc_request(&route, headers, whole(frame(&message)));
    let replies = match Replies::of(services.call(request).await) {
        Ok(replies) => replies,
        Err(status) => return failure(&status),
    };
    if route.server_streams {
        return lines(route.output, replies, None);
    }
    let mut replies = replies;
    match replies.next().await {
        Some(Ok(reply)) => match to_json(&route.output, reply) {
            Ok(value) => page(StatusCode::OK, "application/json", value.to_string()),
            Err(status) => failure(&status),
        },
        Some(Err(status)) => failure(&status),
        None => failure(&Status::internal("the call ended without a reply")),
    }
}

/// A stream in both directions: one JSON object after the other in, one line each out. The replies go on when the request
/// body has ended.
async fn stream(services: Arc<Services>, route: Route, headers: &HeaderMap, body: Body) -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Status>>(IN_FLIGHT);
    // What is wrong with a later message ends the call, and its last line says so.
    let (complain, complaint) = oneshot::channel();
    let mut messages = Messages {
        kind: route.input.clone(),
        most: services.gateway.json_bytes_max,
        body: Incoming::new(body, &services),
        values: Values::default(),
        ended: false,
    };
    // The first message is read before the call is made, so that nonsense is answered with a status of its own.
    let first = match messages.first().await {
        Ok(message) => message,
        Err(status) => return failure(&status),
    };
    tokio::spawn(async move {
        let mut next: Result<_, Status> = Ok(Some(first));
        loop {
            match next {
                Ok(Some(message)) => {
                    if sender.send(Ok(Frame::data(frame(&message)))).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    let _ = complain.send(status.clone());
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            }
            next = tokio::select! {
                next = messages.next() => next,
                () = sender.closed() => return,
            };
        }
    });
    let request = grpc_request(
        &route,
        headers,
        Body::new(StreamBody::new(ReceiverStream::new(receiver))),
    );
    match Replies::of(services.call(request).await) {
        Ok(replies) => lines(route.output, replies, Some(complaint)),
        Err(status) => failure(&status),
    }
}

/// The messages of a request that is a stream of them.
struct Messages {
    kind: MessageDescriptor,
    most: usize,
    body: Incoming,
    values: Values,
    ended: bool,
}

impl Messages {
    /// The first one; a body without any is a message without fields.
    async fn first(&mut self) -> Result<DynamicMessage, Status> {
        match self.next().await? {
            Some(message) => Ok(message),
            None => Ok(DynamicMessage::new(self.kind.clone())),
        }
    }

    async fn next(&mut self) -> Result<Option<DynamicMessage>, Status> {
        loop {
            if let Some(value) = self.values.take() {
                return parse_one(&self.kind, &value).map(Some);
            }
            if self.ended {
                return Ok(None);
            }
            let held = Some(self.values.len()).filter(|held| *held > 0);
            let Some(part) = self.body.part(held).await? else {
                self.ended = true;
                let rest = self.values.rest();
                if rest.iter().all(u8::is_ascii_whitespace) {
                    return Ok(None);
                }
                return parse_one(&self.kind, &rest).map(Some);
            };
            if self.values.len() + part.len() > self.most {
                return Err(too_large(self.most));
            }
            self.values.add(&part);
        }
    }
}

fn grpc_request(route: &Route, headers: &HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = route.grpc_path.parse().expect("method paths are valid");
    let out = request.headers_mut();
    out.insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    out.insert(header::TE, http::HeaderValue::from_static("trailers"));
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        out.insert(header::AUTHORIZATION, token.clone());
    }
    if let Some(user) = headers.get(super::tls::USER) {
        out.insert(super::tls::USER, user.clone());
    }
    for (name, value) in headers {
        let name = name.as_str().strip_prefix(METADATA_PREFIX);
        if let Some(name) = FORWARDED.into_iter().find(|known| name == Some(known)) {
            out.insert(name, value.clone());
        }
    }
    request
}

fn options() -> DeserializeOptions {
    // Fields of newer clients are ignored, as etcd does.
    DeserializeOptions::new().deny_unknown_fields(false)
}

fn invalid(error: &serde_json::Error) -> Status {
    Status::invalid_argument(format!("invalid JSON: {error}"))
}

/// A body that is one message; nothing at all is a message without fields.
fn parse_one(kind: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Status> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(DynamicMessage::new(kind.clone()));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize_with_options(kind.clone(), &mut reader, &options())
        .map_err(|error| invalid(&error))?;
    reader.end().map_err(|error| invalid(&error))?;
    Ok(message)
}

/// A message in gRPC's framing.
fn frame(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(FRAME_HEADER + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("requests are far below 4 GiB"));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// The replies of a call, out of gRPC's framing.
struct Replies {
    body: Body,
    buffer: BytesMut,
    done: bool,
}

impl Replies {
    /// An error that came instead of any reply is given at once.
    fn of(response: Response<Body>) -> Result<Replies, Status> {
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        Ok(Replies {
            body: response.into_body(),
            buffer: BytesMut::new(),
            done: false,
        })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            if let Some(message) = self.take() {
                return Some(Ok(message));
            }
            if self.done {
                return None;
            }
            match self.body.frame().await {
                Some(Ok(part)) => match part.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(part) => {
                        self.done = true;
                        let status = part.trailers_ref().and_then(Status::from_header_map);
                        if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                            return Some(Err(status));
                        }
                    }
                },
                Some(Err(status)) => {
                    self.done = true;
                    return Some(Err(status));
                }
                None => self.done = true,
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let length = self
            .buffer
            .get(1..FRAME_HEADER)?
            .try_into()
            .map(u32::from_be_bytes)
            .ok()? as usize;
        if self.buffer.len() < FRAME_HEADER + length {
            return None;
        }
        self.buffer.advance(FRAME_HEADER);
        Some(self.buffer.split_to(length).freeze())
    }
}

fn to_json(kind: &MessageDescriptor, message: Bytes) -> Result<Value, Status> {
    let message = DynamicMessage::decode(kind.clone(), message)
        .map_err(|error| Status::internal(format!("reply: {error}")))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| Status::internal(format!("reply: {error}")))
}

/// One `{"result": ...}` a line, flushed as it comes. When the replies end because of a `complaint` about the request, that is
/// the last line.
fn lines(
    kind: MessageDescriptor,
    replies: Replies,
    complaint: Option<oneshot::Receiver<Status>>,
) -> Response<Body> {
    let lines = futures::stream::unfold(Some((replies, complaint)), move |state| {
        let kind = kind.clone();
        async move {
            let (mut replies, mut complaint) = state?;
            let result = match replies.next().await {
                Some(Ok(message)) => to_json(&kind, message),
                ended => {
                    let complaint = complaint.as_mut().and_then(|complaint| complaint.try_recv().ok());
                    Err(match (complaint, ended) {
                        (Some(status), _) | (None, Some(Err(status))) => status,
                        (None, _) => return None,
                    })
                }
            };
            let (value, rest) = match result {
                Ok(value) => (json!({ "result": value }), Some((replies, complaint))),
                Err(status) => (stream_error(&status), None),
            };
            Some((format!("{value}\n"), rest))
        }
    });
    let frames = lines.map(|line| Ok::<_, Status>(Frame::data(Bytes::from(line))));
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn stream_error(status: &Status) -> Value {
    let http = http_status(status.code());
    json!({ "error": {
        "grpc_code": status.code() as i32,
        "http_code": http.as_u16(),
        "message": status.message(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    } })
}

/// `error` for older clients, `message` for newer ones.
fn failure(status: &Status) -> Response<Body> {
    let body = json!({
        "error": status.message(),
        "code": status.code() as i32,
        "message": status.message(),
    });
    page(http_status(status.code()), "application/json", body.to_string())
}

/// The mapping of grpc-gateway, which etcd uses.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// For fuzzing: reads `json` as the body of a request to `path`, as far as that goes without a server.
pub fn parse_body(path: &str, json: &[u8]) -> bool {
    thread_local! {
        static GATEWAY: Gateway = Gateway::new(2 << 20);
    }
    GATEWAY.with(|gateway| {
        let Some(route) = gateway.route(path) else {
            return false;
        };
        let mut values = Values::default();
        values.add(json);
        while let Some(value) = values.take() {
            let _ = parse_one(&route.input, &value);
        }
        parse_one(&route.input, json).is_ok_and(|message| {
            let bytes = frame(&message);
            to_json(&route.input, bytes.slice(FRAME_HEADER..)).is_ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_in_every_form_clients_write() {
        for body in [
            r#"{"key":"Zm9v","range_end":"Zm9w","limit":"5","sort_order":"DESCEND"}"#,
            r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":5,"sortOrder":2,"newer":{"x":[1]}}"#,
        ] {
            let gateway = Gateway::new(1024);
            let route = gateway.route("/v3/kv/range").expect("route");
            let message = parse_one(&route.input, body.as_bytes()).expect(body);
            let value = to_json(&route.input, Bytes::from(message.encode_to_vec())).expect("json");
            assert_eq!(
                value,
                json!({"key":"Zm9v","range_end":"Zm9w","limit":"5","sort_order":"DESCEND"})
            );
        }
        assert!(parse_body("/v3beta/kv/put", b""));
        assert!(!parse_body("/v3/kv/nowhere", b"{}"));
    }

    #[test]
    fn malformed_bodies_say_where() {
        let gateway = Gateway::new(1024);
        let route = gateway.route("/v3/kv/put").expect("route");
        let status = parse_one(&route.input, b"{\"key\": }").expect_err("malformed");
        assert!(
            status.message().contains("line 1 column 9"),
            "{}",
            status.message()
        );
    }
}
