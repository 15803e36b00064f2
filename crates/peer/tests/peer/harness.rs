//! What the tests stand on: members on addresses of their own, a handler that remembers, and bounded waits.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Body, Entry, GroupId, Incarnation, Kind, Message, NodeId, Position, Term};
use parking_lot::Mutex;
use peer::{BoxFuture, Handler, Introduction, Limits, PeerStatus, Settings, Transport};
use testkit::AddressBlock;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Far above what anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Connected(u64),
    Disconnected(u64),
    Message(Message),
    Request(u64, u8, Bytes),
    Asked(u64),
    Received(u64, Bytes),
}

/// Remembers what it was told.
pub(crate) struct Recorder {
    pub(crate) events: watch::Sender<Vec<Event>>,
    pub(crate) introduction: Mutex<Bytes>,
    /// Why nobody is admitted.
    pub(crate) closed: Mutex<Option<String>>,
    pub(crate) staging: Mutex<Option<PathBuf>>,
}

/// Kinds of requests that the recorder knows.
pub(crate) const ECHO: u8 = 1;
pub(crate) const REFUSE: u8 = 2;
pub(crate) const HANG: u8 = 3;
pub(crate) const BLOW_UP: u8 = 4;

impl Recorder {
    pub(crate) fn new() -> Arc<Recorder> {
        Arc::new(Recorder {
            events: watch::Sender::new(Vec::new()),
            introduction: Mutex::new(Bytes::from_static(b"hello")),
            closed: Mutex::new(None),
            staging: Mutex::new(None),
        })
    }

    fn note(&self, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits until what was told fulfils a condition.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
        let mut events = self.events.subscribe();
        let waited = tokio::time::timeout(LONG, events.wait_for(|events| condition(events))).await;
        let waited = waited.map(|events| events.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("no {what}: {:?}", self.all()))
    }

    pub(crate) async fn until_event(&self, event: Event) {
        self.until(&format!("{event:?}"), |events| events.contains(&event))
            .await;
    }

    pub(crate) fn messages(events: &[Event]) -> Vec<Message> {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Message(message) => Some(message.clone()),
                _ => None,
            })
            .collect()
    }

    /// Waits for so many messages.
    pub(crate) async fn until_messages(&self, count: usize) -> Vec<Message> {
        let events = self
            .until(&format!("{count} messages"), |events| {
                events
                    .iter()
                    .filter(|event| matches!(event, Event::Message(_)))
                    .count()
                    >= count
            })
            .await;
        Recorder::messages(&events)
    }
}

impl Handler for Recorder {
    fn introduction(&self) -> Bytes {
        self.introduction.lock().clone()
    }

    fn admit(&self, _peer: &Introduction) -> Result<(), String> {
        self.closed.lock().clone().map_or(Ok(()), Err)
    }

    fn asked(&self, peer: &Introduction) {
        self.note(Event::Asked(peer.node.0));
    }

    fn messages(&self, from: NodeId, messages: Vec<Message>) {
        for message in messages {
            assert_eq!(message.from, from);
            self.note(Event::Message(message));
        }
    }

    fn request(&self, from: NodeId, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        self.note(Event::Request(from.0, kind, body.clone()));
        Box::pin(async move {
            match kind {
                ECHO => Ok(body),
                REFUSE => Err("not today".to_owned()),
                BLOW_UP => Ok(Bytes::from(vec![0; body.len() * 100])),
                _ => std::future::pending().await,
            }
        })
    }

    fn connected(&self, peer: NodeId) {
        self.note(Event::Connected(peer.0));
    }

    fn disconnected(&self, peer: NodeId) {
        self.note(Event::Disconnected(peer.0));
    }

    fn receive(&self, _from: NodeId, header: &[u8]) -> Result<PathBuf, String> {
        if header == b"unwanted" {
            return Err("not this one".to_owned());
        }
        self.staging.lock().clone().ok_or_else(|| "no room".to_owned())
    }

    fn received(&self, from: NodeId, header: Bytes, _dir: PathBuf) -> BoxFuture<Result<(), String>> {
        self.note(Event::Received(from.0, header.clone()));
        Box::pin(async move {
            if header == "unusable" {
                Err("it does not open".to_owned())
            } else {
                Ok(())
            }
        })
    }
}

/// Short pauses, so that tests wait for what happens and not for time to pass.
pub(crate) fn limits() -> Limits {
    Limits {
        ping_every: Duration::from_millis(50),
        retry_min: Duration::from_millis(5),
        retry_max: Duration::from_millis(40),
        ..Limits::default()
    }
}

/// Addresses of their own for the members of a test.
pub(crate) struct Net(AddressBlock);

impl Net {
    pub(crate) fn new() -> Net {
        Net(AddressBlock::free().unwrap())
    }

    pub(crate) fn address(&self, node: u64) -> String {
        format!("{}:2380", self.0.host(node as usize).unwrap())
    }

    /// The host alone.
    pub(crate) fn host(&self, node: u64) -> String {
        self.0.host(node as usize).unwrap().to_string()
    }

    pub(crate) async fn settings(&self, node: u64) -> Settings {
        let listener = TcpListener::bind(self.address(node)).await.unwrap();
        Settings {
            limits: limits(),
            ..Settings::new(1, NodeId(node), listener)
        }
    }

    pub(crate) async fn start(&self, node: u64) -> Member {
        Member::start(self.settings(node).await)
    }

    /// Connections between the members, as the kernel counts them.
    pub(crate) fn connections(&self) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap(), fields.nth(1).unwrap());
            let (address, port) = local.split_once(':').unwrap();
            let octets = u32::from_str_radix(address, 16).unwrap().to_le_bytes();
            // Established, and at the end that has accepted.
            let block = self.0.host(0).unwrap().octets();
            octets[..3] == block[..3] && port == "094C" && state == "01"
        };
        table.lines().skip(1).filter(is_ours).count()
    }
}

/// A transport and what it has told.
pub(crate) struct Member {
    pub(crate) transport: Transport,
    pub(crate) told: Arc<Recorder>,
}

impl Member {
    pub(crate) fn start(settings: Settings) -> Member {
        let told = Recorder::new();
        let transport = Transport::start(settings, told.clone());
        Member { transport, told }
    }

    pub(crate) fn name<const N: usize>(&self, addresses: [(u64, String); N]) {
        let addresses: BTreeMap<NodeId, String> = addresses
            .into_iter()
            .map(|(node, address)| (NodeId(node), address))
            .collect();
        self.transport.set_addresses(addresses);
    }

    pub(crate) fn status(&self, node: u64) -> Option<PeerStatus> {
        let all = self.transport.statuses();
        all.into_iter().find(|status| status.node == NodeId(node))
    }

    pub(crate) async fn until_connected(&self, node: u64) {
        self.told
            .until(&format!("connection to {node}"), |events| {
                is_connected(events, node)
            })
            .await;
    }

    pub(crate) async fn until_error(&self, node: u64, part: &str) {
        until(&format!("error {part:?}"), || {
            let error = self.status(node).and_then(|status| status.last_error);
            (error.as_deref().unwrap_or_default().contains(part), error)
        })
        .await;
    }
}

/// Whether the last word about the peer is that it is connected.
pub(crate) fn is_connected(events: &[Event], node: u64) -> bool {
    let last = events
        .iter()
        .rev()
        .find(|event| matches!(event, Event::Connected(peer) | Event::Disconnected(peer) if *peer == node));
    last == Some(&Event::Connected(node))
}

/// Polls a condition on something that cannot be waited for.
pub(crate) async fn until<T: Debug>(what: &str, mut condition: impl FnMut() -> (bool, T)) {
    let mut seen = condition();
    let waited = tokio::time::timeout(LONG, async {
        while !seen.0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            seen = condition();
        }
    });
    let waited = waited.await;
    assert!(waited.is_ok(), "no {what}: {:?}", condition().1);
}

pub(crate) fn message(from: u64, to: u64, body: Body) -> Message {
    Message {
        group: GroupId(1),
        from: NodeId(from),
        to: NodeId(to),
        from_incarnation: Incarnation(1),
        to_incarnation: Incarnation(1),
        recovering: false,
        term: Term(1),
        body,
    }
}

pub(crate) fn heartbeat(from: u64, to: u64, round: u64) -> Message {
    message(from, to, Body::Heartbeat { commit: 0, round })
}

pub(crate) fn append(from: u64, to: u64, index: u64, bytes: usize) -> Message {
    let entry = Entry {
        index,
        term: Term(1),
        kind: Kind::Command,
        payload: Bytes::from(vec![7; bytes]),
    };
    message(
        from,
        to,
        Body::Append {
            previous: Position {
                term: Term(1),
                index: index - 1,
            },
            entries: vec![entry],
            commit: 0,
        },
    )
}

/// Two members, the first of which has dialled the second.
pub(crate) async fn pair(net: &Net) -> (Member, Member) {
    let (one, two) = (net.start(1).await, net.start(2).await);
    one.name([(2, net.address(2))]);
    one.until_connected(2).await;
    two.until_connected(1).await;
    (one, two)
}
