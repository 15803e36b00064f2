//! Requests that no honest client sends, and more of them than it would: each has its answer, and the server goes on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use chainfire::wire::etcdserverpb::compare::TargetUnion;
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use chainfire::wire::etcdserverpb::request_op::Request;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use testkit::{Chainfire, Server};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

const LIMIT: Duration = Duration::from_mins(2);
const KIB: usize = 1024;
const TOO_LARGE: &str = "etcdserver: request is too large";
const TOO_MANY_OPERATIONS: &str = "etcdserver: too many operations in txn request";
const NO_KEY: &str = "etcdserver: key is not provided";

async fn connect(server: &Server) -> Channel {
    Channel::from_shared(server.endpoint())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

fn put(key: impl Into<Vec<u8>>, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key: key.into().into(),
        value: value.into(),
        ..Default::default()
    }
}

fn range(key: impl Into<Vec<u8>>) -> RangeRequest {
    RangeRequest {
        key: key.into().into(),
        ..Default::default()
    }
}

fn delete(key: impl Into<Vec<u8>>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into().into(),
        ..Default::default()
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn puts(count: usize, prefix: &str) -> Vec<RequestOp> {
    (0..count)
        .map(|n| operation(Request::RequestPut(put(format!("{prefix}{n}"), vec![]))))
        .collect()
}

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_values_and_messages_have_their_largest_size() {
    let server = Chainfire::start_new().unwrap();
    let mut kv = KvClient::new(connect(&server).await);
    let invalid = Code::InvalidArgument;
    refused(kv.put(put("", vec![])).await, invalid, NO_KEY);
    refused(kv.range(range("")).await, invalid, NO_KEY);
    refused(kv.delete_range(delete("")).await, invalid, NO_KEY);
    refused(
        kv.txn(txn(vec![operation(Request::RequestPut(put("", vec![])))]))
            .await,
        invalid,
        NO_KEY,
    );
    let compare = TxnRequest {
        compare: vec![Compare::default()],
        ..Default::default()
    };
    refused(kv.txn(compare).await, invalid, NO_KEY);

    let longest = vec![b'k'; 64 * KIB];
    let longer = vec![b'k'; 64 * KIB + 1];
    kv.put(put(longest.clone(), vec![])).await.unwrap();
    assert_eq!(
        kv.range(range(longest.clone())).await.unwrap().into_inner().count,
        1
    );
    assert_eq!(
        kv.delete_range(delete(longest))
            .await
            .unwrap()
            .into_inner()
            .deleted,
        1
    );
    refused(kv.put(put(longer.clone(), vec![])).await, invalid, TOO_LARGE);
    refused(kv.range(range(longer.clone())).await, invalid, TOO_LARGE);
    refused(kv.delete_range(delete(longer.clone())).await, invalid, TOO_LARGE);
    refused(
        kv.txn(txn(vec![operation(Request::RequestPut(put(longer, vec![])))]))
            .await,
        invalid,
        TOO_LARGE,
    );

    // 1.5 MiB for key and value together, or for a transaction as it is on the wire.
    let largest = 1536 * KIB;
    kv.put(put("k", vec![b'v'; largest - 1])).await.unwrap();
    refused(kv.put(put("k", vec![b'v'; largest])).await, invalid, TOO_LARGE);
    let halves = ["a", "b"].map(|key| operation(Request::RequestPut(put(key, vec![b'v'; largest / 2]))));
    refused(kv.txn(txn(halves.to_vec())).await, invalid, TOO_LARGE);

    // Beyond that and 512 KiB more a message is not even read.
    let message = kv
        .put(put("k", vec![b'v'; largest + 600 * KIB]))
        .await
        .unwrap_err();
    assert_eq!(message.code(), Code::ResourceExhausted, "{message:?}");
    assert!(message.message().contains("larger than max"), "{message:?}");

    let read = kv.range(range("k")).await.unwrap().into_inner();
    assert_eq!(read.kvs[0].value.len(), largest - 1);
    assert_eq!(read.kvs[0].version, 1, "what was refused left no trace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_counted_and_their_parts_checked() {
    let server = Chainfire::start_new().unwrap();
    let mut kv = KvClient::new(connect(&server).await);
    let invalid = Code::InvalidArgument;
    kv.txn(txn(puts(128, "k"))).await.unwrap();
    refused(kv.txn(txn(puts(129, "k"))).await, invalid, TOO_MANY_OPERATIONS);
    let failure = TxnRequest {
        failure: puts(129, "k"),
        ..Default::default()
    };
    refused(kv.txn(failure).await, invalid, TOO_MANY_OPERATIONS);
    let compare = Compare {
        key: "k".into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let compares = TxnRequest {
        compare: vec![compare; 129],
        ..Default::default()
    };
    refused(kv.txn(compares).await, invalid, TOO_MANY_OPERATIONS);

    // A nested one counts, and takes what is left: 28 beside 100.
    let nested = |count| {
        let mut list = puts(99, "outer");
        list.push(operation(Request::RequestTxn(txn(puts(count, "inner")))));
        txn(list)
    };
    kv.txn(nested(28)).await.unwrap();
    refused(kv.txn(nested(29)).await, invalid, TOO_MANY_OPERATIONS);
    refused(
        kv.txn(txn(vec![RequestOp { request: None }])).await,
        invalid,
        "etcdserver: key not found",
    );
    let twice = [puts(1, "k"), puts(1, "k")].concat();
    refused(
        kv.txn(txn(twice)).await,
        invalid,
        "etcdserver: duplicate key given in txn request",
    );
    assert_eq!(
        kv.range(range("k0")).await.unwrap().into_inner().kvs[0].version,
        1
    );
}

#[tokio::test]
async fn transactions_nest_only_so_deep_that_the_log_can_be_read_again() {
    let mut server = Chainfire::start_new().unwrap();
    let mut keys = KvClient::new(connect(&server).await);
    let nested = |nesting: usize| {
        let key = format!("deep{nesting}");
        (0..nesting).fold(txn(puts(1, &key)), |inner, _| {
            txn(vec![operation(Request::RequestTxn(inner))])
        })
    };
    keys.txn(nested(32)).await.unwrap();
    for nesting in [33, 40, 48, 49] {
        refused(
            keys.txn(nested(nesting)).await,
            Code::InvalidArgument,
            TOO_MANY_OPERATIONS,
        );
    }
    // Deeper than messages are read at all.
    assert_eq!(keys.txn(nested(60)).await.unwrap_err().code(), Code::Internal);

    server.kill9().unwrap();
    server.start().unwrap();
    let mut keys = KvClient::new(connect(&server).await);
    let found = keys.range(range("deep320")).await.unwrap().into_inner();
    assert_eq!((found.count, found.header.unwrap().revision), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_mean_nothing_are_refused_or_taken_as_etcd_takes_them() {
    let server = Chainfire::start_new().unwrap();
    let channel = connect(&server).await;
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel);
    let sort = "etcdserver: invalid sort option";
    for value in [-1, 99, i32::MAX] {
        let order = RangeRequest {
            sort_order: value,
            ..range("k")
        };
        refused(kv.range(order).await, Code::InvalidArgument, sort);
        let target = RangeRequest {
            sort_target: value,
            ..range("k")
        };
        refused(kv.range(target.clone()).await, Code::InvalidArgument, sort);
        let inside = txn(vec![operation(Request::RequestRange(target))]);
        refused(kv.txn(inside).await, Code::InvalidArgument, sort);
        let alarm = AlarmRequest {
            action: value,
            ..Default::default()
        };
        let unknown = format!("etcdserver: unknown alarm action {value}");
        refused(maintenance.alarm(alarm).await, Code::InvalidArgument, &unknown);
        // A comparison of an unknown kind is never true and never breaks anything.
        let compare = Compare {
            result: value,
            target: value,
            key: "k".into(),
            ..Default::default()
        };
        let strange = TxnRequest {
            compare: vec![compare],
            ..txn(puts(1, "strange"))
        };
        if let Err(status) = kv.txn(strange).await {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        }
    }

    kv.txn(txn(puts(5, "k"))).await.unwrap();
    let all = |limit, revision| RangeRequest {
        range_end: "l".into(),
        limit,
        revision,
        ..range("k")
    };
    for limit in [0, -1, i64::MIN, i64::MAX] {
        assert_eq!(
            kv.range(all(limit, 0)).await.unwrap().into_inner().kvs.len(),
            5,
            "limit {limit}"
        );
    }
    assert_eq!(kv.range(all(0, -7)).await.unwrap().into_inner().kvs.len(), 5);
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(kv.range(all(0, i64::MAX)).await, Code::OutOfRange, future);
    let compact = |revision| CompactionRequest {
        revision,
        physical: false,
    };
    refused(kv.compact(compact(i64::MAX)).await, Code::OutOfRange, future);
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(kv.compact(compact(-5)).await, Code::OutOfRange, compacted);

    let grant = |id, ttl| LeaseGrantRequest { id, ttl };
    let too_large = "etcdserver: too large lease TTL";
    refused(
        leases.lease_grant(grant(1, i64::MAX)).await,
        Code::OutOfRange,
        too_large,
    );
    refused(
        leases.lease_grant(grant(1, 9_000_000_001)).await,
        Code::OutOfRange,
        too_large,
    );
    let longest = leases
        .lease_grant(grant(1, 9_000_000_000))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((longest.id, longest.ttl), (1, 9_000_000_000));
    refused(
        leases.lease_grant(grant(1, 60)).await,
        Code::FailedPrecondition,
        "etcdserver: lease already exists",
    );
    // Below the shortest it is the shortest.
    for ttl in [0, -1, i64::MIN] {
        let short = leases.lease_grant(grant(0, ttl)).await.unwrap().into_inner();
        assert!(short.ttl > 0 && short.id != 0, "{short:?}");
    }
    let unknown = "etcdserver: requested lease not found";
    refused(
        leases.lease_revoke(LeaseRevokeRequest { id: 404 }).await,
        Code::NotFound,
        unknown,
    );
    let attached = PutRequest {
        lease: 404,
        ..put("k", vec![])
    };
    refused(kv.put(attached).await, Code::NotFound, unknown);
    let alive = tokio_stream::once(LeaseKeepAliveRequest { id: 404 });
    let mut alive = leases.lease_keep_alive(alive).await.unwrap().into_inner();
    assert_eq!(alive.message().await.unwrap().unwrap().ttl, 0);
}

/// A watch stream under the test's control.
struct Watches {
    requests: mpsc::Sender<WatchRequest>,
    replies: Streaming<WatchResponse>,
}

impl Watches {
    async fn open(server: &Server) -> Watches {
        let (requests, receiver) = mpsc::channel(1000);
        let mut client = WatchClient::new(connect(server).await);
        let replies = client
            .watch(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Watches { requests, replies }
    }

    async fn send(&self, request: Option<RequestUnion>) {
        let request = WatchRequest {
            request_union: request,
        };
        self.requests.send(request).await.unwrap();
    }

    async fn reply(&mut self) -> WatchResponse {
        let reply = tokio::time::timeout(LIMIT, self.replies.message()).await;
        reply
            .expect("a reply in time")
            .unwrap()
            .expect("the stream goes on")
    }

    async fn create(&mut self, create: WatchCreateRequest) -> WatchResponse {
        self.send(Some(RequestUnion::CreateRequest(create))).await;
        self.reply().await
    }
}

fn watch(key: impl Into<Vec<u8>>) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into().into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_watches_are_refused_one_by_one_and_the_others_go_on() {
    let server = Chainfire::builder()
        .config("[limits]\nmax_watchers = 4")
        .start()
        .unwrap();
    let mut kv = KvClient::new(connect(&server).await);
    let mut watches = Watches::open(&server).await;
    let good = watches.create(watch("k")).await;
    assert!(good.created && !good.canceled && good.watch_id == 0, "{good:?}");

    let refusals = [
        (
            WatchCreateRequest {
                start_revision: -1,
                ..watch("k")
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            WatchCreateRequest {
                range_end: "a".into(),
                ..watch("k")
            },
            "mvcc: watcher range is empty",
        ),
        (
            WatchCreateRequest {
                watch_id: 7,
                ..watch("other")
            },
            "",
        ),
        (
            WatchCreateRequest {
                watch_id: 7,
                ..watch("k")
            },
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
    ];
    for (create, reason) in refusals {
        let reply = watches.create(create).await;
        assert!(reply.created, "{reply:?}");
        assert_eq!(
            (reply.canceled, reply.cancel_reason.as_str()),
            (!reason.is_empty(), reason)
        );
        assert_eq!(reply.watch_id, if reason.is_empty() { 7 } else { -1 });
    }
    // No request in a request, and a watch that is not there: nothing is said.
    watches.send(None).await;
    let cancel = |watch_id| Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    watches.send(cancel(99)).await;
    // A filter that does not exist filters nothing.
    let strange = WatchCreateRequest {
        filters: vec![-3, 77],
        ..watch("strange")
    };
    let strange = watches.create(strange).await;
    assert!(strange.created && !strange.canceled, "{strange:?}");
    // One beyond the limit of this server.
    assert!(!watches.create(watch("fourth")).await.canceled);
    let fifth = watches.create(watch("fifth")).await;
    assert!(fifth.canceled, "{fifth:?}");
    assert!(
        fifth.cancel_reason.ends_with("etcdserver: too many requests"),
        "{fifth:?}"
    );

    kv.put(put("strange", vec![b'1'])).await.unwrap();
    assert_eq!(watches.reply().await.watch_id, strange.watch_id);
    kv.put(put("k", vec![b'1'])).await.unwrap();
    let event = watches.reply().await;
    assert_eq!((event.watch_id, event.events.len()), (0, 1));
    watches.send(cancel(7)).await;
    let canceled = watches.reply().await;
    assert!(canceled.canceled && canceled.watch_id == 7, "{canceled:?}");
    assert!(!watches.create(watch("fifth")).await.canceled);
}

/// A number of `/proc/PID/...`.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Clock ticks the process has computed for.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn watchers(server: &Server) -> u64 {
    let metrics = server.get("/metrics").unwrap().body;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("chainfire_watchers "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_idle_watches_cost_a_kibibyte_each_and_writers_nothing() {
    const WATCHES: u64 = 100_000;
    const PUTS: u64 = 2000;
    let server = Chainfire::start_new().unwrap();
    let pid = server.pid().unwrap();
    let mut kv = KvClient::new(connect(&server).await);
    let mut watches = Watches::open(&server).await;
    let mut cost_of_puts = async || {
        let before = cpu_ticks(pid);
        for n in 0..PUTS {
            kv.put(put(format!("unwatched{}", n % 10), vec![b'v'; 100]))
                .await
                .unwrap();
        }
        cpu_ticks(pid) - before
    };
    cost_of_puts().await;
    let alone = cost_of_puts().await;
    let memory = resident_kib(pid);

    let sender = watches.requests.clone();
    let sending = tokio::spawn(async move {
        for n in 0..WATCHES {
            let request = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(watch(format!("watched/{n:06}")))),
            };
            sender.send(request).await.unwrap();
        }
    });
    for _ in 0..WATCHES {
        assert!(watches.reply().await.created);
    }
    sending.await.unwrap();
    assert_eq!(watchers(&server), WATCHES);
    let each = (resident_kib(pid) - memory) as f64 * 1024.0 / WATCHES as f64;
    let beside = cost_of_puts().await;
    println!(
        "{each:.0} bytes for each watch; {PUTS} puts: {alone} ticks alone, {beside} beside {WATCHES} watches"
    );
    assert!(each <= 1024.0, "{each:.0} bytes for each watch");
    // Work for each watch would be millions of steps for each put; this leaves room for a busy machine.
    assert!(
        beside <= alone * 2 + 20,
        "{PUTS} puts took {beside} ticks beside {WATCHES} watches, {alone} alone"
    );

    kv.put(put("watched/054321", vec![b'v'])).await.unwrap();
    let reply = watches.reply().await;
    assert_eq!(reply.events[0].kv.as_ref().unwrap().key, "watched/054321");
    drop(watches);
    testkit::wait_until(LIMIT, "the watches to be gone", || watchers(&server) == 0);
}

fn http(server: &Server, body: &str) -> String {
    let mut stream = TcpStream::connect(server.socket()).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn malformed_json_is_told_where_and_unknown_fields_are_ignored() {
    let server = Chainfire::start_new().unwrap();
    let bad = http(&server, "{\"key\": \"a2V5\",,}");
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    assert!(bad.contains("line 1 column 16"), "{bad}");
    let unknown = http(&server, r#"{"key": "a2V5", "value": "dg==", "colour": "red"}"#);
    assert!(unknown.starts_with("HTTP/1.1 200"), "{unknown}");
    let empty = http(&server, "{}");
    assert!(
        empty.starts_with("HTTP/1.1 400") && empty.contains(NO_KEY),
        "{empty}"
    );
}

#[test]
fn bytes_that_mean_nothing_close_the_connection_and_nothing_else() {
    let server = Chainfire::start_new().unwrap();
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..5000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let tls: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let settings_of_wrong_size = [preface, &[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]].concat();
    let cases: [&[u8]; 6] = [
        &noise,
        tls,
        &[preface, &noise].concat(),
        &settings_of_wrong_size,
        b"GET /health HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    for bytes in cases {
        let mut stream = TcpStream::connect(server.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // The server may have closed before it has taken everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{bytes:?}"),
        }
    }
    let metrics = server.get("/metrics").unwrap().body;
    let counter = metrics
        .lines()
        .find(|line| line.starts_with("chainfire_bad_connections_total "));
    let bad: u64 = counter.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!(bad >= 3, "{bad} bad connections were counted");
    assert!(!server.log().contains("panicked"));
    server.client(&["put", "still", "here"]).unwrap().ok();
}
