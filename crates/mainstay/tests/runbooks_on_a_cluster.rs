//! The runbooks about clusters, carried out as an operator would against three nodes that `mainstay up` started and a test has broken.
//! Each time the page's checks find the trouble, its fix mends it, and then the whole page passes.
#![allow(clippy::panic, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use lab::AddressBlock;

/// Longest wait for a condition.
const LIMIT: Duration = Duration::from_mins(1);

/// Three nodes in a directory of their own, taken down whatever happens.
struct Cluster {
    dir: tempfile::TempDir,
    block: AddressBlock,
}

impl Cluster {
    fn up() -> Cluster {
        let cluster = Cluster {
            dir: tempfile::tempdir().expect("a directory for the lab"),
            block: AddressBlock::free().expect("a free block of addresses"),
        };
        let block = cluster.block.host(0).expect("a block has hosts").octets()[2].to_string();
        let up = mainstay(&[
            "up",
            "--nodes",
            "3",
            "--detach",
            "--block",
            &block,
            "--dir",
            cluster.path(),
        ]);
        assert_passed(&up);
        cluster
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().expect("temporary paths are text")
    }

    fn address(&self, node: usize) -> String {
        self.block.host(node - 1).expect("a block has hosts").to_string()
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    /// `mainstay lab VERB ... nodeN chainfire`
    fn lab(&self, verb: &[&str], node: usize) -> Output {
        let host = format!("node{node}");
        let arguments = [&["lab"], verb, &["--dir", self.path(), &host, "chainfire"]].concat();
        mainstay(&arguments)
    }

    fn client(&self, node: usize, arguments: &[&str]) -> Output {
        let endpoint = format!("http://{}:2379", self.address(node));
        mainstay(&[&["chainfire-client", "--endpoint", &endpoint], arguments].concat())
    }

    fn said(&self, node: usize, arguments: &[&str]) -> String {
        let output = self.client(node, arguments);
        assert_passed(&output);
        text(&output)
    }

    fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.folder(node).join("logs/chainfire.log")).unwrap_or_default()
    }

    fn runbook(&self, name: &str, more: &[&str]) -> Output {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/runbooks");
        let arguments = [
            "runbook",
            "run",
            name,
            "--dir",
            pages,
            "--lab",
            self.path(),
            "--yes",
        ];
        mainstay(&[&arguments, more].concat())
    }

    /// The checks find these steps failing, the fix passes, and then the whole page does.
    fn mended_by(&self, name: &str, more: &[&str], found: &[&str]) {
        let checks = self.runbook(name, &[&["--section", "Checks"], more].concat());
        let output = text(&checks);
        assert_eq!(checks.status.code(), Some(1), "{output}");
        let failed = output
            .lines()
            .find(|line| line.starts_with("FAILED: "))
            .unwrap_or_default();
        for step in found {
            assert!(failed.contains(&format!("{step} (line ")), "{step}: {output}");
        }
        assert_passed(&self.runbook(name, &[&["--section", "Fix"], more].concat()));
        assert_passed(&self.runbook(name, more));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = mainstay(&["down", "--dir", self.path()]);
        if !std::thread::panicking() {
            assert_passed(&down);
        }
    }
}

fn mainstay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

#[track_caller]
fn assert_passed(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, text(output));
}

/// Every page passes on a cluster in which nothing is broken.
#[test]
fn pages_pass_on_a_healthy_cluster() {
    let cluster = Cluster::up();
    for page in [
        "chainfire-health",
        "chainfire-no-leader",
        "chainfire-data-inconsistency",
        "chainfire-tls",
    ] {
        assert_passed(&cluster.runbook(page, &[]));
    }
    // A debug build on a busy machine starts its clients slowly; what a write may take is the operator's to say.
    assert_passed(&cluster.runbook("chainfire-high-write-latency", &["--param", "PUT_MS_MAX=5000"]));
    assert_passed(&cluster.runbook("chainfire-node-cannot-join", &[]));
}

#[test]
fn two_dead_nodes_of_three_are_found_and_started() {
    let cluster = Cluster::up();
    cluster.said(1, &["put", "kept", "yes"]);
    for node in [2, 3] {
        assert_passed(&cluster.lab(&["kill"], node));
    }
    cluster.mended_by("chainfire-no-leader", &[], &["quorum"]);
    assert_eq!(cluster.said(3, &["get", "kept", "--print-value-only"]), "yes\n");
}

#[test]
fn a_node_without_its_data_takes_them_from_the_others() {
    let cluster = Cluster::up();
    cluster.said(1, &["put", "kept", "yes"]);
    assert_passed(&cluster.lab(&["kill"], 2));
    std::fs::remove_dir_all(cluster.folder(2).join("data/chainfire")).expect("it has data");
    let node = [
        "--param",
        "NODE=node2",
        "--param",
        &format!("NODE_IP={}", cluster.address(2)),
    ];
    let other = format!("OTHER_IP={}", cluster.address(3));
    let parameters = [&node[..], &["--param", &other]].concat();
    cluster.mended_by("chainfire-data-inconsistency", &parameters, &["runs"]);
    assert!(cluster.log(2).contains("Node admitted, its vote counts"));
    assert_eq!(cluster.said(2, &["get", "kept", "--print-value-only"]), "yes\n");
}

#[test]
fn a_corrupted_entry_is_found_and_repaired() {
    let cluster = Cluster::up();
    let secret = "a-value-to-be-found-in-the-log";
    for key in 0..5 {
        cluster.said(1, &["put", &format!("kept/{key}"), secret]);
    }
    assert_eq!(
        cluster.said(3, &["get", "kept/4", "--print-value-only"]),
        format!("{secret}\n")
    );
    assert_passed(&cluster.lab(&["kill"], 3));
    damage(&cluster.folder(3).join("data/chainfire"), secret.as_bytes());

    // It refuses to start, and says why.
    assert!(!cluster.lab(&["start"], 3).status.success());
    assert!(
        cluster.log(3).contains("corrupted log entry"),
        "{}",
        cluster.log(3)
    );
    let node = [
        "--param",
        "NODE=node3",
        "--param",
        &format!("NODE_IP={}", cluster.address(3)),
    ];
    cluster.mended_by("chainfire-data-inconsistency", &node, &["runs"]);
    for key in 0..5 {
        let value = cluster.said(3, &["get", &format!("kept/{key}"), "--print-value-only"]);
        assert_eq!(value, format!("{secret}\n"));
    }
}

/// Flips a byte of the first place in the database's logs that holds the text.
fn damage(database: &std::path::Path, text: &[u8]) {
    let files = std::fs::read_dir(database).expect("there is a database");
    let logs = files.filter_map(|file| {
        let path = file.ok()?.path();
        path.extension()
            .is_some_and(|ending| ending == "log")
            .then_some(path)
    });
    for path in logs {
        let mut bytes = std::fs::read(&path).expect("a readable log");
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("a writable log");
            return;
        }
    }
    panic!("no log in {} holds the text", database.display());
}

#[test]
fn a_node_with_the_wrong_cluster_id_is_found_and_joins() {
    let cluster = Cluster::up();
    cluster.said(1, &["put", "kept", "yes"]);
    // Node 3 leaves, and comes back empty under the settings of another cluster.
    cluster.said(1, &["member-remove", "--node-id", "3"]);
    let gone = || {
        let status = text(&mainstay(&["status", "--dir", cluster.path()]));
        let dead = status
            .lines()
            .any(|line| line.starts_with("node3 ") && line.contains(" dead "));
        Ok(dead.then_some(()))
    };
    lab::wait::until(LIMIT, "node 3 to end", gone).expect("a removed node ends");
    std::fs::remove_dir_all(cluster.folder(3).join("data/chainfire")).expect("it has data");
    let config = cluster.folder(3).join("etc/chainfire.toml");
    let settings = std::fs::read_to_string(&config).expect("it has settings");
    let wrong = settings.replacen("[cluster]\nid = 1", "[cluster]\nid = 2", 1);
    assert_ne!(settings, wrong);
    std::fs::write(&config, wrong).expect("settings can be written");
    let started = || {
        Ok(cluster
            .lab(&["start", "--no-wait"], 3)
            .status
            .success()
            .then_some(()))
    };
    lab::wait::until(LIMIT, "node 3 to start", started).expect("it starts once its old process is gone");
    let says = || Ok(cluster.log(3).contains("another cluster").then_some(()));
    lab::wait::until(LIMIT, "the refusal in the log", says).expect("it says what is wrong");

    cluster.mended_by("chainfire-node-cannot-join", &[], &["same-cluster", "listed"]);
    assert_eq!(cluster.said(3, &["get", "kept", "--print-value-only"]), "yes\n");
}
