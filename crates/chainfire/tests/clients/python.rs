//! The sessions written in Python, each run by a `python3` that has the clients installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use testkit::{Chainfire, Etcd, Output, Server, require};

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/requirements.txt");

#[test]
fn etcd3_finds_a_server_it_knows() {
    against_both("etcd3_session.py");
}

#[test]
fn etcd3gw_finds_a_server_it_knows() {
    against_both("etcd3gw_session.py");
}

fn against_both(script: &str) {
    let python = python();
    run(&python, script, &Chainfire::start_new().unwrap());
    run(&python, script, &Etcd::start().unwrap());
}

fn run(python: &Path, script: &str, server: &Server) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(script);
    let socket = server.socket();
    let output = Output::of(
        Command::new(python)
            .arg(script)
            .args([socket.ip().to_string(), socket.port().to_string()]),
    )
    .unwrap();
    assert!(
        output.code == 0 && output.stdout.ends_with("done\n"),
        "exit code {}, steps:\n{}{}",
        output.code,
        output.stdout,
        output.stderr
    );
}

/// The Python of a virtual environment with the clients, made at the first call on a machine. Its name comes from what is to
/// be in it, so a change of the list makes a new one.
fn python() -> PathBuf {
    let requirements = fs::read(REQUIREMENTS).unwrap();
    let hash = Sha256::digest(&requirements);
    let short = u64::from_be_bytes(hash[..8].try_into().expect("a SHA-256 has 32 bytes"));
    let folder = cache().join(format!("python-clients-{short:016x}"));
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    // Tests are processes of their own; the first makes it, the others wait.
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let (python, complete) = (folder.join("bin/python"), folder.join("complete"));
    // The system's Python may have been replaced since.
    let works = complete.exists()
        && Command::new(&python)
            .arg("-V")
            .output()
            .is_ok_and(|out| out.status.success());
    if !works {
        Output::of(
            Command::new(require("python3").unwrap())
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )
        .unwrap()
        .ok();
        Output::of(
            Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "-r",
                ])
                .arg(REQUIREMENTS),
        )
        .unwrap()
        .ok();
        File::create(complete).unwrap();
    }
    python
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
            PathBuf::from,
        );
    base.join("mainstay")
}
