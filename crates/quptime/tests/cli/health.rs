//! What watches qu: pages over HTTP, and `qu doctor`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use testkit::{QU_SECRET, Qu, wait_until};

use super::{LIMIT, single};

const WEB_PORT: u16 = 9902;
/// More than are served at once and the kernel keeps waiting: served after one another, each for as long as a request may take, they
/// would fill a quarter of a minute.
const HALVES: usize = 320;
/// Within this a reader has the answer while all of them are there.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn half_requests_do_not_keep_others_waiting() {
    let node = single();
    // A new node begins its group in a run of its own, whose end would answer for the clients that it let in.
    wait_until(LIMIT, "a master", || node.has_quorum());
    let address = SocketAddr::new(node.address().into(), WEB_PORT);
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, AT_ONCE).unwrap();
        stream.set_read_timeout(Some(AT_ONCE)).unwrap();
        stream
    };
    let mut halves: Vec<TcpStream> = (0..HALVES).map(|_| connect()).collect();
    for half in &mut halves {
        // The first ones may have been cut off already.
        drop(half.write_all(b"GET /healthz HTTP/1.1\r\nHost: "));
    }
    let mut reader = connect();
    reader
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: qu\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    reader.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Those who were there first have been cut off; otherwise this times out.
    let mut first = &halves[0];
    let cut = first.read_to_end(&mut Vec::new());
    assert!(
        cut.as_ref().err().map(std::io::Error::kind) != Some(std::io::ErrorKind::WouldBlock),
        "{cut:?}"
    );
}

#[test]
fn a_taken_web_listen_is_told_and_taken_later() {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    let address = SocketAddr::new(node.address().into(), WEB_PORT);
    let held = TcpListener::bind(address).unwrap();
    node.start().unwrap();
    wait_until(LIMIT, "a master", || node.has_quorum());
    let output = node.run(&["doctor"]).unwrap();
    let error = format!(
        "{}: address in use: {address} (web_listen in node.yaml): another process listens there",
        node.peer_address()
    );
    let told = output
        .stdout
        .lines()
        .any(|line| line.starts_with("warn    web_listen") && line.contains(&error));
    assert!(told && output.code == 0, "{output:?}");
    let log = node.log();
    let warning = log
        .lines()
        .find(|line| line.contains("pages and metrics are not served"));
    assert!(
        warning.is_some_and(|line| line.contains("WARN") && line.contains(&address.to_string())),
        "{log}"
    );
    drop(held);
    wait_until(LIMIT, "pages", || {
        node.get("/healthz").is_ok_and(|answer| answer.status == 200)
    });
    let output = node.run(&["doctor"]).unwrap().ok();
    assert!(!output.contains("warn    web_listen"), "{output}");
}

#[test]
fn doctor_fails_for_a_file_that_makes_no_sense_and_only_as_long_as_it_is_there() {
    let node = single();
    let seen = |text: &str| node.run(&["doctor"]).unwrap().stdout.contains(text);
    let quiet = "no errors in the last 10 minutes to act upon";
    assert!(seen(quiet));
    let file = node.cluster_file();
    let good = node.cluster_text();
    std::fs::write(&file, format!("{good}nonsense: 1\n")).unwrap();
    wait_until(LIMIT, "the error in the findings of doctor", || {
        seen("hand edit: not applied")
    });
    assert_eq!(node.run(&["doctor"]).unwrap().code, 1);
    // Whoever typed it has been told; once it is mended nobody has to do anything.
    std::fs::write(&file, good).unwrap();
    wait_until(LIMIT, "doctor to find nothing", || {
        node.run(&["doctor"]).unwrap().code == 0
    });
    assert!(seen(quiet));
}

#[test]
fn times_in_json_are_readable() {
    let node = single();
    node.run(&[
        "check",
        "add",
        "tcp",
        "self",
        &node.peer_address(),
        "--interval",
        "1s",
    ])
    .unwrap()
    .ok();
    wait_until(LIMIT, "a time behind the state", || {
        let text = node.run(&["status", "--json"]).unwrap().stdout;
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let is_time = |value: &serde_json::Value| {
            value
                .as_str()
                .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
        };
        is_time(&status["checks"][0]["since"]) && is_time(&status["peers"][0]["last_seen"])
    });
}

#[test]
fn the_daemon_lives_on_small_pages() {
    let mut node = testkit::Qu::init(1, "s").unwrap();
    node.start().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid().unwrap())).unwrap();
    // Kernels without huge pages have no such line.
    let may = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    assert!(may.is_none_or(|may| may.trim() == "0"), "{status}");
}
