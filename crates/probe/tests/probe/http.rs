//! The http check.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use probe::{Http, Kind};

use crate::servers::{self, Answer, Identity, Then, whole};
use crate::{AMPLE, SHORT, assert_down, assert_up, look, probe_of, prober};

fn get(url: &str) -> Http {
    Http::get(url.parse().unwrap())
}

fn matching(url: &str, text: &str) -> Kind {
    Kind::Http(Http {
        body_match: text.to_owned(),
        ..get(url)
    })
}

fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn statuses() {
    let server = servers::http(|head| {
        let status = path(head).trim_start_matches('/');
        whole(&format!("{status} X"), "", "hello")
    })
    .await;
    for (status, expect, up) in [
        (200, 0, true),
        (204, 0, true),
        (299, 0, true),
        (404, 0, false),
        (404, 404, true),
        (200, 204, false),
        (503, 200, false),
        (304, 0, false),
    ] {
        let outcome = look(Kind::Http(Http {
            expect_status: expect,
            ..get(&format!("http://{server}/{status}"))
        }))
        .await;
        let text = format!("status {status}");
        if up {
            assert_up(&outcome, &text);
            assert!(outcome.phases.transfer.is_some());
        } else {
            assert_down(&outcome, &text);
        }
        assert!(outcome.phases.connect.is_some() && outcome.phases.first_byte.is_some());
        assert_eq!((outcome.phases.resolve, outcome.phases.tls), (None, None));
    }
}

#[tokio::test]
async fn the_request_is_ours() {
    let server = servers::http(|head| {
        let mut lines: Vec<&str> = head.trim_end().lines().collect();
        lines[1..].sort_unstable();
        whole("200 OK", "", &lines.join("|"))
    })
    .await;
    let wanted = format!(
        "GET /a%20b?c=d HTTP/1.1|accept: */*|authorization: Basic dXNlcjpwQHNz|connection: close|host: {server}|\
         user-agent: quptime/9.9.9"
    );
    let url = format!("http://user:p%40ss@{server}/a%20b?c=d#part");
    assert_up(&look(matching(&url, &wanted)).await, "status 200");

    let mut http = get(&format!("http://{server}/"));
    http.method = http::Method::POST;
    http.headers.append("x-a", "1".parse().unwrap());
    http.headers.append("x-a", "2".parse().unwrap());
    http.headers.append("host", "other.example".parse().unwrap());
    http.body_match = "POST / HTTP/1.1|accept: */*|connection: close|host: other.example|user-agent: \
                       quptime/9.9.9|x-a: 1|x-a: 2"
        .to_owned();
    assert_up(&look(Kind::Http(http)).await, "status 200");
}

#[tokio::test]
async fn bodies_are_searched_up_to_the_limit() {
    let server = servers::http(|head| match path(head) {
        "/near" => whole("200 OK", "", &format!("{}needle", " ".repeat(1000))),
        "/far" => whole("200 OK", "", &format!("{}needle", " ".repeat(1 << 20))),
        "/edge" => whole("200 OK", "", &format!("{}needle tail", " ".repeat((1 << 20) - 6))),
        "/chunked" => (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnee\r\n3\r\ndle\r\n0\r\n\r\n"
                .to_vec(),
            Then::Close,
        ),
        "/until-the-end" => (b"HTTP/1.0 200 OK\r\n\r\nneedle".to_vec(), Then::Close),
        "/endless" => (b"HTTP/1.1 200 OK\r\n\r\nneedle".repeat(100_000), Then::Drip),
        "/packed" => whole("200 OK", "Content-Encoding: gzip\r\n", "?????"),
        _ => whole("200 OK", "", ""),
    })
    .await;
    for (path, detail) in [
        ("near", "status 200"),
        ("edge", "status 200"),
        ("chunked", "status 200"),
        ("until-the-end", "status 200"),
        ("endless", "status 200"),
    ] {
        let outcome = look(matching(&format!("http://{server}/{path}"), "needle")).await;
        assert_up(&outcome, detail);
    }
    for (path, detail) in [
        ("far", "body match miss"),
        ("empty", "body match miss"),
        ("packed", "body match miss (the body is encoded: gzip)"),
    ] {
        let outcome = look(matching(&format!("http://{server}/{path}"), "needle")).await;
        assert_down(&outcome, detail);
    }
}

#[tokio::test]
async fn redirects_are_followed() {
    let other = servers::http(|head| {
        let leaked = head.contains("authorization") || head.contains("x-secret");
        whole(if leaked { "500 Leak" } else { "200 OK" }, "", path(head))
    })
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = servers::http(move |head| {
        count.fetch_add(1, Ordering::SeqCst);
        let to = |to: &str| whole("302 Found", &format!("Location: {to}\r\n"), "moved");
        match path(head) {
            "/dir/relative" => to("../end?x"),
            "/host" => to(&format!("http://localhost:{}/there", other.port())),
            "/loop" => to("/loop2"),
            "/loop2" => to("/loop#again"),
            "/bad" => to("http://[/"),
            "/ftp" => to("ftp://user:pw@example.com/"),
            "/lost" => to("/missing"),
            "/nowhere" => whole("302 Found", "", ""),
            "/missing" => whole("404 Not Found", "", ""),
            "/end?x" => whole("200 OK", "", "the end"),
            long => to(&format!(
                "/{}",
                long.trim_start_matches('/').parse::<u32>().unwrap() + 1
            )),
        }
    })
    .await;
    let at = |path: &str| format!("http://{server}/{path}");
    assert_up(
        &look(matching(&at("dir/relative"), "the end")).await,
        "status 200",
    );
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let mut http = get(&format!("http://user:pw@{server}/host"));
    http.headers.append("x-secret", "1".parse().unwrap());
    http.body_match = "/there".to_owned();
    assert_up(&look(Kind::Http(http)).await, "status 200");

    let end = |path: &str, hops: &str| format!(" (at {} after {hops})", at(path));
    for (path, detail) in [
        ("loop", format!("redirect loop at {}", at("loop"))),
        ("bad", "status 302 to a bad address \"http://[/\"".to_owned()),
        (
            "ftp",
            "status 302 to an address that is not http: ftp://example.com/".to_owned(),
        ),
        ("lost", format!("status 404{}", end("missing", "1 redirect"))),
        ("nowhere", "status 302".to_owned()),
    ] {
        assert_down(&look(Kind::Http(get(&at(path)))).await, &detail);
    }

    asked.store(0, Ordering::SeqCst);
    assert_down(&look(Kind::Http(get(&at("1")))).await, "more than 10 redirects");
    assert_eq!(asked.load(Ordering::SeqCst), 11);

    let wanted = Http {
        expect_status: 302,
        ..get(&at("lost"))
    };
    assert_up(&look(Kind::Http(wanted)).await, "status 302");
}

#[tokio::test]
async fn a_redirect_to_https_is_verified() {
    let good = servers::https(&Identity::valid(), |_| whole("200 OK", "", "safe")).await;
    let bad = servers::https(&Identity::self_signed((2026, 1, 1), (2027, 1, 1)), |_| {
        whole("200 OK", "", "")
    })
    .await;
    let server = servers::http(move |head| {
        let port = if path(head) == "/good" { good } else { bad };
        whole("301 Moved", &format!("Location: https://{port}/\r\n"), "")
    })
    .await;
    let outcome = look(matching(&format!("http://{server}/good"), "safe")).await;
    assert_up(&outcome, "status 200");
    assert!(outcome.phases.tls.is_some() && outcome.certificate_expiry.is_some());
    let outcome = look(Kind::Http(get(&format!("http://{server}/bad")))).await;
    assert_down(
        &outcome,
        &format!("tls: self-signed certificate (at https://{bad}/ after 1 redirect)"),
    );
}

/// A server that begins with these bytes.
async fn beginning(bytes: &'static str, then: Then) -> String {
    let address = servers::http(move |_| -> Answer { (bytes.as_bytes().to_vec(), then) }).await;
    format!("http://{address}/")
}

#[tokio::test]
async fn slow_phases_are_named() {
    let mut urls = vec![
        (format!("http://{}/", servers::silent().await), "first byte"),
        (format!("https://{}/", servers::silent().await), "tls"),
    ];
    for (bytes, then, phase) in [
        ("", Then::Hang, "first byte"),
        ("HTTP/1.1 200 OK\r\nX-Half: ", Then::Hang, "first byte"),
        ("HTTP/1.1 200 OK\r\nX-Slow: ", Then::Drip, "first byte"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            Then::Hang,
            "transfer",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", Then::Drip, "transfer"),
    ] {
        urls.push((beginning(bytes, then).await, phase));
    }
    // All at once: each takes its full timeout.
    let prober = prober();
    let probes: Vec<_> = urls
        .iter()
        .map(|(url, _)| probe_of(Kind::Http(get(url)), SHORT, &[]))
        .collect();
    let outcomes = futures::future::join_all(probes.iter().map(|probe| prober.probe(probe))).await;
    for ((_, phase), outcome) in urls.iter().zip(outcomes) {
        assert_down(&outcome, &format!("timeout after 2s in {phase}"));
        assert!(outcome.latency >= SHORT);
    }
}

#[tokio::test]
async fn broken_answers_are_named() {
    let early = "connection closed before the answer was complete";
    for (bytes, detail) in [
        ("", format!("first byte: {early}")),
        ("HTTP/1.1 200 OK\r\nX-Half: ", format!("first byte: {early}")),
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "first byte: not an HTTP answer".to_owned(),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            format!("transfer: {early}"),
        ),
    ] {
        let outcome = look(Kind::Http(get(&beginning(bytes, Then::Close).await))).await;
        assert_down(&outcome, &detail);
    }
    let server = servers::http(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        bytes.resize(100_000, b'x');
        (bytes, Then::Hang)
    })
    .await;
    let outcome = look(Kind::Http(get(&format!("http://{server}/")))).await;
    assert_down(&outcome, "first byte: head of the answer above 32 KiB");
    let plain = servers::http(|_| whole("200 OK", "", "")).await;
    let closed = servers::closed().await;
    let outcome = look(Kind::Http(get(&format!("http://{closed}/")))).await;
    assert_down(&outcome, "connect: connection refused");
    // A server of plain HTTP does not know what to do with a handshake: it waits for the end of a request.
    let outcome = prober()
        .probe(&probe_of(
            Kind::Http(get(&format!("https://{plain}/"))),
            SHORT,
            &[],
        ))
        .await;
    assert_down(&outcome, "timeout after 2s in tls");
}

#[tokio::test]
async fn an_ipv6_literal_is_an_address() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probe = probe_of(Kind::Http(get(&format!("http://{address}/"))), AMPLE, &[]);
    let prober = prober();
    let server = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    };
    let (outcome, head) = tokio::join!(prober.probe(&probe), server);
    assert_up(&outcome, "status 200");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
}

#[tokio::test]
async fn phases_add_up_to_no_more_than_the_latency() {
    let server = servers::https(&Identity::valid(), |_| whole("200 OK", "", "x")).await;
    let outcome = look(Kind::Http(get(&format!("https://localhost:{}/", server.port())))).await;
    assert_up(&outcome, "status 200");
    let phases = outcome.phases;
    let all = [
        phases.resolve,
        phases.connect,
        phases.tls,
        phases.first_byte,
        phases.transfer,
    ];
    assert!(all.iter().all(Option::is_some));
    assert!(all.into_iter().flatten().sum::<Duration>() <= outcome.latency);
}
