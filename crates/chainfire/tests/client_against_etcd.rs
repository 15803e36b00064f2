//! `chainfire-client` against Debian's etcd, its output compared with that of Debian's `etcdctl`.
//!
//! The client runs inside the test, on streams of the test's own; etcd and etcdctl are the real programs.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use chainfire::client::{self, Console};
use lab::Readiness;
use testkit::{Etcd, Output, Server, TestDir, require, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// An output that the test reads while it is written, and can close.
#[derive(Clone, Default)]
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    closed: Arc<AtomicBool>,
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client running beside the test.
struct Running {
    output: Pipe,
    errors: Pipe,
    thread: JoinHandle<u8>,
}

impl Running {
    fn start(endpoint: &str, words: &[&str], input: &'static [u8]) -> Self {
        let (output, errors) = (Pipe::default(), Pipe::default());
        let console = Console {
            input: Box::new(input),
            output: Box::new(output.clone()),
            errors: Box::new(errors.clone()),
        };
        let args: Vec<OsString> = ["chainfire-client", "--endpoint", endpoint]
            .iter()
            .chain(words)
            .map(OsString::from)
            .collect();
        let thread = std::thread::spawn(move || client::run(args, console));
        Self {
            output,
            errors,
            thread,
        }
    }

    fn end(self) -> Output {
        let code = self.thread.join().expect("the client does not panic");
        Output {
            code: code.into(),
            stdout: self.output.text(),
            stderr: self.errors.text(),
        }
    }
}

fn ours(endpoint: &str, words: &[&str], input: &'static [u8]) -> Output {
    Running::start(endpoint, words, input).end()
}

fn etcdctl(endpoint: &str, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(require("etcdctl").unwrap())
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoint}"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same keys, with the same versions, before every command.
fn reset(endpoint: &str) {
    for words in [
        &["del", "", "--prefix"][..],
        &["put", "ka", "va"],
        &["put", "kc", "vc"],
        &["put", "kb", "x"],
        &["put", "kb", "second"],
        &["put", "kd", ""],
    ] {
        etcdctl(endpoint, words, b"").ok();
    }
}

/// Runs a command with both clients on equal stores and compares what they print, how they end and what they leave.
fn compare(endpoint: &str, words: &[&str], input: &'static [u8]) {
    let state = || etcdctl(endpoint, &["get", "", "--prefix"], b"").ok();
    reset(endpoint);
    let wanted = etcdctl(endpoint, words, input);
    let wanted_state = state();
    reset(endpoint);
    let found = ours(endpoint, words, input);
    assert_eq!(
        (&found.stdout, found.code),
        (&wanted.stdout, wanted.code),
        "{words:?}: {found:?} {wanted:?}"
    );
    assert_eq!(state(), wanted_state, "{words:?}");
    // etcdctl logs its retries before the error.
    let last = wanted.stderr.lines().last().unwrap_or_default();
    assert_eq!(found.stderr.trim_end(), last, "{words:?}");
}

#[test]
fn put_get_and_del_print_what_etcdctl_prints() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    for words in [
        &["put", "x", "y"][..],
        &["put", "ka", "new", "--prev-kv"],
        &["put", "ka", "--ignore-value"],
        &["put", "none", "--ignore-value"],
        &["put", "ka", "v", "--ignore-lease"],
        &["put", "ka", "v", "--lease=1234"],
        &["put", "", "v"],
        &["get", "ka"],
        &["get", "none"],
        &["get", ""],
        &["get", "kb", "kd"],
        &["get", "k", "--prefix"],
        &["get", "", "--prefix"],
        &["get", "kb", "--from-key"],
        &["get", "", "--from-key"],
        &["get", "k", "--prefix", "--limit", "2"],
        &["get", "k", "--prefix", "--order=DESCEND"],
        &["get", "k", "--prefix", "--order=descend", "--sort-by=VALUE"],
        &["get", "k", "--prefix", "--order=ascend", "--sort-by=version"],
        &["get", "k", "--prefix", "--sort-by=modify"],
        &["get", "k", "--prefix", "--sort-by=create", "--limit=1"],
        &["get", "k", "--prefix", "--keys-only"],
        &["get", "k", "--prefix", "--print-value-only"],
        &["get", "k", "--prefix", "--hex"],
        &["get", "k", "--prefix", "--consistency=s"],
        &["get", "ka", "--rev=1000000"],
        &["del", "ka"],
        &["del", "none"],
        &["del", "ka", "kc"],
        &["del", "ka", "kc", "--prev-kv"],
        &["del", "k", "--prefix", "--prev-kv"],
        &["del", "kb", "--from-key"],
        &["del", "", "--prefix"],
        &["compaction", "1000000"],
    ] {
        compare(&endpoint, words, b"");
    }
    compare(&endpoint, &["put", "x"], b"from\nstandard input\n");
    // What etcdctl 3.4 cannot do.
    reset(&endpoint);
    assert_eq!(
        ours(&endpoint, &["get", "k", "--prefix", "--count-only"], b"").ok(),
        "4\n"
    );
    assert_eq!(ours(&endpoint, &["put", "x", "-"], b"\xff\0").ok(), "OK\n");
    assert_eq!(
        ours(&endpoint, &["get", "x", "--hex"], b"").ok(),
        "\\x78\n\\xff\\x00\n"
    );
}

#[test]
fn txn_prints_what_etcdctl_prints() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    for text in [
        &b"\n\n\n"[..],
        b"mod(\"ka\") > \"0\"\nval(\"kb\") = \"second\"\n\nput ka \"x y\"\nget k --prefix\ndel kb --prev-kv\n\nget ka\n\n",
        b"ver(\"kb\") = \"2\"\ncreate(\"none\") = \"0\"\n\nget kb\n\nget ka\n\n",
        b"version(\"kb\") != \"2\"\n\nget kb\n\nput z \"q w\"\nput kc \"\\x41\\n\\\"\" --prev-kv\n\n",
        b"value(\"kb\") < \"secone\"\n\nget \"\" --prefix --keys-only\nget kb kd --order=DESCEND --limit=1\n\n\n",
        b"\nput a 1\nput a 2\n\n\n",
        b"\ndel k --prefix\nput new --lease=1234 v\n\n\n",
    ] {
        compare(&endpoint, &["txn"], text);
    }
    reset(&endpoint);
    let json = br#"{"compare":[{"key":"a2E=","target":"VALUE","value":"dmE="}],"success":[{"request_range":{"key":"a2E="}}]}"#;
    assert_eq!(
        ours(&endpoint, &["txn", "--json", "-"], json).ok(),
        "SUCCESS\n\nka\nva\n"
    );
}

#[test]
fn leases_print_what_etcdctl_prints() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    compare(&endpoint, &["lease", "list"], b"");
    compare(&endpoint, &["lease", "timetolive", "1234"], b"");

    let grant = |output: String| {
        let words: Vec<String> = output.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words[1].len(), 16, "{output}");
        (words[1].clone(), output.replace(&words[1], "ID"))
    };
    let (first, wanted) = grant(etcdctl(&endpoint, &["lease", "grant", "600"], b"").ok());
    let (second, found) = grant(ours(&endpoint, &["lease", "grant", "600"], b"").ok());
    assert_eq!(found, wanted);
    // One key for each: etcd tells several in no order.
    for (id, key) in [(&first, "a"), (&second, "b")] {
        assert_eq!(
            ours(&endpoint, &["put", key, "v", "--lease", id], b"").ok(),
            "OK\n"
        );
    }
    for words in [
        &["lease", "timetolive", &second, "--keys"][..],
        &["lease", "timetolive", &first],
        &["lease", "keep-alive", &first, "--once"],
        &["lease", "list"],
    ] {
        let (found, wanted) = (
            ours(&endpoint, words, b"").ok(),
            etcdctl(&endpoint, words, b"").ok(),
        );
        assert_eq!(without_remaining(&found), without_remaining(&wanted), "{words:?}");
    }
    assert_eq!(
        ours(&endpoint, &["lease", "revoke", &second], b"").ok(),
        format!("lease {second} revoked\n")
    );
    assert_eq!(
        etcdctl(&endpoint, &["get", "a", "d", "--keys-only"], b"").ok(),
        "a\n\n"
    );
    let gone = ours(&endpoint, &["lease", "keepalive", &second], b"");
    assert_eq!(
        (gone.code, gone.stderr.as_str()),
        (1, "Error: etcdserver: requested lease not found\n")
    );
}

/// Leaves out the seconds a lease has left: they may change between two questions.
fn without_remaining(text: &str) -> String {
    match text.split_once("remaining(") {
        Some((before, after)) => before.to_owned() + after.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => text.to_owned(),
    }
}

#[test]
fn watch_goes_on_where_it_was_after_the_server_was_killed() {
    let mut etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    let put = |key: &str, value: &str| assert_eq!(etcdctl(&endpoint, &["put", key, value], b"").ok(), "OK\n");
    put("w1", "old");
    // From the first revision, so that nothing depends on when the watch begins.
    let watch = Running::start(
        &endpoint,
        &["watch", "w", "--prefix", "--rev", "2", "--prev-kv"],
        b"",
    );
    put("w1", "new");
    etcdctl(&endpoint, &["del", "w1"], b"").ok();
    let before = "PUT\nw1\nold\nPUT\nw1\nold\nw1\nnew\nDELETE\nw1\nnew\nw1\n\n";
    wait_until(LIMIT, "the first events", || watch.output.text() == before);

    etcd.kill9().unwrap();
    etcd.start().unwrap();
    put("w2", "after");
    let after = format!("{before}PUT\nw2\nafter\n");
    wait_until(LIMIT, "the event after the restart", || {
        watch.output.text() == after
    });
    assert!(
        watch.errors.text().contains("; going on at revision 5\n"),
        "{}",
        watch.errors.text()
    );

    watch.output.closed.store(true, Ordering::SeqCst);
    put("w3", "unread");
    let ended = watch.end();
    assert_eq!((ended.code, ended.stdout), (141, after));
}

#[test]
fn watch_filters_and_refuses_what_is_compacted() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    for words in [
        &["put", "k", "1"][..],
        &["del", "k"],
        &["put", "k", "2"],
        &["put", "k", "3"],
    ] {
        etcdctl(&endpoint, words, b"").ok();
    }
    let watch = Running::start(&endpoint, &["watch", "k", "--rev", "2", "--filter", "put"], b"");
    wait_until(LIMIT, "the deletion", || watch.output.text() == "DELETE\nk\n\n");
    watch.output.closed.store(true, Ordering::SeqCst);
    etcdctl(&endpoint, &["del", "k"], b"").ok();
    assert_eq!(watch.end().code, 141);

    assert_eq!(
        ours(&endpoint, &["compact", "4"], b"").ok(),
        "compacted revision 4\n"
    );
    let refused = ours(&endpoint, &["watch", "k", "--rev", "2"], b"");
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused
            .stderr
            .starts_with("Error: etcdserver: mvcc: required revision has been compacted"),
        "{refused:?}"
    );
}

#[test]
fn a_lock_is_held_by_one_and_released_after_its_command() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    let dir = TestDir::new("lock").unwrap();
    let gate = dir.join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "test -n \"$ETCD_LOCK_KEY\" && read word < {} && exit 5",
        gate.display()
    );
    let contenders = |wanted: &str| {
        wait_until(LIMIT, "the contenders to be counted", || {
            ours(&endpoint, &["get", "l/", "--prefix", "--count-only"], b"")
                .ok()
                .trim()
                == wanted
        });
    };

    let holder = Running::start(&endpoint, &["lock", "l", "--", "sh", "-c", &script], b"");
    contenders("1");
    let waiter = Running::start(&endpoint, &["lock", "l", "--", "sh", "-c", "exit 7"], b"");
    contenders("2");
    assert!(!waiter.thread.is_finished());
    std::fs::write(&gate, "go\n").unwrap();
    assert_eq!(holder.end().code, 5);
    assert_eq!(waiter.end().code, 7);
    contenders("0");
    assert_eq!(ours(&endpoint, &["lease", "list"], b"").ok(), "found 0 leases\n");

    let failed = ours(&endpoint, &["lock", "l", "--", "/no/such/program"], b"");
    assert_eq!(failed.code, 127);
    assert!(
        failed.stderr.starts_with("Error: run /no/such/program: "),
        "{failed:?}"
    );
    contenders("0");
}

#[test]
fn authentication_is_managed_and_obeyed() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    let run = |words: &[&str], input: &'static [u8]| ours(&endpoint, words, input).ok();
    assert_eq!(
        run(&["user", "add", "root", "--interactive=false"], b"secret\n"),
        "User root created\n"
    );
    assert_eq!(run(&["user", "add", "bob:pw"], b""), "User bob created\n");
    assert_eq!(run(&["role", "add", "r"], b""), "Role r created\n");
    for words in [
        &["role", "grant-permission", "r", "read", "cfg/", "--prefix"][..],
        &["role", "grant-permission", "r", "readwrite", "k"],
        &["role", "grant-permission", "r", "write", "x", "--from-key"],
        &["role", "grant-permission", "r", "read", "a", "b"],
    ] {
        assert_eq!(run(words, b""), "Role r updated\n");
    }
    assert_eq!(
        run(&["user", "grant-role", "bob", "r"], b""),
        "Role r is granted to user bob\n"
    );
    for words in [
        &["role", "get", "r"][..],
        &["user", "get", "bob"],
        &["user", "get", "bob", "--detail"],
        &["user", "list"],
        &["role", "list"],
    ] {
        assert_eq!(run(words, b""), etcdctl(&endpoint, words, b"").ok(), "{words:?}");
    }
    assert_eq!(run(&["auth", "enable"], b""), "Authentication Enabled\n");

    assert_eq!(run(&["--user", "bob:pw", "put", "k", "v"], b""), "OK\n");
    let refused = |words: &[&str]| {
        let output = ours(&endpoint, words, b"");
        assert_eq!((output.code, output.stdout.as_str()), (1, ""));
        output.stderr
    };
    let denied = "Error: etcdserver: permission denied\n";
    assert_eq!(refused(&["--user", "bob:pw", "get", "x"]), denied);
    assert_eq!(refused(&["--user", "bob:pw", "user", "list"]), denied);
    let wrong = "Error: etcdserver: authentication failed, invalid user ID or password\n";
    assert_eq!(refused(&["--user", "bob:no", "get", "k"]), wrong);
    assert_eq!(
        refused(&["get", "k"]),
        "Error: etcdserver: user name is empty; authentication is on: log in with --user NAME or in CHAINFIRE_USER\n"
    );

    let root = |words: &[&str], input| run(&[&["--user", "root:secret"], words].concat(), input);
    assert_eq!(
        root(&["role", "revoke-permission", "r", "x", "--from-key"], b""),
        "Permission of range [x, <open ended> is revoked from role r\n"
    );
    assert_eq!(
        root(&["user", "revoke-role", "bob", "r"], b""),
        "Role r is revoked from user bob\n"
    );
    assert_eq!(
        root(&["user", "passwd", "bob", "--interactive=false"], b"new\n"),
        "Password updated\n"
    );
    assert_eq!(refused(&["--user", "bob:pw", "get", "k"]), wrong);
    assert_eq!(root(&["user", "passwd", "bob:newer"], b""), "Password updated\n");
    assert_eq!(refused(&["--user", "bob:new", "get", "k"]), wrong);
    assert_eq!(root(&["auth", "disable"], b""), "Authentication Disabled\n");
    // A login while authentication is off does no harm.
    assert_eq!(run(&["--user", "bob:whatever", "get", "k"], b""), "k\nv\n");
    assert_eq!(run(&["user", "delete", "bob"], b""), "User bob deleted\n");
    assert_eq!(run(&["role", "delete", "r"], b""), "Role r deleted\n");
}

#[test]
fn a_snapshot_is_checked_before_it_gets_its_name() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    reset(&endpoint);
    let dir = TestDir::new("snapshot").unwrap();
    let file = dir.join("s.db");
    let name = file.to_str().unwrap();
    assert_eq!(
        ours(&endpoint, &["snapshot", "save", name], b"").ok(),
        format!("Snapshot saved at {name}\n")
    );
    // The judge of a whole snapshot of etcd.
    etcdctl(&endpoint, &["snapshot", "status", name], b"").ok();

    let archive = dir.join("b.tar.gz");
    let refused = ours(&endpoint, &["backup", "--output", archive.to_str().unwrap()], b"");
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stderr
            .ends_with("did not send an archive: is it a Chainfire server?\n"),
        "{refused:?}"
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing else is left behind"
    );

    let foreign = ours(&endpoint, &["snapshot", "status", name], b"");
    assert_eq!((foreign.code, foreign.stdout.as_str()), (1, ""));
    assert!(
        foreign
            .stderr
            .ends_with("it is a snapshot of etcd, which only etcd's own tools read\n"),
        "{foreign:?}"
    );
}

#[test]
fn the_cluster_is_described() {
    let etcd = Etcd::start().unwrap();
    let endpoint = etcd.endpoint();
    let status = ours(&endpoint, &["status"], b"").ok();
    let names: Vec<&str> = status
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "endpoint",
            "cluster_id",
            "node_id",
            "name",
            "version",
            "role",
            "leader",
            "raft_term",
            "raft_index",
            "raft_applied_index",
            "revision",
            "db_size",
            "db_size_in_use",
            "quota",
            "learner",
            "alarms",
            "errors"
        ]
    );
    let has = |line: &str| assert!(status.lines().any(|found| found == line), "{line}: {status}");
    has(&format!("endpoint: {endpoint}"));
    has("name: default");
    has("role: leader");
    has("revision: 1");
    has("alarms: none");

    let members = ours(&endpoint, &["member-list"], b"").ok();
    let mut lines = members.lines();
    let words = |line: Option<&str>| {
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(lines.next()),
        ["ID", "NAME", "STATUS", "ROLE", "PEER_URL", "CLIENT_URL", "LAG"]
    );
    let peer = format!("{}:2380", etcd.address());
    assert_eq!(
        words(lines.next())[1..],
        ["default", "started", "leader", &peer, &endpoint, "0"]
    );

    // etcd numbers its members itself: a node added under another number must not stay.
    let refused = ours(
        &endpoint,
        &["member-add", "--node-id", "2", "--peer-url", "127.0.0.1:9"],
        b"",
    );
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stderr
            .ends_with("does not serve this request: unknown service chainfire.v1.Cluster\n"),
        "{refused:?}"
    );
    assert_eq!(ours(&endpoint, &["member-list"], b"").ok(), members);
}

#[test]
fn the_next_endpoint_is_asked_when_one_is_not_there() {
    let etcd = Etcd::start().unwrap();
    // Port 1 of the server's own address is closed.
    let endpoints = format!("http://{}:1,{}", etcd.address(), etcd.endpoint());
    assert_eq!(ours(&endpoints, &["put", "k", "v"], b"").ok(), "OK\n");
    let nobody = ours(&format!("http://{}:1", etcd.address()), &["get", "k"], b"");
    assert_eq!((nobody.code, nobody.stdout.as_str()), (3, ""));
}

/// Runs `openssl`, which must succeed.
fn openssl(dir: &TestDir, words: &str) {
    let mut command = Command::new(require("openssl").unwrap());
    command.current_dir(dir.path()).args(words.split_whitespace());
    Output::of(&mut command).unwrap().ok();
}

#[test]
fn tls_checks_both_sides() {
    let dir = TestDir::new("tls").unwrap();
    let ready = Readiness::Tcp { port: 2379 };
    let mut etcd = Server::new("etcd", require("etcd").unwrap(), ready).unwrap();
    let address = etcd.address();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1";
    for authority in ["ca", "other"] {
        let files = format!("-keyout {authority}.key -out {authority}.pem");
        openssl(&dir, &format!("req -x509 {key} -subj /CN={authority} {files}"));
    }
    for name in ["server", "client"] {
        let files = format!("-CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem");
        let extensions = format!("-addext subjectAltName=IP:{address} -addext basicConstraints=CA:FALSE");
        openssl(
            &dir,
            &format!("req -x509 {key} -subj /CN={name} {extensions} {files}"),
        );
    }
    let path = |name: &str| dir.join(name).display().to_string();
    let url = format!("https://{address}:2379");
    let data = etcd.dir().join("data").display().to_string();
    etcd.set_args([
        format!("--data-dir={data}"),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls=http://{address}:2380"),
        format!("--initial-advertise-peer-urls=http://{address}:2380"),
        format!("--initial-cluster=default=http://{address}:2380"),
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", path("ca.pem")),
        format!("--cert-file={}", path("server.pem")),
        format!("--key-file={}", path("server.key")),
    ]);
    etcd.start().unwrap();

    let run = |words: &[&str]| ours(&url, words, b"");
    let (ca, other, cert, key) = (
        path("ca.pem"),
        path("other.pem"),
        path("client.pem"),
        path("client.key"),
    );
    let known = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    assert_eq!(run(&[&known[..], &["put", "k", "v"]].concat()).ok(), "OK\n");
    let stranger = run(&["--cacert", &ca, "get", "k"]);
    assert_eq!((stranger.code, stranger.stdout.as_str()), (3, ""), "{stranger:?}");
    assert!(stranger.stderr.contains("look at --cert"), "{stranger:?}");
    let impostor = run(&["--cacert", &other, "--cert", &cert, "--key", &key, "get", "k"]);
    assert_eq!((impostor.code, impostor.stdout.as_str()), (3, ""), "{impostor:?}");
    assert!(
        impostor.stderr.ends_with("certificate verify failed: unknown CA: the server's certificate is not signed by the CA in --cacert\n"),
        "{impostor:?}"
    );
    let missing = run(&["--cacert", "/no/such/file", "get", "k"]);
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr.starts_with("Error: read --cacert /no/such/file: "),
        "{missing:?}"
    );
}
