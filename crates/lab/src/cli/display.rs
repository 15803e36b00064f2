//! What the lab's commands print: data to standard output, everything else to standard error.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::applets;
use crate::pid::ProcessRef;
use crate::services::sink;
use crate::state::{HostState, LabState};

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

/// Who ends the lab, as `status` and refusals say it.
pub(super) fn holder(owner: Option<ProcessRef>) -> String {
    match owner {
        None => "detached".to_owned(),
        Some(owner) if owner.is_alive() => format!("held by process {}", owner.pid),
        Some(owner) => format!("left over: process {}, which held it, was killed", owner.pid),
    }
}

/// What a person sees after `up`: where things are and what to type next. Every line works as it is, from any folder.
pub(super) fn welcome(state: &LabState, dir: &Path, default_dir: bool, detached: bool) {
    terminal::out(&welcome_text(
        state,
        dir,
        default_dir,
        detached,
        pages_folder().as_deref(),
    ));
}

fn welcome_text(
    state: &LabState,
    dir: &Path,
    default_dir: bool,
    detached: bool,
    pages: Option<&Path>,
) -> String {
    let mut text = format!("\nLab {} is up in {}\n\n", state.name, dir.display());
    for host in &state.hosts {
        for service in &host.services {
            let _ = writeln!(text, "  {:12} on {:8} {}", service.name, host.name, service.ready);
            let _ = writeln!(text, "  {:12}    {:8} log {}", "", "", service.log);
        }
    }
    // Another lab than the one that commands take by themselves has to be named.
    let place = |flag: &str| {
        if default_dir {
            String::new()
        } else {
            format!(" {flag} {}", quoted(dir))
        }
    };
    let mainstay = program(dir);
    let chainfires: Vec<_> = state
        .hosts
        .iter()
        .filter_map(|host| Some((host, host.env.get("CHAINFIRE_ENDPOINT")?)))
        .collect();
    let _ = writeln!(text, "\nType next, in another terminal:\n");
    if let Some((host, endpoint)) = chainfires.first() {
        // Of a cluster every member is asked.
        let all = if chainfires.len() > 1 { " --all" } else { "" };
        if host.enter.is_empty() {
            let _ = writeln!(
                text,
                "  ETCDCTL_API=3 etcdctl --endpoints={endpoint} put hello world"
            );
            let endpoints: Vec<&str> = chainfires.iter().map(|(_, endpoint)| endpoint.as_str()).collect();
            let _ = writeln!(
                text,
                "  {mainstay} chainfire-client --endpoint {} status{all}",
                endpoints.join(",")
            );
        } else {
            let _ = writeln!(
                text,
                "  {mainstay} lab run{} {} -- chainfire-client status{all}",
                place("--dir"),
                host.name
            );
        }
        let pages = pages.map(|pages| format!(" --dir {}", quoted(pages)));
        let _ = writeln!(
            text,
            "  {mainstay} runbook run{}{} chainfire-health",
            pages.unwrap_or_default(),
            place("--lab")
        );
    }
    let _ = writeln!(text, "  {mainstay} status{}", place("--dir"));
    if chainfires.len() > 1 {
        let _ = writeln!(
            text,
            "\nKill one of the {} members and watch: the others elect a leader and go on. Then let it catch up.\n",
            chainfires.len()
        );
        let (victim, _) = chainfires[0];
        let (survivor, _) = chainfires[1];
        for (verb, host, rest) in [
            ("kill", victim, "chainfire"),
            ("run", survivor, "-- chainfire-client member-list"),
            ("run", survivor, "-- chainfire-client put still writable"),
            ("start", victim, "chainfire"),
        ] {
            let _ = writeln!(
                text,
                "  {mainstay} lab {verb}{} {} {rest}",
                place("--dir"),
                host.name
            );
        }
    }
    watched(&mut text, state, &mainstay, &place("--dir"));
    let _ = if detached {
        writeln!(
            text,
            "\nIt runs in the background; stop it with: {mainstay} down{}",
            place("--dir")
        )
    } else {
        writeln!(text, "\nCtrl-C stops it; data and logs stay.")
    };
    text.push('\n');
    text
}

/// What to try where qu watches the lab: an alert that arrives.
fn watched(text: &mut String, state: &LabState, mainstay: &str, place: &str) {
    let has = |host: &HostState, name: &str| host.services.iter().any(|service| service.name == name);
    let Some(first) = state
        .hosts
        .iter()
        .find(|host| has(host, "quptime") && has(host, "sink"))
    else {
        return;
    };
    let Some(last) = state.hosts.last() else { return };
    let _ = writeln!(
        text,
        "\nqu watches every Chainfire. Stop one, and see an alert arrive within seconds, and another one when it is back.\n"
    );
    for (verb, host, rest) in [
        ("run", first, "-- qu status"),
        ("stop", last, "chainfire"),
        ("start", last, "chainfire"),
    ] {
        let _ = writeln!(text, "  {mainstay} lab {verb}{place} {} {rest}", host.name);
    }
    let _ = writeln!(text, "  tail -n 2 {}", quoted(&sink::file(&first.dir)));
}

/// How to call mainstay from anywhere: through the lab's own link, else by the path of the binary.
fn program(dir: &Path) -> String {
    let link = dir.join("bin/mainstay");
    if link.is_file() {
        return quoted(&link);
    }
    applets::mainstay_binary().map_or_else(|_| "mainstay".to_owned(), |path| quoted(&path))
}

/// The folder of runbooks, where `mainstay runbook` would not find it from any folder: one that is named, or a checkout's.
fn pages_folder() -> Option<PathBuf> {
    let named = std::env::var_os("MAINSTAY_RUNBOOKS").filter(|value| !value.is_empty());
    let folder = named.map_or_else(|| PathBuf::from("docs/runbooks"), PathBuf::from);
    std::path::absolute(folder).ok().filter(|folder| folder.is_dir())
}

/// A path as a person would type it in a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:=@%,".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ServiceState;
    use crate::topology::Form;

    fn state() -> LabState {
        let endpoint = (
            "CHAINFIRE_ENDPOINT".to_owned(),
            "http://127.0.0.11:2379".to_owned(),
        );
        LabState {
            name: "mainstay".into(),
            form: Form::Process,
            owner: None,
            network: None,
            hosts: vec![HostState {
                name: "node1".into(),
                address: [127, 0, 0, 11].into(),
                dir: "/lab/node1".into(),
                path: vec![],
                env: [endpoint].into(),
                config_dir: "/lab/node1/etc".into(),
                enter: vec![],
                machine: None,
                services: vec![ServiceState {
                    name: "chainfire".into(),
                    pid: Some(7),
                    start_time: Some(9),
                    log: "/lab/node1/logs/chainfire.log".into(),
                    ready: "http://127.0.0.11:2379/readyz".into(),
                }],
            }],
        }
    }

    #[test]
    fn banner_names_a_lab_that_is_not_the_default_one_and_the_runbooks() {
        let dir = tempfile::tempdir().unwrap();
        let lab = dir.path().join("my lab");
        std::fs::create_dir_all(lab.join("bin")).unwrap();
        std::fs::write(lab.join("bin/mainstay"), "").unwrap();
        let text = welcome_text(&state(), &lab, false, true, Some(Path::new("/src/docs/runbooks")));
        let (lab, link) = (quoted(&lab), quoted(&lab.join("bin/mainstay")));
        assert!(lab.starts_with('\'') && lab.ends_with("my lab'"), "{lab}");
        for line in [
            format!("  {link} chainfire-client --endpoint http://127.0.0.11:2379 status"),
            format!("  {link} runbook run --dir /src/docs/runbooks --lab {lab} chainfire-health"),
            format!("  {link} status --dir {lab}"),
            format!("It runs in the background; stop it with: {link} down --dir {lab}"),
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in {text}");
        }
        let text = welcome_text(&state(), dir.path(), true, false, None);
        assert!(text.contains(" runbook run chainfire-health\n"), "{text}");
        assert!(text.contains(" status\n\nCtrl-C stops it"), "{text}");
    }

    #[test]
    fn holder_that_was_killed_is_not_said_to_hold_it() {
        assert_eq!(holder(None), "detached");
        let own = ProcessRef::own();
        assert_eq!(holder(Some(own)), format!("held by process {}", own.pid));
        let gone = ProcessRef {
            start_time: own.start_time + 1,
            ..own
        };
        assert_eq!(
            holder(Some(gone)),
            format!("left over: process {}, which held it, was killed", own.pid)
        );
    }
}
