//! Debian's `etcdctl` cannot tell Chainfire from Debian's etcd.
//!
//! Each script ([`script`], files in `scripts/`) is run by `etcdctl` against both servers. Exit codes, standard output and
//! standard error of every step must be the same once ids, times, addresses and the like are masked ([`mask`]). Where they
//! are meant to differ, [`differences`] says why and pins both sides. `ETCDCTL_TRANSCRIPT=DIR` writes what was seen to files.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

mod differences;
mod mask;
mod mirror;
mod perf;
mod runner;
mod script;
mod snapshot;

use std::fmt::Write as _;

use testkit::{Chainfire, Etcd, Server};

use runner::{Record, Scene};

/// Runs one script against both servers and compares.
fn compare(name: &str, text: &str) {
    let steps = script::parse(text).unwrap();
    let etcd = Etcd::start().unwrap();
    let ours = chainfire();
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| runner::run(scene(&etcd, None), &steps));
        let ours = runner::run(scene(&ours, None), &steps);
        (theirs.join().unwrap(), ours)
    });
    let (theirs, ours) = (theirs.unwrap(), ours.unwrap());
    judge(name, &theirs, &ours);
}

/// Our server under the name that etcd gives itself.
fn chainfire() -> Chainfire {
    Chainfire::builder()
        .config("[node]\nname = \"default\"")
        .start()
        .unwrap()
}

fn scene(server: &Server, other: Option<&Server>) -> Scene {
    Scene {
        endpoint: server.endpoint(),
        other: other.map(Server::endpoint),
        dir: server.dir().to_owned(),
    }
}

/// Panics if the two differ otherwise than is known.
fn judge(name: &str, theirs: &[Record], ours: &[Record]) {
    transcribe(name, theirs, ours);
    let mut known = differences::known(name);
    let mut report = String::new();
    assert_eq!(theirs.len(), ours.len());
    for (etcd, ours) in theirs.iter().zip(ours) {
        assert_eq!(etcd.step, ours.step);
        if !etcd.expected {
            let _ = writeln!(
                report,
                "--- {}\nnot what the script says of etcd:\n{}",
                etcd.step, etcd.shown
            );
        }
        let place = known.iter().position(|known| {
            known.step == etcd.step && known.etcd == etcd.shown && known.ours == ours.shown
        });
        if let Some(place) = place {
            known.remove(place);
        } else if etcd.shown != ours.shown {
            let _ = writeln!(
                report,
                "--- {}\netcd:\n{}ours:\n{}",
                etcd.step, etcd.shown, ours.shown
            );
        }
    }
    for known in known {
        let _ = writeln!(
            report,
            "--- {}\nno longer differs as {:?} says",
            known.step, known.reason
        );
    }
    assert!(report.is_empty(), "script {name}\n{report}");
}

/// Writes what was seen where `ETCDCTL_TRANSCRIPT` says.
fn transcribe(name: &str, theirs: &[Record], ours: &[Record]) {
    let Some(dir) = std::env::var_os("ETCDCTL_TRANSCRIPT") else {
        return;
    };
    for (server, records) in [("etcd", theirs), ("ours", ours)] {
        let texts: Vec<String> = records
            .iter()
            .map(|record| {
                format!(
                    "{}
{}
",
                    record.step, record.shown
                )
            })
            .collect();
        let path = std::path::Path::new(&dir).join(format!("{name}.{server}"));
        std::fs::write(path, texts.concat()).unwrap();
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                compare(stringify!($name), include_str!(concat!("scripts/", stringify!($name), ".script")));
            }
        )*
    };
}

scripts!(kv, txn, watch, lease, lock, elect, maintenance, auth);
