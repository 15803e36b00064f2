//! HTTP/2 as the server drives it itself: windows, resets, malformed calls, deadlines, many calls at once, and draining.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod client;
mod floods;
mod halves;

use std::io::{Read, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use chainfire::wire::etcdserverpb::request_op::Request as Operation;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
};
use client::{Client, DELETE_RANGE, LIMIT, PUT, RANGE, TXN, frame, raw_frame, read, soon};
use h2::client::Builder;
use nix::sys::signal::Signal;
use prost::Message;
use testkit::{Chainfire, wait_until};

/// gRPC status codes.
const DEADLINE_EXCEEDED: i32 = 4;
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn get(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    }
}

/// A figure of the server's metrics.
fn metric(server: &Chainfire, name: &str) -> f64 {
    // A server with much to do may take longer than one look has.
    let mut page = None;
    wait_until(LIMIT, "a page of metrics", || {
        page = server.get("/metrics").ok();
        page.is_some()
    });
    let page = page.unwrap().body;
    let line = page
        .lines()
        .find(|line| line.split(' ').next() == Some(name))
        .unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_is_answered_with_head_message_and_trailers() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let answer = client.call(PUT, &put("a", "1")).await;
    assert_eq!(answer.head.len(), 1, "{answer:?}");
    assert_eq!(answer.trailers.as_ref().unwrap().len(), 1, "{answer:?}");
    assert_eq!(answer.message::<PutResponse>().header.unwrap().revision, 2);
    client.call(PUT, &put("b", "2")).await.message::<PutResponse>();

    let one: RangeResponse = client.call(RANGE, &get("a")).await.message();
    assert_eq!(one.kvs[0].value, "1");
    let all: RangeResponse = client.call(RANGE, &everything()).await.message();
    assert_eq!(all.count, 2);
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let reads = TxnRequest {
        success: vec![operation(Operation::RequestRange(everything()))],
        ..TxnRequest::default()
    };
    let reads: TxnResponse = client.call(TXN, &reads).await.message();
    assert!(reads.succeeded && reads.responses.len() == 1);
    let writes = TxnRequest {
        success: vec![operation(Operation::RequestPut(put("c", "3")))],
        ..TxnRequest::default()
    };
    let writes: TxnResponse = client.call(TXN, &writes).await.message();
    assert_eq!(writes.header.unwrap().revision, 4);
    let delete = DeleteRangeRequest {
        key: Bytes::from_static(b"a"),
        ..DeleteRangeRequest::default()
    };
    let deleted: DeleteRangeResponse = client.call(DELETE_RANGE, &delete).await.message();
    assert_eq!(deleted.deleted, 1);

    let refused = client.call(PUT, &put("", "1")).await;
    assert!(refused.trailers.is_none() && refused.body.is_empty());
    assert_eq!(refused.code(), INVALID_ARGUMENT);
    assert_eq!(refused.text(), "etcdserver:%20key%20is%20not%20provided");
    for (name, calls) in [("Put", 2), ("Range", 2), ("Txn", 2), ("DeleteRange", 1)] {
        let series = format!(
            "grpc_server_handled_total{{grpc_service=\"etcdserverpb.KV\",grpc_method=\"{name}\",grpc_code=\"OK\"}}"
        );
        assert_eq!(metric(&server, &series) as i64, calls, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_calls_are_refused_one_by_one() {
    let server = Chainfire::builder()
        .config("[limits]\nmax_request_bytes = 1048576")
        .start()
        .unwrap();
    let client = Client::open(server.socket()).await;
    let plain = frame(&put("a", "1"));
    let twice = [&plain[..], &plain[..]].concat();
    let mut long = plain[..5].to_vec();
    long[4] += 1;
    long.extend_from_slice(&plain[5..]);
    let flagged = "compressed-flag";
    let end = "Unexpected%20EOF";
    let cases: &[(&str, Vec<u8>, i32, &str)] = &[
        ("no message", vec![], INTERNAL, "Missing%20request%20message."),
        ("half a header", vec![0, 0, 0], INTERNAL, end),
        ("a message that ends early", long, INTERNAL, end),
        ("two messages", twice, INTERNAL, "more%20than%20one%20message"),
        (
            "a flag without encoding",
            raw_frame(1, b"x").to_vec(),
            INTERNAL,
            flagged,
        ),
        (
            "no flag there is",
            raw_frame(7, b"x").to_vec(),
            INTERNAL,
            "compression%20flag:%207",
        ),
        ("no protobuf", raw_frame(0, &[0xff; 9]).to_vec(), INTERNAL, ""),
        (
            "a length of 4 GiB",
            vec![0, 255, 255, 255, 255],
            RESOURCE_EXHAUSTED,
            "larger%20than%20max",
        ),
    ];
    for path in [PUT, RANGE, TXN, DELETE_RANGE] {
        for (name, body, code, text) in cases {
            let answer = client.send(path, &[], Bytes::from(body.clone())).await;
            assert_eq!(answer.code(), *code, "{path} with {name}: {answer:?}");
            assert!(answer.text().contains(text), "{path} with {name}: {answer:?}");
        }
        let packed = client
            .send(path, &[("grpc-encoding", "gzip")], raw_frame(1, b"x"))
            .await;
        assert_eq!(packed.code(), UNIMPLEMENTED, "{packed:?}");
    }
    // Refused when its length is known, not when all of it is there.
    let mut open = client.begin(PUT, &[]).await;
    open.request
        .send_data(Bytes::from_static(&[0, 0, 0x40, 0, 0, 1, 2, 3]), false)
        .unwrap();
    assert_eq!(open.answer().await.code(), RESOURCE_EXHAUSTED);
    // The largest that is taken comes in many frames; a little more is refused by the store's own limit.
    let client = Client::open(server.socket()).await;
    let large = client.call(PUT, &put("large", vec![7; (1 << 20) - 64])).await;
    large.message::<PutResponse>();
    let larger = client.call(PUT, &put("large", vec![7; (1 << 20) + 64])).await;
    assert_eq!(
        (larger.code(), larger.text()),
        (INVALID_ARGUMENT, "etcdserver:%20request%20is%20too%20large")
    );
    // A request in single bytes.
    let mut open = client.begin(PUT, &[]).await;
    for byte in plain.chunks(1) {
        open.request
            .send_data(Bytes::copy_from_slice(byte), false)
            .unwrap();
    }
    open.request.send_data(Bytes::new(), true).unwrap();
    open.answer().await.message::<PutResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_waits_for_its_window_and_nothing_else_waits_for_it() {
    const VALUE: usize = 1 << 20;
    const KEYS: u8 = 10;
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    for key in 0..KEYS {
        let answer = client.call(PUT, &put(vec![key + 1], vec![key; VALUE])).await;
        answer.message::<PutResponse>();
    }
    client
        .call(PUT, &put("small", "1"))
        .await
        .message::<PutResponse>();

    let (client, _) = Client::open_with(server.socket(), Builder::new().initial_window_size(1000)).await;
    let scan = |client: Client| async move {
        let mut open = client.begin(RANGE, &[]).await;
        open.request.send_data(frame(&everything()), true).unwrap();
        soon(open.response).await.unwrap().into_body()
    };
    let mut first = scan(client.clone()).await;
    let given_up = scan(client.clone()).await;
    // Neither reply can go on; small ones pass them.
    for _ in 0..100 {
        let small: RangeResponse = client.call(RANGE, &get("small")).await.message();
        assert_eq!(small.kvs[0].value, "1");
        client
            .call(PUT, &put("other", "1"))
            .await
            .message::<PutResponse>();
    }
    // Dropping the stream resets it.
    drop(given_up);
    let body = read(&mut first).await;
    let all = RangeResponse::decode(body.slice(5..)).unwrap();
    assert_eq!(all.kvs.len(), usize::from(KEYS) + 1);
    for key in 0..KEYS {
        let value = &all.kvs[usize::from(key)].value;
        assert!(value.len() == VALUE && value.iter().all(|byte| *byte == key));
    }
    let trailers = soon(first.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    client.call(RANGE, &get("small")).await.message::<RangeResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_stops_only_itself() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    for key in 0..10_u8 {
        let answer = client.call(PUT, &put(vec![key + 1], vec![key; 1 << 20])).await;
        answer.message::<PutResponse>();
    }
    // 60 replies of 10 MiB are not all made: beyond 32 scans that nobody reads no more are begun.
    let started = "grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Range\"}";
    let (greedy, _) = Client::open_with(server.socket(), Builder::new().initial_window_size(0)).await;
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut open = greedy.begin(RANGE, &[]).await;
        open.request.send_data(frame(&everything()), true).unwrap();
        waiting.push(open);
    }
    wait_until(LIMIT, "scans begin", || metric(&server, started) >= 32.0);
    // Short calls still are, on this connection and on others.
    for _ in 0..20 {
        let mut open = greedy.begin(PUT, &[]).await;
        open.request.send_data(frame(&put("other", "1")), true).unwrap();
        assert_eq!(soon(open.response).await.unwrap().status(), 200);
        client.call(RANGE, &get("\u{1}")).await.message::<RangeResponse>();
    }
    assert!(metric(&server, started) < 32.0 + 20.5);
    // Giving them up makes room for others.
    drop(waiting);
    let mut open = greedy.begin(RANGE, &[]).await;
    open.request.send_data(frame(&everything()), true).unwrap();
    assert_eq!(soon(open.response).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_streams_are_forgotten() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    // Calls that wait for their request, and calls that wait for the log.
    for round in 0..50_u32 {
        let mut open = client.begin(PUT, &[]).await;
        open.request
            .send_data(Bytes::from_static(&[0, 0]), false)
            .unwrap();
        open.request.send_reset(h2::Reason::CANCEL);
        let mut open = client.begin(PUT, &[]).await;
        open.request
            .send_data(frame(&put(round.to_be_bytes().to_vec(), "1")), true)
            .unwrap();
        open.request.send_reset(h2::Reason::CANCEL);
        // One whole call between them, so that resets are not the only thing the server sees.
        client.call(PUT, &put("a", "1")).await.message::<PutResponse>();
    }
    wait_until(LIMIT, "nothing is pending", || {
        metric(&server, "etcd_server_proposals_pending") == 0.0
    });

    // A stream of the full stack: the watch ends with it.
    let mut watch = client.begin("/etcdserverpb.Watch/Watch", &[]).await;
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::from_static(b"a"),
            ..WatchCreateRequest::default()
        })),
    };
    watch.request.send_data(frame(&create), false).unwrap();
    let mut created = soon(watch.response).await.unwrap().into_body();
    assert!(!soon(created.data()).await.unwrap().unwrap().is_empty());
    assert_eq!(metric(&server, "chainfire_watchers") as i64, 1);
    watch.request.send_reset(h2::Reason::CANCEL);
    wait_until(LIMIT, "the watch is gone", || {
        metric(&server, "chainfire_watchers") == 0.0
    });
    client.call(RANGE, &get("a")).await.message::<RangeResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_end_calls() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let mut unfinished = Vec::new();
    for timeout in ["400m", "20m", "1n", "100m"] {
        let mut open = client.begin(PUT, &[("grpc-timeout", timeout)]).await;
        open.request.send_data(Bytes::from_static(&[0]), false).unwrap();
        unfinished.push(open);
    }
    let patient = client.begin(PUT, &[("grpc-timeout", "99999999H")]).await;
    let in_time = client
        .send(PUT, &[("grpc-timeout", "20S")], frame(&put("a", "1")))
        .await;
    in_time.message::<PutResponse>();
    for open in unfinished {
        let answer = open.answer().await;
        assert_eq!(answer.code(), DEADLINE_EXCEEDED);
        assert_eq!(answer.text(), "context%20deadline%20exceeded");
    }
    let mut patient = patient;
    patient.request.send_data(frame(&put("b", "1")), true).unwrap();
    patient.answer().await.message::<PutResponse>();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_share_a_connection() {
    const CALLS: u32 = 3000;
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let key = |number: u32| number.to_be_bytes().to_vec();
    let each = |request: fn(Vec<u8>, u32) -> Bytes, path: &'static str| {
        let client = &client;
        async move {
            let calls = (0..CALLS).map(|number| async move {
                let answer = client.send(path, &[], request(key(number), number)).await;
                (number, answer)
            });
            futures::future::join_all(calls).await
        }
    };
    let puts = each(|key, number| frame(&put(key, number.to_string())), PUT).await;
    let mut revisions: Vec<i64> = puts
        .iter()
        .map(|(_, answer)| answer.message::<PutResponse>().header.unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert!(revisions.iter().copied().eq(2..i64::from(CALLS) + 2));
    for (number, answer) in each(|key, _| frame(&get(key)), RANGE).await {
        let found: RangeResponse = answer.message();
        assert_eq!(found.kvs[0].value, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_finishes_what_has_begun() {
    let mut server = Chainfire::start_new().unwrap();
    let (client, connection) = Client::open_with(server.socket(), &Builder::new()).await;
    let (idle, idle_connection) = Client::open_with(server.socket(), &Builder::new()).await;
    idle.call(RANGE, &get("a")).await.message::<RangeResponse>();
    let mut open = client.begin(PUT, &[]).await;
    // Answered after the call above has come in, so that it is under way.
    client.call(RANGE, &get("a")).await.message::<RangeResponse>();
    server.signal(Signal::SIGTERM).unwrap();
    // A connection without calls is closed at once, politely.
    soon(idle_connection).await.unwrap().unwrap();
    let body = frame(&put("a", "last"));
    open.request.send_data(body, true).unwrap();
    open.answer().await.message::<PutResponse>();
    drop(client);
    soon(connection).await.unwrap().unwrap();
    assert!(server.wait_exit().unwrap().success());
    server.start().unwrap();
    let client = Client::open(server.socket()).await;
    let found: RangeResponse = client.call(RANGE, &get("a")).await.message();
    assert_eq!(found.kvs[0].value, "last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_json_are_served_over_http2_too() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let (head, body) = client.page("GET", "/health").await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], body.len().to_string());
    assert!(std::str::from_utf8(&body).unwrap().contains("\"health\""));
    let (head, body) = client.page("HEAD", "/health").await;
    assert_eq!((head.status().as_u16(), body.len()), (200, 0));
    let (head, body) = client.page("GET", "/metrics").await;
    assert_eq!(head.status(), 200);
    assert!(body.len() > 20_000);
    assert_eq!(client.page("GET", "/nowhere").await.0.status(), 404);
}

#[test]
fn broken_frames_end_the_connection_and_are_counted() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let server = Chainfire::start_new().unwrap();
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let cases: &[&[u8]] = &[
        // DATA on stream 0, a SETTINGS frame of one byte, HEADERS that are no HPACK, a frame of 16 MiB.
        &[0, 0, 1, 0, 0, 0, 0, 0, 0, 9],
        &[0, 0, 1, 4, 0, 0, 0, 0, 0, 9],
        &[0, 0, 4, 1, 5, 0, 0, 0, 1, 255, 255, 255, 255],
        &[255, 255, 255, 0, 0, 0, 0, 0, 1, 0],
    ];
    for (done, case) in cases.iter().enumerate() {
        let answer = tell(server.socket(), &[PREFACE, settings, case].concat());
        // GOAWAY is among the frames that come back.
        let mut rest = &answer[..];
        let mut kinds = Vec::new();
        while let Some(head) = rest.first_chunk::<9>() {
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            kinds.push(head[3]);
            rest = rest.get(9 + size..).unwrap_or_default();
        }
        assert!(kinds.contains(&7), "{case:?}: {kinds:?}");
        let counted = done as f64 + 1.0;
        wait_until(LIMIT, "it is counted", || {
            metric(&server, "chainfire_bad_connections_total") >= counted
        });
    }
    let half = tell(server.socket(), &PREFACE[..20]);
    assert!(half.len() < 1000);
}

/// Sends bytes and reads until the server closes.
fn tell(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = std::net::TcpStream::connect(server).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.write_all(bytes).unwrap();
    if bytes.len() < 24 {
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    // A reset instead of an end is one, too.
    let _ = socket.read_to_end(&mut answer);
    answer
}
