//! TLS on the port of clients, judged by openssl, curl and etcdctl, and by our own client.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::Readiness;
use nix::sys::signal::Signal;
use pki::{Authority, Name, Profile, Usage};
use service::clock::{Clock as _, SystemClock};
use testkit::{Output, Server, TestDir, mainstay_binary, require, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

fn now() -> u64 {
    SystemClock::new().unix_ms() / 1000
}

/// A server with a certificate for its address, and files to reach it with.
struct Secure {
    server: Server,
    ours: Authority,
    files: TestDir,
}

impl Secure {
    fn start(more: &str) -> Secure {
        let mut secure = Secure::build(more);
        secure.server.start().unwrap();
        secure
    }

    /// Written and not started; `more` are further lines of `[network.tls]`.
    fn build(more: &str) -> Secure {
        let ready = Readiness::Tcp { port: 2379 };
        let mut server = Server::new("chainfire", mainstay_binary().unwrap(), ready).unwrap();
        let files = TestDir::new("certs").unwrap();
        let ours = Authority::create("Test CA", "", 90, now()).unwrap();
        fs::write(files.join("ca.crt"), ours.certificate()).unwrap();
        let (address, certs) = (server.address(), files.path().display());
        issue(&ours, files.path(), "node", Usage::Peer, 90, now(), address);
        let data = server.dir().join("data");
        let config = format!(
            "[network]\napi_addr = '{address}:2379'\nraft_addr = '{address}:2380'\ngossip_addr = '{address}:2381'\n\
             [network.tls]\ncert_file = '{certs}/node.crt'\nkey_file = '{certs}/node.key'\nca_file = '{certs}/ca.crt'\n{more}\n\
             [storage]\ndata_dir = '{}'\n[log]\ntimestamps = false\n",
            data.display()
        );
        let path = server.dir().join("chainfire.toml");
        fs::write(&path, config).unwrap();
        server.set_args([
            "chainfire".to_owned(),
            "--config".into(),
            path.display().to_string(),
        ]);
        Secure { server, ours, files }
    }

    fn url(&self) -> String {
        format!("https://{}:2379", self.server.address())
    }

    fn file(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// A certificate for clients, by our authority unless another is given.
    fn issue(&self, name: &str, by: &Authority, days: u32, at: u64) {
        issue(
            by,
            self.files.path(),
            name,
            Usage::Client,
            days,
            at,
            self.server.address(),
        );
    }

    /// The three flags of etcdctl and of our client; no certificate if `name` is empty.
    fn flags(&self, name: &str) -> Vec<String> {
        let mut flags = vec!["--cacert".to_owned(), self.file("ca.crt")];
        if !name.is_empty() {
            flags.extend(["--cert".to_owned(), self.file(&format!("{name}.crt"))]);
            flags.extend(["--key".to_owned(), self.file(&format!("{name}.key"))]);
        }
        flags
    }

    fn client_command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(mainstay_binary().unwrap());
        command.args(["chainfire-client", "--endpoint", &self.url()]);
        command.args(self.flags(name)).args(args);
        command
    }

    fn client(&self, name: &str, args: &[&str]) -> Output {
        Output::of(&mut self.client_command(name, args)).unwrap()
    }

    fn etcdctl(&self, name: &str, args: &[&str]) -> Output {
        let mut command = Command::new(require("etcdctl").unwrap());
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url()]);
        command.args(["--dial-timeout=3s", "--command-timeout=3s"]);
        Output::of(command.args(self.flags(name)).args(args)).unwrap()
    }

    fn curl(&self, name: &str, path: &str, args: &[&str]) -> Output {
        let mut flags = self.flags(name);
        flags.push(format!("{}{path}", self.url()));
        curl(
            &flags
                .iter()
                .map(String::as_str)
                .chain(args.iter().copied())
                .collect::<Vec<_>>(),
        )
    }

    fn s_client(&self, name: &str, args: &[&str]) -> Output {
        let at = format!("{}:2379", self.server.address());
        let mut command = Command::new(require("openssl").unwrap());
        command.args(["s_client", "-connect", &at, "-CAfile", &self.file("ca.crt")]);
        if !name.is_empty() {
            command.args(["-cert", &self.file(&format!("{name}.crt"))]);
            command.args(["-key", &self.file(&format!("{name}.key"))]);
        }
        Output::of(command.args(args)).unwrap()
    }

    fn wait_log(&self, text: &str) {
        wait_until(LIMIT, &format!("{text:?} in the log"), || {
            self.server.log().contains(text)
        });
    }

    fn metric(&self, name: &str, line: &str) -> f64 {
        let page = self.curl(name, "/metrics", &[]).ok();
        let value = page.lines().find_map(|found| found.strip_prefix(line));
        value.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

fn issue(by: &Authority, dir: &Path, name: &str, usage: Usage, days: u32, at: u64, address: Ipv4Addr) {
    let profile = Profile {
        common_name: name.to_owned(),
        organisation: String::new(),
        names: vec![Name::Ip(address.into())],
        usage,
        days,
    };
    let issued = by.issue(&profile, at).unwrap();
    let files = [
        (format!("{name}.key"), issued.key, pki::files::PRIVATE),
        (format!("{name}.crt"), issued.certificate, pki::files::PUBLIC),
    ];
    pki::files::write_all(dir, &files).unwrap();
}

fn curl(args: &[&str]) -> Output {
    let mut command = Command::new(require("curl").unwrap());
    command.args(["-sS", "--noproxy", "*", "--max-time", "10"]);
    Output::of(command.args(args)).unwrap()
}

/// Ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_client_gets_through() {
    let secure = Secure::start("");
    assert_eq!(secure.etcdctl("", &["put", "a", "1"]).ok(), "OK\n");
    assert_eq!(secure.etcdctl("", &["get", "a"]).ok(), "a\n1\n");
    assert!(
        secure
            .etcdctl("", &["endpoint", "status"])
            .ok()
            .contains("https://")
    );
    assert!(
        secure
            .etcdctl("", &["member", "list"])
            .ok()
            .contains(&secure.url())
    );
    assert_eq!(secure.client("", &["get", "a"]).ok(), "a\n1\n");
    // More than any buffer between here and there holds, in both directions.
    let large = "x".repeat(1 << 20);
    fs::write(secure.files.join("large"), &large).unwrap();
    let mut put = secure.client_command("", &["put", "large", "-"]);
    let put = put
        .stdin(fs::File::open(secure.files.join("large")).unwrap())
        .output()
        .unwrap();
    assert!(put.status.success(), "{put:?}");
    assert_eq!(
        secure
            .client("", &["get", "large", "--print-value-only"])
            .ok()
            .trim_end(),
        large
    );

    for version in ["--http1.1", "--http2"] {
        assert!(
            secure
                .curl("", "/version", &[version])
                .ok()
                .contains("etcdserver"),
            "{version}"
        );
        let range = secure
            .curl("", "/v3/kv/range", &[version, "-d", r#"{"key": "YQ=="}"#])
            .ok();
        assert!(range.contains(r#""value":"MQ==""#), "{version}: {range}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let hello = secure.s_client("", &[version, "-alpn", "h2"]).ok();
        assert!(hello.contains("Verify return code: 0 (ok)"), "{version}: {hello}");
        assert!(hello.contains("ALPN protocol: h2"), "{version}: {hello}");
    }
    // The command of the seed shows a certificate whether one is wanted or not.
    assert!(
        secure
            .s_client("node", &[])
            .ok()
            .contains("Verify return code: 0 (ok)")
    );
    assert_ne!(
        secure
            .s_client("", &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])
            .code,
        0
    );
    secure.wait_log("TLS 1.2 or newer is wanted");
    let file = secure.file("node.crt");
    let end = secure.metric(
        "",
        &format!("chainfire_certificate_not_after_seconds{{file=\"{file}\"}}"),
    );
    assert!(end > now() as f64 + 89.0 * 86_400.0, "{end}");
    assert!(!secure.server.log().contains("panicked"));
}

#[test]
fn clients_without_a_good_certificate_are_kept_out_and_told_of() {
    let secure = Secure::start("require_client_cert = true");
    let others = Authority::create("Other CA", "", 90, now()).unwrap();
    secure.issue("ann", &secure.ours, 9, now());
    secure.issue("stranger", &others, 9, now());
    secure.issue("old", &secure.ours, 1, now() - 9 * 86_400);
    assert_eq!(secure.client("ann", &["put", "a", "1"]).ok(), "OK\n");
    assert_eq!(secure.etcdctl("ann", &["get", "a"]).ok(), "a\n1\n");
    assert!(secure.curl("ann", "/health", &[]).ok().contains("true"));
    assert!(
        secure
            .s_client("ann", &[])
            .ok()
            .contains("Verify return code: 0 (ok)")
    );

    let nobody = secure.client("", &["get", "a"]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (3, ""), "{nobody:?}");
    assert!(
        nobody.stderr.contains("give --cert FILE and --key FILE"),
        "{nobody:?}"
    );
    secure.wait_log("WARN chainfire_network: certificate verify failed, peer=");
    secure.wait_log("reason=no client certificate");
    assert_ne!(secure.etcdctl("", &["get", "a"]).code, 0);
    assert_ne!(secure.curl("", "/version", &[]).code, 0);

    let stranger = secure.client("stranger", &["get", "a"]);
    assert_eq!((stranger.code, stranger.stdout.as_str()), (3, ""), "{stranger:?}");
    assert!(
        stranger.stderr.contains("tls: bad certificate: unknown CA: "),
        "{stranger:?}"
    );
    assert!(stranger.stderr.contains("look at --cert"), "{stranger:?}");
    // One line of a kind per second.
    wait_until(LIMIT, "the line about the unknown CA", || {
        secure.s_client("stranger", &[]);
        secure.server.log().contains("reason=unknown CA")
    });
    // Our client says at once which file it is; openssl has the server find out.
    let old = secure.client("old", &["get", "a"]);
    assert_eq!(old.code, 1, "{old:?}");
    assert!(old.stderr.contains("old.crt expired on "), "{old:?}");
    wait_until(LIMIT, "the line about the expired certificate", || {
        secure.s_client("old", &[]);
        secure.server.log().contains("certificate verify failed, peer=")
            && secure.server.log().contains("reason=expired 20")
    });
    let refused = secure.metric("ann", "chainfire_tls_failures_total{reason=\"unverified\"}");
    assert!(refused >= 2.0, "{refused}");
    assert!(secure.metric("ann", "chainfire_tls_failures_total{reason=\"no certificate\"}") >= 3.0);
    assert!(!secure.server.log().contains("panicked"));
}

#[test]
fn a_certificate_names_the_user_of_requests_without_a_token() {
    let secure = Secure::start("require_client_cert = true");
    for name in ["root", "ann", "nobody"] {
        secure.issue(name, &secure.ours, 9, now());
    }
    let as_root = |args: &[&str]| secure.etcdctl("root", args).ok();
    as_root(&["user", "add", "root:secret"]);
    as_root(&["user", "grant-role", "root", "root"]);
    as_root(&["user", "add", "ann:secret"]);
    as_root(&["role", "add", "reader"]);
    as_root(&["role", "grant-permission", "reader", "read", "open"]);
    as_root(&["user", "grant-role", "ann", "reader"]);
    as_root(&["put", "open", "1"]);
    as_root(&["put", "closed", "1"]);
    as_root(&["auth", "enable"]);

    assert_eq!(as_root(&["get", "closed"]), "closed\n1\n");
    assert_eq!(secure.etcdctl("ann", &["get", "open"]).ok(), "open\n1\n");
    assert_eq!(secure.client("ann", &["get", "open"]).ok(), "open\n1\n");
    for refused in [&["get", "closed"][..], &["put", "open", "2"], &["user", "list"]] {
        let output = secure.etcdctl("ann", refused);
        assert_ne!(output.code, 0, "{refused:?}");
        assert!(
            output.stderr.contains("permission denied"),
            "{refused:?}: {output:?}"
        );
    }
    assert_ne!(secure.etcdctl("nobody", &["get", "open"]).code, 0);
    // A token goes before the certificate.
    assert_eq!(
        secure
            .etcdctl("ann", &["--user", "root:secret", "get", "closed"])
            .ok(),
        "closed\n1\n"
    );
    // Over JSON as well; and nobody becomes another by saying so.
    let range = |name: &str, key: &str, more: &[&str]| {
        let body = format!(r#"{{"key": "{key}"}}"#);
        secure
            .curl(name, "/v3/kv/range", &[&["-d", &body], more].concat())
            .ok()
    };
    let (open, closed) = ("b3Blbg==", "Y2xvc2Vk");
    assert!(range("ann", open, &[]).contains(r#""value":"MQ==""#));
    for version in ["--http1.1", "--http2"] {
        for header in [
            "chainfire-certificate-user: root",
            "grpc-metadata-chainfire-certificate-user: root",
        ] {
            for name in ["ann", "nobody"] {
                let reply = range(name, closed, &[version, "-H", header]);
                assert!(reply.contains("permission denied"), "{name} {header}: {reply}");
            }
        }
    }
}

#[test]
fn certificates_change_under_load_and_nobody_notices() {
    let secure = Secure::start("");
    let serial = || {
        let hello = secure.s_client("", &[]).ok();
        let from = hello.find("-----BEGIN CERTIFICATE-----").unwrap();
        let to = hello.find("-----END CERTIFICATE-----").unwrap();
        hello[from..to].to_owned()
    };
    let renew = || {
        issue(
            &secure.ours,
            secure.files.path(),
            "node",
            Usage::Peer,
            90,
            now(),
            secure.server.address(),
        );
    };
    let mut watch = secure.client_command("", &["watch", "k"]);
    let mut watch = Killed(watch.stdout(Stdio::piped()).spawn().unwrap());
    let mut events = BufReader::new(watch.0.stdout.take().unwrap()).lines();
    wait_until(LIMIT, "the watch", || {
        secure.metric("", "chainfire_watchers") > 0.5
    });

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(secure.client("", &["put", "load", "v"]).ok(), "OK\n");
                count += 1;
            }
            count
        });
        for round in 0..3 {
            let before = serial();
            renew();
            wait_until(LIMIT, "the new certificate", || serial() != before);
            let value = format!("after {round}");
            assert_eq!(secure.client("", &["put", "k", &value]).ok(), "OK\n");
            // The watch is on the connection that was there before any of this.
            assert!(events.by_ref().map(Result::unwrap).any(|line| line == value));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(load.join().unwrap() > 0);
    });
    secure.wait_log("INFO chainfire_network: Certificate reloaded, subject=node, not_after=");

    // New ones that are no good are told once, and the old ones stay.
    let good = serial();
    let others = Authority::create("Other CA", "", 90, now()).unwrap();
    issue(
        &others,
        secure.files.path(),
        "other",
        Usage::Peer,
        90,
        now(),
        secure.server.address(),
    );
    fs::copy(secure.files.join("other.key"), secure.files.join("node.key")).unwrap();
    let told = "WARN chainfire_network: New certificate refused, the old one stays in use, error=the key in ";
    secure.wait_log(told);
    assert_eq!(serial(), good);
    // SIGHUP says so too, and does not end anything.
    secure.server.signal(Signal::SIGHUP).unwrap();
    secure.wait_log("the old ones stay in use: the key in ");
    assert_eq!(secure.server.log().matches(told).count(), 1);
    // With SIGHUP the good ones are taken at once.
    renew();
    secure.server.signal(Signal::SIGHUP).unwrap();
    wait_until(LIMIT, "the certificate after SIGHUP", || serial() != good);
    assert_eq!(secure.client("", &["put", "k", "last"]).ok(), "OK\n");
    assert!(events.by_ref().map(Result::unwrap).any(|line| line == "last"));
}

#[test]
fn starts_with_bad_certificates_are_refused_with_the_file_to_look_at() {
    let mut secure = Secure::build("");
    let config = secure.server.dir().join("chainfire.toml").display().to_string();
    let check = || {
        let mut command = Command::new(mainstay_binary().unwrap());
        Output::of(command.args(["chainfire", "--check-config", "--config", &config])).unwrap()
    };
    check().ok();
    let address = secure.server.address();
    let mut refused = |wanted: &str| {
        let checked = check();
        assert_eq!(checked.code, 2, "{checked:?}");
        assert!(checked.stderr.contains(wanted), "{wanted}: {checked:?}");
        secure.server.spawn().unwrap();
        assert_eq!(secure.server.wait_exit().unwrap().code(), Some(2));
        assert!(
            secure.server.log().contains(wanted),
            "{wanted}: {}",
            secure.server.log()
        );
    };
    let dir = secure.files.path();
    let put = |at: u64| issue(&secure.ours, dir, "node", Usage::Peer, 5, at, address);
    put(now() - 6 * 86_400);
    refused("node.crt expired on 20");
    put(now());
    let good = fs::read(dir.join("node.key")).unwrap();
    fs::write(dir.join("node.key"), "nothing").unwrap();
    refused("node.key holds no private key");
    fs::remove_file(dir.join("node.key")).unwrap();
    refused("node.key: no such file or directory");
    fs::write(dir.join("node.key"), good).unwrap();
    // Good again, readable by all, and soon over: two warnings.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(dir.join("node.key"), mode).unwrap();
    secure.server.start().unwrap();
    secure.wait_log("WARN chainfire_network: Key can be read by other users, want mode 600, file=");
    secure.wait_log("WARN chainfire_network: Certificate expires soon, file=");
}

#[test]
fn plain_text_and_tls_on_the_wrong_port_are_told_to_both_sides() {
    let secure = Secure::start("");
    let plain = format!("http://{}:2379", secure.server.address());
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&[version, "-i", &format!("{plain}/version")]).ok();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(
            answer.ends_with("Client sent an HTTP request to an HTTPS server: use https://\n"),
            "{answer}"
        );
    }
    secure.wait_log("WARN chainfire_network: Plain text sent to the TLS port, want https, peer=127.");
    let client = |url: &str, more: &[&str]| {
        let mut command = Command::new(mainstay_binary().unwrap());
        Output::of(
            command
                .args(["chainfire-client", "--endpoint", url])
                .args(more)
                .args(["get", "a"]),
        )
        .unwrap()
    };
    let asked = client(&plain, &[]);
    assert_eq!((asked.code, asked.stdout.as_str()), (3, ""), "{asked:?}");
    assert!(
        asked
            .stderr
            .contains("the server wants TLS on this port: use https://"),
        "{asked:?}"
    );
    assert!(secure.metric("", "chainfire_tls_failures_total{reason=\"plain text\"}") >= 3.0);

    let ours = testkit::Chainfire::start_new().unwrap();
    let url = format!("https://{}:2379", ours.address());
    let asked = client(&url, &["--cacert", &secure.file("ca.crt")]);
    assert_eq!((asked.code, asked.stdout.as_str()), (3, ""), "{asked:?}");
    assert!(
        asked
            .stderr
            .contains("does not speak TLS on this port: use http://"),
        "{asked:?}"
    );
    let text = "WARN chainfire_network: TLS sent to the plain-text port, want http, peer=127.";
    wait_until(LIMIT, "the line of the other server", || {
        ours.log().contains(text)
    });
    let asked = curl(&["-k", &url]);
    assert!(
        asked.code != 0 && asked.stderr.contains("wrong version number"),
        "{asked:?}"
    );
}

#[test]
fn handshakes_that_never_end_keep_nobody_out() {
    let secure = Secure::start("");
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = TcpStream::connect(secure.server.socket()).unwrap();
            // Nothing, the first byte, the head of a record, a part of a greeting.
            let parts: [&[u8]; 4] = [
                b"",
                b"\x16",
                b"\x16\x03\x01\x02\x00",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            ];
            stream.write_all(parts[n % 4]).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream
        })
        .collect();
    assert_eq!(secure.client("", &["put", "a", "1"]).ok(), "OK\n");
    assert_eq!(secure.etcdctl("", &["get", "a"]).ok(), "a\n1\n");
    for stream in &mut slow {
        // Ended by the server, in whatever way.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    secure.wait_log("WARN chainfire_network: TLS handshake failed, peer=");
    assert!(secure.metric("", "chainfire_tls_failures_total{reason=\"timeout\"}") >= 300.0);
    // Noise that begins like TLS.
    let mut noise = TcpStream::connect(secure.server.socket()).unwrap();
    noise.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    noise.set_read_timeout(Some(LIMIT)).unwrap();
    let mut rest = Vec::new();
    // The server says that it is a mistake, or just ends.
    let _ = noise.read_to_end(&mut rest);
    assert_eq!(secure.client("", &["get", "a"]).ok(), "a\n1\n");
    assert!(!secure.server.log().contains("panicked"));
}

#[test]
fn the_client_says_what_is_wrong_with_a_server() {
    let secure = Secure::start("");
    let others = Authority::create("Other CA", "", 90, now()).unwrap();
    fs::write(secure.files.join("other.crt"), others.certificate()).unwrap();
    let ask = |url: &str, cacert: PathBuf| {
        let mut command = Command::new(mainstay_binary().unwrap());
        command
            .args(["chainfire-client", "--endpoint", url, "--cacert"])
            .arg(cacert);
        let output = Output::of(command.args(["get", "a"])).unwrap();
        assert_eq!(output.stdout, "");
        (output.code, output.stderr)
    };
    let ca = || secure.files.join("ca.crt");
    let (code, text) = ask(&secure.url(), secure.files.join("other.crt"));
    assert_eq!(code, 3, "{text}");
    let wanted =
        "certificate verify failed: unknown CA: the server's certificate is not signed by the CA in --cacert";
    assert!(text.contains(wanted), "{text}");
    secure.wait_log("WARN chainfire_network: tls: bad certificate, peer=");
    secure.wait_log("reason=unknown CA");

    let (code, text) = ask(&secure.url(), secure.files.join("node.key"));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("node.key holds no certificate"), "{text}");

    // What our server would not start with, or is not: openssl's.
    issue(
        &secure.ours,
        secure.files.path(),
        "old",
        Usage::Server,
        1,
        now() - 9 * 86_400,
        Ipv4Addr::LOCALHOST,
    );
    issue(
        &secure.ours,
        secure.files.path(),
        "elsewhere",
        Usage::Server,
        9,
        now(),
        Ipv4Addr::new(192, 0, 2, 7),
    );
    for (name, wanted) in [
        (
            "old",
            "certificate verify failed: the server's certificate expired on 20",
        ),
        (
            "elsewhere",
            "name mismatch: the server's certificate is for 192.0.2.7, not for 127.0.0.1",
        ),
    ] {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let mut server = Command::new(require("openssl").unwrap());
        server.args([
            "s_server",
            "-quiet",
            "-alpn",
            "h2",
            "-accept",
            &format!("127.0.0.1:{port}"),
        ]);
        server.args([
            "-cert",
            &secure.file(&format!("{name}.crt")),
            "-key",
            &secure.file(&format!("{name}.key")),
        ]);
        let server = server
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _server = Killed(server.spawn().unwrap());
        wait_until(LIMIT, "openssl to serve", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let (code, text) = ask(&format!("https://127.0.0.1:{port}"), ca());
        assert_eq!(code, 3, "{text}");
        assert!(text.contains(wanted), "{text}");
    }
}
