//! How command lines of the seeds are run, and what has to be true afterwards.
//!
//! Each line is run verbatim by bash on one of three hosts that form a cluster of the seed's system, apart from the words a reader fills in (`NODE_IP`). A
//! check is shell text around it: `before` brings about the state in which a reader would type the line, `after` judges, and puts back
//! what the line took away. `after` sees the output as `$out` (a file), the exit status as `$status` and the line as `$line`, and runs
//! under `set -e`: any command of it that fails fails the line (but not `! COMMAND`; write `not COMMAND`). Both have the functions of
//! `prelude/hosts.sh` and of the system's own prelude. Every check leaves three members running; after one that failed the cluster is
//! founded anew.

mod cluster;
mod node;
mod quptime;

/// A check for every line with exactly this text, or for the one at a place where the same text means something else.
pub(super) struct Check {
    /// Seeds it is for.
    pub(super) seed: &'static str,
    /// Where in the seed the line begins, if it matters.
    pub(super) number: Option<usize>,
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
    ("<dead-node-id>", "$dead"),
    ("<existing cluster secret>", "the secret of the lab"),
    // When cron runs it.
    ("*/5 * * * * ", ""),
];

/// The functions that checks of this seed call, as shell text.
pub(super) fn prelude(seed: &str) -> String {
    let own = match seed {
        "001" => include_str!("prelude/quptime.sh"),
        _ => include_str!("prelude/chainfire.sh"),
    };
    [include_str!("prelude/hosts.sh"), own].concat()
}

/// The check for a line, if there is one.
pub(super) fn find(seed: &str, number: usize, line: &str) -> Option<&'static Check> {
    all().find(|check| {
        check.seed == seed && check.line == line && check.number.is_none_or(|place| place == number)
    })
}

/// Every check.
pub(super) fn all() -> impl Iterator<Item = &'static Check> {
    node::CHECKS.iter().chain(cluster::CHECKS).chain(quptime::CHECKS)
}

const fn on_chainfire(line: &'static str, before: &'static str, after: &'static str) -> Check {
    Check {
        seed: "004",
        number: None,
        line,
        host: "node1",
        before,
        after,
    }
}
