//! What is refused, and what a crash leaves.

use std::fs::File;

use super::*;
use crate::secret::Secret;
use std::os::unix::fs::PermissionsExt as _;

fn node() -> NodeFile {
    NodeFile {
        node_id: NodeId::draw(),
        bind_addr: "0.0.0.0".to_owned(),
        bind_port: PORT,
        advertise: "alpha.example.com:9901".to_owned(),
        cluster_secret: Secret::draw(),
        web_listen: None,
        log_format: None,
        fallback_alert: None,
        fallback_after: None,
        watchdog_url: Secret::default(),
        watchdog_every: None,
    }
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let begin = format!("node_id: {}\nadvertise: a:1\n", NodeId::draw());
    for (text, expected) in [
        (
            "watchdog_url: ftp://x/secret\n",
            "line 3: watchdog_url: it is no http://",
        ),
        (
            "watchdog_every: 10ms\n",
            "line 3: watchdog_every: 10ms is too short",
        ),
        ("watchdog_every: often\n", "line 3: bad duration"),
        ("fallback_after: 0s\n", "line 3: fallback_after: 0s is too short"),
        (
            "fallback_alert:\n  type: webhook\n",
            "line 3: fallback_alert: webhook_url is missing",
        ),
        ("fallback_alert:\n  type: discord\n", "line 4: "),
        (
            "fallback_alert: hello\n",
            "line 3: fallback_alert: write keys with values",
        ),
        (
            "bind_port: 70000\n",
            "line 3: bind_port: write a whole number from 0 to 65535",
        ),
        (
            "web_listen: 127.0.0.1:9901\n",
            "line 3: web_listen: 127.0.0.1:9901 is where other nodes are listened for",
        ),
        (
            "web_listen: 127.0.0.1:8\nbind_addr: 127.0.0.1\nbind_port: 8\n",
            "line 3: web_listen: 127.0.0.1:8 is where",
        ),
        (
            "web_listen: \"[::]:8\"\nbind_addr: 127.0.0.1\nbind_port: 8\n",
            "line 3: web_listen: [::]:8 is where",
        ),
        (
            "fallback_alert:\n  type: webhook\n  url: http://x/\n",
            "line 5: unknown field",
        ),
        (
            "fallback_alert:\n  type: smtp\n  smtp_host: mail.test\n  smtp_from: a\n  smtp_to: [b@test]\n",
            "line 3: fallback_alert: ",
        ),
    ] {
        write(&home.node_file(), format!("{begin}{text}").as_bytes()).unwrap();
        let error = home.read_node().unwrap_err().to_string();
        assert!(
            error.contains(&format!("node.yaml: {expected}")),
            "{text}: {error}"
        );
        assert!(!error.contains("x/secret"), "{error}");
    }
    let good = "watchdog_url: http://x/\nbind_addr: 127.0.0.1\nweb_listen: 127.0.0.2:9901\nfallback_alert:\n  type: webhook\n  webhook_url: http://x/\n";
    write(&home.node_file(), format!("{begin}{good}").as_bytes()).unwrap();
    assert!(home.read_node().unwrap().is_some());
}

#[test]
fn files_survive_and_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("q"));
    home.create().unwrap();
    assert!(home.read_node().unwrap().is_none());
    let node = node();
    home.write_node(&node).unwrap();
    assert_eq!(home.read_node().unwrap(), Some(node));
    fs::set_permissions(home.node_file(), fs::Permissions::from_mode(0o640)).unwrap();
    let error = home.read_node().unwrap_err().to_string();
    assert!(
        error.contains("mode 0640") && error.contains("chmod 600"),
        "{error}"
    );
}

#[test]
fn mistakes_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    write(&home.node_file(), b"node_id: x\nadvertise: a:1\n").unwrap();
    let error = home.read_node().unwrap_err().to_string();
    assert!(error.contains("node.yaml: line 1: bad node id \"x\""), "{error}");
    write(
        &home.node_file(),
        format!("node_id: {}\nadvertise: a:1\nfoo: 1\n", NodeId::draw()).as_bytes(),
    )
    .unwrap();
    let error = home.read_node().unwrap_err().to_string();
    assert!(error.contains("node.yaml: line 3: unknown field"), "{error}");
    write(&home.cluster_file(), b"version: 1\nfoo: 1\n").unwrap();
    let error = home.read_cluster().unwrap_err().to_string();
    assert!(error.contains("cluster.yaml: line 2: unknown field"), "{error}");
}

#[test]
fn what_is_no_small_text_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let path = home.cluster_file();
    let told = || home.read_cluster_text().unwrap_err().to_string();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(told().ends_with("cluster.yaml: it is not a file; put a file in its place"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(told().contains("it is not a file"));
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("cluster.yaml", &path).unwrap();
    assert!(told().starts_with("read "), "{}", told());
    fs::remove_file(&path).unwrap();
    let large = File::create(&path).unwrap();
    large.set_len(document::parse::BYTES_MAX as u64 + 1).unwrap();
    assert!(told().contains("the file has 16777217 bytes; at most 16777216 are read"));
    fs::write(&path, b"version: 1\nchecks:\n  - name: \xff\n").unwrap();
    assert!(told().ends_with("line 3: it is not UTF-8 text"), "{}", told());
}

#[test]
fn variables_win_over_the_file_and_empty_ones_do_not() {
    let mut file = node();
    let before = file.clone();
    file.overlay(|_| Some(String::new())).unwrap();
    assert_eq!(file, before);
    let port = |name: &str| (name == "QUPTIME_BIND_PORT").then(|| "9911".to_owned());
    file.overlay(port).unwrap();
    assert_eq!(file.bind_port, 9911);
    let bad = |name: &str| (name == "QUPTIME_BIND_PORT").then(|| "0".to_owned());
    assert!(file.overlay(bad).unwrap_err().starts_with("QUPTIME_BIND_PORT: "));
}
