//! Nodes that talk over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test is a panic"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use gossip::{Gossip, Node, Settings, State, Timing, Tls};
use pki::{Authority, Profile, Usage};
use service::clock::{Clock as _, SystemClock};
use service::logs::{Format, capture};
use tempfile::TempDir;
use testkit::AddressBlock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const LONG: Duration = Duration::from_secs(30);

struct Net(AddressBlock);

impl Net {
    fn new() -> Net {
        Net(AddressBlock::free().unwrap())
    }

    fn host(&self, id: u64) -> String {
        self.0.host(id as usize).unwrap().to_string()
    }

    fn address(&self, id: u64) -> String {
        format!("{}:2381", self.host(id))
    }

    fn node(&self, id: u64) -> Node {
        Node {
            id,
            name: format!("node{id}"),
            role: "worker".to_owned(),
            version: "0.1.0".to_owned(),
            gossip_address: self.address(id),
            api_address: format!("http://{}:2379", self.host(id)),
            raft_address: format!("{}:2380", self.host(id)),
        }
    }

    async fn settings(&self, id: u64, with_udp: bool) -> Settings {
        let listener = TcpListener::bind(self.address(id)).await.unwrap();
        let mut settings = Settings::new(1, listener);
        if with_udp {
            settings.udp = Some(UdpSocket::bind(self.address(id)).await.unwrap());
        }
        // Everything ten times as fast.
        settings.timing = Timing {
            probe_every: Duration::from_millis(100),
            probe_timeout: Duration::from_millis(40),
            suspect_for: Duration::from_secs(1),
            gossip_every: Duration::from_millis(20),
            greet_every: Duration::from_millis(500),
            greet_alone_every: Duration::from_millis(50),
        };
        settings.seeds = vec![self.address(1)];
        settings
    }

    async fn start(&self, id: u64, with_udp: bool) -> Gossip {
        Gossip::start(self.settings(id, with_udp).await, self.node(id)).unwrap()
    }
}

async fn until(what: &str, gossips: &[&Gossip], states: &[(u64, State)]) {
    let seen = |gossip: &Gossip| -> Vec<(u64, State)> {
        let nodes = gossip.nodes();
        nodes.iter().map(|seen| (seen.node.id, seen.state)).collect()
    };
    let waited = tokio::time::timeout(LONG, async {
        while !gossips.iter().all(|gossip| seen(gossip) == states) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let seen: Vec<_> = match waited.await {
        Ok(()) => return,
        Err(_elapsed) => gossips
            .iter()
            .map(|gossip| (seen(gossip), gossip.counts()))
            .collect(),
    };
    panic!("no {what}: {seen:#?}");
}

fn alive(ids: std::ops::RangeInclusive<u64>) -> Vec<(u64, State)> {
    ids.map(|id| (id, State::Alive)).collect()
}

async fn five(with_udp: bool) {
    let net = Net::new();
    let mut all = Vec::new();
    for id in 1..=5 {
        all.push(net.start(id, with_udp).await);
    }
    until("five alive", &all.iter().collect::<Vec<_>>(), &alive(1..=5)).await;
    assert_eq!(all[4].nodes()[1].node, net.node(2));
    // Killed: nothing is said, and nobody is there any more.
    drop(all.remove(3));
    let mut states = alive(1..=5);
    states[3].1 = State::Down;
    until("the fourth down", &all.iter().collect::<Vec<_>>(), &states).await;
    let again = loop {
        // Its tasks let go of the port in their own time.
        match TcpListener::bind(net.address(4)).await {
            Ok(listener) => break listener,
            Err(_busy) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    drop(again);
    all.push(net.start(4, with_udp).await);
    until("the fourth alive", &all.iter().collect::<Vec<_>>(), &alive(1..=5)).await;
    // A goodbye is heard well before a suspicion would be over.
    all.remove(1).stop().await;
    let mut states = alive(1..=5);
    states[1].1 = State::Down;
    until("the second down", &all.iter().collect::<Vec<_>>(), &states).await;
    for gossip in all {
        gossip.stop().await;
    }
}

#[tokio::test]
async fn five_nodes_learn_of_each_other_from_one_seed() {
    five(true).await;
}

#[tokio::test]
async fn tcp_alone_is_enough() {
    five(false).await;
}

#[tokio::test]
async fn a_node_without_udp_and_one_with_it_find_each_other() {
    let net = Net::new();
    let (one, two) = (net.start(1, true).await, net.start(2, false).await);
    until("both", &[&one, &two], &alive(1..=2)).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn descriptions_and_seeds_change_while_it_runs() {
    let net = Net::new();
    let mut settings = net.settings(2, false).await;
    settings.seeds.clear();
    let one = net.start(1, false).await;
    let two = Gossip::start(settings, net.node(2)).unwrap();
    two.set_seeds(vec![net.address(1)]);
    until("both", &[&one, &two], &alive(1..=2)).await;
    let next = Node {
        role: "control_plane".to_owned(),
        ..net.node(2)
    };
    two.update(next.clone()).unwrap();
    let renamed = tokio::time::timeout(LONG, async {
        while one.nodes()[1].node != next || one.nodes()[1].state != State::Alive {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(renamed.await.is_ok(), "{:?}", one.nodes());
    let long = Node {
        name: "x".repeat(100),
        ..net.node(2)
    };
    assert!(two.update(long).is_err());
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn other_clusters_are_ignored() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let one = net.start(1, true).await;
    let mut settings = net.settings(2, true).await;
    settings.cluster = 2;
    let two = Gossip::start(settings, net.node(2)).unwrap();
    let ignored = tokio::time::timeout(LONG, async {
        while one.counts().foreign < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(ignored.await.is_ok());
    assert_eq!((one.nodes().len(), two.nodes().len()), (1, 1));
    one.stop().await;
    two.stop().await;
    let text = logs.text();
    let line = "Gossip of another cluster ignored";
    assert_eq!(text.matches(line).count(), 1, "{text}");
    assert!(text.contains("cluster=2, own_cluster=1"), "{text}");
}

#[tokio::test]
async fn garbage_and_probes_do_nothing() {
    let net = Net::new();
    let (one, two) = (net.start(1, true).await, net.start(2, true).await);
    until("both", &[&one, &two], &alive(1..=2)).await;
    // As a shell does with /dev/tcp.
    drop(TcpStream::connect(net.address(1)).await.unwrap());
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        &[0xff; 64],
        &[0, 0, 0, 3, 1, 2, 3],
    ] {
        let mut socket = TcpStream::connect(net.address(1)).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut end = Vec::new();
        // It is closed, politely or not.
        let read = tokio::time::timeout(LONG, socket.read_to_end(&mut end)).await;
        assert!(read.is_ok() && end.is_empty());
    }
    let udp = UdpSocket::bind((net.host(9), 0)).await.unwrap();
    for length in [0, 1, 30, 1400, 9000] {
        udp.send_to(&vec![0x4d; length], net.address(1)).await.unwrap();
    }
    let counted = tokio::time::timeout(LONG, async {
        while one.counts().garbage < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(counted.await.is_ok(), "{:?}", one.counts());
    until("both still", &[&one, &two], &alive(1..=2)).await;
    one.stop().await;
    two.stop().await;
}

/// Certificates in files.
fn tls(dir: &TempDir, net: &Net, id: u64, by: &Authority, trusted: &Authority) -> Tls {
    let now = SystemClock::new().unix_ms() / 1000;
    let profile = Profile {
        common_name: format!("node{id}"),
        organisation: String::new(),
        names: vec![net.host(id).parse().unwrap()],
        usage: Usage::Peer,
        days: 1,
    };
    let issued = by.issue(&profile, now).unwrap();
    let put = |end: &str, content: &str| -> PathBuf {
        let path = dir.path().join(format!("{id}.{end}"));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let files = (
        put("crt", &issued.certificate),
        put("key", &issued.key),
        put("ca", trusted.certificate()),
    );
    Tls::load(&files.0, &files.1, &files.2, now).unwrap()
}

#[tokio::test]
async fn with_tls_only_certified_nodes_are_heard() {
    let logs = capture(Format::Text, "info");
    let (net, dir) = (Net::new(), tempfile::tempdir().unwrap());
    let authority = |name| Authority::create(name, "", 100, SystemClock::new().unix_ms() / 1000).unwrap();
    let (ours, others) = (authority("Ours"), authority("Others"));
    let mut all = Vec::new();
    for (id, by) in [(1, &ours), (2, &ours), (3, &others)] {
        let mut settings = net.settings(id, true).await;
        settings.tls = Some(tls(&dir, &net, id, by, &ours));
        all.push(Gossip::start(settings, net.node(id)).unwrap());
    }
    let plain = net.start(4, true).await;
    until("both", &[&all[0], &all[1]], &alive(1..=2)).await;
    let refused = tokio::time::timeout(LONG, async {
        while !(logs.text().contains("certificate verify failed") && logs.text().contains("Plain text sent"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(refused.await.is_ok(), "{}", logs.text());
    assert_eq!((all[2].nodes().len(), plain.nodes().len()), (1, 1));
    assert!(all[0].nodes().len() == 2 && all[0].counts().tls_failures > 0);
    for gossip in all {
        gossip.stop().await;
    }
    plain.stop().await;
}
