//! Strangers at the port between nodes: other programs, other keys, garbage. None of it is to disturb the cluster.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use testkit::{Output, QU_SECRET, Qu, QuCluster, require, wait_until};

use super::{LIMIT, alone};

/// The cluster still takes changes, under the same master in the same term.
#[track_caller]
fn undisturbed(cluster: &QuCluster, terms: &[Option<String>]) {
    cluster.nodes[2]
        .run(&["check", "add", "tcp", "after", "127.0.0.1:1"])
        .unwrap()
        .ok();
    cluster.settled().unwrap();
    assert_eq!(self::terms(cluster), terms);
    for node in &cluster.nodes {
        assert!(node.check("after").is_some());
    }
}

fn terms(cluster: &QuCluster) -> Vec<Option<String>> {
    cluster.nodes.iter().map(|node| node.field("term")).collect()
}

#[test]
fn curl_finishes_its_handshake_and_gets_health_and_nothing_else() {
    let cluster = QuCluster::start(3).unwrap();
    let before = terms(&cluster);
    let address = cluster.nodes[0].peer_address();
    let curl = |path: &str| {
        let url = format!("https://{address}{path}");
        let args = [
            "-sk",
            "--max-time",
            "20",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ];
        Output::of(Command::new(require("curl").unwrap()).args(args))
            .unwrap()
            .ok()
    };
    assert_eq!(curl("/healthz"), "200");
    assert_eq!(curl("/"), "404");
    assert_eq!(curl("/metrics"), "404");
    // TLS 1.2 is not spoken.
    let url = format!("https://{address}/healthz");
    let old = ["-sk", "--max-time", "20", "--tls-max", "1.2", &url];
    let old = Output::of(Command::new(require("curl").unwrap()).args(old)).unwrap();
    assert_eq!(old.code, 35, "{old:?}");
    undisturbed(&cluster, &before);
}

#[test]
fn a_foreign_certificate_gets_nowhere() {
    let cluster = QuCluster::start(3).unwrap();
    let before = terms(&cluster);
    // The keys of a node that nobody knows, in the hands of another program.
    let stranger = alone(9, QU_SECRET);
    let keys = stranger.config_dir().join("keys");
    let url = format!("https://{}/healthz", cluster.nodes[0].peer_address());
    let output = Output::of(
        Command::new(require("curl").unwrap())
            .args(["-sk", "--max-time", "20", "--cert"])
            .arg(keys.join("cert.pem"))
            .arg("--key")
            .arg(keys.join("private.pem"))
            .arg(&url),
    );
    // Whatever it gets, it is no more than others get.
    let output = output.unwrap();
    assert!(!output.stdout.contains(&cluster.nodes[1].id()), "{output:?}");
    // A node that claims to be one of the cluster: its id and the cluster's file and secret, but another key.
    let mut impostor = Qu::init(2, QU_SECRET).unwrap();
    std::fs::write(impostor.cluster_file(), cluster.nodes[0].cluster_text()).unwrap();
    impostor.start().unwrap();
    let status = impostor.run(&["status"]).unwrap();
    assert_eq!(status.code, 3, "{status:?}");
    undisturbed(&cluster, &before);
    assert!(!impostor.has_quorum() && impostor.check("after").is_none());
}

#[test]
fn garbage_is_hung_up_on() {
    let cluster = QuCluster::start(3).unwrap();
    let before = terms(&cluster);
    let address = cluster.nodes[0].peer_address();
    let mut long = vec![0xff; 1 << 20];
    long[..5].copy_from_slice(&[22, 3, 1, 0xff, 0xff]);
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        long,
        b"\x16\x03\x01\x00\x05hello".to_vec(),
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        // It may be hung up on before all of it is written.
        drop(stream.write_all(&bytes));
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let timed_out = |error: &std::io::Error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        };
        assert!(
            !ended.is_err_and(|error| timed_out(&error)),
            "not hung up on: {:?}",
            &bytes[..5]
        );
    }
    undisturbed(&cluster, &before);
}

#[test]
fn frames_that_are_too_long_or_make_no_sense_are_hung_up_on() {
    let cluster = QuCluster::start(3).unwrap();
    let before = terms(&cluster);
    let stranger = alone(9, QU_SECRET);
    let keys = stranger.config_dir().join("keys");
    // As a node: with a certificate, then frames. The first announces four gigabytes.
    for bytes in [
        vec![0xff; 64],
        vec![0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    ] {
        let mut child = Command::new(require("openssl").unwrap())
            .args([
                "s_client",
                "-quiet",
                "-no_ign_eof",
                "-connect",
                &cluster.nodes[0].peer_address(),
                "-cert",
            ])
            .arg(keys.join("cert.pem"))
            .arg("-key")
            .arg(keys.join("private.pem"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes).unwrap();
        stdin.flush().unwrap();
        // The end of the connection ends it; its input stays open.
        let mut ended = false;
        wait_until(LIMIT, "the node to hang up", || {
            ended = ended || child.try_wait().unwrap().is_some();
            ended
        });
        drop(stdin);
    }
    undisturbed(&cluster, &before);
}
