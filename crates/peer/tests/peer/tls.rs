//! Mutual TLS: who gets in, and what each side says of whom it does not let in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use consensus::NodeId;
use peer::{Settings, Tls};
use pki::{Authority, Profile, Usage};
use service::clock::{Clock as _, SystemClock};
use service::logs::{Capture, Format, capture};
use tempfile::TempDir;

use crate::harness::{LONG, Member, Net, heartbeat, until};

const DAY_S: u64 = 86_400;

fn now() -> u64 {
    SystemClock::new().unix_ms() / 1000
}

/// Certificates in files.
struct Files {
    dir: TempDir,
    ours: Authority,
    others: Authority,
}

impl Files {
    fn new() -> Files {
        let authority = |name| Authority::create(name, "", 100, now()).unwrap();
        Files {
            dir: tempfile::tempdir().unwrap(),
            ours: authority("Ours"),
            others: authority("Others"),
        }
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Of a member, as of when it was issued.
    fn issue(&self, name: &str, by: &Authority, host: &str, trusted: &Authority, at: u64) -> Tls {
        self.issue_for(Usage::Peer, name, by, &[host], trusted, at)
    }

    fn issue_for(
        &self,
        usage: Usage,
        name: &str,
        by: &Authority,
        hosts: &[&str],
        trusted: &Authority,
        at: u64,
    ) -> Tls {
        let profile = Profile {
            common_name: name.to_owned(),
            organisation: String::new(),
            names: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            usage,
            days: 1,
        };
        let issued = by.issue(&profile, at).unwrap();
        let certificate = self.put(&format!("{name}.crt"), &issued.certificate);
        let key = self.put(&format!("{name}.key"), &issued.key);
        let authorities = self.put(&format!("{name}.ca"), trusted.certificate());
        Tls::load(&certificate, &key, &authorities, at).unwrap()
    }

    fn good(&self, net: &Net, node: u64) -> Tls {
        self.issue(
            &format!("node{node}"),
            &self.ours,
            &net.host(node),
            &self.ours,
            now(),
        )
    }
}

async fn start(net: &Net, node: u64, tls: Option<Tls>) -> Member {
    Member::start(Settings {
        tls,
        ..net.settings(node).await
    })
}

/// Has the first dial the second, which must fail.
async fn mismatch(net: &Net, first: Option<Tls>, second: Option<Tls>, error: &str, said: &str) -> Capture {
    let logs = capture(Format::Text, "info");
    let (one, two) = (start(net, 1, first).await, start(net, 2, second).await);
    one.name([(2, net.address(2))]);
    one.until_error(2, error).await;
    until(said, || (logs.text().contains(said), logs.text())).await;
    let asked = one.transport.ask(&net.address(2), LONG).await.unwrap_err();
    assert!(
        asked.to_string().contains(error) || error.contains("TLS"),
        "{asked}"
    );
    one.transport.stop().await;
    two.transport.stop().await;
    assert!(one.told.all().is_empty() && two.told.all().is_empty());
    let text = logs.text();
    let line = text
        .lines()
        .find(|line| line.contains("Failed to connect to peer"))
        .unwrap();
    assert!(
        line.contains(error) && line.ends_with(&format!("addr={}", net.address(2))),
        "{line}"
    );
    logs
}

#[tokio::test]
async fn members_that_the_authority_has_certified_talk_in_both_directions() {
    let (net, files) = (Net::new(), Files::new());
    let one = start(&net, 1, Some(files.good(&net, 1))).await;
    let two = start(&net, 2, Some(files.good(&net, 2))).await;
    one.name([(2, net.address(2))]);
    one.until_connected(2).await;
    two.until_connected(1).await;
    for round in 0..100 {
        one.transport.send(heartbeat(1, 2, round));
        two.transport.send(heartbeat(2, 1, round));
    }
    let sent = |from, to| {
        (0..100)
            .map(|round| heartbeat(from, to, round))
            .collect::<Vec<_>>()
    };
    assert_eq!(two.told.until_messages(100).await, sent(1, 2));
    assert_eq!(one.told.until_messages(100).await, sent(2, 1));
    let body = bytes::Bytes::from(vec![5; 3 << 20]);
    let answer = two
        .transport
        .request(NodeId(1), crate::harness::ECHO, body.clone(), LONG)
        .await;
    assert_eq!(answer, Ok(body));
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_trusted() {
    let (net, files) = (Net::new(), Files::new());
    let stranger = files.issue("node2", &files.others, &net.host(2), &files.ours, now());
    mismatch(
        &net,
        Some(files.good(&net, 1)),
        Some(stranger),
        "certificate verify failed: unknown CA",
        "tls: bad certificate",
    )
    .await;
}

#[tokio::test]
async fn a_client_of_an_unknown_authority_is_not_let_in() {
    let (net, files) = (Net::new(), Files::new());
    let stranger = files.issue("node1", &files.others, &net.host(1), &files.ours, now());
    let logs = mismatch(
        &net,
        Some(stranger),
        Some(files.good(&net, 2)),
        "tls: bad certificate: unknown CA",
        "certificate verify failed",
    )
    .await;
    assert!(logs.text().contains("reason=unknown CA"), "{}", logs.text());
}

/// The same authority certifies users, and a user is no member.
#[tokio::test]
async fn a_certificate_of_a_user_does_not_make_a_member() {
    let (net, files) = (Net::new(), Files::new());
    let own = net.host(1);
    for (usage, hosts) in [(Usage::Client, vec![own.as_str()]), (Usage::Peer, vec![])] {
        let user = files.issue_for(usage, "alice", &files.ours, &hosts, &files.ours, now());
        let logs = mismatch(
            &net,
            Some(user),
            Some(files.good(&net, 2)),
            "tls: bad certificate",
            "certificate verify failed",
        )
        .await;
        assert!(logs.text().contains("not for this use"), "{}", logs.text());
    }
}

#[tokio::test]
async fn a_server_with_another_name_is_not_trusted() {
    let (net, files) = (Net::new(), Files::new());
    let elsewhere = files.issue("node2", &files.ours, &net.host(3), &files.ours, now());
    mismatch(
        &net,
        Some(files.good(&net, 1)),
        Some(elsewhere),
        "certificate verify failed: name mismatch",
        "tls: bad certificate",
    )
    .await;
}

#[tokio::test]
async fn expired_certificates_are_refused_on_both_sides() {
    let (net, files) = (Net::new(), Files::new());
    let expired = |node| {
        files.issue(
            &format!("old{node}"),
            &files.ours,
            &net.host(node),
            &files.ours,
            now() - 9 * DAY_S,
        )
    };
    mismatch(
        &net,
        Some(files.good(&net, 1)),
        Some(expired(2)),
        "certificate verify failed: expired",
        "reason=expired",
    )
    .await;
    mismatch(
        &net,
        Some(expired(1)),
        Some(files.good(&net, 2)),
        "tls: bad certificate: expired",
        "certificate verify failed",
    )
    .await;
}

#[tokio::test]
async fn plain_text_and_tls_that_meet_say_so_on_both_sides() {
    let (net, files) = (Net::new(), Files::new());
    mismatch(
        &net,
        None,
        Some(files.good(&net, 2)),
        "this member wants TLS",
        "Plain text sent to the TLS port",
    )
    .await;
    mismatch(
        &net,
        Some(files.good(&net, 1)),
        None,
        "the peer does not speak TLS",
        "TLS sent to the plain-text port",
    )
    .await;
}

#[tokio::test]
async fn new_certificates_are_taken_for_both_directions() {
    let (net, files) = (Net::new(), Files::new());
    let wrong = files.issue("node1", &files.others, &net.host(1), &files.ours, now());
    let one = start(&net, 1, Some(wrong.clone())).await;
    let two = start(&net, 2, Some(files.good(&net, 2))).await;
    one.name([(2, net.address(2))]);
    one.until_error(2, "bad certificate").await;
    // The same files with another content.
    drop(files.good(&net, 1));
    wrong.files().unwrap().reload(now()).unwrap();
    one.until_connected(2).await;
    two.until_connected(1).await;
    one.transport.stop().await;
    two.transport.stop().await;
    assert!(Path::new(files.dir.path()).exists());
}
