//! What the tables of the tabs show: columns, rows, and all of a row in full. Pure: from a [`Look`] to texts.

use super::order::Look;
use super::state::Tab;
use crate::channel::destination;
use crate::document::{Alert, Check};
use crate::machine::Millis;
use crate::machine::state::Status;
use crate::node::wire::CheckLine;

/// What a cell means; its text says the same, colours only help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// A person must act.
    Bad,
    /// Of little interest.
    Dim,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// What names it in the cluster.
    pub(super) id: String,
    /// What people call it.
    pub(super) name: String,
    /// As many as there are columns.
    pub(super) cells: Vec<(String, Tone)>,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Its header.
    pub(super) title: &'static str,
    /// Letters below which it is not made narrower.
    pub(super) least: usize,
    /// Columns with the highest number go first where there is no room for all; 0 stays.
    pub(super) leaves: u8,
}

const fn column(title: &'static str, least: usize, leaves: u8) -> Column {
    Column { title, least, leaves }
}

/// The columns of a tab.
pub(super) fn columns(tab: Tab) -> &'static [Column] {
    const PEERS: &[Column] = &[
        column(" ", 1, 0),
        column("NODE_ID", 9, 0),
        column("ADVERTISE", 16, 0),
        column("LIVE", 5, 0),
        column("ROLE", 6, 0),
        column("LAST_SEEN", 9, 1),
    ];
    const CHECKS: &[Column] = &[
        column("NAME", 12, 0),
        column("STATE", 18, 0),
        column("OK/TOTAL", 8, 0),
        column("SINCE", 6, 2),
        column("TARGET", 12, 3),
        column("ALERTS", 8, 1),
        column("DETAIL", 12, 0),
    ];
    const ALERTS: &[Column] = &[
        column("NAME", 12, 0),
        column("TYPE", 6, 0),
        column("ENABLED", 7, 0),
        column("DEFAULT", 7, 0),
        column("CHECKS", 6, 0),
        column("TO", 10, 1),
    ];
    match tab {
        Tab::Peers => PEERS,
        Tab::Checks => CHECKS,
        Tab::Alerts => ALERTS,
    }
}

/// Without what would move the cursor of the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn plain(text: impl Into<String>) -> (String, Tone) {
    (clean(&text.into()), Tone::Plain)
}

/// How long ago, in one unit.
pub(super) fn ago(then: Millis, now: Millis) -> String {
    match now.saturating_sub(then) / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// All rows of a tab that have `filter` in them, in the order of the cluster.
pub(super) fn rows(look: &Look, tab: Tab, filter: &str, now: Millis) -> Vec<Row> {
    let mut rows = match tab {
        Tab::Peers => peers(look, now),
        Tab::Checks => checks(look, now),
        Tab::Alerts => alerts(look),
    };
    let wanted = filter.to_lowercase();
    if !wanted.is_empty() {
        rows.retain(|row| {
            row.cells
                .iter()
                .any(|(text, _)| text.to_lowercase().contains(&wanted))
                || row.id.contains(&wanted)
        });
    }
    rows
}

fn peers(look: &Look, now: Millis) -> Vec<Row> {
    let status = &look.status;
    let row = |peer: &crate::api::PeerLine| {
        let me = if peer.node == status.node { "*" } else { " " };
        let live = if peer.live {
            ("true".to_owned(), Tone::Good)
        } else {
            ("false".to_owned(), Tone::Bad)
        };
        let role = if status.master == Some(peer.node) {
            "master"
        } else {
            ""
        };
        let seen = peer
            .last_seen
            .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at, now)));
        Row {
            id: peer.node.to_string(),
            name: peer.advertise.clone(),
            cells: vec![
                plain(me),
                plain(peer.node.to_string()),
                plain(&peer.advertise),
                live,
                plain(role),
                plain(seen),
            ],
        }
    };
    status.peers.iter().map(row).collect()
}

fn state_of(line: &CheckLine) -> (String, Tone) {
    let tone = match (line.mark.as_deref(), line.status) {
        (Some("disabled"), _) => Tone::Dim,
        (_, Status::Down) => Tone::Bad,
        (Some(_), _) | (_, Status::Unknown) => Tone::Warning,
        (None, Status::Up) => Tone::Good,
    };
    let text = match &line.mark {
        Some(mark) => format!("({mark}) {}", line.status.name()),
        None => line.status.name().to_owned(),
    };
    (text, tone)
}

fn checks(look: &Look, now: Millis) -> Vec<Row> {
    // By id: ten thousand checks are not searched ten thousand times.
    let document: std::collections::BTreeMap<&str, &Check> = look
        .document
        .checks
        .iter()
        .map(|check| (check.id.as_str(), check))
        .collect();
    let row = |line: &CheckLine| {
        let reports = if line.total == 0 {
            "-".to_owned()
        } else {
            format!("{}/{}", line.ok, line.total)
        };
        let since = if line.since == 0 {
            "-".to_owned()
        } else {
            ago(line.since, now)
        };
        let target = document
            .get(line.id.as_str())
            .map_or_else(Default::default, |check| probe::masked(&check.target));
        let mut detail = line.detail.clone();
        if line.acknowledged {
            detail.insert_str(0, "(acknowledged) ");
        }
        Row {
            id: line.id.clone(),
            name: line.name.clone(),
            cells: vec![
                plain(&line.name),
                state_of(line),
                plain(reports),
                plain(since),
                plain(target),
                plain(line.alerts.join(",")),
                plain(detail.trim_end()),
            ],
        }
    };
    look.status.checks.iter().map(row).collect()
}

fn alerts(look: &Look) -> Vec<Row> {
    let document = &look.document;
    let mut told = std::collections::BTreeMap::<&str, usize>::new();
    for check in &document.checks {
        for (alert, _) in document.alerts_of(check) {
            *told.entry(alert.id.as_str()).or_default() += 1;
        }
    }
    let row = |alert: &Alert| {
        let enabled = if alert.disabled {
            ("false".to_owned(), Tone::Warning)
        } else {
            ("true".to_owned(), Tone::Good)
        };
        Row {
            id: alert.id.clone(),
            name: alert.name.clone(),
            cells: vec![
                plain(&alert.name),
                plain(alert.kind.name()),
                enabled,
                plain(alert.default.to_string()),
                plain(told.get(alert.id.as_str()).copied().unwrap_or(0).to_string()),
                plain(destination(alert)),
            ],
        }
    };
    document.alerts.iter().map(row).collect()
}

/// All that is known of a row, by label.
pub(super) fn detail(look: &Look, tab: Tab, id: &str, now: Millis) -> Option<Vec<(&'static str, String)>> {
    let document = &look.document;
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    let mut add = |label, text: String| {
        if !text.is_empty() {
            lines.push((label, clean(&text)));
        }
    };
    match tab {
        Tab::Peers => {
            let line = look
                .status
                .peers
                .iter()
                .find(|peer| peer.node.to_string() == id)?;
            let peer = document.peer(line.node);
            add("node id", id.to_owned());
            add("address", line.advertise.clone());
            add("live", line.live.to_string());
            let seen = line
                .last_seen
                .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at, now)));
            add("last seen", seen);
            let master = look.status.master == Some(line.node);
            add("master", if master { "yes" } else { "no" }.to_owned());
            let votes = if line.votes {
                "yes"
            } else {
                "not yet, it catches up"
            };
            add("votes", votes.to_owned());
            add(
                "fingerprint",
                peer.map_or_else(String::new, |peer| peer.fingerprint.clone()),
            );
            add(
                "location",
                peer.and_then(|peer| peer.location.clone()).unwrap_or_default(),
            );
        }
        Tab::Checks => {
            let line = look.status.checks.iter().find(|line| line.id == id)?;
            let (state, _) = state_of(line);
            add("name", line.name.clone());
            add("id", line.id.clone());
            add("state", state);
            if line.since > 0 {
                add("since", format!("{} ago", ago(line.since, now)));
            }
            add("reports", format!("{} of {} found it well", line.ok, line.total));
            add("detail", line.detail.clone());
            add(
                "acknowledged",
                if line.acknowledged { "yes" } else { "" }.to_owned(),
            );
            add("alerts", line.alerts.join(", "));
            if let Some(check) = document.checks.iter().find(|check| check.id == id) {
                for field in super::lines::fields(super::lines::CHECK, check) {
                    if !matches!(field.label, "name" | "alerts") {
                        add(field.label, field.shown_plain());
                    }
                }
                add("type", check.kind.name().to_owned());
            }
        }
        Tab::Alerts => {
            let alert = document.alerts.iter().find(|alert| alert.id == id)?;
            add("id", alert.id.clone());
            add("type", alert.kind.name().to_owned());
            add("enabled", (!alert.disabled).to_string());
            for field in super::lines::fields(super::lines::ALERT, alert) {
                add(field.label, field.shown_plain());
            }
            let told = document
                .checks
                .iter()
                .filter(|check| document.alerts_of(check).any(|(other, _)| other.id == alert.id));
            let names: Vec<&str> = told.map(|check| check.name.as_str()).collect();
            add("checks", names.join(", "));
        }
    }
    Some(lines)
}
