//! What the lab's commands print: data to standard output, everything else to standard error.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this module is the command's output"
)]

use std::fmt::Write as _;

use serde::Serialize;

use crate::state::LabState;

/// A line of progress or advice.
pub(super) fn say(line: &str) {
    eprintln!("{line}");
}

/// The reason why a command failed.
pub(super) fn error(error: &anyhow::Error) {
    eprintln!("Error: {error:#}");
}

/// A result.
pub(super) fn data(text: &str) {
    println!("{text}");
}

/// A result as JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Rows in columns as wide as needed, two spaces apart, the first row being the heading.
pub(super) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        println!("{}", line.trim_end());
    }
}

/// What a person sees after `up`: where things are and what to type next.
pub(super) fn welcome(state: &LabState, dir: &std::path::Path, default_dir: bool, detached: bool) {
    let mut text = format!("\nLab {} is up in {}\n\n", state.name, dir.display());
    for host in &state.hosts {
        for service in &host.services {
            let _ = writeln!(text, "  {:12} on {:8} {}", service.name, host.name, service.ready);
            let _ = writeln!(text, "  {:12}    {:8} log {}", "", "", service.log);
        }
    }
    let place = if default_dir {
        String::new()
    } else {
        format!(" --dir {}", dir.display())
    };
    if let Some((host, endpoint)) = state
        .hosts
        .iter()
        .find_map(|host| Some((host, host.env.get("CHAINFIRE_ENDPOINT")?)))
    {
        let _ = writeln!(text, "\nType next, in another terminal:\n");
        if host.enter.is_empty() {
            let bin = host
                .path
                .first()
                .map(|path| path.display().to_string())
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "  ETCDCTL_API=3 etcdctl --endpoints={endpoint} put hello world"
            );
            let _ = writeln!(text, "  {bin}/chainfire-client --endpoint {endpoint} status");
            let _ = writeln!(text, "  {bin}/mainstay runbook run chainfire-health");
            let _ = writeln!(text, "  {bin}/mainstay status{place}");
        } else {
            let _ = writeln!(
                text,
                "  mainstay lab run{place} {} -- chainfire-client status",
                host.name
            );
            let _ = writeln!(text, "  mainstay status{place}");
        }
    }
    let _ = if detached {
        writeln!(
            text,
            "\nIt runs in the background; stop it with: mainstay down{place}"
        )
    } else {
        writeln!(text, "\nCtrl-C stops it; data and logs stay.")
    };
    println!("{text}");
}
