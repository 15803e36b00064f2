//! The same client with certificates and a password, against a store that asks for both.
//!
//! This Patroni lists the members before it has logged in, which a store with authentication refuses to nobody in particular (etcd
//! since the versions of March 2026). So its certificate bears the name of its user.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use pki::{Authority, Name, Profile, Usage};
use serde_json::json;
use service::clock::{Clock as _, SystemClock};
use testkit::{Chainfire, Output, TestDir, require, wait_until};

use crate::LIMIT;
use crate::member::{self, Member};

/// Certificates by one authority that any user of this machine may read: Patroni runs as another one.
fn certificates(server: IpAddr) -> TestDir {
    let dir = TestDir::new("certs").unwrap();
    let now = SystemClock::new().unix_ms() / 1000;
    let authority = Authority::create("Test CA", "", 90, now).unwrap();
    let mut files = vec![("ca.crt".to_owned(), authority.certificate().to_owned())];
    for (name, usage) in [("node", Usage::Peer), ("patroni", Usage::Client)] {
        let profile = Profile {
            common_name: name.to_owned(),
            organisation: String::new(),
            names: vec![Name::Ip(server)],
            usage,
            days: 90,
        };
        let issued = authority.issue(&profile, now).unwrap();
        files.push((format!("{name}.key"), issued.key));
        files.push((format!("{name}.crt"), issued.certificate));
    }
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn certificates_and_a_password_are_shown_and_asked_for() {
    if let Some(reason) = member::cannot_run() {
        println!("skipped: {reason}");
        return;
    }
    let mut store = Chainfire::builder().build().unwrap();
    let certs = certificates(store.address().into());
    let file = |name: &str| certs.join(name).display().to_string();
    store
        .configure(&format!(
            "[network]\nadvertise_api_url = 'https://{}'\n[network.tls]\ncert_file = '{}'\nkey_file = '{}'\nca_file = '{}'\nrequire_client_cert = true",
            store.socket(),
            file("node.crt"),
            file("node.key"),
            file("ca.crt")
        ))
        .unwrap();
    store.spawn().unwrap();
    let etcdctl = |user: &str, args: &[&str]| {
        let mut command = Command::new(require("etcdctl").unwrap());
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints=https://{}", store.socket()));
        command.args(["--cacert", &file("ca.crt"), "--cert", &file("patroni.crt")]);
        command.args(["--key", &file("patroni.key"), "--command-timeout=3s"]);
        if !user.is_empty() {
            command.args(["--user", user]);
        }
        Output::of(command.args(args)).unwrap()
    };
    wait_until(LIMIT, "the store to serve", || {
        etcdctl("", &["get", "nothing"]).code == 0
    });
    for step in [
        "user add root:root",
        "user grant-role root root",
        "user add patroni:secret",
        "role add patroni",
        "role grant-permission --prefix=true patroni readwrite /service/",
        "user grant-role patroni patroni",
        "auth enable",
    ] {
        let args: Vec<&str> = step.split(' ').collect();
        let output = etcdctl("", &args);
        assert_eq!(output.code, 0, "{step}: {}", output.stderr);
    }

    let etcd3 = json!({
        "hosts": [store.socket().to_string()],
        "protocol": "https",
        "cacert": file("ca.crt"),
        "cert": file("patroni.crt"),
        "key": file("patroni.key"),
        "username": "patroni",
        "password": "secret",
    });
    let mut one = Member::new("one", &etcd3);
    one.start();
    wait_until(LIMIT, "the PostgreSQL to be listed as leader", || {
        crate::listed(&one) == [("one".into(), "Leader".into(), 1)]
    });
    // The leader key hangs on a lease that is kept alive, and is seen through the watch.
    let loops = one.count("the leader with the lock");
    wait_until(LIMIT, "the primary to keep its key", || {
        one.count("the leader with the lock") >= loops + 3
    });
    let owner = etcdctl(
        "patroni:secret",
        &["get", "/service/show/leader", "--print-value-only"],
    );
    assert_eq!(owner.ok().trim_end(), "one");
    for complaint in ["watchprefix failed", "Invalid auth token", "Traceback"] {
        assert_eq!(one.count(complaint), 0, "{}", one.log());
    }
}
