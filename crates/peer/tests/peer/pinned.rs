//! Pinned keys: who is a member, who is a stranger, and what either may do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Message, NodeId};
use parking_lot::Mutex;
use peer::stranger::{BODY_BYTES, Exporter};
use peer::{
    Address, AskError, BoxFuture, Cause, Handler, Introduction, RequestError, Settings, StrangerInfo, Tls,
    Transport, WebStream,
};
use pki::pinned::{Fingerprint, Identity, KeyKind};
use service::clock::{Clock as _, ManualClock, SystemClock};
use service::logs::{Format, capture};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use crate::harness::{LONG, Net, heartbeat, until};

pub(crate) fn identity(node: u64, kind: KeyKind) -> Identity {
    let now = SystemClock::new().unix_ms() / 1000;
    Identity::generate(&format!("node{node}"), kind, now).unwrap()
}

/// What a member with pinned keys has been told, and how it answers.
pub(crate) struct Door {
    pub(crate) connected: watch::Sender<Vec<(u64, bool)>>,
    pub(crate) admitted: Mutex<Vec<Introduction>>,
    pub(crate) messages: watch::Sender<Vec<Message>>,
    pub(crate) calls: Mutex<Vec<(StrangerInfo, u8, Bytes)>>,
    /// Keys vouched for beside those of addresses.
    pub(crate) known: Mutex<BTreeMap<u64, Fingerprint>>,
}

/// Kinds of calls that the door knows.
const GREET: u8 = 1;
const FAIL: u8 = 2;
const HANG: u8 = 3;
const BLOW_UP: u8 = 4;

impl Handler for Door {
    fn introduction(&self) -> Bytes {
        Bytes::from_static(b"hello")
    }

    fn admit(&self, peer: &Introduction) -> Result<(), String> {
        self.admitted.lock().push(peer.clone());
        Ok(())
    }

    fn known(&self, peer: &Introduction) -> Result<(), String> {
        let known = self.known.lock();
        match known.get(&peer.node.0) {
            Some(key) if Some(*key) == peer.key => Ok(()),
            _ => Err("you were removed from the cluster".to_owned()),
        }
    }

    fn messages(&self, _: NodeId, messages: Vec<Message>) {
        self.messages.send_modify(|all| all.extend(messages));
    }

    fn request(&self, _: NodeId, _: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        Box::pin(std::future::ready(Ok(body)))
    }

    fn connected(&self, peer: NodeId) {
        self.connected.send_modify(|all| all.push((peer.0, true)));
    }

    fn disconnected(&self, peer: NodeId) {
        self.connected.send_modify(|all| all.push((peer.0, false)));
    }

    fn stranger(&self, stranger: StrangerInfo, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        self.calls.lock().push((stranger, kind, body.clone()));
        Box::pin(async move {
            match kind {
                GREET => Ok(body),
                FAIL => Err("cluster secret does not match".to_owned()),
                BLOW_UP => Ok(Bytes::from(vec![0; BODY_BYTES + 1])),
                _ => std::future::pending().await,
            }
        })
    }

    fn http(&self, mut stream: WebStream, _: std::net::SocketAddr) -> Option<BoxFuture<()>> {
        Some(Box::pin(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let line = String::from_utf8_lossy(&head)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            let answer = if line.starts_with("GET /healthz ") {
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
            } else {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            };
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }))
    }
}

/// A transport with a key.
pub(crate) struct Keyed {
    pub(crate) transport: Transport,
    pub(crate) door: Arc<Door>,
    pub(crate) key: Fingerprint,
}

impl Keyed {
    pub(crate) async fn start(net: &Net, node: u64) -> Keyed {
        Keyed::start_as(net, node, identity(node, KeyKind::P256), |_| {}).await
    }

    pub(crate) async fn start_as(
        net: &Net,
        node: u64,
        identity: Identity,
        change: impl FnOnce(&mut Settings),
    ) -> Keyed {
        let door = Arc::new(Door {
            connected: watch::Sender::default(),
            admitted: Mutex::default(),
            messages: watch::Sender::default(),
            calls: Mutex::default(),
            known: Mutex::default(),
        });
        let key = identity.fingerprint();
        let mut settings = net.settings(node).await;
        settings.tls = Some(Tls::pinned(identity));
        change(&mut settings);
        Keyed {
            transport: Transport::start(settings, door.clone()),
            door,
            key,
        }
    }

    /// Where a member is and which key it has.
    pub(crate) fn name<const N: usize>(&self, net: &Net, peers: [(u64, Fingerprint); N]) {
        let at = |(node, pin)| {
            let address = net.address(node);
            (
                NodeId(node),
                Address {
                    address,
                    pin: Some(pin),
                },
            )
        };
        self.transport.set_addresses(peers.into_iter().map(at).collect());
    }

    async fn until_connected(&self, node: u64, wanted: bool) {
        let mut told = self.door.connected.subscribe();
        let last = |all: &Vec<(u64, bool)>| all.iter().rev().find(|(peer, _)| *peer == node).copied();
        let waited = tokio::time::timeout(LONG, told.wait_for(|all| last(all) == Some((node, wanted)))).await;
        assert!(
            waited.is_ok(),
            "connection to {node} not {wanted}: {:?}",
            self.door.connected.borrow()
        );
    }

    pub(crate) fn error(&self, node: u64) -> String {
        let all = self.transport.statuses();
        let status = all.into_iter().find(|status| status.node == NodeId(node));
        status.and_then(|status| status.last_error).unwrap_or_default()
    }

    async fn until_error(&self, node: u64, part: &str) {
        until(part, || {
            let error = self.error(node);
            (error.contains(part), error)
        })
        .await;
    }

    fn was_connected(&self) -> bool {
        !self.door.connected.borrow().is_empty() || !self.door.admitted.lock().is_empty()
    }
}

#[tokio::test]
async fn members_that_know_each_others_keys_talk_whatever_kind_they_are() {
    let net = Net::new();
    let plain = |_: &mut Settings| {};
    let one = Keyed::start_as(&net, 1, identity(1, KeyKind::Ed25519), plain).await;
    let two = Keyed::start_as(&net, 2, identity(2, KeyKind::Rsa3072), plain).await;
    one.name(&net, [(2, two.key)]);
    two.name(&net, [(1, one.key)]);
    one.until_connected(2, true).await;
    two.until_connected(1, true).await;
    for round in 0..10 {
        one.transport.send(heartbeat(1, 2, round));
    }
    let mut messages = two.door.messages.subscribe();
    tokio::time::timeout(LONG, messages.wait_for(|all| all.len() == 10))
        .await
        .unwrap()
        .unwrap();
    let body = Bytes::from(vec![5; 1 << 20]);
    let answer = two.transport.request(NodeId(1), 1, body.clone(), LONG).await;
    assert_eq!(answer, Ok(body));
    for (member, other) in [(&one, &two), (&two, &one)] {
        let admitted = member.door.admitted.lock().clone();
        assert!(
            !admitted.is_empty() && admitted.iter().all(|peer| peer.key == Some(other.key)),
            "{admitted:?}"
        );
    }
    let asked = one.transport.ask(net.address(2), LONG).await.unwrap();
    assert_eq!((asked.node, asked.key), (NodeId(2), Some(two.key)));
    let itself = one.transport.ask(net.address(1), LONG).await.unwrap();
    assert_eq!((itself.node, itself.key), (NodeId(1), Some(one.key)));
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_before_it_is_told_anything() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let (one, two) = (Keyed::start(&net, 1).await, Keyed::start(&net, 2).await);
    two.door.known.lock().insert(1, one.key);
    let pin = identity(2, KeyKind::P256).fingerprint();
    one.name(&net, [(2, pin)]);
    one.until_error(2, &format!("wrong key: want {pin}, the peer shows {}", two.key))
        .await;
    until("what the other end makes of it", || {
        let counts = two.transport.counts();
        (counts.tls_failures > 0, counts)
    })
    .await;
    assert!(!one.was_connected() && !two.was_connected());
    let asked = Address {
        address: net.address(2),
        pin: Some(pin),
    };
    let asked = one.transport.ask(asked, LONG).await.unwrap_err().to_string();
    assert!(asked.contains("wrong key"), "{asked}");
    let called = one
        .transport
        .call_stranger(&net.address(2), Some(pin))
        .await
        .unwrap_err()
        .to_string();
    assert!(called.contains("wrong key"), "{called}");
    one.transport.stop().await;
    two.transport.stop().await;
    let text = logs.text();
    let line = text
        .lines()
        .find(|line| line.contains("Failed to connect to peer"))
        .unwrap();
    assert!(
        line.contains(&pin.to_string()) && line.contains(&two.key.to_string()),
        "{line}"
    );
}

#[tokio::test]
async fn an_unknown_key_gets_no_connection_no_transfer_and_no_name() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let (one, two) = (Keyed::start(&net, 1).await, Keyed::start(&net, 2).await);
    one.name(&net, [(2, two.key)]);
    one.until_error(2, "you were removed from the cluster").await;
    assert_eq!(one.transport.statuses()[0].refused, Some(Cause::UnknownKey));
    let asked = one.transport.ask(net.address(2), LONG).await;
    assert!(
        matches!(&asked, Err(AskError::Refused { reason, .. }) if reason.contains("removed")),
        "{asked:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    let sent = one
        .transport
        .send_directory(NodeId(2), Bytes::new(), dir.path(), None)
        .await;
    assert!(sent.unwrap_err().to_string().contains("removed"));
    assert!(two.transport.counts().refused >= 3);
    assert!(!two.was_connected() && one.door.connected.borrow().is_empty());
    until("a line", || {
        let text = logs.text();
        (
            text.contains("Peer refused") && text.contains("you were removed from the cluster"),
            text,
        )
    })
    .await;
    // Once it is vouched for it gets in.
    two.door.known.lock().insert(1, one.key);
    one.until_connected(2, true).await;
    one.transport.stop().await;
    two.transport.stop().await;
}

/// Two members know each other's keys; one of them says that it is the other.
#[tokio::test]
async fn nobody_can_be_another_member_with_a_key_of_his_own() {
    let net = Net::new();
    let (one, two) = (Keyed::start(&net, 1).await, Keyed::start(&net, 2).await);
    // Member 3, whose key is known, calls itself member 2.
    let three = Keyed::start_as(&net, 3, identity(3, KeyKind::P256), |settings| {
        settings.node = NodeId(2);
    })
    .await;
    one.name(&net, [(2, two.key), (3, three.key)]);
    three.name(&net, [(1, one.key)]);
    let text = format!("member 2 must have the key {}, not {}", two.key, three.key);
    three.until_error(1, &text).await;
    two.name(&net, [(1, one.key)]);
    two.until_connected(1, true).await;
    assert!(
        one.door
            .admitted
            .lock()
            .iter()
            .all(|peer| peer.key == Some(two.key))
    );
    for member in [one, two, three] {
        member.transport.stop().await;
    }
}

#[tokio::test]
async fn who_gets_another_pin_or_is_removed_is_disconnected_and_not_let_in_again() {
    let net = Net::new();
    let (one, two) = (Keyed::start(&net, 1).await, Keyed::start(&net, 2).await);
    one.name(&net, [(2, two.key)]);
    two.name(&net, [(1, one.key)]);
    two.until_connected(1, true).await;
    let other = identity(1, KeyKind::P256).fingerprint();
    two.name(&net, [(1, other)]);
    two.until_connected(1, false).await;
    one.until_error(2, &format!("member 1 must have the key {other}"))
        .await;
    two.name(&net, [(1, one.key)]);
    two.until_connected(1, true).await;
    two.name(&net, []);
    two.until_connected(1, false).await;
    one.until_error(2, "you were removed from the cluster").await;
    assert!(!two.transport.statuses().iter().any(|status| status.connected));
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn a_stranger_calls_and_both_ends_have_the_same_exporter() {
    let net = Net::new();
    let (one, two) = (
        // Of another cluster, as a host that has never joined is.
        Keyed::start_as(&net, 1, identity(1, KeyKind::P256), |settings| {
            settings.cluster = 99;
        })
        .await,
        Keyed::start(&net, 2).await,
    );
    let mut exporters: Vec<Exporter> = Vec::new();
    for pin in [None, Some(two.key)] {
        let mut call = one.transport.call_stranger(&net.address(2), pin).await.unwrap();
        assert_eq!(
            (call.introduction().node, call.introduction().cluster),
            (NodeId(2), 1)
        );
        assert_eq!((call.key(), call.introduction().key), (two.key, Some(two.key)));
        assert_eq!(call.introduction().extra, "hello");
        assert_eq!(Fingerprint::of_certificate(call.certificate()), Ok(two.key));
        for length in [3, 0, BODY_BYTES] {
            let body = Bytes::from(vec![7; length]);
            assert_eq!(call.request(GREET, body.clone(), LONG).await, Ok(body));
        }
        let (info, kind, _) = two.door.calls.lock().last().unwrap().clone();
        assert_eq!(
            (info.key, info.introduction.node, kind),
            (one.key, NodeId(1), GREET)
        );
        assert_eq!(info.introduction.cluster, 99);
        assert_eq!(Fingerprint::of_certificate(&info.certificate), Ok(one.key));
        assert_eq!(info.address.ip().to_string(), net_source(&info));
        assert_eq!(&info.exporter, call.exporter());
        assert!(
            !format!("{info:?}{call:?}").contains("exporter"),
            "it is as good as a secret"
        );
        exporters.push(info.exporter);
    }
    assert_ne!(exporters[0], exporters[1], "each connection has its own");
    assert!(!two.was_connected() && !one.was_connected());
    assert_eq!(two.transport.counts().strangers_failed, 0);
    one.transport.stop().await;
    two.transport.stop().await;
}

fn net_source(info: &StrangerInfo) -> String {
    // The kernel chooses it: an address of this machine.
    assert!(info.address.ip().is_loopback());
    info.address.ip().to_string()
}

#[tokio::test]
async fn refusals_too_large_calls_and_silence_are_told_apart() {
    let net = Net::new();
    let (one, two) = (Keyed::start(&net, 1).await, Keyed::start(&net, 2).await);
    let mut call = one.transport.call_stranger(&net.address(2), None).await.unwrap();
    let refused = call.request(FAIL, Bytes::new(), LONG).await;
    assert_eq!(
        refused,
        Err(RequestError::Refused("cluster secret does not match".to_owned()))
    );
    let blown = call.request(BLOW_UP, Bytes::new(), LONG).await;
    assert!(
        matches!(&blown, Err(RequestError::Refused(text)) if text.contains("too large")),
        "{blown:?}"
    );
    let large = call
        .request(GREET, Bytes::from(vec![0; BODY_BYTES + 1]), LONG)
        .await;
    assert!(
        matches!(&large, Err(RequestError::NotSent { reason, .. }) if reason.contains("too large")),
        "{large:?}"
    );
    assert_eq!(
        call.request(GREET, Bytes::new(), LONG).await,
        Ok(Bytes::new()),
        "it goes on"
    );
    let silent = call.request(HANG, Bytes::new(), Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(RequestError::Unknown { .. })), "{silent:?}");
    let after = call.request(GREET, Bytes::new(), LONG).await;
    assert!(matches!(after, Err(RequestError::NotSent { .. })), "{after:?}");
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn five_failed_calls_a_minute_are_too_many_from_one_address() {
    let net = Net::new();
    let clock = Arc::new(ManualClock::at(1_800_000_000_000));
    let (one, two) = (
        Keyed::start(&net, 1).await,
        Keyed::start_as(&net, 2, identity(2, KeyKind::P256), |settings| {
            settings.clock = clock.clone();
        })
        .await,
    );
    let mut call = one.transport.call_stranger(&net.address(2), None).await.unwrap();
    for _ in 0..5 {
        let refused = call.request(FAIL, Bytes::new(), LONG).await;
        assert!(matches!(refused, Err(RequestError::Refused(_))), "{refused:?}");
    }
    let sixth = call.request(FAIL, Bytes::new(), LONG).await;
    assert!(
        matches!(&sixth, Err(RequestError::Refused(text)) if text.contains("too many failed calls from 127.")),
        "{sixth:?}"
    );
    assert_eq!(two.door.calls.lock().len(), 5, "nobody was asked");
    let again = one.transport.call_stranger(&net.address(2), None).await;
    assert!(
        matches!(&again, Err(AskError::Refused { reason, .. }) if reason.contains("too many failed calls")),
        "{again:?}"
    );
    clock.advance(Duration::from_mins(1));
    let mut call = one.transport.call_stranger(&net.address(2), None).await.unwrap();
    assert_eq!(call.request(GREET, Bytes::new(), LONG).await, Ok(Bytes::new()));
    assert_eq!(two.transport.counts().strangers_failed, 6);
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn strangers_have_so_many_places_and_so_much_time() {
    let net = Net::new();
    let (one, two) = (
        Keyed::start(&net, 1).await,
        Keyed::start_as(&net, 2, identity(2, KeyKind::P256), |settings| {
            settings.limits.strangers = 2;
        })
        .await,
    );
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(one.transport.call_stranger(&net.address(2), None).await.unwrap());
    }
    let outcome = calls[0].request(GREET, Bytes::new(), LONG).await;
    assert!(
        matches!(outcome, Err(RequestError::Unknown { .. })),
        "the oldest has made room: {outcome:?}"
    );
    for call in &mut calls[1..] {
        assert_eq!(call.request(GREET, Bytes::new(), LONG).await, Ok(Bytes::new()));
    }
    two.transport.stop().await;
    let short = Keyed::start_as(&net, 3, identity(3, KeyKind::P256), |settings| {
        settings.limits.stranger_lifetime = Duration::from_millis(50);
    })
    .await;
    let mut call = one.transport.call_stranger(&net.address(3), None).await.unwrap();
    let outcome = call.request(HANG, Bytes::new(), LONG).await;
    assert!(
        matches!(outcome, Err(RequestError::Unknown { .. })),
        "its time is over: {outcome:?}"
    );
    one.transport.stop().await;
    short.transport.stop().await;
}

#[tokio::test]
async fn without_pinned_keys_there_are_no_strangers() {
    let net = Net::new();
    let (keyed, plain) = (Keyed::start(&net, 1).await, net.start(2).await);
    let called = plain
        .transport
        .call_stranger(&net.address(1), None)
        .await
        .unwrap_err();
    assert!(called.to_string().contains("pinned keys"), "{called}");
    let called = keyed
        .transport
        .call_stranger(&net.address(2), None)
        .await
        .unwrap_err();
    assert!(called.to_string().contains("does not speak TLS"), "{called}");
    keyed.transport.stop().await;
    plain.transport.stop().await;
}
