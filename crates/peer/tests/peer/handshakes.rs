//! Strangers, mistakes and nonsense.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use consensus::NodeId;
use peer::frame::{self, Frame, Kind};
use peer::handshake::{Cause, FRAME_MAX, Greeting, MAGIC, Purpose, Refusal};
use peer::{AskError, RequestError, Settings, Version};
use service::logs::{Format, capture};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Event, LONG, Member, Net, heartbeat, pair, until};

/// A peer made of bytes.
struct Raw(TcpStream, BytesMut);

impl Raw {
    async fn dial(net: &Net, node: u64) -> Raw {
        Raw(
            TcpStream::connect(net.address(node)).await.unwrap(),
            BytesMut::new(),
        )
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(LONG, self.0.read_buf(&mut self.1)).await;
        matches!(read.expect("the other end says something or closes"), Ok(1..))
    }

    /// Nothing if it was closed.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::take(&mut self.1, FRAME_MAX).unwrap() {
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn magic(&mut self) -> bool {
        while self.1.len() < 8 {
            if !self.fill().await {
                return false;
            }
        }
        self.1.split_to(8)[..] == MAGIC
    }
}

fn greeting(node: u64, to: u64) -> Greeting {
    Greeting {
        version: Version::OURS,
        cluster: 1,
        node: NodeId(node),
        to: NodeId(to),
        instance: 77,
        purpose: Purpose::Link,
        extra: Bytes::from_static(b"raw"),
    }
}

fn hello(greeting: &Greeting) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    greeting.put(Kind::Hello, &mut out);
    out
}

async fn refusal(net: &Net, node: u64, greeting: &Greeting) -> Refusal {
    let mut raw = Raw::dial(net, node).await;
    raw.send(&hello(greeting)).await;
    assert!(raw.magic().await);
    let frame = raw.frame().await.unwrap();
    assert_eq!(frame.kind, Kind::Refused);
    assert_eq!(raw.frame().await, None, "and then it closes");
    Refusal::decode(frame.payload).unwrap()
}

#[tokio::test]
async fn members_of_another_cluster_are_refused_and_both_ends_say_so_once() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let one = net.start(1).await;
    let two = Member::start(Settings {
        cluster: 2,
        ..net.settings(2).await
    });
    one.name([(2, net.address(2))]);
    two.name([(1, net.address(1))]);
    one.until_error(2, "cluster").await;
    two.until_error(1, "cluster").await;
    until("many refusals", || {
        let counts = (one.transport.counts(), two.transport.counts());
        (counts.0.refused > 4 && counts.1.refused > 4, counts)
    })
    .await;
    one.transport.stop().await;
    two.transport.stop().await;
    assert!(one.told.all().is_empty() && two.told.all().is_empty());
    let text = logs.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("Peer belongs to another cluster"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (own, other) in [(1, 2), (2, 1)] {
        let fields = format!("cluster={other}, own_cluster={own}");
        assert!(lines.iter().any(|line| line.contains(&fields)), "{text}");
    }
}

#[tokio::test]
async fn other_versions_are_refused_with_both_versions() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let one = net.start(1).await;
    for version in [Version { major: 9, minor: 0 }, Version { major: 1, minor: 2 }] {
        let refusal = refusal(
            &net,
            1,
            &Greeting {
                version,
                ..greeting(2, 1)
            },
        )
        .await;
        assert_eq!(refusal.cause, Cause::Version);
        assert!(refusal.text.contains("1.0") && refusal.text.contains(&version.to_string()));
    }
    let next = Version { major: 1, minor: 1 };
    let mut raw = Raw::dial(&net, 1).await;
    raw.send(&hello(&Greeting {
        version: next,
        ..greeting(2, 1)
    }))
    .await;
    assert!(raw.magic().await);
    assert_eq!(raw.frame().await.unwrap().kind, Kind::Welcome);
    one.transport.stop().await;
    let text = logs.text();
    assert_eq!(
        text.matches("Peer speaks another protocol version").count(),
        1,
        "{text}"
    );
    assert!(text.contains("version=9.0, own_version=1.0"), "{text}");
}

#[tokio::test]
async fn whoever_is_not_who_was_expected_is_refused() {
    let net = Net::new();
    let (one, two) = (net.start(1).await, net.start(2).await);
    one.name([(3, net.address(2))]);
    one.until_error(3, "this is member 2, not member 3").await;
    assert_eq!(refusal(&net, 1, &greeting(1, 1)).await.cause, Cause::Node);
    assert_eq!(refusal(&net, 1, &greeting(0, 1)).await.cause, Cause::Node);
    assert_eq!(refusal(&net, 1, &greeting(2, 5)).await.cause, Cause::Node);
    assert!(one.told.all().is_empty() && two.told.all().is_empty());
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn the_user_of_either_end_may_refuse_and_both_learn_why() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let (one, two) = (net.start(1).await, net.start(2).await);
    *two.told.closed.lock() = Some("you were removed".to_owned());
    one.name([(2, net.address(2))]);
    one.until_error(2, "you were removed").await;
    *one.told.closed.lock() = Some("I do not want you".to_owned());
    *two.told.closed.lock() = None;
    one.until_error(2, "I do not want you").await;
    until("refusal at the accepting end", || {
        let text = logs.text();
        (text.contains("it refused: I do not want you"), text)
    })
    .await;
    *one.told.closed.lock() = None;
    one.until_connected(2).await;
    two.until_connected(1).await;
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn anybody_of_the_cluster_may_ask_who_is_at_an_address() {
    let net = Net::new();
    let (one, two) = (net.start(1).await, net.start(2).await);
    // Also those that would not be admitted.
    *two.told.closed.lock() = Some("not yet".to_owned());
    *two.told.introduction.lock() = Bytes::from_static(b"incarnation 5");
    let answer = one.transport.ask(&net.address(2), LONG).await.unwrap();
    assert_eq!(
        (answer.node, answer.cluster, answer.version),
        (NodeId(2), 1, Version::OURS)
    );
    assert_eq!(answer.extra, "incarnation 5");
    two.told.until_event(Event::Asked(1)).await;
    let itself = one.transport.ask(&net.address(1), LONG).await.unwrap();
    assert_eq!(itself.node, NodeId(1));
    let nobody = one.transport.ask(&net.address(7), LONG).await;
    assert!(
        matches!(&nobody, Err(AskError::Unreachable { reason, .. }) if reason.contains("connection refused"))
    );
    let other = Member::start(Settings {
        cluster: 9,
        ..net.settings(3).await
    });
    let stranger = one.transport.ask(&net.address(3), LONG).await;
    assert!(
        matches!(&stranger, Err(AskError::Refused { reason, .. }) if reason.contains("cluster 9")),
        "{stranger:?}"
    );
    for member in [one, two, other] {
        member.transport.stop().await;
    }
}

#[tokio::test]
async fn nonsense_closes_the_connection_and_is_counted() {
    let net = Net::new();
    let one = net.start(1).await;
    let mut too_long = MAGIC.to_vec();
    too_long.extend_from_slice(&[0xff; 9]);
    let mut out_of_place = MAGIC.to_vec();
    frame::put(&mut out_of_place, Kind::Ping, |out| {
        out.extend_from_slice(&[0; 8]);
    });
    let mut damaged = hello(&greeting(2, 1));
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let mut short = MAGIC.to_vec();
    frame::put(&mut short, Kind::Hello, |out| out.extend_from_slice(&[0; 5]));
    let nonsense = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        too_long,
        out_of_place,
        damaged,
        short,
    ];
    let count = nonsense.len() as u64;
    for bytes in nonsense {
        let mut raw = Raw::dial(&net, 1).await;
        raw.send(&bytes).await;
        assert!(!raw.fill().await, "it is closed");
    }
    assert_eq!(one.transport.counts().bad_connections, count);
    // Who comes and goes is no news.
    drop(Raw::dial(&net, 1).await);
    // After the handshake the same holds.
    let stranger = |from| {
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Messages, |out| {
            consensus::wire::encode(&heartbeat(from, 1, 1), out);
        });
        out
    };
    let mut too_short = Vec::new();
    frame::put(&mut too_short, Kind::Messages, |out| out.push(9));
    let mut offer = Vec::new();
    frame::put(&mut offer, Kind::Offer, |_| {});
    for bytes in [stranger(3), too_short, offer, vec![0xff; 20]] {
        let mut raw = Raw::dial(&net, 1).await;
        raw.send(&hello(&greeting(2, 1))).await;
        assert!(raw.magic().await);
        assert_eq!(raw.frame().await.unwrap().kind, Kind::Welcome);
        let mut start = Vec::new();
        frame::put(&mut start, Kind::Start, |_| {});
        raw.send(&start).await;
        assert_eq!(raw.frame().await.unwrap().kind, Kind::Ping);
        raw.send(&bytes).await;
        while raw.fill().await {}
        one.told.until_event(Event::Disconnected(2)).await;
        one.told.events.send_replace(Vec::new());
    }
    assert_eq!(one.transport.counts().bad_connections, count + 4);
    one.transport.stop().await;
}

/// In plain text anybody can say that he is a member.
#[tokio::test]
async fn members_that_nobody_named_share_the_room_for_long_frames() {
    let net = Net::new();
    let mut settings = net.settings(1).await;
    settings.limits.frame_bytes = 50_000;
    settings.limits.silence_max = LONG;
    let one = Member::start(settings);
    let mut unfinished = Vec::new();
    frame::put(&mut unfinished, Kind::Messages, |out| out.resize(40_000, 0));
    unfinished.pop();
    let mut raws = Vec::new();
    // Twice 50,000 bytes are there for all of them.
    for node in 2..=4 {
        let mut raw = Raw::dial(&net, 1).await;
        let mut out = hello(&greeting(node, 1));
        frame::put(&mut out, Kind::Start, |_| {});
        raw.send(&out).await;
        assert!(raw.magic().await);
        one.until_connected(node).await;
        raw.send(&unfinished).await;
        raws.push(raw);
    }
    let gone = |events: &[Event]| {
        let gone = events
            .iter()
            .filter(|event| matches!(event, Event::Disconnected(_)));
        gone.count()
    };
    let events = one.told.until("one to give way", |events| gone(events) > 0).await;
    assert_eq!(gone(&events), 1, "{events:?}");
    let statuses = one.transport.statuses();
    assert_eq!(statuses.iter().filter(|status| status.connected).count(), 2);
    one.transport.stop().await;
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_newer_ones_and_end() {
    let net = Net::new();
    let mut settings = net.settings(1).await;
    settings.limits.handshakes = 2;
    settings.limits.handshake_timeout = Duration::from_millis(500);
    let one = Member::start(settings);
    let (mut first, mut second, mut third) = (
        Raw::dial(&net, 1).await,
        Raw::dial(&net, 1).await,
        Raw::dial(&net, 1).await,
    );
    assert!(!first.fill().await, "it is crowded out");
    let two = net.start(2).await;
    two.name([(1, net.address(1))]);
    two.until_connected(1).await;
    assert!(!second.fill().await);
    assert!(!third.fill().await, "its time is over");
    assert_eq!(one.transport.counts().abandoned, 3);
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn a_peer_that_dials_again_replaces_its_connection() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    // Another run of member 2, which the first does not know to be gone.
    let mut raw = Raw::dial(&net, 1).await;
    raw.send(&hello(&greeting(2, 1))).await;
    assert!(raw.magic().await);
    assert_eq!(raw.frame().await.unwrap().kind, Kind::Welcome);
    let mut start = Vec::new();
    frame::put(&mut start, Kind::Start, |_| {});
    raw.send(&start).await;
    two.told.until_event(Event::Disconnected(1)).await;
    assert!(one.status(2).unwrap().connected);
    assert!(
        !one.told.all().contains(&Event::Disconnected(2)),
        "one takes the place of the other"
    );
    let waiting = one.transport.request(NodeId(2), 1, Bytes::new(), LONG);
    let answer = async {
        loop {
            let frame = raw.frame().await.unwrap();
            if frame.kind == Kind::Request {
                raw.0.shutdown().await.unwrap();
                break;
            }
        }
    };
    let (outcome, ()) = tokio::join!(waiting, answer);
    assert!(
        matches!(outcome, Err(RequestError::Unknown { .. })),
        "{outcome:?}"
    );
    one.transport.stop().await;
    two.transport.stop().await;
}
