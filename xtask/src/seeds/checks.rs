//! How command lines of the seeds are run, and what has to be true afterwards.
//!
//! Each line is run verbatim by bash on one of three hosts that form a cluster, apart from the words a reader fills in (`NODE_IP`). A
//! check is shell text around it: `before` brings about the state in which a reader would type the line, `after` judges, and puts back
//! what the line took away. `after` sees the output as `$out` (a file), the exit status as `$status` and the line as `$line`, and runs
//! under `set -e`: any command of it that fails fails the line. Both have the functions of `prelude.sh`. Every check leaves three
//! members running; after one that failed the cluster is founded anew.

mod cluster;
mod node;

/// A check for every line with exactly this text.
pub(super) struct Check {
    /// Seeds it is for.
    pub(super) seed: &'static str,
    /// The line as printed.
    pub(super) line: &'static str,
    /// The host it is typed on.
    pub(super) host: &'static str,
    /// Run first.
    pub(super) before: &'static str,
    /// Run afterwards.
    pub(super) after: &'static str,
}

impl Check {
    const fn at(mut self, host: &'static str) -> Check {
        self.host = host;
        self
    }
}

/// The words a reader fills in, and what they stand for; variables are set by `before`. Longer words come first.
pub(super) const FILLED_IN: &[(&str, &str)] = &[
    ("NEW_NODE_IP", "$new"),
    ("ISOLATED_NODE", "$isolated"),
    ("FAILED_NODE_ID", "$failed"),
    ("FAILED_NODE_IP", "node$failed"),
    ("NODE1_IP", "node1"),
    ("NODE_IP", "node1"),
    ("LEADER_IP", "$leader"),
    ("LEADER_NODE", "$leader"),
    ("/path/to/centra-cloud", "/usr/share/mainstay"),
    ("chainfire-node-N", "chainfire-node-1"),
];

/// The check for a line, if there is one.
pub(super) fn find(seed: &str, line: &str) -> Option<&'static Check> {
    all().find(|check| check.seed == seed && check.line == line)
}

/// Every check.
pub(super) fn all() -> impl Iterator<Item = &'static Check> {
    node::CHECKS.iter().chain(cluster::CHECKS)
}

const fn on_chainfire(line: &'static str, before: &'static str, after: &'static str) -> Check {
    Check {
        seed: "004",
        line,
        host: "node1",
        before,
        after,
    }
}
