//! `chainfire-client` and the snapshots of a real Chainfire server.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;

use testkit::{Chainfire, Output, TestDir, mainstay_binary, require};

/// Runs the client that users run.
fn client(endpoint: &str, words: &[&str]) -> Output {
    let mut command = Command::new(mainstay_binary().unwrap());
    command
        .args(["chainfire-client", "--endpoint", endpoint])
        .args(words);
    Output::of(&mut command).unwrap()
}

/// The value of a `name: value` line; empty if there is none.
fn facts(text: &str, name: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_default().to_owned()
}

/// Replaces the data of a stopped server by a directory and starts it.
fn start_with(chainfire: &mut Chainfire, data: &Path) {
    let place = chainfire.dir().join("data");
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(data, &place).unwrap();
    chainfire.start().unwrap();
}

#[test]
fn what_was_saved_comes_back() {
    let mut chainfire = Chainfire::builder().start().unwrap();
    let endpoint = chainfire.endpoint();
    for n in 0..100 {
        client(&endpoint, &["put", &format!("k{n:02}"), &format!("value {n}")]).ok();
    }
    client(&endpoint, &["del", "k00"]).ok();
    let everything = client(&endpoint, &["get", "", "--prefix"]).ok();
    let dir = TestDir::new("snapshot").unwrap();
    let path = |name: &str| dir.join(name).display().to_string();

    let snapshot = path("s.snapshot");
    client(&endpoint, &["snapshot", "save", &snapshot]).ok();
    let status = client(&endpoint, &["snapshot", "status", &snapshot]).ok();
    assert_eq!(facts(&status, "total_keys"), "99");
    assert_eq!(
        facts(&status, "revision"),
        facts(&client(&endpoint, &["status"]).ok(), "revision")
    );
    assert_eq!(
        facts(&status, "total_size"),
        std::fs::metadata(&snapshot).unwrap().len().to_string()
    );

    let archive = path("b.tar.gz");
    client(&endpoint, &["backup", "--output", &archive]).ok();
    // Written after both: must be gone when they are back.
    client(&endpoint, &["put", "later", "x"]).ok();

    chainfire.sigterm().unwrap();
    let restored = path("restored");
    client(
        &endpoint,
        &["snapshot", "restore", &snapshot, "--data-dir", &restored],
    )
    .ok();
    let again = client(
        &endpoint,
        &["snapshot", "restore", &snapshot, "--data-dir", &restored],
    );
    assert_eq!(again.code, 1, "{again:?}");
    assert!(
        again.stderr.ends_with("exists and is not an empty directory\n"),
        "{again:?}"
    );
    start_with(&mut chainfire, Path::new(&restored));
    assert_eq!(client(&endpoint, &["get", "", "--prefix"]).ok(), everything);

    chainfire.sigterm().unwrap();
    let unpacked = path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new(require("tar").unwrap());
    tar.args(["-xzf", &archive, "-C", &unpacked, "--strip-components=1"]);
    Output::of(&mut tar).unwrap().ok();
    start_with(&mut chainfire, Path::new(&unpacked));
    assert_eq!(client(&endpoint, &["get", "", "--prefix"]).ok(), everything);
}

#[test]
fn a_damaged_snapshot_is_not_restored() {
    let chainfire = Chainfire::builder().start().unwrap();
    let dir = TestDir::new("damaged").unwrap();
    let snapshot = dir.join("s.snapshot");
    let name = snapshot.display().to_string();
    client(&chainfire.endpoint(), &["snapshot", "save", &name]).ok();
    let mut bytes = std::fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let target = dir.join("data");
    let refused = client(
        &chainfire.endpoint(),
        &[
            "snapshot",
            "restore",
            &name,
            "--data-dir",
            &target.display().to_string(),
        ],
    );
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("cut short or damaged"), "{refused:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_node_describes_itself() {
    let chainfire = Chainfire::builder().start().unwrap();
    let endpoint = chainfire.endpoint();
    let status = client(&endpoint, &["status"]).ok();
    assert_eq!(facts(&status, "node_id"), "1");
    assert_eq!(facts(&status, "leader"), "1");
    assert_eq!(facts(&status, "role"), "leader");
    assert_eq!(facts(&status, "alarms"), "none");
    assert_eq!(facts(&status, "raft_index"), facts(&status, "raft_applied_index"));
    let members = client(&endpoint, &["member-list"]).ok();
    let row: Vec<&str> = members.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[2], row[3]), ("1", "started", "leader"), "{members}");
}
