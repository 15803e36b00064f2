//! Requests that begin and do not end: how many of them are held, and what becomes of the others.

use std::time::Duration;

use bytes::Bytes;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{
    LeaseGrantRequest, PutResponse, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::Reason;
use h2::client::Builder;
use prost::Message;
use testkit::{Chainfire, wait_until};

use crate::client::{Client, LIMIT, Open, PUT, RANGE, frame, raw_frame, read, soon};
use crate::{DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, get, metric, put};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LOCK: &str = "/v3lockpb.Lock/Lock";

/// Unfinished requests that a connection may have, and their bytes.
const REQUESTS_MAX: usize = 4096;
const BYTES_MAX: usize = 128 << 20;

/// So many more are begun.
const SURPLUS: usize = 1000;

async fn refused(open: Open) -> Option<Reason> {
    soon(open.response).await.unwrap_err().reason()
}

fn resident_kib(server: &Chainfire) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_so_many_requests_without_end_and_goes_on() {
    let server = Chainfire::start_new().unwrap();
    for (path, begun) in [(PUT, &b""[..]), (GRANT, b""), (PUT, b"\0\0")] {
        let client = Client::open(server.socket()).await;
        let before = resident_kib(&server);
        let mut requests = Vec::new();
        let mut answers = FuturesUnordered::new();
        for _ in 0..REQUESTS_MAX + SURPLUS {
            let mut open = client.begin(path, &[]).await;
            if !begun.is_empty() {
                open.request.send_data(Bytes::from_static(begun), false).unwrap();
            }
            requests.push(open.request);
            answers.push(open.response);
        }
        for _ in 0..SURPLUS {
            let refused = soon(answers.next()).await.unwrap().unwrap_err();
            assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM), "{path}");
        }
        // Other connections have places of their own.
        let other = Client::open(server.socket()).await;
        other.call(PUT, &put("a", "1")).await.message::<PutResponse>();
        other.call(RANGE, &get("a")).await.message::<RangeResponse>();
        let held = resident_kib(&server).saturating_sub(before);
        println!("{held} KiB for {REQUESTS_MAX} halves of {path}");
        assert!(held < 128 << 10, "{held} KiB for {path}");
        // Those that were not refused can still end.
        for mut request in requests {
            // Fails for those that were refused.
            let _ = request.send_data(Bytes::new(), true);
        }
        while let Some(answer) = soon(answers.next()).await {
            assert_eq!(answer.unwrap().headers()["grpc-status"], "13", "{path}");
        }
    }
    let log = server.log();
    assert!(
        log.contains("WARN chainfire_network: Refused a request whose end does not come"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_of_unfinished_requests_have_an_end_and_come_back() {
    const HALF: usize = 1 << 20;
    let server = Chainfire::start_new().unwrap();
    let before = resident_kib(&server);
    for path in [PUT, WATCH] {
        let (client, connection) = Client::open_with(server.socket(), &Builder::new()).await;
        let mut halves = Vec::new();
        let mut refusals = 0;
        while refusals < 10 {
            let mut open = client.begin(path, &[]).await;
            let mut half = vec![0; HALF];
            half[1..5].copy_from_slice(&(HALF as u32 + 1000).to_be_bytes());
            // Refused before it is sent, if its predecessors were enough.
            let mut rest = Bytes::from(half);
            while !rest.is_empty() {
                open.request.reserve_capacity(rest.len());
                let granted = soon(std::future::poll_fn(|cx| open.request.poll_capacity(cx))).await;
                let Some(Ok(granted)) = granted else { break };
                let part = rest.split_to(granted.min(rest.len()));
                if open.request.send_data(part, false).is_err() {
                    break;
                }
            }
            halves.push(open);
            assert!(halves.len() <= BYTES_MAX / HALF + 20, "{path}: no end");
            if halves.len() > BYTES_MAX / HALF {
                refusals += 1;
            }
        }
        let surplus = halves.pop().unwrap();
        if path == PUT {
            assert_eq!(refused(surplus).await, Some(Reason::ENHANCE_YOUR_CALM));
        } else {
            // The stream of replies had begun, so it ends with a status.
            assert_eq!(surplus.answer().await.code(), RESOURCE_EXHAUSTED);
        }
        drop((halves, client));
        soon(connection).await.unwrap().unwrap();
        // The allocator gives memory back while it is used.
        wait_until(LIMIT, "the memory to come back", || {
            assert_eq!(server.get("/health").unwrap().status, 200);
            let held = resident_kib(&server).saturating_sub(before);
            println!("{held} KiB are held after {path}");
            held < 100 << 10
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_requests_at_once_do_not_wait_for_one_another() {
    const VALUE: usize = 1 << 20;
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    // All begin before any ends: together they are many times the connection's window.
    let mut opens = Vec::new();
    for key in 0..60_u8 {
        let mut open = client.begin(PUT, &[]).await;
        let whole = frame(&put(vec![b'k', key], vec![key; VALUE]));
        open.request.send_data(whole.slice(..VALUE / 2), false).unwrap();
        opens.push((open, whole.slice(VALUE / 2..)));
    }
    for (open, rest) in &mut opens {
        open.request.send_data(rest.clone(), true).unwrap();
    }
    for (open, _) in opens {
        open.answer().await.message::<PutResponse>();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watch_streams_share_a_connection() {
    const STREAMS: usize = 10_000;
    let server = Chainfire::start_new().unwrap();
    let before = resident_kib(&server);
    // What the client's library tolerates in unread small frames depends on the window.
    let mut builder = Builder::new();
    builder.initial_connection_window_size(64 << 20);
    let (client, _) = Client::open_with(server.socket(), &builder).await;
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::from_static(b"a"),
            ..WatchCreateRequest::default()
        })),
    };
    let mut watches = Vec::new();
    for _ in 0..STREAMS {
        let mut open = client.begin(WATCH, &[]).await;
        open.request.send_data(frame(&create), false).unwrap();
        watches.push(open);
    }
    wait_until(LIMIT, "all watches", || {
        metric(&server, "chainfire_watchers") as usize == STREAMS
    });
    let each = resident_kib(&server).saturating_sub(before) * 1024 / STREAMS as u64;
    println!("{each} bytes for each watch stream");
    client.call(PUT, &put("a", "1")).await.message::<PutResponse>();
    for watch in watches {
        let mut body = soon(watch.response).await.unwrap().into_body();
        let mut bytes = Vec::new();
        let mut replies = Vec::new();
        while replies.len() < 2 {
            let part = soon(body.data()).await.unwrap().unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            bytes.extend_from_slice(&part);
            while let Some(size) = bytes.get(1..5) {
                let end = 5 + u32::from_be_bytes(size.try_into().unwrap()) as usize;
                if bytes.len() < end {
                    break;
                }
                replies.push(WatchResponse::decode(&bytes[5..end]).unwrap());
                bytes.drain(..end);
            }
        }
        assert!(replies[0].created);
        assert_eq!(replies[1].events.len(), 1);
    }
    wait_until(LIMIT, "the watches to be gone", || {
        metric(&server, "chainfire_watchers") == 0.0
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_end_the_rare_calls_and_the_streams_too() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let grant = LeaseGrantRequest { id: 7, ttl: 60 };
    client.call(GRANT, &grant).await;
    let lock = chainfire::wire::v3lockpb::LockRequest {
        name: Bytes::from_static(b"door"),
        lease: 7,
    };
    assert_eq!(client.call(LOCK, &lock).await.code(), 0);
    // Somebody else holds it; a half that never ends; a stream of which replies have come.
    let other = chainfire::wire::v3lockpb::LockRequest { lease: 0, ..lock };
    let waits = client
        .send(LOCK, &[("grpc-timeout", "300m")], frame(&other))
        .await;
    assert_eq!(waits.code(), DEADLINE_EXCEEDED, "{waits:?}");
    let half = client.begin(GRANT, &[("grpc-timeout", "50m")]).await;
    assert_eq!(half.answer().await.code(), DEADLINE_EXCEEDED);
    let mut watch = client.begin(WATCH, &[("grpc-timeout", "300m")]).await;
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::from_static(b"a"),
            ..WatchCreateRequest::default()
        })),
    };
    watch.request.send_data(frame(&create), false).unwrap();
    let mut body = soon(watch.response).await.unwrap().into_body();
    assert!(!read(&mut body).await.is_empty());
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "4");
    // What the server was not allowed to finish is counted as such, and the lock's queue is empty again.
    for (service, method) in [("v3lockpb.Lock", "Lock"), ("etcdserverpb.Watch", "Watch")] {
        let series = format!(
            "grpc_server_handled_total{{grpc_service=\"{service}\",grpc_method=\"{method}\",grpc_code=\"DeadlineExceeded\"}}"
        );
        wait_until(LIMIT, "it is counted", || {
            server
                .get("/metrics")
                .unwrap()
                .body
                .contains(&format!("{series} 1"))
        });
    }
    wait_until(LIMIT, "the other's lease is gone", || {
        metric(&server, "chainfire_leases") as i64 == 1
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_up_calls_are_counted_as_canceled() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let lock = |lease| chainfire::wire::v3lockpb::LockRequest {
        name: Bytes::from_static(b"door"),
        lease,
    };
    assert_eq!(client.call(LOCK, &lock(0)).await.code(), 0);
    let mut waits = client.begin(LOCK, &[]).await;
    waits.request.send_data(frame(&lock(0)), true).unwrap();
    wait_until(LIMIT, "it waits", || {
        metric(&server, "chainfire_leases") as i64 == 2
    });
    waits.request.send_reset(Reason::CANCEL);
    wait_until(LIMIT, "its lease is gone", || {
        metric(&server, "chainfire_leases") as i64 == 1
    });
    let series = "grpc_server_handled_total{grpc_service=\"v3lockpb.Lock\",grpc_method=\"Lock\",grpc_code=\"Canceled\"}";
    wait_until(LIMIT, "it is counted", || {
        server
            .get("/metrics")
            .unwrap()
            .body
            .contains(&format!("{series} 1"))
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_posts_of_the_right_type_are_calls() {
    let server = Chainfire::start_new().unwrap();
    let client = Client::open(server.socket()).await;
    let body = frame(&put("a", "1"));
    for path in [PUT, GRANT, WATCH] {
        for method in ["GET", "PUT", "DELETE", "HEAD"] {
            let answer = client.raw(method, path, "application/grpc", body.clone()).await;
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(answer.headers()["allow"], "POST");
            assert_eq!(answer.headers()["grpc-status"], "13");
        }
        for kind in [
            "application/json",
            "application/grpcx",
            "application/grpc-web",
            "",
        ] {
            let answer = client.raw("POST", path, kind, body.clone()).await;
            assert_eq!(answer.status(), 415, "{kind:?} {path}");
        }
        for kind in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
            let answer = client.raw("POST", path, kind, raw_frame(0, b"")).await;
            assert_eq!(answer.status(), 200, "{kind} {path}");
        }
    }
    assert_eq!(
        client
            .call(RANGE, &get("a"))
            .await
            .message::<RangeResponse>()
            .count,
        0
    );
    // A body that is waited for in vain holds up no other call.
    let _half = client.begin(PUT, &[]).await;
    tokio::time::timeout(Duration::from_secs(30), client.call(RANGE, &get("a")))
        .await
        .unwrap();
}
