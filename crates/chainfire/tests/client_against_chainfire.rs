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

/// A saved store with a few keys; its endpoint serves.
fn saved(dir: &TestDir) -> (Chainfire, String) {
    let chainfire = Chainfire::start_new().unwrap();
    for n in 0..5 {
        client(&chainfire.endpoint(), &["put", "k", &format!("v{n}")]).ok();
    }
    let snapshot = dir.join("s.snapshot").display().to_string();
    client(&chainfire.endpoint(), &["snapshot", "save", &snapshot]).ok();
    (chainfire, snapshot)
}

fn restore(snapshot: &str, to: &Path, flags: &[&str]) -> Output {
    let to = to.display().to_string();
    let words = [&["snapshot", "restore", snapshot, "--data-dir", &to], flags].concat();
    client("http://127.0.0.1:1", &words)
}

#[test]
fn a_snapshot_can_become_another_node() {
    let dir = TestDir::new("renumbered").unwrap();
    let (mut chainfire, snapshot) = saved(&dir);
    chainfire.sigterm().unwrap();
    let data = dir.join("data");
    let refused = restore(&snapshot, &data, &["--initial-members", "2=a:2380,3=b:2380"]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (
            2,
            "Error: --initial-members: node 1 is not among them: give the same list on all machines, and on each its own --node-id\n"
        )
    );
    assert!(!data.exists());
    let flags = [
        "--node-id",
        "7",
        "--cluster-id",
        "9",
        "--initial-members",
        "7=a:2380",
    ];
    let told = restore(&snapshot, &data, &[&flags[..], &["-o", "json"]].concat()).ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["node_id"], &told["cluster_id"], &told["revision"]),
        (&7.into(), &9.into(), &6.into())
    );
    let place = chainfire.data_dir();
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(&data, &place).unwrap();
    let text = std::fs::read_to_string(chainfire.config_file()).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    config["node"]["id"] = 7.into();
    config["cluster"]["id"] = 9.into();
    std::fs::write(chainfire.config_file(), config.to_string()).unwrap();
    chainfire.start().unwrap();
    let endpoint = chainfire.endpoint();
    assert_eq!(client(&endpoint, &["get", "k"]).ok(), "k\nv4\n");
    let status = client(&endpoint, &["status"]).ok();
    assert_eq!(
        (facts(&status, "node_id"), facts(&status, "cluster_id")),
        ("7".into(), "9".into())
    );
}

#[test]
fn clients_of_a_raised_revision_notice_that_the_past_is_gone() {
    let dir = TestDir::new("raised").unwrap();
    let (mut chainfire, snapshot) = saved(&dir);
    // What the snapshot does not know, and a client has seen.
    client(&chainfire.endpoint(), &["put", "k", "lost"]).ok();
    chainfire.sigterm().unwrap();
    let data = dir.join("data");
    for (flags, wanted) in [
        (&["--bump-revision", "1000"][..], "--mark-compacted"),
        (&["--mark-compacted"], "--bump-revision"),
        (&["--bump-revision", "0", "--mark-compacted"], "--bump-revision"),
    ] {
        let refused = restore(&snapshot, &data, flags);
        assert!(
            refused.code == 2 && refused.stderr.contains(wanted),
            "{refused:?}"
        );
    }
    let most = u64::MAX.to_string();
    let refused = restore(&snapshot, &data, &["--bump-revision", &most, "--mark-compacted"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("there is no revision that high"),
        "{refused:?}"
    );
    assert!(!data.exists());

    restore(&snapshot, &data, &["--bump-revision", "1000", "--mark-compacted"]).ok();
    start_with(&mut chainfire, &data);
    let endpoint = chainfire.endpoint();
    assert_eq!(facts(&client(&endpoint, &["status"]).ok(), "revision"), "1006");
    assert_eq!(client(&endpoint, &["get", "k"]).ok(), "k\nv4\n");
    let compacted = "Error: etcdserver: mvcc: required revision has been compacted";
    let old = client(&endpoint, &["get", "k", "--rev", "6"]);
    assert!(old.code == 1 && old.stderr.starts_with(compacted), "{old:?}");
    let watch = client(&endpoint, &["watch", "k", "--rev", "7"]);
    assert!(
        watch.code == 1 && watch.stderr.starts_with(compacted),
        "{watch:?}"
    );
    client(&endpoint, &["put", "k", "new"]).ok();
    let get = client(&endpoint, &["get", "k", "-o", "json"]).ok();
    assert!(get.contains(r#""mod_revision":"1007""#), "{get}");
    // It stays so.
    chainfire.kill9().unwrap();
    chainfire.start().unwrap();
    assert_eq!(client(&endpoint, &["get", "k"]).ok(), "k\nnew\n");
    assert_eq!(facts(&client(&endpoint, &["status"]).ok(), "revision"), "1007");
    let log = chainfire.log();
    let told = log.lines().filter(|line| {
        line.starts_with("INFO chainfire_storage: Data restored from a snapshot, revision=1006, ")
    });
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn files_that_exist_are_not_replaced_unless_asked() {
    let dir = TestDir::new("taken").unwrap();
    let (chainfire, snapshot) = saved(&dir);
    let endpoint = chainfire.endpoint();
    let archive = dir.join("b.tar.gz").display().to_string();
    client(&endpoint, &["backup", "--output", &archive]).ok();
    let before = [&snapshot, &archive].map(|path| std::fs::read(path).unwrap());
    client(&endpoint, &["put", "k", "newer"]).ok();
    for (path, words) in [
        (&snapshot, ["snapshot", "save", &snapshot]),
        (&archive, ["backup", "--output", &archive]),
    ] {
        let refused = client(&endpoint, &words);
        assert_eq!(
            (refused.code, refused.stderr),
            (
                1,
                format!(
                    "Error: write {path}: it exists already: choose another name, or replace it with --force\n"
                )
            )
        );
    }
    assert_eq!(
        [&snapshot, &archive].map(|path| std::fs::read(path).unwrap()),
        before
    );
    client(&endpoint, &["snapshot", "save", &snapshot, "--force"]).ok();
    client(&endpoint, &["backup", "--force", "--output", &archive]).ok();
    let status = client(&endpoint, &["snapshot", "status", &snapshot]).ok();
    assert_eq!(facts(&status, "revision"), "7");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    // Nothing is written, and nobody is asked, when the target cannot be.
    let none = dir.join("no/s.snapshot").display().to_string();
    let refused = client("http://127.83.0.9:1", &["snapshot", "save", &none]);
    assert!(
        refused.code == 1 && refused.stderr.contains("is no directory: make it first"),
        "{refused:?}"
    );
}

#[test]
fn backups_are_named_after_the_time_and_the_oldest_go() {
    let dir = TestDir::new("rotation").unwrap();
    let (chainfire, _) = saved(&dir);
    let backups = dir.join("backups");
    std::fs::create_dir(&backups).unwrap();
    for n in 1..=4 {
        std::fs::write(backups.join(format!("chainfire-2020010{n}T000000Z.tar.gz")), b"").unwrap();
    }
    std::fs::write(backups.join("mine.tar.gz"), b"").unwrap();
    let place = backups.display().to_string();
    let words = ["backup", "--dir", &place, "--keep", "2", "-o", "json"];
    let told = client(&chainfire.endpoint(), &words).ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let file = told["file"].as_str().unwrap();
    assert_eq!(told["total_size"], std::fs::metadata(file).unwrap().len());
    assert_eq!(told["removed"].as_array().unwrap().len(), 3);
    let mut left: Vec<String> = std::fs::read_dir(&backups)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    left.sort();
    let kept = |name: &str| backups.join(name).display().to_string();
    let wanted = [
        kept("chainfire-20200104T000000Z.tar.gz"),
        file.to_owned(),
        kept("mine.tar.gz"),
    ];
    assert_eq!(left, wanted);
    // An archive is as good as a snapshot.
    let status = client("http://127.0.0.1:1", &["snapshot", "status", file, "-o", "json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["hash"], &status["revision"], &status["total_keys"]),
        (&"none".into(), &6.into(), &1.into())
    );
    restore(file, &dir.join("data"), &["--node-id", "3"]).ok();
    for (words, wanted) in [
        (&["backup"][..], "--output"),
        (&["backup", "--keep", "2", "--output", "x"], "--keep"),
        (&["backup", "--dir", "x", "--keep", "0"], "--keep"),
    ] {
        let refused = client(&chainfire.endpoint(), words);
        assert!(
            refused.code == 2 && refused.stderr.contains(wanted),
            "{refused:?}"
        );
    }
}

#[test]
fn a_lock_is_free_again_when_its_command_cannot_run() {
    let chainfire = Chainfire::start_new().unwrap();
    let endpoint = chainfire.endpoint();
    let dir = TestDir::new("lock").unwrap();
    let plain = dir.join("plain").display().to_string();
    std::fs::write(&plain, b"no program").unwrap();
    for (program, code, error) in [
        (
            "no-such-program",
            127,
            "Error: run no-such-program: no such command in any folder of PATH\n".to_owned(),
        ),
        (
            "/no/such/program",
            127,
            "Error: run /no/such/program: no such file, or not its interpreter\n".to_owned(),
        ),
        (&plain, 126, format!("Error: run {plain}: permission denied\n")),
    ] {
        let output = client(&endpoint, &["lock", "deploy", "--", program]);
        assert_eq!((output.code, output.stderr), (code, error));
        assert_eq!(
            client(&endpoint, &["get", "deploy", "--prefix", "--count-only"]).ok(),
            "0\n"
        );
        assert_eq!(client(&endpoint, &["lease", "list"]).ok(), "found 0 leases\n");
    }
    let output = client(&endpoint, &["lock", "deploy", "--", "sh", "-c", "exit 9"]);
    assert_eq!(output.code, 9, "{output:?}");
}

#[test]
fn a_node_that_never_comes_is_taken_out_again() {
    let chainfire = Chainfire::start_new().unwrap();
    let address = format!("127.0.0.1:{}", testkit::free_port().unwrap());
    let words = [
        "--timeout",
        "2s",
        "member-add",
        "--node-id",
        "2",
        "--peer-url",
        &address,
    ];
    let added = client(&chainfire.endpoint(), &words);
    assert_eq!(added.code, 3, "{}", added.stderr);
    assert!(
        added.stderr.contains("node 2 not ready within 2s") && added.stderr.contains("it was removed again"),
        "{}",
        added.stderr
    );
    let members = client(&chainfire.endpoint(), &["member-list"]).ok();
    assert_eq!(members.lines().count(), 2, "{members}");
    assert_eq!(client(&chainfire.endpoint(), &["put", "a", "1"]).code, 0);
}

#[test]
fn wrong_input_says_what_would_be_right() {
    for (words, wanted) in [
        (
            &["lease", "grant", "abc"][..],
            "want whole seconds from 1 up, for example 60",
        ),
        (
            &["lease", "grant", "-5"],
            "want whole seconds from 1 up, for example 60",
        ),
        (&["lease", "revoke", "xyz"], "want a lease id in hexadecimal"),
        (
            &["get", "k", "--rev", "newest"],
            "want a revision, a whole number",
        ),
        (&["compact", "0"], "want a revision from 1 up"),
        (&["compact", "-1"], "want a revision, a whole number"),
        (
            &["lock", "x", "--ttl", "1m"],
            "want whole seconds from 1 up, for example 60",
        ),
        (
            &["snapshot", "restore", "f", "--data-dir", "d", "--node-id", "0"],
            "want a whole number from 1 up",
        ),
        (
            &[
                "snapshot",
                "restore",
                "f",
                "--data-dir",
                "d",
                "--initial-members",
                "node1",
            ],
            "want ID=HOST:PORT, for example 1=node1:2380",
        ),
        (
            &["get", "k", "-o", "yaml"],
            "[possible values: text, json, table]",
        ),
    ] {
        let refused = client("http://127.0.0.1:1", words);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{words:?}");
        assert!(refused.stderr.contains(wanted), "{words:?}: {}", refused.stderr);
    }
    for (words, wanted) in [
        (
            &["snapshot", "status", "/no/such"][..],
            "Error: snapshot /no/such: no such file or directory\n",
        ),
        (
            &["snapshot", "status", "/etc/passwd"],
            "Error: snapshot /etc/passwd: it is no snapshot of Chainfire: it does not begin as one\n",
        ),
        (
            &[
                "get",
                "k",
                "--endpoint",
                "https://127.0.0.1:1",
                "--cacert",
                "/no/such",
            ],
            "Error: read --cacert /no/such: no such file or directory\n",
        ),
    ] {
        let refused = client("http://127.0.0.1:1", words);
        assert_eq!((refused.code, refused.stderr.as_str()), (1, wanted), "{words:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_in_one_line_with_a_way_on() {
    let missing = client("http://127.83.0.9:1", &["get", "k"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (
            3,
            "Error: http://127.83.0.9:1: connection refused; does it run there? endpoints come from --endpoint URL or from \
             CHAINFIRE_ENDPOINT\n"
        )
    );
    let unknown = client("http://no-such-host.invalid:1", &["get", "k"]);
    assert!(
        unknown.code == 3
            && unknown
                .stderr
                .starts_with("Error: http://no-such-host.invalid:1: failed to lookup address"),
        "{unknown:?}"
    );
}

#[test]
fn a_lease_has_a_table() {
    let chainfire = Chainfire::start_new().unwrap();
    let endpoint = chainfire.endpoint();
    client(&endpoint, &["lease", "grant", "600", "--id", "77"]).ok();
    client(&endpoint, &["put", "k", "v", "--lease", "77"]).ok();
    let table = client(&endpoint, &["lease", "ttl", "77", "--keys", "-o", "table"]).ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["LEASE", "GRANTED_TTL", "TTL", "KEYS"], "{table}");
    assert_eq!(
        (rows[1][0], rows[1][1], rows[1][3]),
        ("0000000000000077", "600", "k"),
        "{table}"
    );
}

#[test]
fn a_table_cuts_and_escapes_what_no_terminal_can_show() {
    let chainfire = Chainfire::start_new().unwrap();
    let endpoint = chainfire.endpoint();
    let long = "x".repeat(100_000);
    client(&endpoint, &["put", "long", &long]).ok();
    client(&endpoint, &["put", "colour", "\u{1b}[31mred"]).ok();
    let table = client(&endpoint, &["get", "", "--prefix", "-o", "table"]).ok();
    assert!(
        table.lines().all(|line| line.len() < 200) && !table.contains('\u{1b}'),
        "{table}"
    );
    assert!(
        table.contains("... (100000 bytes)") && table.contains(r"\u{1b}[31mred"),
        "{table}"
    );
    assert_eq!(
        client(&endpoint, &["get", "long", "--print-value-only"]).ok(),
        long + "\n"
    );
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
