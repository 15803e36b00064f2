//! Every Chainfire runbook is carried out, as an operator would, against a lab that `mainstay up` started.

use std::process::{Command, Output};

use lab::AddressBlock;

/// A lab in a directory of its own, taken down whatever happens.
struct Running {
    dir: tempfile::TempDir,
    block: AddressBlock,
}

impl Running {
    fn up() -> Running {
        let lab = Running {
            dir: tempfile::tempdir().expect("a directory for the lab"),
            block: AddressBlock::free().expect("a free block of addresses"),
        };
        let block = lab.block.host(0).expect("a block has hosts").octets()[2].to_string();
        mainstay(&["up", "--detach", "--block", &block, "--dir", lab.path()], true);
        lab
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().expect("temporary paths are text")
    }

    fn client(&self, arguments: &[&str], must_pass: bool) -> Output {
        let endpoint = format!("http://{}:2379", self.block.host(0).expect("a block has hosts"));
        let arguments: Vec<&str> = ["chainfire-client", "--endpoint", &endpoint]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        mainstay(&arguments, must_pass)
    }

    fn runbook(&self, name: &str) {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/runbooks");
        // A debug build on a busy machine starts its clients slowly; what a write may take is the operator's to say.
        let slow: &[&str] = if name.contains("latency") {
            &["--param", "PUT_MS_MAX=5000"]
        } else {
            &[]
        };
        let arguments: Vec<&str> = [
            "runbook",
            "run",
            name,
            "--dir",
            pages,
            "--lab",
            self.path(),
            "--yes",
        ]
        .into_iter()
        .chain(slow.iter().copied())
        .collect();
        mainstay(&arguments, true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        mainstay(&["down", "--dir", self.path()], !std::thread::panicking());
    }
}

fn mainstay(arguments: &[&str], must_pass: bool) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(arguments)
        .output()
        .expect("the program starts");
    if must_pass {
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    output
}

#[test]
fn health_and_latency_pages_pass_on_a_healthy_node() {
    let lab = Running::up();
    lab.runbook("chainfire-health");
    lab.runbook("chainfire-high-write-latency");
    lab.runbook("chainfire-tls");
}

#[test]
fn the_disk_full_page_brings_a_full_store_back() {
    let lab = Running::up();
    let config = lab.dir.path().join("node1/etc/chainfire.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    let smaller = settings.replacen("[storage]", "[storage]\nquota_backend_bytes = \"1MiB\"", 1);
    assert_ne!(settings, smaller, "the lab's settings have a section [storage]");
    std::fs::write(&config, smaller).unwrap();
    for verb in ["stop", "start"] {
        mainstay(&["lab", verb, "--dir", lab.path(), "node1", "chainfire"], true);
    }

    // One key overwritten again and again: old versions fill the store, and compaction can take them back.
    let value = "x".repeat(100_000);
    let refused = (0..20).any(|_| !lab.client(&["put", "drill", &value], false).status.success());
    assert!(refused, "a store of 1 MiB takes no 2 MB");
    lab.runbook("chainfire-disk-full");
    lab.client(&["put", "drill", "after"], true);
}
