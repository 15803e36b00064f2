//! A client that writes one row after the other to whichever PostgreSQL takes writes, and remembers what was acknowledged.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use testkit::{Output, require, wait_until};

use crate::LIMIT;
use crate::member::Member;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    acknowledged: Mutex<BTreeSet<u64>>,
    stop: AtomicBool,
}

/// One statement, over and done with in seconds: who is asked may be killed or demoted meanwhile. A client that gives up leaves it
/// open whether a row was written; a server that was told to give up would claim that it was.
fn psql(hosts: &str, ports: &str, statement: &str) -> Output {
    let way = format!(
        "host={hosts} port={ports} user=postgres dbname=postgres target_session_attrs=read-write connect_timeout=2"
    );
    let mut command = Command::new("timeout");
    command.arg("5").arg(require("psql").unwrap());
    Output::of(command.args(["-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", &way, "-c", statement])).unwrap()
}

impl Writer {
    /// Makes the table and begins.
    pub(crate) fn start(members: &[&Member]) -> Writer {
        let hosts: Vec<String> = members
            .iter()
            .map(|member| member.sql().ip().to_string())
            .collect();
        let ports: Vec<String> = members
            .iter()
            .map(|member| member.sql().port().to_string())
            .collect();
        let (hosts, ports) = (hosts.join(","), ports.join(","));
        psql(&hosts, &ports, "create table written (n bigint primary key)").ok();
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                for number in 1.. {
                    if shared.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let insert = format!("insert into written values ({number})");
                    if psql(&hosts, &ports, &insert).code == 0 {
                        shared.acknowledged.lock().unwrap().insert(number);
                    }
                }
            }
        });
        Writer {
            shared,
            thread: Some(thread),
        }
    }

    fn acknowledged(&self) -> BTreeSet<u64> {
        self.shared.acknowledged.lock().unwrap().clone()
    }

    /// Waits until this many more rows are acknowledged.
    pub(crate) fn more(&mut self, rows: usize) {
        let before = self.acknowledged().len();
        wait_until(LIMIT, "rows to be written", || {
            self.acknowledged().len() >= before + rows
        });
    }

    /// All that was acknowledged until now is there.
    pub(crate) fn check(&self, member: &Member) {
        let acknowledged = self.acknowledged();
        let (host, port) = (member.sql().ip().to_string(), member.sql().port().to_string());
        let found: BTreeSet<u64> = psql(&host, &port, "select n from written")
            .ok()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }

    /// Ends it; how many rows were acknowledged.
    pub(crate) fn stop(mut self) -> usize {
        self.end();
        self.acknowledged().len()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}
