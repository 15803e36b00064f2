//! `qu check list`: the checks of `qu status`, with what they look at and how often.

use std::borrow::Cow;
use std::collections::BTreeMap;

use terminal::Table;

use crate::cli::status;
use crate::document::{Check, Document};
use crate::node::wire::CheckLine;

/// A check of the list, as JSON: that of `status` and more.
#[derive(serde::Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    line: &'a CheckLine,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    target: Option<Cow<'a, str>>,
    interval: Option<String>,
}

/// Prints the list. The columns of `status` come first, in its order; what a check found stays last, since it may be long.
///
/// # Errors
/// Standard output is gone.
pub(super) fn print(lines: &[CheckLine], document: &Document, json: bool) -> anyhow::Result<()> {
    let checks: BTreeMap<&str, &Check> = document
        .checks
        .iter()
        .map(|check| (check.id.as_str(), check))
        .collect();
    let row = |line| row(line, &checks);
    if json {
        return crate::cli::json::print(&lines.iter().map(row).collect::<Vec<_>>());
    }
    let mut table = Table::new([
        "ID", "NAME", "STATE", "OK/TOTAL", "ALERTS", "TYPE", "INTERVAL", "TARGET", "DETAIL",
    ]);
    for row in lines.iter().map(row) {
        let [id, name, state, reports, alerts, detail] = status::check_cells(row.line);
        let interval = row.interval.unwrap_or_default();
        let (kind, target) = (row.kind.unwrap_or_default(), row.target.unwrap_or_default());
        table.row([
            id,
            name,
            state,
            reports,
            alerts,
            kind.to_owned(),
            interval,
            target.into_owned(),
            detail,
        ]);
    }
    terminal::out(&table.render(None));
    Ok(())
}

/// A check that is removed between the two questions has no type any more.
fn row<'a>(line: &'a CheckLine, checks: &BTreeMap<&str, &'a Check>) -> Row<'a> {
    let check = checks.get(line.id.as_str());
    Row {
        line,
        kind: check.map(|check| check.kind.name()),
        target: check.map(|check| probe::masked(&check.target)),
        interval: check.map(|check| check.interval.to_string()),
    }
}
