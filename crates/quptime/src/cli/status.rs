//! `qu status`. Scripts search its output: labels, their order and the first word of each value never change.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use terminal::Table;

use super::client;
use crate::api::{Answer, Request, Status};
use crate::machine::state::Status as CheckStatus;
use crate::node::wire::CheckLine;

/// The exit code without quorum.
const NO_QUORUM: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Do not wait for an election that is under way.
    #[arg(long)]
    no_wait: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Show it again and again, every so often.
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s")]
    watch: Option<crate::duration::Span>,
}

/// Asks the daemon.
///
/// # Errors
/// See [`client::ask`].
pub(super) fn status(no_wait: bool) -> anyhow::Result<Status> {
    match client::ask(&Request::Status { no_wait })? {
        Answer::Status(status) => Ok(*status),
        _ => anyhow::bail!("the daemon answers something else; is it another version?"),
    }
}

impl StatusArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(every) = self.watch {
            return watch(every.into());
        }
        let status = status(self.no_wait)?;
        if self.json {
            super::json::print(&status)?;
        } else {
            terminal::out(&render(&status));
        }
        if status.quorum {
            Ok(())
        } else {
            // What is wrong stands in the output.
            Err(service::exit::with_code(NO_QUORUM, anyhow::anyhow!("")))
        }
    }
}

/// Shows it again and again, until it is interrupted.
fn watch(every: Duration) -> anyhow::Result<()> {
    let (_stop, never) = std::sync::mpsc::channel::<()>();
    loop {
        let shown = match status(true) {
            Ok(status) => render(&status),
            Err(error) => format!("{error:#}\n"),
        };
        // Clears the screen and goes to its upper left corner.
        terminal::out(&format!("\u{1b}[2J\u{1b}[H{shown}"));
        // Nobody sends: this only waits.
        let _ = never.recv_timeout(every);
    }
}

fn time(at: Option<u64>) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let stamp = jiff::Timestamp::from_millisecond(at as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.round(jiff::Unit::Second).unwrap_or(stamp).to_string()
}

/// The text for people and for `grep`.
pub(super) fn render(status: &Status) -> String {
    let mut out = head(status);
    let _ = write!(out, "\nCHECKS\n{}", checks(&status.checks).render(None));
    if status
        .checks
        .iter()
        .any(|check| check.alerts.iter().any(|alert| alert.ends_with('*')))
    {
        out.push_str("(name*: attached because the alert is a default)\n");
    }
    if shows_here(&status.checks) {
        out.push_str(
            "(STATE is the last verdict, HERE what this node itself finds; nobody is told without quorum)\n",
        );
    }
    for note in &status.notes {
        let _ = writeln!(out, "\n{}", terminal::harmless(note));
    }
    out
}

/// The first two blocks.
pub(super) fn head(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a text does not fail.
    let mut field = |label: &str, value: String| {
        let _ = writeln!(out, "{label:<11}{value}");
    };
    field("node", status.node.to_string());
    field("term", status.term.to_string());
    let none = || format!("(none — {})", status.no_master.as_deref().unwrap_or("no quorum"));
    field(
        "master",
        status.master.map_or_else(none, |master| master.to_string()),
    );
    field("quorum", format!("{} (need {})", status.quorum, status.need));
    field("config ver", status.config_version.to_string());
    let mut peers = Table::new(["   NODE_ID", "ADVERTISE", "LIVE", "LAST_SEEN"]);
    for peer in &status.peers {
        let mark = if peer.node == status.node { "*" } else { " " };
        peers.row([
            format!("{mark}  {}", peer.node),
            peer.advertise.clone(),
            peer.live.to_string(),
            time(peer.last_seen),
        ]);
    }
    let _ = write!(out, "\nPEERS\n{}(*: this node)\n", peers.render(None));
    out
}

/// The table of checks.
pub(super) fn checks(lines: &[CheckLine]) -> Table {
    let mut header = vec!["ID", "NAME", "STATE", "OK/TOTAL", "ALERTS", "DETAIL"];
    // Scripts know the others by their place.
    let shows_here = shows_here(lines);
    if shows_here {
        header.push("HERE");
    }
    let mut table = Table::new(header);
    for line in lines {
        let mut row = Vec::from(check_cells(line));
        if shows_here {
            row.push(here(line));
        }
        table.row(row);
    }
    table
}

/// The cells of a check, in the order of the table.
pub(super) fn check_cells(line: &CheckLine) -> [String; 6] {
    let state = match &line.mark {
        Some(mark) => format!("({mark}) {}", line.status.name()),
        None => line.status.name().to_owned(),
    };
    let reports = match (line.total, line.status) {
        (0, CheckStatus::Unknown) => "-".to_owned(),
        (total, _) => format!("{}/{total}", line.ok),
    };
    let mut detail = line.detail.clone();
    if line.acknowledged {
        detail.push_str(if detail.is_empty() {
            "(acknowledged)"
        } else {
            " (acknowledged)"
        });
    }
    [
        line.id.clone(),
        line.name.clone(),
        state,
        reports,
        line.alerts.join(","),
        detail,
    ]
}

/// Whether somebody has to make do with what one node finds, because there is no quorum.
fn shows_here(lines: &[CheckLine]) -> bool {
    lines.iter().any(|line| line.here.is_some())
}

fn here(line: &CheckLine) -> String {
    match &line.here {
        None => "-".to_owned(),
        Some(found) if found.detail.is_empty() => found.result.name().to_owned(),
        Some(found) => format!("{}: {}", found.result.name(), found.detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PeerLine;
    use crate::node::wire::{Found, Here};

    fn example() -> Status {
        let line = |name: &str, status, ok, detail: &str| CheckLine {
            id: format!("id-{name}"),
            name: name.to_owned(),
            status,
            since: 0,
            mark: None,
            ok,
            total: 3,
            alerts: vec!["oncall".to_owned(), "ops*".to_owned()],
            detail: detail.to_owned(),
            acknowledged: false,
            here: None,
        };
        let node = |text: &str| text.parse().unwrap();
        let (alpha, bravo) = (
            node("1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091"),
            node("7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091"),
        );
        let peer = |node, advertise: &str| PeerLine {
            node,
            advertise: advertise.to_owned(),
            live: true,
            last_seen: Some(1_778_598_092_000),
            votes: true,
        };
        Status {
            node: alpha,
            term: 12,
            master: Some(alpha),
            no_master: None,
            quorum: true,
            need: 2,
            config_version: 34,
            peers: vec![
                peer(alpha, "alpha.example.com:9901"),
                peer(bravo, "bravo.example.com:9901"),
            ],
            checks: vec![
                line("homepage", CheckStatus::Up, 3, ""),
                line("db", CheckStatus::Down, 1, "connect: connection timed out"),
            ],
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_text_that_scripts_search() {
        let expected = "\
node       1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091
term       12
master     1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091
quorum     true (need 2)
config ver 34

PEERS
   NODE_ID                               ADVERTISE               LIVE  LAST_SEEN
*  1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091  alpha.example.com:9901  true  2026-05-12T15:01:32Z
   7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091  bravo.example.com:9901  true  2026-05-12T15:01:32Z
(*: this node)

CHECKS
ID           NAME      STATE  OK/TOTAL  ALERTS       DETAIL
id-homepage  homepage  up     3/3       oncall,ops*
id-db        db        down   1/3       oncall,ops*  connect: connection timed out
(name*: attached because the alert is a default)
";
        assert_eq!(render(&example()), expected);
    }

    #[test]
    fn without_quorum_it_says_what_this_node_finds() {
        let mut status = example();
        status.quorum = false;
        status.checks[0].mark = Some("stale".to_owned());
        status.checks[0].here = Some(Here {
            result: Found::Down,
            detail: "status 503".to_owned(),
            at: 1_778_598_092_000,
        });
        let text = render(&status);
        let (_, table) = text.split_once("\nCHECKS\n").unwrap();
        let expected = "\
ID           NAME      STATE       OK/TOTAL  ALERTS       DETAIL                         HERE
id-homepage  homepage  (stale) up  3/3       oncall,ops*                                 down: status 503
id-db        db        down        1/3       oncall,ops*  connect: connection timed out  -
(name*: attached because the alert is a default)
(STATE is the last verdict, HERE what this node itself finds; nobody is told without quorum)
";
        assert_eq!(table, expected);
    }

    #[test]
    fn without_a_master_it_says_why() {
        let status = Status {
            master: None,
            no_master: Some("no quorum".to_owned()),
            quorum: false,
            ..example()
        };
        let text = render(&status);
        assert!(
            text.contains("\nmaster     (none — no quorum)\nquorum     false (need 2)\n"),
            "{text}"
        );
    }
}
