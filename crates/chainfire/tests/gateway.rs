//! The JSON gateway over HTTP/1.1, beside the one of Debian's etcd where that has the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod http1;

use std::net::SocketAddr;
use std::process::Command;

use http1::{Answer, Connection, get, post, request};
use serde_json::{Value, json};
use testkit::{Chainfire, Etcd, Output, require};

/// Every path below `/v3` and a body that is answered with 200 on one node, in an order in which each can work.
const CALLS: &[(&str, &str)] = &[
    ("kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
    ("kv/range", r#"{"key":"YQ=="}"#),
    ("kv/deleterange", r#"{"key":"YQ=="}"#),
    ("kv/txn", "{}"),
    ("kv/compaction", r#"{"revision":"1"}"#),
    ("lease/grant", r#"{"ID":"7","TTL":60}"#),
    ("lease/keepalive", r#"{"ID":"7"}"#),
    ("lease/timetolive", r#"{"ID":"7"}"#),
    ("kv/lease/timetolive", r#"{"ID":"7"}"#),
    ("lease/leases", "{}"),
    ("kv/lease/leases", "{}"),
    ("lease/revoke", r#"{"ID":"7"}"#),
    ("lease/grant", r#"{"ID":"8","TTL":60}"#),
    ("kv/lease/revoke", r#"{"ID":"8"}"#),
    ("cluster/member/list", "{}"),
    ("maintenance/alarm", "{}"),
    ("maintenance/status", "{}"),
    ("maintenance/defragment", "{}"),
    ("maintenance/hash", "{}"),
    ("maintenance/snapshot", "{}"),
    ("auth/user/add", r#"{"name":"ann","password":"x"}"#),
    ("auth/user/get", r#"{"name":"ann"}"#),
    ("auth/user/list", "{}"),
    ("auth/user/changepw", r#"{"name":"ann","password":"y"}"#),
    ("auth/role/add", r#"{"name":"app"}"#),
    ("auth/role/get", r#"{"role":"app"}"#),
    ("auth/role/list", "{}"),
    (
        "auth/role/grant",
        r#"{"name":"app","perm":{"permType":"READ","key":"YQ=="}}"#,
    ),
    ("auth/role/revoke", r#"{"role":"app","key":"YQ=="}"#),
    ("auth/user/grant", r#"{"user":"ann","role":"app"}"#),
    ("auth/user/revoke", r#"{"name":"ann","role":"app"}"#),
    ("auth/user/delete", r#"{"name":"ann"}"#),
    ("auth/role/delete", r#"{"role":"app"}"#),
    ("auth/disable", "{}"),
    ("lease/grant", r#"{"ID":"9","TTL":60}"#),
    ("lock/lock", r#"{"name":"bG9jaw==","lease":"9"}"#),
    ("lock/unlock", r#"{"key":"bG9jay85"}"#),
    (
        "election/campaign",
        r#"{"name":"Ym9zcw==","lease":"9","value":"MQ=="}"#,
    ),
    ("election/leader", r#"{"name":"Ym9zcw=="}"#),
];

/// Paths that answer, but with an error on one node or without more set-up: the error's gRPC code.
const REFUSALS: &[(&str, &str, i64)] = &[
    ("kv/put", "{}", 3),
    ("kv/compaction", r#"{"revision":"1000"}"#, 11),
    ("lease/revoke", r#"{"ID":"4711"}"#, 5),
    ("lease/grant", r#"{"ID":"9","TTL":60}"#, 9),
    ("cluster/member/remove", r#"{"ID":"4711"}"#, 5),
    ("cluster/member/promote", r#"{"ID":"4711"}"#, 5),
    ("cluster/member/add", r#"{"peerURLs":["nonsense"]}"#, 3),
    (
        "cluster/member/update",
        r#"{"ID":"4711","peerURLs":["http://127.0.0.1:1"]}"#,
        5,
    ),
    ("maintenance/transfer-leadership", r#"{"targetID":"4711"}"#, 9),
    ("auth/authenticate", r#"{"name":"a","password":"b"}"#, 9),
    ("auth/enable", "{}", 9),
    ("election/proclaim", r#"{"value":"MQ=="}"#, 2),
    ("election/resign", "{}", 2),
];

/// What only newer versions of etcd have.
const NEWER: &[(&str, &str, u16)] = &[
    ("auth/status", "{}", 200),
    ("maintenance/hashkv", "{}", 200),
    ("maintenance/downgrade", "{}", 200),
];

/// Replaces what differs from server to server: ids, terms, sizes, hashes, versions, and the content of snapshots.
fn masked(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "cluster_id" | "member_id" | "raft_term" | "leader" | "dbSize" | "dbSizeInUse"
                    | "raftIndex" | "raftTerm" | "raftAppliedIndex" | "version" | "hash" | "blob"
                    | "remaining_bytes" | "peerURLs" | "clientURLs" | "dbSizeQuota" => {
                        // A key's version is counted, not given.
                        if name != "version" || value.as_str().is_none_or(|text| text.parse::<i64>().is_err())
                        {
                            *value = json!("*");
                        }
                    }
                    // A server's own name and number.
                    "ID" if value.as_str().is_some_and(|id| id.len() > 4) => *value = json!("*"),
                    _ => masked(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(masked),
        _ => {}
    }
}

/// The lines of an answer, masked.
fn lines(answer: &Answer) -> Vec<Value> {
    let mut lines: Vec<Value> = answer
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
        .collect();
    lines.iter_mut().for_each(masked);
    lines
}

#[test]
fn every_path_answers_as_etcd_does() {
    let (ours, theirs) = (Chainfire::start_new().unwrap(), Etcd::start().unwrap());
    for (path, body) in CALLS {
        let path = format!("/v3/{path}");
        let (found, wanted) = (
            post(ours.socket(), &path, body),
            post(theirs.socket(), &path, body),
        );
        assert_eq!(found.status, 200, "{path}: {found:?}");
        assert_eq!(wanted.status, 200, "{path}: {wanted:?}");
        assert_eq!(
            found.header("content-type"),
            wanted.header("content-type"),
            "{path}"
        );
        if path.ends_with("snapshot") {
            assert!(
                lines(&found)
                    .iter()
                    .all(|line| line["result"]["blob"].is_string())
            );
        } else if ["status", "member/list"].iter().any(|name| path.ends_with(name)) {
            // Fields of newer versions, a name of our own.
            assert!(found.json()["header"]["member_id"].is_string(), "{found:?}");
        } else {
            let (mut found, wanted) = (lines(&found), lines(&wanted));
            // etcd leaves the header out of some replies of Maintenance.
            if wanted[0].get("header").is_none() && wanted[0].get("result").is_none() {
                assert!(
                    found[0].as_object_mut().unwrap().remove("header").is_some(),
                    "{path}"
                );
            }
            assert_eq!(found, wanted, "{path}");
        }
    }
    for (path, body, code) in REFUSALS {
        let path = format!("/v3/{path}");
        let found = post(ours.socket(), &path, body);
        assert_eq!(found.json()["code"], *code, "{path}: {found:?}");
        let wanted = post(theirs.socket(), &path, body);
        assert_eq!(found.json(), wanted.json(), "{path}");
        // This version of etcd says 412 where later ones say 400.
        let status = if wanted.status == 412 { 400 } else { wanted.status };
        assert_eq!(found.status, status, "{path}");
    }
    for (path, body, status) in NEWER {
        let answer = post(ours.socket(), &format!("/v3/{path}"), body);
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
    }
}

#[test]
fn streams_of_the_server_alone_start_at_once() {
    let ours = Chainfire::start_new().unwrap();
    let granted = post(ours.socket(), "/v3/lease/grant", r#"{"TTL":60}"#).json();
    let campaign = json!({"name": "Ym9zcw==", "value": "MQ==", "lease": granted["ID"]}).to_string();
    let leader = post(ours.socket(), "/v3/election/campaign", &campaign).json()["leader"].clone();
    let mut observer = Connection::open(ours.socket());
    observer.send("POST", "/v3/election/observe", &[], r#"{"name":"Ym9zcw=="}"#);
    assert_eq!(observer.head().0, 200);
    assert_eq!(observer.json_line()["result"]["kv"]["value"], "MQ==");
    let proclaim = json!({"leader": leader, "value": "Mg=="}).to_string();
    assert_eq!(
        post(ours.socket(), "/v3/election/proclaim", &proclaim).status,
        200
    );
    assert_eq!(observer.json_line()["result"]["kv"]["value"], "Mg==");
    let resign = json!({ "leader": leader }).to_string();
    assert_eq!(post(ours.socket(), "/v3/election/resign", &resign).status, 200);
}

#[test]
fn all_spellings_of_a_request_mean_the_same() {
    let (ours, theirs) = (Chainfire::start_new().unwrap(), Etcd::start().unwrap());
    for server in [ours.socket(), theirs.socket()] {
        for (key, value) in [("YQ==", "MQ=="), ("Yg==", "AP8="), ("Yw==", "")] {
            let body = json!({"key": key, "value": value}).to_string();
            assert_eq!(post(server, "/v3/kv/put", &body).status, 200);
        }
        let expected = json!({
            "kvs": [
                {"key": "Yw==", "create_revision": "4", "mod_revision": "4", "version": "1"},
                {"key": "Yg==", "create_revision": "3", "mod_revision": "3", "version": "1", "value": "AP8="},
            ],
            "more": true,
            "count": "3",
        });
        for body in [
            r#"{"key":"YQ==","range_end":"eg==","limit":"2","sort_order":"DESCEND","sort_target":"MOD"}"#,
            r#"{"key":"YQ==","rangeEnd":"eg==","limit":2,"sortOrder":2,"sortTarget":3}"#,
            r#" { "key" : "YQ==", "range_end": "eg==", "limit": 2.0e0, "sort_order": "DESCEND", "sort_target": 3,
                "serializable": false, "revision": null, "from_the_future": {"a": [1, "x", null]} }
            "#,
        ] {
            let answer = post(server, "/v3/kv/range", body);
            if answer.status != 200 && server == theirs.socket() {
                // etcd takes no exponents.
                assert!(body.contains("2.0e0"), "{answer:?}");
                continue;
            }
            let mut reply = answer.json();
            let header = reply.as_object_mut().unwrap().remove("header").unwrap();
            assert_eq!(header["revision"], "4", "{header}");
            assert_eq!(reply, expected, "{body}");
        }
        // Nothing found: neither `kvs` nor `count` nor `more`.
        let reply = post(server, "/v3/kv/range", r#"{"key":"eA=="}"#).json();
        assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), ["header"]);
        // Nothing at all is a request without fields.
        assert_eq!(post(server, "/v3/lease/leases", "").status, 200);
    }
}

#[test]
fn older_prefix_is_an_alias() {
    let ours = Chainfire::start_new().unwrap();
    assert_eq!(
        post(ours.socket(), "/v3beta/kv/put", r#"{"key":"YQ=="}"#).status,
        200
    );
    assert_eq!(
        post(ours.socket(), "/v3/kv/range", r#"{"key":"YQ=="}"#).json()["count"],
        "1"
    );
}

#[test]
fn malformed_bodies_are_refused_with_the_place() {
    let (ours, theirs) = (Chainfire::start_new().unwrap(), Etcd::start().unwrap());
    for (body, place) in [
        (r#"{"key": }"#, "line 1 column 9"),
        ("{\n\"key\": \"YQ==\",\n!}", "line 3 column 1"),
        (r#"{"key": "YQ=="#, "line 1 column 13"),
        (r#"{"key": 5}"#, "line 1 column"),
        (r#"{"key": "?"}"#, "line 1 column"),
        (r#"{"key": "YQ==", "lease": "x"}"#, "line 1 column"),
        (r#"{"key": "YQ==", "prev_kv": "yes"}"#, "line 1 column"),
        ("[]", "line 1 column"),
        ("\u{0}\u{1}", "line 1 column 1"),
    ] {
        let answer = post(ours.socket(), "/v3/kv/put", body);
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
        let reply = answer.json();
        assert_eq!(reply["code"], 3, "{reply}");
        assert_eq!(reply["error"], reply["message"]);
        let text = reply["error"].as_str().unwrap();
        assert!(
            text.starts_with("invalid JSON: ") && text.contains(place),
            "{body:?}: {text}"
        );
        assert_eq!(post(theirs.socket(), "/v3/kv/put", body).status, 400, "{body:?}");
    }
    let trailing = post(ours.socket(), "/v3/kv/put", r#"{"key":"YQ=="} x"#);
    assert_eq!(trailing.status, 400, "{trailing:?}");
    // A stream refuses its first message the same way.
    let answer = post(ours.socket(), "/v3/watch", "{\"create_request\": 1}");
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!(3)),
        "{answer:?}"
    );
    // So deep that a parser without a bound would overflow its stack.
    let deep = "{\"success\":[{\"request_txn\":".repeat(20_000);
    assert_eq!(post(ours.socket(), "/v3/kv/txn", &deep).status, 400);
    assert_eq!(
        post(
            ours.socket(),
            "/v3/kv/put",
            &format!("{{\"x\":{}", "[".repeat(100_000))
        )
        .status,
        400
    );
    assert_eq!(get(ours.socket(), "/health").status, 200);
}

#[test]
fn errors_have_the_fields_that_clients_read() {
    let ours = Chainfire::start_new().unwrap();
    let answer = post(ours.socket(), "/v3/kv/put", "{}");
    assert_eq!(answer.status, 400);
    let text = "etcdserver: key is not provided";
    assert_eq!(answer.json(), json!({"error": text, "message": text, "code": 3}));

    let answer = post(ours.socket(), "/v3/kv/nowhere", "{}");
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({"error": "Not Found", "message": "Not Found", "code": 5})
    );
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = request(ours.socket(), method, "/v3/kv/range", &[], "");
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
        assert_eq!(
            answer.json(),
            json!({"error": "Method Not Allowed", "message": "Method Not Allowed", "code": 12})
        );
    }

    let large = json!({"key": "YQ==", "value": "A".repeat(2_400_000)}).to_string();
    let answer = post(ours.socket(), "/v3/kv/put", &large);
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!("etcdserver: request is too large"))
    );
    let huge = json!({"key": "YQ==", "value": "A".repeat(4_000_000)}).to_string();
    let answer = post(ours.socket(), "/v3/kv/put", &huge);
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (429, &json!(8)),
        "{answer:?}"
    );
}

/// Opens a watch of all keys with a request body that has ended.
fn watch(server: SocketAddr) -> Connection {
    let mut stream = Connection::open(server);
    stream.send(
        "POST",
        "/v3/watch",
        &[],
        r#"{"create_request":{"key":"AA==","range_end":"AA=="}}"#,
    );
    let (status, headers) = stream.head();
    assert_eq!(status, 200);
    let header = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .unwrap()
    };
    assert_eq!(header("transfer-encoding").1, "chunked");
    assert_eq!(header("content-type").1, "application/json");
    let created = stream.json_line();
    assert_eq!(created["result"]["created"], true);
    assert!(created["result"].get("events").is_none(), "{created}");
    stream
}

#[test]
fn a_watch_goes_on_after_the_request_has_ended() {
    let (ours, theirs) = (Chainfire::start_new().unwrap(), Etcd::start().unwrap());
    for server in [ours.socket(), theirs.socket()] {
        let mut stream = watch(server);
        // Each event is there before the next is made: lines are not held back.
        for n in 0..3 {
            let put = json!({"key": "YQ==", "value": "MQ=="}).to_string();
            assert_eq!(post(server, "/v3/kv/put", &put).status, 200);
            let line = stream.json_line();
            assert_eq!(
                line["result"]["events"],
                json!([{"kv": {
                    "key": "YQ==", "value": "MQ==", "create_revision": "2",
                    "mod_revision": (n + 2).to_string(), "version": (n + 1).to_string(),
                }}])
            );
        }
        assert_eq!(
            post(server, "/v3/kv/deleterange", r#"{"key":"YQ=="}"#).status,
            200
        );
        assert_eq!(
            stream.json_line()["result"]["events"],
            json!([{"type": "DELETE", "kv": {"key": "YQ==", "mod_revision": "5"}}])
        );
    }
}

#[test]
fn requests_of_a_stream_come_one_by_one() {
    let ours = Chainfire::start_new().unwrap();
    let mut stream = Connection::open(ours.socket());
    stream.begin("/v3/watch");
    // In pieces that respect nothing.
    stream.send_chunk("{\"create_request\":{\"ke");
    stream.send_chunk("y\":\"YQ==\"}}{\"create_request\":{\"key\":\"Yg==\",\"watch_id\":5}}\n{\"cancel");
    assert_eq!(stream.head().0, 200);
    assert_eq!(stream.json_line()["result"]["created"], true);
    assert_eq!(stream.json_line()["result"]["watch_id"], "5");
    stream.send_chunk("_request\":{\"watch_id\":\"5\"}}");
    let line = stream.json_line();
    assert_eq!(
        (&line["result"]["watch_id"], &line["result"]["canceled"]),
        (&json!("5"), &json!(true))
    );
    stream.send_chunk("{\"progress_request\":{}}");
    assert_eq!(stream.json_line()["result"]["watch_id"], "-1");
    // Nonsense later on ends the stream with a line that says why.
    stream.send_chunk("{\"create_request\": nonsense}");
    let line = stream.json_line();
    let error = &line["error"];
    assert_eq!(
        (&error["grpc_code"], &error["http_code"], &error["http_status"]),
        (&json!(3), &json!(400), &json!("Bad Request")),
        "{line}"
    );
    assert!(
        error["message"].as_str().unwrap().starts_with("invalid JSON: "),
        "{line}"
    );
    assert_eq!(stream.chunk(), None);
}

#[test]
fn keepalive_streams_end_with_the_request() {
    let ours = Chainfire::start_new().unwrap();
    let grant = post(ours.socket(), "/v3/lease/grant", r#"{"ID":"7","TTL":"60"}"#).json();
    assert_eq!((&grant["ID"], &grant["TTL"]), (&json!("7"), &json!("60")));
    let answer = post(ours.socket(), "/v3/lease/keepalive", r#"{"ID":"7"}{"ID":"8"}"#);
    let replies = lines(&answer);
    assert_eq!(replies[0]["result"]["TTL"], "60", "{answer:?}");
    // Unknown: a TTL of 0, which is not written.
    assert_eq!(replies[1]["result"]["ID"], "8", "{answer:?}");
    assert!(replies[1]["result"].get("TTL").is_none(), "{answer:?}");
    assert_eq!(replies.len(), 2);

    let mut stream = Connection::open(ours.socket());
    stream.begin("/v3/lease/keepalive");
    stream.send_chunk(r#"{"ID":"7"}"#);
    assert_eq!(stream.head().0, 200);
    for _ in 0..3 {
        assert_eq!(stream.json_line()["result"]["TTL"], "60");
        stream.send_chunk(r#"{"ID":"7"}"#);
    }
    assert_eq!(stream.json_line()["result"]["TTL"], "60");
    stream.send_chunk("");
    assert_eq!(stream.chunk(), None);
    // The connection serves on.
    stream.send("POST", "/v3/kv/put", &[], r#"{"key":"YQ=="}"#);
    assert_eq!(stream.answer().status, 200);
}

#[test]
fn one_connection_serves_many_requests() {
    let ours = Chainfire::start_new().unwrap();
    let mut connection = Connection::open(ours.socket());
    for n in 0..50 {
        connection.send("POST", "/v3/kv/put", &[], r#"{"key":"YQ=="}"#);
        assert_eq!(
            connection.answer().json()["header"]["revision"],
            (n + 2).to_string()
        );
    }
    // Two at once are answered in order, and a mistake closes nothing.
    connection.send("POST", "/v3/kv/put", &[], "{");
    connection.send("GET", "/version", &[], "");
    assert_eq!(connection.answer().status, 400);
    assert_eq!(connection.answer().json()["etcdserver"], "3.5.21");
}

#[test]
fn the_authorization_header_carries_the_token() {
    let ours = Chainfire::start_new().unwrap();
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"secret"}"#),
        ("role/add", r#"{"name":"root"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        assert_eq!(
            post(ours.socket(), &format!("/v3/auth/{path}"), body).status,
            200,
            "{path}"
        );
    }
    let put = |headers: &[&str]| request(ours.socket(), "POST", "/v3/kv/put", headers, r#"{"key":"YQ=="}"#);
    let answer = put(&[]);
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!("etcdserver: user name is empty"))
    );
    let answer = put(&["Authorization: nonsense"]);
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (401, &json!("etcdserver: invalid auth token"))
    );
    let reply = post(
        ours.socket(),
        "/v3/auth/authenticate",
        r#"{"name":"root","password":"secret"}"#,
    )
    .json();
    let token = reply["token"].as_str().unwrap();
    for header in [
        format!("Authorization: {token}"),
        format!("Authorization: Bearer {token}"),
        format!("Grpc-Metadata-Token: {token}"),
    ] {
        assert_eq!(put(&[&header]).status, 200, "{header}");
    }
    let mut stream = Connection::open(ours.socket());
    stream.send(
        "POST",
        "/v3/watch",
        &[&format!("Authorization: {token}")],
        r#"{"create_request":{"key":"YQ=="}}"#,
    );
    assert_eq!(stream.head().0, 200);
    let created = stream.json_line();
    assert_eq!(
        (&created["result"]["created"], created["result"].get("canceled")),
        (&json!(true), None)
    );
}

#[test]
fn curl_and_http2_get_the_same_answers() {
    let ours = Chainfire::start_new().unwrap();
    let curl = |extra: &[&str]| {
        let url = format!("{}/v3/kv/put", ours.endpoint());
        let args = [
            "--silent",
            "--show-error",
            "--data",
            r#"{"key":"YQ=="}"#,
            "--write-out",
            "\n%{http_version}",
        ];
        Output::of(
            Command::new(require("curl").unwrap())
                .args(extra)
                .args(args)
                .arg(url),
        )
        .unwrap()
        .ok()
    };
    for (extra, version) in [(&[][..], "1.1"), (&["--http2-prior-knowledge"], "2")] {
        let output = curl(extra);
        let (body, found) = output.split_once('\n').unwrap();
        assert_eq!(found, version);
        let reply: Value = serde_json::from_str(body).unwrap();
        assert!(reply["header"]["revision"].is_string(), "{reply}");
    }
}
