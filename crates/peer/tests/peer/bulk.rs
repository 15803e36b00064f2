//! Directories arrive whole or not at all, and go on where they were cut.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use consensus::NodeId;
use peer::BulkError;
use tempfile::TempDir;

use crate::harness::{Event, Member, Net, pair, until};
use crate::relay::{Fault, Relay};

/// Two members, the first of which reaches the second through a relay.
struct Way {
    one: Member,
    two: Member,
    relay: Relay,
    root: TempDir,
}

impl Way {
    async fn new() -> Way {
        let net = Net::new();
        let (one, two) = pair(&net).await;
        let relay = Relay::start(&net.host(8), &net.address(2)).await;
        one.name([(2, relay.address())]);
        let root = tempfile::tempdir().unwrap();
        *two.told.staging.lock() = Some(root.path().join("staging"));
        fs::create_dir(root.path().join("source")).unwrap();
        Way {
            one,
            two,
            relay,
            root,
        }
    }

    fn put(&self, name: &str, size: usize) {
        let content: Vec<u8> = (0..size as u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 16) as u8 ^ name.len() as u8)
            .collect();
        fs::write(self.root.path().join("source").join(name), content).unwrap();
    }

    async fn send(&self, header: &'static str) -> Result<(), BulkError> {
        let source = self.root.path().join("source");
        let header = Bytes::from_static(header.as_bytes());
        self.one
            .transport
            .send_directory(NodeId(2), header, &source, None)
            .await
    }

    fn assert_arrived(&self) {
        let list = |name: &str| content(&self.root.path().join(name));
        assert!(list("source") == list("staging"), "the directories differ");
    }

    async fn stop(self) {
        self.one.transport.stop().await;
        self.two.transport.stop().await;
    }
}

fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_directory_arrives_and_the_answer_of_its_user_comes_back() {
    let way = Way::new().await;
    way.put("CURRENT", 16);
    way.put("empty", 0);
    way.put("000007.sst", (3 << 20) + 5);
    way.send("snapshot 7").await.unwrap();
    way.assert_arrived();
    let received = Event::Received(1, Bytes::from_static(b"snapshot 7"));
    assert!(way.two.told.all().contains(&received));
    let refused = way.send("unusable").await;
    let reason = "it does not open".to_owned();
    assert_eq!(refused, Err(BulkError::Refused { to: 2, reason }));
    let unwanted = way.send("unwanted").await;
    let reason = "not this one".to_owned();
    assert_eq!(unwanted, Err(BulkError::Refused { to: 2, reason }));
    way.stop().await;
}

#[tokio::test]
async fn a_transfer_that_was_cut_goes_on_where_it_was() {
    let way = Way::new().await;
    way.put("a", 3 << 20);
    way.put("b", 9 << 20);
    way.relay.set_fault(Fault::CutAt(7 << 20));
    let cut = way.send("x").await;
    assert!(matches!(cut, Err(BulkError::Cut { to: 2, .. })), "{cut:?}");
    let staging = way.root.path().join("staging");
    let size = |name| fs::metadata(staging.join(name)).map_or(0, |metadata| metadata.len());
    until("six whole pieces", || {
        let sizes = (size("a"), size("b"));
        (sizes == (3 << 20, 3 << 20), sizes)
    })
    .await;
    way.relay.set_fault(Fault::None);
    way.relay.take_carried();
    way.send("x").await.unwrap();
    let carried = way.relay.take_carried();
    assert!(
        carried < 7 << 20,
        "{carried} bytes of 12 MiB, of which 6 were there"
    );
    way.assert_arrived();
    // All of it is there now.
    way.send("x").await.unwrap();
    assert!(way.relay.take_carried() < 100_000);
    way.stop().await;
}

#[tokio::test]
async fn a_damaged_piece_is_noticed_and_sent_again() {
    let way = Way::new().await;
    way.put("a", 4 << 20);
    way.relay.set_fault(Fault::FlipAt(2_500_000));
    let damaged = way.send("x").await;
    assert!(
        matches!(&damaged, Err(BulkError::Cut { reason, .. }) if reason.contains("checksum")),
        "{damaged:?}"
    );
    assert_eq!(way.two.transport.counts().bad_connections, 1);
    assert!(
        !way.two
            .told
            .all()
            .iter()
            .any(|event| matches!(event, Event::Received(..)))
    );
    way.relay.set_fault(Fault::None);
    way.send("x").await.unwrap();
    way.assert_arrived();
    way.stop().await;
}

#[tokio::test]
async fn a_part_of_another_file_with_the_same_name_is_noticed() {
    let way = Way::new().await;
    way.put("a", 100_000);
    let staging = way.root.path().join("staging");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("a"), vec![1; 50_000]).unwrap();
    fs::write(staging.join("stale"), b"from another time").unwrap();
    let wrong = way.send("x").await;
    assert!(
        matches!(&wrong, Err(BulkError::Cut { reason, .. }) if reason.contains("checksum of a")),
        "{wrong:?}"
    );
    way.send("x").await.unwrap();
    way.assert_arrived();
    way.stop().await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_before_anything_goes() {
    let way = Way::new().await;
    fs::create_dir(way.root.path().join("source/inner")).unwrap();
    let inner = way.send("x").await;
    assert!(
        matches!(&inner, Err(BulkError::Source(text)) if text.contains("inner is no plain file")),
        "{inner:?}"
    );
    let missing = way.root.path().join("missing");
    let missing = way
        .one
        .transport
        .send_directory(NodeId(2), Bytes::new(), &missing, None)
        .await;
    assert!(matches!(missing, Err(BulkError::Source(_))), "{missing:?}");
    let unknown = way
        .one
        .transport
        .send_directory(NodeId(5), Bytes::new(), way.root.path(), None)
        .await;
    assert!(
        matches!(unknown, Err(BulkError::Unreachable { to: 5, .. })),
        "{unknown:?}"
    );
    way.stop().await;
}

#[tokio::test]
async fn a_bounded_rate_carries_everything_too() {
    let way = Way::new().await;
    way.put("a", 300_000);
    let source = way.root.path().join("source");
    let sent = way
        .one
        .transport
        .send_directory(NodeId(2), Bytes::new(), &source, Some(10 << 20))
        .await;
    assert_eq!(sent, Ok(()));
    way.assert_arrived();
    way.stop().await;
}
