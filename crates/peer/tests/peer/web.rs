//! Those who come without a certificate or without the protocol: `curl`, `openssl s_client`, and worse.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::NodeId;
use peer::frame::{self, Kind};
use peer::handshake::{Greeting, MAGIC, Purpose};
use peer::{Settings, Version};
use pki::pinned::{Identity, KeyKind, client_config};
use service::logs::{Format, capture};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::{LONG, Net, until};
use crate::pinned::{Keyed, identity};

async fn run(program: &str, arguments: &str, input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    tokio::time::timeout(LONG, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
}

async fn start(net: &Net, change: impl FnOnce(&mut Settings)) -> Keyed {
    Keyed::start_as(net, 1, identity(1, KeyKind::P256), change).await
}

#[tokio::test]
async fn curl_without_a_certificate_is_answered() {
    let net = Net::new();
    let one = start(&net, |_| {}).await;
    for (path, options, wanted) in [
        ("healthz", "", "ok\n200"),
        ("healthz", "--http1.1 --tlsv1.3", "ok\n200"),
        ("healthz", "--no-alpn", "ok\n200"),
        ("metrics", "", "404"),
    ] {
        let url = format!("https://{}/{path}", net.address(1));
        let output = run(
            "curl",
            &format!("-k -sS --max-time 20 {options} -w %{{http_code}} {url}"),
            "",
        )
        .await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{options}");
    }
    assert_eq!(one.transport.counts().bad_connections, 0);
    one.transport.stop().await;
}

#[tokio::test]
async fn openssl_finishes_the_handshake_with_any_certificate_or_none() {
    let net = Net::new();
    // Whoever says nothing after the handshake is not waited for.
    let one = start(&net, |settings| {
        settings.limits.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    identity(9, KeyKind::Rsa3072).save(dir.path()).unwrap();
    let own = format!(
        "-cert {dir}/cert.pem -key {dir}/private.pem",
        dir = dir.path().display()
    );
    for certificate in ["", own.as_str()] {
        let arguments = format!("s_client -connect {} -ign_eof {certificate}", net.address(1));
        let output = run("openssl", &arguments, "").await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("TLSv1.3") && text.contains("node1"), "{text}");
        assert!(
            text.contains("Acceptable client certificate CA names")
                || text.contains("No client certificate CA names sent"),
            "{text}"
        );
    }
    let old = run(
        "openssl",
        &format!("s_client -connect {} -tls1_2", net.address(1)),
        "",
    )
    .await;
    assert!(!old.status.success(), "{old:?}");
    until("what became of them", || {
        let counts = one.transport.counts();
        (counts.abandoned == 2 && counts.tls_failures == 1, counts)
    })
    .await;
    one.transport.stop().await;
}

#[tokio::test]
async fn a_web_client_that_dawdles_is_cut_off_and_keeps_nobody_out() {
    let net = Net::new();
    let one = start(&net, |settings| {
        settings.limits.strangers = 2;
        settings.limits.stranger_lifetime = Duration::from_millis(300);
    })
    .await;
    let mut dawdlers = Vec::new();
    for _ in 0..3 {
        let mut stream = tls(&net).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        dawdlers.push(stream);
    }
    let mut rest = Vec::new();
    for mut stream in dawdlers {
        // An end without a goodbye is an error of TLS.
        let closed = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "it is closed");
    }
    assert!(rest.is_empty());
    one.transport.stop().await;
}

#[tokio::test]
async fn garbage_within_tls_is_closed_and_counted_and_disturbs_nobody() {
    let net = Net::new();
    let (one, two) = (start(&net, |_| {}).await, Keyed::start(&net, 2).await);
    one.name(&net, [(2, two.key)]);
    two.name(&net, [(1, one.key)]);
    until("connection", || {
        let all = one.transport.statuses();
        (all.iter().any(|status| status.connected), all)
    })
    .await;
    let mut too_long = MAGIC.to_vec();
    too_long.extend_from_slice(&[0xff; 9]);
    let mut out_of_place = MAGIC.to_vec();
    frame::put(&mut out_of_place, Kind::Messages, |_| {});
    let nonsense = [b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), too_long, out_of_place];
    for bytes in &nonsense {
        let mut stream = tls(&net).await;
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok() && rest.is_empty());
    }
    assert_eq!(one.transport.counts().bad_connections, nonsense.len() as u64);
    assert!(one.transport.statuses().iter().all(|status| status.connected));
    one.transport.stop().await;
    two.transport.stop().await;
}

/// A frame that announces more than is taken, from a member and from a stranger.
#[tokio::test]
async fn oversized_frames_and_those_out_of_place_end_one_connection_and_no_other() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let one = start(&net, |settings| settings.limits.frame_bytes = 100_000).await;
    let (two, three) = (Keyed::start(&net, 2).await, identity(3, KeyKind::P256));
    one.name(&net, [(2, two.key)]);
    two.name(&net, [(1, one.key)]);
    one.door.known.lock().insert(3, three.fingerprint());
    until("connection", || {
        let all = one.transport.statuses();
        (all.iter().any(|status| status.connected), all)
    })
    .await;
    let oversized = |bytes: u32| [&bytes.to_be_bytes()[..], &[Kind::Request as u8]].concat();
    let mut offer = Vec::new();
    frame::put(&mut offer, Kind::Offer, |_| {});
    let cases = [
        (Purpose::Link, oversized(100_001)),
        (Purpose::Link, offer.clone()),
        (Purpose::Stranger, oversized(64 * 1024 + 1)),
        (Purpose::Stranger, offer),
    ];
    let count = cases.len() as u64;
    for (purpose, bytes) in cases {
        let mut stream = tls_as(&net, Some(&three)).await;
        let greeting = Greeting {
            version: Version::OURS,
            cluster: 1,
            node: NodeId(3),
            to: NodeId(1),
            instance: 77,
            purpose,
            extra: Bytes::new(),
        };
        let mut out = MAGIC.to_vec();
        greeting.put(Kind::Hello, &mut out);
        if purpose == Purpose::Link {
            frame::put(&mut out, Kind::Start, |_| {});
        }
        out.extend_from_slice(&bytes);
        stream.write_all(&out).await.unwrap();
        let mut said = Vec::new();
        let closed = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await;
        assert!(
            closed.is_ok() && said.starts_with(&MAGIC),
            "{purpose:?}: {said:?}"
        );
    }
    until("counts", || {
        let counts = one.transport.counts();
        (counts.bad_connections == count, counts)
    })
    .await;
    let is_up = |status: &peer::PeerStatus| status.node == NodeId(2) && status.connected;
    assert!(one.transport.statuses().iter().any(is_up));
    let told = two.door.connected.borrow().clone();
    assert!(told.iter().all(|(_, is_up)| *is_up), "{told:?}");
    one.transport.stop().await;
    two.transport.stop().await;
    let text = logs.text();
    let lines = text.lines().filter(|line| line.contains("Bad bytes")).count();
    assert!((1..=4).contains(&lines), "thinned to one a second: {text}");
}

/// A TLS connection of somebody without a certificate.
async fn tls(net: &Net) -> tokio_rustls::client::TlsStream<TcpStream> {
    tls_as(net, None).await
}

async fn tls_as(net: &Net, own: Option<&Identity>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let any = identity(9, KeyKind::P256);
    let mut config = Arc::unwrap_or_clone(client_config(own.unwrap_or(&any), None, &[]));
    if own.is_none() {
        config.client_auth_cert_resolver = Arc::new(Anonymous);
    }
    let name = rustls::pki_types::ServerName::try_from("anybody").unwrap();
    let socket = TcpStream::connect(net.address(1)).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .unwrap()
}

#[derive(Debug)]
struct Anonymous;

impl rustls::client::ResolvesClientCert for Anonymous {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
