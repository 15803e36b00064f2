//! Alerts of real clusters: every outage is told once and its end once, whoever is master, whatever dies meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod alertmanager;
mod channels;
mod copies;
mod deaths;
mod fallback;
mod metrics;
mod relay;
mod sink;
mod target;

use std::time::Duration;

use sink::Sink;
use target::Target;
use testkit::{Qu, QuCluster, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// Three nodes that watch one target each second and tell one sink.
struct Watched {
    cluster: QuCluster,
    target: Target,
    sink: Sink,
}

impl Watched {
    fn start() -> Self {
        let (target, sink) = (Target::start(), Sink::start());
        let cluster = QuCluster::start(3).unwrap();
        let first = &cluster.nodes[0];
        first
            .run(&[
                "alert",
                "add",
                "webhook",
                "hook",
                "--url",
                &sink.url("/hook"),
                "--default",
            ])
            .unwrap()
            .ok();
        watch(first, "page", &target);
        let watched = Self {
            cluster,
            target,
            sink,
        };
        watched.sees("page", "up 3/3");
        watched
    }

    /// Waits until a running node shows this behind the check's name.
    #[track_caller]
    fn sees(&self, check: &str, text: &str) {
        wait_until(LIMIT, &format!("{check} to be {text}"), || {
            let running = &mut self.cluster.nodes.iter().filter(|node| node.is_running());
            running.any(|node| is(node, check, text))
        });
    }
}

/// Watches a target each second.
#[track_caller]
fn watch(node: &Qu, name: &str, target: &Target) {
    let args = ["check", "add", "http", name, &target.url(), "--interval", "1s"];
    node.run(&args).unwrap().ok();
}

/// Whether the row of a check goes on like this behind its name.
fn is(node: &Qu, check: &str, text: &str) -> bool {
    let row = node.check(check).unwrap_or_default();
    let shown = row.split_once(&format!(" {check} ")).map_or("", |(_, rest)| rest);
    shown.starts_with(text)
}
