//! The plain pages and the port itself: health, version, metrics; two protocols on one port; what strangers send.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod http1;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::{PutRequest, RangeRequest};
use chainfire::wire::health::HealthCheckRequest;
use chainfire::wire::health::health_client::HealthClient;
use http1::{Connection, get, post, request};
use serde_json::json;
use testkit::{Chainfire, Etcd, require, wait_until};
use tonic::Code;
use tonic::transport::Channel;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn health_follows_alarms() {
    let (ours, theirs) = (Chainfire::start_new().unwrap(), Etcd::start().unwrap());
    let health = |query: &str| get(ours.socket(), &format!("/health{query}"));
    for query in [
        "",
        "?serializable=true",
        "?serializable=false",
        "?exclude=NOSPACE",
    ] {
        let answer = health(query);
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"health": "true", "reason": ""}))
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(get(theirs.socket(), "/health").json()["health"], "true");

    let alarm = r#"{"action":"ACTIVATE","alarm":"NOSPACE"}"#;
    assert_eq!(post(ours.socket(), "/v3/maintenance/alarm", alarm).status, 200);
    assert_eq!(post(theirs.socket(), "/v3/maintenance/alarm", alarm).status, 200);
    let (found, wanted) = (health(""), get(theirs.socket(), "/health"));
    assert_eq!((found.status, wanted.status), (503, 503));
    assert_eq!(
        found.json(),
        json!({"health": "false", "reason": "ALARM NOSPACE"})
    );
    assert_eq!(wanted.json()["health"], "false");
    assert_eq!(health("?serializable=true").status, 503);
    assert_eq!(health("?exclude=NOSPACE").status, 200);
    assert_eq!(health("?exclude=CORRUPT").status, 503);
    assert_eq!(
        health("?exclude=CORRUPT&exclude=NOSPACE&serializable=true").status,
        200
    );
    // It cannot take more data, but it is alive and ready to serve reads.
    assert_eq!(get(ours.socket(), "/livez").status, 200);
    assert_eq!(get(ours.socket(), "/readyz").status, 200);

    let disarm = r#"{"action":"DEACTIVATE","alarm":"NOSPACE"}"#;
    assert_eq!(post(ours.socket(), "/v3/maintenance/alarm", disarm).status, 200);
    assert_eq!(health("").status, 200);
    let corrupt = r#"{"action":"ACTIVATE","alarm":"CORRUPT"}"#;
    assert_eq!(post(ours.socket(), "/v3/maintenance/alarm", corrupt).status, 200);
    assert_eq!(health("").json()["reason"], "ALARM CORRUPT");
    let ready = get(ours.socket(), "/readyz?verbose");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("data_corruption"), "{ready:?}");
    assert_eq!(get(ours.socket(), "/readyz?exclude=data_corruption").status, 200);
}

#[test]
fn probes_say_ok_and_more_when_asked() {
    let ours = Chainfire::start_new().unwrap();
    for path in ["/livez", "/healthz", "/readyz"] {
        let answer = get(ours.socket(), path);
        assert_eq!((answer.status, answer.body.trim_end()), (200, "ok"), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let head = {
            let mut connection = Connection::open(ours.socket());
            connection.send("HEAD", path, &["Connection: close"], "");
            String::from_utf8(connection.rest()).unwrap()
        };
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
    let verbose = get(ours.socket(), "/readyz?verbose");
    for check in [
        "data_corruption",
        "serializable_read",
        "linearizable_read",
        "membership",
        "serving",
    ] {
        let line = verbose.body.lines().find(|line| line.contains(check));
        assert!(
            line.is_some_and(|line| line.contains("ok")),
            "{check}: {verbose:?}"
        );
    }
}

#[test]
fn other_pages() {
    let (ours, theirs) = (Chainfire::start_new().unwrap(), Etcd::start().unwrap());
    let answer = get(ours.socket(), "/version");
    let wanted = get(theirs.socket(), "/version");
    assert_eq!(
        answer.json(),
        json!({"etcdserver": "3.5.21", "etcdcluster": "3.5.0", "chainfire": env!("CARGO_PKG_VERSION")})
    );
    for field in wanted.json().as_object().unwrap().keys() {
        assert!(answer.json()[field].is_string(), "{field}");
    }
    assert_eq!(answer.header("content-type"), wanted.header("content-type"));

    for path in ["/v2", "/v2/", "/v2/keys", "/v2/members"] {
        let answer = get(ours.socket(), path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("v2 API is not served"), "{answer:?}");
    }
    for path in ["/", "/nothing", "/healthy", "//", "/%00", "/version/"] {
        let answer = get(ours.socket(), path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
    for path in ["/health", "/metrics", "/version", "/livez"] {
        let answer = request(ours.socket(), "POST", path, &[], "{}");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, HEAD")),
            "{path}"
        );
    }
}

#[test]
fn compat_settings_are_what_version_says() {
    let ours = Chainfire::builder()
        .config("[compat]\netcd_server_version = \"3.6.1\"\netcd_cluster_version = \"3.6.0\"")
        .start()
        .unwrap();
    let version = get(ours.socket(), "/version").json();
    assert_eq!(
        (&version["etcdserver"], &version["etcdcluster"]),
        (&json!("3.6.1"), &json!("3.6.0"))
    );
}

/// Names that runbooks, alerts and dashboards use.
const METRICS: &[&str] = &[
    "chainfire_apply_duration_seconds_bucket",
    "chainfire_bad_connections_total",
    "chainfire_build_info",
    "chainfire_db_in_use_bytes",
    "chainfire_db_size_bytes",
    "chainfire_has_leader",
    "chainfire_leader_changes_total",
    "chainfire_leases",
    "chainfire_proposals_committed",
    "chainfire_proposals_failed_total",
    "chainfire_proposals_pending",
    "chainfire_quota_bytes",
    "chainfire_raft_index",
    "chainfire_raft_term",
    "chainfire_rocksdb_stall_seconds_total",
    "chainfire_slow_watchers",
    "chainfire_wal_fsync_duration_seconds_bucket",
    "chainfire_watchers",
    "chainfire_write_duration_seconds_bucket",
    "chainfire_write_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_quota_backend_bytes",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_bucket",
    "grpc_server_started_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

fn series<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    page.lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
        .collect()
}

/// The value of the only series of a metric.
#[track_caller]
fn value(page: &str, name: &str) -> f64 {
    match &series(page, name)[..] {
        [line] => line.rsplit(' ').next().unwrap().parse().unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn metrics_have_the_names_that_dashboards_use() {
    let ours = Chainfire::start_new().unwrap();
    for n in 0..20 {
        ours.etcdctl(&["put", "a", &n.to_string()]).unwrap().ok();
    }
    ours.etcdctl(&["lease", "grant", "600"]).unwrap().ok();
    let answer = get(ours.socket(), "/metrics");
    let page = &answer.body;
    for name in METRICS {
        assert!(!series(page, name).is_empty(), "{name} is missing");
    }
    assert_eq!(
        series(page, "chainfire_raft_index").len(),
        1,
        "one role at a time"
    );
    assert!(value(page, "chainfire_raft_index{role=\"leader\"}") >= 21.0);
    assert!(value(page, "chainfire_write_duration_seconds_count") >= 20.0);
    for (ours, etcd) in [
        ("chainfire_has_leader", "etcd_server_has_leader"),
        ("chainfire_quota_bytes", "etcd_server_quota_backend_bytes"),
        (
            "chainfire_db_in_use_bytes",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
        ),
        (
            "chainfire_proposals_committed",
            "etcd_server_proposals_committed_total",
        ),
    ] {
        assert!(
            (value(page, ours) - value(page, etcd)).abs() < 0.5,
            "{ours} and {etcd}"
        );
        assert!(value(page, ours) > 0.0, "{ours}");
    }
    assert!((value(page, "chainfire_leases") - 1.0).abs() < 0.5);
    let puts = page
        .lines()
        .find(|line| {
            line.starts_with("grpc_server_handled_total{")
                && line.contains("\"Put\"")
                && line.contains("\"OK\"")
        })
        .expect("puts are counted");
    assert!(puts.ends_with(" 20"), "{puts}");

    // A watch is counted while it is there.
    let mut watch = Connection::open(ours.socket());
    watch.send("POST", "/v3/watch", &[], r#"{"create_request":{"key":"YQ=="}}"#);
    assert_eq!(watch.head().0, 200);
    watch.json_line();
    let watchers = || value(&get(ours.socket(), "/metrics").body, "chainfire_watchers");
    wait_until(LIMIT, "the watch to be counted", || {
        (watchers() - 1.0).abs() < 0.5
    });
    drop(watch);
    wait_until(LIMIT, "the watch to be gone", || watchers() < 0.5);
}

#[test]
fn promtool_accepts_the_metrics() {
    let ours = Chainfire::start_new().unwrap();
    ours.etcdctl(&["put", "a", "1"]).unwrap().ok();
    let answer = get(ours.socket(), "/metrics");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4"),
        "{:?}",
        answer.headers
    );
    let mut promtool = Command::new(require("promtool").unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(answer.body.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
    // It parses everything; its remarks on style are answered where the names are ours to choose.
    assert!(!said.contains("error while linting"), "{said}");
    let remarks: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("etcd_") && !line.starts_with("grpc_"))
        .collect();
    assert!(remarks.is_empty(), "{said}");

    let open = request(
        ours.socket(),
        "GET",
        "/metrics",
        &["Accept: application/openmetrics-text"],
        "",
    );
    assert!(open.body.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_http1_share_the_port() {
    let ours = Chainfire::start_new().unwrap();
    let channel = Channel::from_shared(ours.endpoint())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut kv = KvClient::new(channel.clone());
    let put = |value: Vec<u8>| PutRequest {
        key: b"a".to_vec().into(),
        value: value.into(),
        ..Default::default()
    };
    kv.put(put(b"1".to_vec())).await.unwrap();
    assert_eq!(
        post(ours.socket(), "/v3/kv/range", r#"{"key":"YQ=="}"#).json()["count"],
        "1"
    );

    // Too large for a message, too large for a request, and neither.
    let status = kv.put(put(vec![0; 2_200_000])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let status = kv.put(put(vec![0; 1_700_000])).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    kv.put(put(vec![0; 1_500_000])).await.unwrap();
    let reply = kv
        .range(RangeRequest {
            key: b"a".to_vec().into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(reply.kvs[0].value.len(), 1_500_000);

    let mut health = HealthClient::new(channel.clone());
    for service in ["", "etcdserverpb.KV"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    }
    let unknown = HealthCheckRequest {
        service: "nobody".into(),
    };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_watchers_are_told_that_the_server_drains() {
    let mut ours = Chainfire::start_new().unwrap();
    let channel = Channel::from_shared(ours.endpoint())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut replies = HealthClient::new(channel)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(replies.message().await.unwrap().unwrap().status, 1);
    let draining = tokio::spawn(async move { replies.message().await.unwrap().unwrap().status });
    tokio::task::spawn_blocking(move || assert!(ours.sigterm().unwrap().success()))
        .await
        .unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, draining).await.unwrap().unwrap(), 2);
}

#[test]
fn strangers_are_sent_away_and_counted() {
    let ours = Chainfire::start_new().unwrap();
    let count = || {
        value(
            &get(ours.socket(), "/metrics").body,
            "chainfire_bad_connections_total",
        )
    };
    assert!(count() < 0.5);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let strangers: Vec<Vec<u8>> = vec![
        noise.clone(),
        // A TLS client.
        [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            &noise[..512],
        ]
        .concat(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        [&preface[..], &noise].concat(),
        // A frame that is larger than any may be.
        [&preface[..], b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", &noise].concat(),
        // A head without end.
        [
            &b"GET / HTTP/1.1\r\n"[..],
            &b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(20_000),
        ]
        .concat(),
    ];
    for (n, bytes) in strangers.iter().enumerate() {
        let mut connection = Connection::open(ours.socket());
        // The server may close before it has taken everything.
        connection.try_write(bytes);
        connection.rest();
        let seen = (n + 1) as f64;
        wait_until(LIMIT, "the stranger to be counted", || count() > seen - 0.5);
        assert!(count() < seen + 0.5, "stranger {n} was counted twice");
    }
    // Who comes and goes without a word, or goes in the middle, is none.
    drop(Connection::open(ours.socket()));
    Connection::open(ours.socket()).end();
    get(ours.socket(), "/version");
    assert!(count() < strangers.len() as f64 + 0.5);
    assert!(!ours.log().contains("panicked"));
    assert_eq!(ours.etcdctl(&["put", "a", "1"]).unwrap().ok(), "OK\n");
}

#[test]
fn who_is_slow_holds_up_nobody() {
    let ours = Chainfire::start_new().unwrap();
    let slow: Vec<Connection> = (0..200)
        .map(|n| {
            let mut connection = Connection::open(ours.socket());
            let heads = [
                "",
                "P",
                "PRI * HTTP/2.0\r\n",
                "GET /health HTT",
                "POST /v3/kv/put HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
            ];
            connection.write(heads[n % heads.len()].as_bytes());
            connection
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(ours.socket(), "/health").status, 200);
        assert_eq!(post(ours.socket(), "/v3/kv/put", r#"{"key":"YQ=="}"#).status, 200);
    }
    // And one of them can still finish.
    let mut late = slow.into_iter().nth(3).unwrap();
    late.write(b"P/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(late.answer().status, 200);
}

/// Open sockets of the server, the one it listens on among them.
fn sockets(server: &Chainfire) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid().unwrap())).unwrap();
    files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn connections_beyond_what_the_file_limit_leaves_wait_their_turn() {
    // A quarter of the limit, because the database's files would take all of it.
    const FILES: usize = 400;
    const CONNECTIONS: usize = FILES / 4;
    let mut server = Chainfire::builder().build().unwrap();
    let program = testkit::mainstay_binary().unwrap().display().to_string();
    let config = server.config_file().display().to_string();
    server.set_command(
        "prlimit".into(),
        [
            &format!("--nofile={FILES}:{FILES}"),
            &program,
            "chainfire",
            "--config",
            &config,
        ],
    );
    server.start().unwrap();
    let log = server.log();
    assert!(log.contains("Few open files are left for connections"), "{log}");
    wait_until(LIMIT, "the probes' connections to be closed", || {
        get(server.socket(), "/livez").status == 200
    });
    let idle = sockets(&server);
    let mut open: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection::open(server.socket()))
        .collect();
    for connection in &mut open {
        connection.send("GET", "/livez", &[], "");
        assert_eq!(connection.answer().status, 200);
    }
    let full = sockets(&server);
    assert!(
        full >= CONNECTIONS && full <= idle + CONNECTIONS,
        "{idle} before, {full} now"
    );
    // One more is not taken, while the others are served.
    let mut waiting = Connection::open(server.socket());
    waiting.send("GET", "/livez", &[], "");
    for connection in &mut open {
        connection.send("GET", "/livez", &[], "");
        assert_eq!(connection.answer().status, 200);
    }
    assert_eq!(sockets(&server), full);
    drop(open.pop());
    assert_eq!(waiting.answer().status, 200);
}
