//! What the server's process takes: a table while it runs, and the judgement that nothing has leaked.

use std::fs;
use std::time::Duration;

use testkit::{Server, wait_until};

/// How often a line of the table is printed.
const EVERY: Duration = Duration::from_secs(15);

const LIMIT: Duration = Duration::from_mins(1);

/// Growth that is no leak: buffers, caches and the allocator's reserves fill up.
const GROWTH_KIB: u64 = 96 << 10;

#[derive(Debug, Clone, Copy)]
struct Taken {
    kib: u64,
    descriptors: usize,
    threads: usize,
}

pub(crate) struct Resources {
    pid: u32,
    idle: Taken,
    /// Memory in each sample.
    kib: Vec<u64>,
    next: Duration,
}

fn taken(pid: u32) -> Taken {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let count = |of: &str| fs::read_dir(format!("/proc/{pid}/{of}")).unwrap().count();
    Taken {
        kib: line.split_whitespace().nth(1).unwrap().parse().unwrap(),
        descriptors: count("fd"),
        threads: count("task"),
    }
}

impl Resources {
    pub(crate) fn new(server: &Server) -> Resources {
        let pid = server.pid().unwrap();
        println!(
            "{:>6} {:>10} {:>9} {:>5} {:>8}",
            "time", "revision", "RSS", "fds", "threads"
        );
        Resources {
            pid,
            idle: taken(pid),
            kib: Vec::new(),
            next: Duration::ZERO,
        }
    }

    pub(crate) fn sample(&mut self, time: Duration, revision: i64) {
        let now = taken(self.pid);
        self.kib.push(now.kib);
        if time >= self.next {
            self.next += EVERY;
            let seconds = time.as_secs();
            let mib = now.kib >> 10;
            println!(
                "{seconds:>5}s {revision:>10} {mib:>6}MiB {:>5} {:>8}",
                now.descriptors, now.threads
            );
        }
    }

    /// All clients have gone: nothing is left of them, and memory has not grown all the time.
    pub(crate) fn judge(&self, server: &Server) {
        wait_until(LIMIT, "watches to be gone", || {
            let metrics = server.get("/metrics").unwrap().body;
            metrics.lines().any(|line| line == "chainfire_watchers 0")
        });
        // Files of the database come and go.
        wait_until(LIMIT, "connections to be gone", || {
            taken(self.pid).descriptors <= self.idle.descriptors + 100
        });
        let now = taken(self.pid);
        println!("idle before: {:?}, after: {now:?}", self.idle);
        let third = self.kib.len() / 3;
        let most = |samples: &[u64]| samples.iter().copied().max().unwrap_or(0);
        let (second, last) = (most(&self.kib[third..2 * third]), most(&self.kib[2 * third..]));
        assert!(
            third < 60 || last <= second + GROWTH_KIB,
            "memory grows: at most {second} KiB in the second third, {last} KiB in the last"
        );
    }
}
