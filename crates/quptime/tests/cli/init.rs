//! `qu init`: what it makes, what it says, and what it refuses.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use regex::Regex;
use testkit::{Output, Qu};

use super::refused;

#[track_caller]
fn mode(node: &Qu, name: &str) -> u32 {
    let path = node.config_dir().join(name);
    let metadata = std::fs::metadata(&path).unwrap();
    metadata.permissions().mode() & 0o777
}

fn read(node: &Qu, name: &str) -> String {
    std::fs::read_to_string(node.config_dir().join(name)).unwrap()
}

#[test]
fn makes_the_files_of_a_node_with_their_modes() {
    let node = Qu::bare().unwrap();
    let output = node
        .run(&[
            "init",
            "--advertise",
            "alpha.example.com:9901",
            "--secret",
            "hush",
        ])
        .unwrap();
    let said = output.ok();
    let form = Regex::new(&format!(
        "^node id      ([0-9a-f]{{8}}-[0-9a-f]{{4}}-4[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}})\n\
         data dir     {}\n\
         advertise    alpha.example.com:9901\n\
         fingerprint  (sha256:[0-9a-f]{{64}})\n$",
        regex::escape(&node.config_dir().display().to_string())
    ));
    let found = form.unwrap().captures(&said).unwrap_or_else(|| panic!("{said}"));

    for name in ["node.yaml", "cluster.yaml", "trust.yaml", "keys/private.pem"] {
        assert_eq!(mode(&node, name), 0o600, "{name}");
    }
    assert_eq!(mode(&node, ""), 0o700);
    let cluster = read(&node, "cluster.yaml");
    assert!(cluster.starts_with("version: 1\n"), "{cluster}");
    assert!(
        cluster.contains(&found[1]) && cluster.contains(&found[2]),
        "{cluster}"
    );
    assert_eq!(cluster.matches("node_id:").count(), 1, "{cluster}");
    assert!(!cluster.contains("hush"), "{cluster}");
    let settings = read(&node, "node.yaml");
    assert!(settings.contains("cluster_secret: hush\n"), "{settings}");

    // The fingerprint is what openssl makes of the public key.
    let dir = node.config_dir();
    let der = dir.join("public.der");
    let made = Output::of(
        Command::new(testkit::require("openssl").unwrap())
            .args(["pkey", "-pubin", "-outform", "DER", "-in"])
            .arg(dir.join("keys/public.pem"))
            .arg("-out")
            .arg(&der),
    );
    made.unwrap().ok();
    let digest = Output::of(
        Command::new(testkit::require("openssl").unwrap())
            .args(["dgst", "-sha256", "-r"])
            .arg(&der),
    );
    let digest = digest.unwrap().ok();
    assert_eq!(format!("sha256:{}", &digest[..64]), found[2]);
    let name = Output::of(
        Command::new(testkit::require("openssl").unwrap())
            .args(["x509", "-noout", "-subject", "-in"])
            .arg(dir.join("keys/cert.pem")),
    );
    let name = name.unwrap().ok();
    assert!(name.trim_end().ends_with(&found[1]), "{name}");
}

#[test]
fn a_second_init_changes_nothing() {
    let node = Qu::init(1, "hush").unwrap();
    let before = (read(&node, "node.yaml"), read(&node, "keys/private.pem"));
    let output = node
        .run(&["init", "--advertise", "other:9901", "--secret", "x"])
        .unwrap();
    let said = refused(output, 1);
    assert!(said.contains("node.yaml exists"), "{said}");
    assert_eq!(
        (read(&node, "node.yaml"), read(&node, "keys/private.pem")),
        before
    );
}

#[test]
fn a_generated_secret_is_shown_once_and_kept() {
    let node = Qu::bare().unwrap();
    let output = node.run(&["init", "--advertise", "a.example.com:9901"]).unwrap();
    let hint = output.stderr.clone();
    let said = output.ok();
    let secret = said
        .lines()
        .find_map(|line| line.strip_prefix("secret       "))
        .unwrap();
    // 32 bytes in base64url without padding.
    assert!(
        Regex::new("^[A-Za-z0-9_-]{43}$").unwrap().is_match(secret),
        "{said}"
    );
    assert!(hint.contains("store it") && !hint.contains(secret), "{hint}");
    assert!(read(&node, "node.yaml").contains(secret));
    assert!(!read(&node, "cluster.yaml").contains(secret));
}

#[test]
fn secrets_come_from_files_and_standard_input() {
    let node = Qu::bare().unwrap();
    let file = node.dir().join("secret");
    std::fs::write(&file, "of a file\n").unwrap();
    let given = file.display().to_string();
    let init = ["init", "--advertise", "a:9901", "--secret-file"];
    let said = node.run(&[&init[..], &[&given]].concat()).unwrap().ok();
    assert!(!said.contains("secret"), "{said}");
    assert!(read(&node, "node.yaml").contains("cluster_secret: of a file\n"));

    let node = Qu::bare().unwrap();
    let said = node
        .run_with(&[&init[..], &["-"]].concat(), "of a pipe\n")
        .unwrap();
    said.ok();
    assert!(read(&node, "node.yaml").contains("cluster_secret: of a pipe\n"));

    let node = Qu::bare().unwrap();
    let said = refused(node.run_with(&[&init[..], &["-"]].concat(), "\n").unwrap(), 1);
    assert!(said.contains("is empty"), "{said}");
    let said = refused(node.run(&[&init[..], &["/does/not/exist"]].concat()).unwrap(), 1);
    assert!(said.contains("/does/not/exist"), "{said}");
    assert!(!node.config_dir().join("node.yaml").exists());
}

#[test]
fn the_environment_is_below_flags_and_empty_variables_do_not_count() {
    let node = Qu::bare().unwrap();
    let mut command = node.command(&["init", "--advertise", "flag.example.com:9901"]);
    command
        .env("QUPTIME_ADVERTISE", "env.example.com:9901")
        .env("QUPTIME_BIND_PORT", "9911")
        .env("QUPTIME_CLUSTER_SECRET", "of the environment")
        .env("QUPTIME_NODE_ID", "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091");
    Output::of(&mut command).unwrap().ok();
    let settings = read(&node, "node.yaml");
    for wanted in [
        "node_id: 1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091\n",
        "bind_port: 9911\n",
        "advertise: flag.example.com:9901\n",
        "cluster_secret: of the environment\n",
    ] {
        assert!(settings.contains(wanted), "{settings}");
    }

    let node = Qu::bare().unwrap();
    let mut command = node.command(&["init", "--advertise", "a:9901", "--secret", "s"]);
    command.env("QUPTIME_NODE_ID", "").env("QUPTIME_BIND_PORT", "");
    Output::of(&mut command).unwrap().ok();
}

#[test]
fn every_kind_of_key_serves() {
    for kind in ["p256", "ed25519", "rsa3072"] {
        let mut node = Qu::bare().unwrap();
        let address = node.address().to_string();
        let own = node.peer_address();
        let init = [
            "init",
            "--key",
            kind,
            "--bind",
            &address,
            "--advertise",
            &own,
            "--secret",
            "s",
        ];
        node.run(&init).unwrap().ok();
        node.listen_for_pages().unwrap();
        node.start().unwrap();
    }
}

#[test]
fn a_bad_address_is_refused_before_anything_is_made() {
    let node = Qu::bare().unwrap();
    let said = refused(
        node.run(&["init", "--advertise", "no-port", "--secret", "s"])
            .unwrap(),
        1,
    );
    assert!(
        said.contains("--advertise") && said.contains("host:port"),
        "{said}"
    );
    assert!(!node.config_dir().exists());
}

#[test]
fn a_daemon_without_files_takes_them_from_the_environment() {
    let mut node = Qu::bare().unwrap();
    let address = node.address().to_string();
    let own = node.peer_address();
    node.set_env("QUPTIME_ADVERTISE", &own);
    node.set_env("QUPTIME_BIND_ADDR", &address);
    node.set_env("QUPTIME_CLUSTER_SECRET", "s");
    node.spawn().unwrap();
    testkit::wait_until(super::LIMIT, "the node to lead itself", || node.has_quorum());
    assert!(read(&node, "node.yaml").contains("cluster_secret: s\n"));
}
