//! The channels that speak HTTP against a receiver that behaves well, badly, or not at all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod sink;

use std::sync::Arc;
use std::time::Duration;

use notify::{
    Alertmanager, Channel, DEFAULT_DEADLINE, Discord, Failure, Gate, Kind, Message, Ntfy, Options, PagerDuty,
    Receipt, Secret, Sender, Slack, Verb, Webhook,
};
use service::clock::ManualClock;
use sink::{Answer, Sink, answer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Stands in every setting that is secret; nothing that is shown may contain it.
const SECRET: &str = "s3cr3t-of-the-channel";

/// Sun, 06 Nov 1994 08:49:37 GMT
const NOW_MS: u64 = 784_111_777_000;

fn sender() -> Sender {
    let options = Options {
        proxy: false,
        ..Options::default()
    };
    Sender::new(&options, Arc::new(ManualClock::at(NOW_MS))).unwrap()
}

fn message() -> Message {
    let mut message = Message::new("quptime", Verb::Down, "[quptime] DOWN: a", "it is down");
    message.delivery_id = "a/1/b".into();
    message.dedup_key = "c/i".into();
    message.when_unix_ms = NOW_MS;
    message
}

fn discord(url: String) -> Channel {
    Channel::Discord(Discord {
        webhook: Secret::new(url),
    })
}

fn webhook(url: String) -> Channel {
    Channel::Webhook(Webhook {
        url: Secret::new(url),
        secret: Secret::new(SECRET),
        headers: [(
            "Authorization".to_owned(),
            Secret::new(format!("Bearer {SECRET}")),
        )]
        .into(),
    })
}

/// One of each kind, with the address of a receiver.
fn all(sink: &Sink) -> Vec<Channel> {
    let path = format!("/{SECRET}");
    vec![
        discord(sink.url(&path)),
        webhook(sink.url(&path)),
        Channel::Slack(Slack {
            webhook: Secret::new(sink.url(&path)),
        }),
        Channel::PagerDuty(PagerDuty {
            routing_key: Secret::new(SECRET),
            url: sink.url("/v2/enqueue"),
        }),
        Channel::Ntfy(Ntfy {
            url: Secret::new(sink.url(&path)),
            token: Secret::new(SECRET),
            priority: [].into(),
        }),
        Channel::Alertmanager(Alertmanager {
            url: Secret::new(format!("http://user:{SECRET}@{}", sink.address)),
            hold: None,
        }),
    ]
}

async fn send(channel: &Channel) -> Result<Receipt, Failure> {
    sender().send(channel, &message(), DEFAULT_DEADLINE).await
}

/// The failure of an attempt, in which no secret may stand.
async fn failure(channel: &Channel) -> Failure {
    let failure = send(channel).await.unwrap_err();
    let shown = format!("{failure} {failure:?} {channel:?} {}", channel.place());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(!failure.text.contains(['\r', '\n']), "{failure}");
    failure
}

#[tokio::test]
async fn every_channel_posts_to_its_address() {
    for (index, path) in [
        format!("/{SECRET}?wait=true"),
        format!("/{SECRET}"),
        format!("/{SECRET}"),
        "/v2/enqueue".into(),
        "/".into(),
        "/api/v2/alerts".into(),
    ]
    .iter()
    .enumerate()
    {
        let sink = Sink::start(answer("204 No Content", &[], "")).await;
        let channel = &all(&sink)[index];
        let receipt = send(channel).await.unwrap();
        assert_eq!(receipt.to_string(), "204 No Content");
        let request = sink.request();
        assert_eq!(request.line, format!("POST {path} HTTP/1.1"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.header("user-agent").unwrap().starts_with("mainstay/"));
        let authorization = match channel.name() {
            "webhook" | "ntfy" => Some(format!("Bearer {SECRET}")),
            // user:s3cr3t-of-the-channel
            "alertmanager" => Some("Basic dXNlcjpzM2NyM3Qtb2YtdGhlLWNoYW5uZWw=".into()),
            _ => None,
        };
        assert_eq!(request.header("authorization"), authorization.as_deref());
        assert!(request.body.starts_with(['{', '[']), "{}", request.body);
    }
}

/// A sink sees the connection and not a byte.
#[tokio::test]
async fn a_closed_gate_holds_every_channel_back_at_the_last_moment() {
    let sink = Sink::start(answer("204 No Content", &[], "")).await;
    for channel in all(&sink) {
        let gate = Gate::new(|| false);
        let failure = sender()
            .send_through(&channel, &message(), DEFAULT_DEADLINE, &gate)
            .await
            .unwrap_err();
        assert!(failure.held && !failure.uncertain, "{failure:?}");
    }
    // An open one lets it through, in the same manner.
    let channel = &all(&sink)[1];
    let receipt = sender()
        .send_through(channel, &message(), DEFAULT_DEADLINE, &Gate::open())
        .await
        .unwrap();
    assert_eq!(receipt.to_string(), "204 No Content");
    assert_eq!(sink.requests().len(), 1, "only the last one");
}

#[tokio::test]
async fn a_webhook_can_be_verified_and_deduplicated() {
    let sink = Sink::start(answer("200 OK", &[], "")).await;
    let channel = webhook(sink.url("/in"));
    let mut message = message();
    sender().send(&channel, &message, DEFAULT_DEADLINE).await.unwrap();
    message.repeat = true;
    sender().send(&channel, &message, DEFAULT_DEADLINE).await.unwrap();
    let requests = sink.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        let signature = notify::sign(SECRET, NOW_MS / 1000, request.body.as_bytes());
        assert_eq!(request.header(notify::SIGNATURE_HEADER), Some(signature.as_str()));
        assert_eq!(request.header("idempotency-key"), Some("a/1/b"));
    }
    assert!(channel.deduplicates());
}

#[tokio::test]
async fn refusals_say_whether_to_try_again() {
    for (status, kind, uncertain) in [
        ("400 Bad Request", Kind::Permanent, false),
        ("401 Unauthorized", Kind::Permanent, false),
        ("403 Forbidden", Kind::Permanent, false),
        ("404 Not Found", Kind::Permanent, false),
        ("408 Request Timeout", Kind::Temporary, false),
        ("429 Too Many Requests", Kind::Temporary, false),
        ("500 Internal Server Error", Kind::Temporary, false),
        ("502 Bad Gateway", Kind::Temporary, true),
        ("503 Service Unavailable", Kind::Temporary, false),
    ] {
        // A server that quotes what it was sent.
        let sink = Sink::start(answer(status, &[], &format!("no\n{SECRET}\nhere"))).await;
        for channel in all(&sink) {
            let failure = failure(&channel).await;
            assert_eq!(failure.kind, kind, "{status}");
            assert_eq!(failure.uncertain, uncertain, "{status}");
            assert_eq!(failure.retry_after, None);
            let (name, address) = (channel.name(), sink.address);
            assert_eq!(
                failure.text,
                format!("{name} http://{address}: {status}: no <secret> here")
            );
        }
    }
}

#[tokio::test]
async fn the_time_to_wait_is_obeyed() {
    for (header, body, wait) in [
        ("Retry-After: 7", "", Some(7_000)),
        ("Retry-After: Sun, 06 Nov 1994 08:50:07 GMT", "", Some(30_000)),
        ("Retry-After: 999999999", "", Some(3_600_000)),
        ("Retry-After: soon", "", None),
        ("Retry-After: 1", r#"{"retry_after": 2.5}"#, Some(2_500)),
        ("X-Other: 1", r#"{"retry_after": 0.25}"#, Some(250)),
    ] {
        let sink = Sink::start(answer("429 Too Many Requests", &[header], body)).await;
        let failure = failure(&discord(sink.url("/x"))).await;
        assert_eq!(failure.kind, Kind::Temporary);
        assert_eq!(
            failure.retry_after,
            wait.map(Duration::from_millis),
            "{header} {body}"
        );
    }
}

#[tokio::test]
async fn nothing_listening_is_temporary_and_certain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = failure(&discord(format!("http://{address}/{SECRET}"))).await;
    assert_eq!(
        failure.text,
        format!("discord http://{address}: cannot connect: Connection refused (os error 111)")
    );
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, false));
}

#[tokio::test]
async fn an_unknown_host_is_temporary_and_certain() {
    let failure = failure(&discord(format!("http://nowhere.invalid/{SECRET}"))).await;
    assert!(
        failure
            .text
            .starts_with("discord http://nowhere.invalid: cannot connect"),
        "{failure}"
    );
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, false));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_may_have_been_taken() {
    let sink = Sink::start(Answer::Silence).await;
    let channel = discord(sink.url(&format!("/{SECRET}")));
    let attempt = sender()
        .send(&channel, &message(), Duration::from_millis(500))
        .await
        .unwrap_err();
    assert_eq!(
        attempt.text,
        format!("discord http://{}: no answer within 500ms", sink.address)
    );
    assert_eq!((attempt.kind, attempt.uncertain), (Kind::Temporary, true));
}

#[tokio::test]
async fn a_connection_that_breaks_may_have_been_taken() {
    let sink = Sink::start(Answer::Close).await;
    let failure = failure(&discord(sink.url(&format!("/{SECRET}")))).await;
    assert!(
        failure
            .text
            .starts_with(&format!("discord http://{}: no answer: ", sink.address)),
        "{failure}"
    );
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, true));
    // One attempt is one request.
    sink.request();
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let sink = Sink::start(Answer::Bytes("SSH-2.0-OpenSSH_9.2\r\n".into())).await;
    let failure = failure(&discord(sink.url("/x"))).await;
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, true));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Sink::start(answer("200 OK", &[], "")).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("Location: {}", elsewhere.url(&format!("/{SECRET}")));
        let sink = Sink::start(answer(status, &[&location], "")).await;
        let failure = failure(&webhook(sink.url(&format!("/{SECRET}")))).await;
        assert_eq!(failure.kind, Kind::Permanent);
        assert_eq!(
            failure.text,
            format!(
                "webhook http://{}: {status}: it points to http://{}; redirects are not followed, so write the \
                 address it leads to",
                sink.address, elsewhere.address
            )
        );
        sink.request();
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_endless_answer_is_read_to_a_bound() {
    let sink = Sink::start(Answer::Endless).await;
    let failure = failure(&discord(sink.url("/x"))).await;
    assert_eq!(failure.kind, Kind::Temporary);
    assert!(failure.text.len() <= 500, "{}", failure.text.len());
    assert!(failure.text.ends_with("xxx… (cut)"), "{failure}");
    // What was written and not read lies in the buffers of the two sockets.
    assert!(sink.written() < 64 << 20, "{}", sink.written());
}

#[tokio::test]
async fn success_does_not_wait_for_the_rest_of_the_answer() {
    let sink = Sink::start(Answer::Bytes(
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort".into(),
    ))
    .await;
    assert_eq!(send(&discord(sink.url("/x"))).await.unwrap().answer, "200 OK");
}

#[tokio::test]
async fn only_believed_certificates_will_do() {
    let dir = testkit::TestDir::new("notify-https").unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let ca_file = dir.join("ca.pem");
    std::fs::write(&ca_file, made.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let sink = Sink::start_with(answer("200 OK", &[], ""), Some(tls)).await;
    let channel = discord(format!("https://{}/{SECRET}", sink.address));

    let refused = failure(&channel).await;
    assert_eq!((refused.kind, refused.uncertain), (Kind::Temporary, false));
    assert!(
        refused
            .text
            .contains("cannot connect: invalid peer certificate: UnknownIssuer"),
        "{refused}"
    );
    assert!(sink.requests().is_empty());

    let options = Options {
        ca_file: Some(ca_file),
        proxy: false,
    };
    let sender = Sender::new(&options, Arc::new(ManualClock::at(NOW_MS))).unwrap();
    sender.send(&channel, &message(), DEFAULT_DEADLINE).await.unwrap();
    sink.request();
}

#[tokio::test]
async fn settings_that_cannot_work_are_not_tried() {
    let channel = webhook(format!("https://h/{SECRET}\r\nX-Evil: 1"));
    let failure = failure(&channel).await;
    assert_eq!(failure.kind, Kind::Permanent);
    assert!(
        failure
            .text
            .ends_with("url contains a line break or control character"),
        "{failure}"
    );
}

#[test]
fn attempts_may_run_on_any_thread() {
    fn may<T: Send>(_: &T) {}
    let (sender, message) = (sender(), message());
    let channel = discord("http://h/x".into());
    may(&sender.send(&channel, &message, DEFAULT_DEADLINE));
}
