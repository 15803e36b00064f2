//! What the lab's commands print: data to standard output, everything else to standard error.

use std::fmt::Write as _;

use crate::state::LabState;

/// Progress or advice; a text of several lines, such as the end of a log, keeps them.
pub(super) fn say(text: &str) {
    for line in text.lines() {
        terminal::note(line);
    }
}

/// The reason why a command failed; the lines after the first are the end of a log.
pub(super) fn error(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let (reason, rest) = text.split_once('\n').unwrap_or((&text, ""));
    terminal::error(reason);
    say(rest);
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
    terminal::out(&format!("{text}\n"));
}
