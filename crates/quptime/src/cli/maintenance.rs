//! `qu maintenance`: announced work.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use service::SystemClock;
use terminal::Table;

use super::client;
use crate::document::schema::Window;
use crate::document::{Change, Document, Entry};
use crate::duration::Span;

#[derive(Debug, Subcommand)]
pub(super) enum MaintenanceCommand {
    /// Announce work: checks go on, nobody is told.
    Add(Add),
    /// List what is announced.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// End it now.
    End {
        /// By id or name.
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["checks", "group", "all"])))]
#[command(group(clap::ArgGroup::new("until").required(true).args(["lasts", "end"])))]
pub(super) struct Add {
    /// Unique.
    name: String,
    /// Checks by id or name.
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',')]
    checks: Vec<String>,
    /// Checks of this group.
    #[arg(long)]
    group: Option<String>,
    /// All checks.
    #[arg(long)]
    all: bool,
    /// From now on, or from --start, for so long.
    #[arg(
        long = "for",
        id = "lasts",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    lasts: Option<Span>,
    /// Begin, such as 2026-05-15T14:00:00Z.
    #[arg(long, value_name = "TIME")]
    start: Option<jiff::Timestamp>,
    /// End.
    #[arg(long, value_name = "TIME")]
    end: Option<jiff::Timestamp>,
    /// Do not probe either.
    #[arg(long)]
    pause: bool,
}

fn now() -> jiff::Timestamp {
    let now = SystemClock::shared().unix_ms() as i64;
    let now = jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    now.round(jiff::Unit::Second).unwrap_or(now)
}

impl MaintenanceCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            MaintenanceCommand::Add(add) => add.run(),
            MaintenanceCommand::List { json } => list(json),
            MaintenanceCommand::End { name } => {
                let document = client::document()?;
                let window = document
                    .maintenance
                    .iter()
                    .find(|window| window.id == name || window.name == name)
                    .ok_or_else(|| {
                        anyhow::anyhow!(
                            "there is no maintenance \"{}\"; see qu maintenance list",
                            terminal::brief(&name)
                        )
                    })?;
                let change = Change::remove(Entry::Window(window.clone()));
                client::configure(
                    vec![change],
                    "maintenance end",
                    &format!("maintenance {} ended", window.name),
                )
            }
        }
    }
}

/// A hand edit may name a group before it has a check; whoever types a command has mistyped it.
fn has_group(document: &Document, group: &str) -> anyhow::Result<()> {
    let groups: BTreeSet<&str> = document
        .checks
        .iter()
        .filter_map(|check| check.group.as_deref())
        .collect();
    if groups.contains(group) {
        return Ok(());
    }
    if groups.is_empty() {
        anyhow::bail!(
            "no check has a group; put some into one with qu check edit NAME --group {}, or name them with --checks",
            terminal::brief(group)
        );
    }
    let groups: Vec<&str> = groups.into_iter().collect();
    anyhow::bail!(
        "no check is in group \"{}\"; there are {}",
        terminal::brief(group),
        groups.join(", ")
    )
}

impl Add {
    fn run(self) -> anyhow::Result<()> {
        let start = self.start.unwrap_or_else(now);
        let end = match (self.lasts, self.end) {
            (Some(lasts), _) => start.checked_add(std::time::Duration::from(lasts))?,
            (None, Some(end)) => end,
            (None, None) => anyhow::bail!("say --for or --end"),
        };
        let now = now();
        anyhow::ensure!(end > now, "the end, {end}, is past: it is {now} now");
        if let Some(group) = &self.group {
            has_group(&client::document()?, group)?;
        }
        let window = Window {
            id: super::new_id(),
            name: self.name,
            checks: self.checks,
            group: self.group,
            start: start.to_string(),
            end: end.to_string(),
            pause: self.pause,
        };
        let done = format!("maintenance {} from {start} to {end}", window.name);
        client::configure(vec![Change::add(Entry::Window(window))], "maintenance add", &done)
    }
}

/// `planned`, `open` or `over`; `unreadable` if a hand edit left no times in it.
fn state(window: &Window, at: jiff::Timestamp) -> &'static str {
    let moment = |text: &str| text.parse::<jiff::Timestamp>();
    match (moment(&window.start), moment(&window.end)) {
        (Ok(start), Ok(_)) if at < start => "planned",
        (Ok(_), Ok(end)) if at < end => "open",
        (Ok(_), Ok(_)) => "over",
        _ => "unreadable",
    }
}

fn list(json: bool) -> anyhow::Result<()> {
    let document = client::document()?;
    let at = now();
    if json {
        let rows = document.maintenance.iter().map(|window| {
            let mut row = serde_json::to_value(window)?;
            if let Some(fields) = row.as_object_mut() {
                fields.insert("state".to_owned(), state(window, at).into());
            }
            Ok(row)
        });
        terminal::print_json(&rows.collect::<Result<Vec<_>, serde_json::Error>>()?)?;
        return Ok(());
    }
    let mut table = Table::new(["ID", "NAME", "STATE", "START", "END", "CHECKS"]);
    for window in &document.maintenance {
        let what = match &window.group {
            Some(group) => format!("group {group}"),
            None if window.checks.is_empty() => "all".to_owned(),
            None => window.checks.join(","),
        };
        let pause = if window.pause { " (paused)" } else { "" };
        table.row([
            window.id.clone(),
            window.name.clone(),
            state(window, at).to_owned(),
            window.start.clone(),
            window.end.clone(),
            format!("{what}{pause}"),
        ]);
    }
    terminal::out(&table.render(None));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_to_come_is_told_from_what_is_over() {
        let window = Window {
            id: "w".to_owned(),
            name: "work".to_owned(),
            checks: Vec::new(),
            group: None,
            start: "2026-05-15T14:00:00Z".to_owned(),
            end: "2026-05-15T15:00:00Z".to_owned(),
            pause: false,
        };
        let at = |text: &str| state(&window, text.parse().unwrap());
        assert_eq!(at("2026-05-15T13:59:59Z"), "planned");
        assert_eq!(at("2026-05-15T14:00:00Z"), "open");
        assert_eq!(at("2026-05-15T15:00:00Z"), "over");
    }
}
