//! The kit itself, with Debian's etcd as the server.

use std::time::Duration;

use testkit::{Etcd, wait_until};

#[test]
fn etcd_survives_sigkill_and_stops_on_sigterm() {
    let mut etcd = Etcd::start().unwrap();
    assert_eq!(etcd.etcdctl(&["put", "a", "1"]).unwrap().ok(), "OK\n");
    etcd.kill9().unwrap();
    assert!(!etcd.is_running());
    assert_ne!(
        etcd.etcdctl(&["--command-timeout=1s", "get", "a"]).unwrap().code,
        0
    );
    etcd.restart().unwrap();
    assert_eq!(etcd.etcdctl(&["get", "a"]).unwrap().ok(), "a\n1\n");
    assert_eq!(etcd.get("/version").unwrap().status, 200);
    assert!(etcd.log().contains("ready to serve client requests"));
    etcd.sigterm().unwrap();
    assert!(etcd.sigterm().unwrap_err().to_string().contains("does not run"));
}

#[test]
fn two_servers_do_not_meet() {
    let (one, two) = (Etcd::start().unwrap(), Etcd::start().unwrap());
    assert_ne!(one.address(), two.address());
    one.etcdctl(&["put", "a", "1"]).unwrap().ok();
    assert_eq!(two.etcdctl(&["get", "a"]).unwrap().ok(), "");
    let process = one.process().unwrap();
    let dir = one.dir().to_owned();
    drop(one);
    assert!(!process.is_alive());
    assert!(!dir.exists());
}

#[test]
fn early_end_shows_the_log() {
    let mut etcd = Etcd::start().unwrap();
    etcd.sigterm().unwrap();
    etcd.set_args(["--no-such-flag"]);
    let error = etcd.start().unwrap_err().to_string();
    assert!(
        error.starts_with("etcd ended early (exit status: 2); the end of its log:\n"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "timed out after 30ms waiting for the moon to be blue")]
fn wait_until_names_what_did_not_happen() {
    wait_until(Duration::from_millis(30), "the moon to be blue", || false);
}
