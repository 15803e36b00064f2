//! What commands show: the status of a node, the table of checks, and what `doctor` asks.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::propose;
use super::shared::{Mastery, Shared, quorum_of};
use super::wire::{CheckLine, decode, encode, kind};
use crate::api::{Examined, Finding, PeerLine, Status};
use crate::document::Document;
use crate::identity::NodeId;
use crate::machine::announce::{is_acknowledged, window_of};
use crate::machine::rounds::Rounds;
use crate::machine::state::State;
use crate::raft::view::View;

/// How long the master may take for its table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node may take to examine itself.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(3);
/// Clocks that are further apart make logs hard to compare.
const OFFSET_MAX_MS: i64 = 5000;
/// A certificate that ends sooner is told.
const CERTIFICATE_DAYS: i64 = 30;

/// The table of checks, in the order of the file. Without rounds only what is replicated is known, which is shown as stale.
pub fn table(shared: &Shared, state: &State, rounds: Option<&Rounds>) -> Vec<CheckLine> {
    let wall = shared.wall();
    let document = &state.document;
    let line = |check: &crate::document::Check| {
        let known = state.checks.get(&check.id).cloned().unwrap_or_default();
        let last = rounds.and_then(|rounds| rounds.last(&check.id));
        let looked = last.filter(|last| last.number > 0);
        let snapshot = looked.map_or(&known.snapshot, |last| &last.snapshot);
        let stale = rounds.is_none() || last.is_some_and(crate::machine::rounds::LastRound::is_stale);
        let mark = if check.disabled {
            Some("disabled")
        } else if window_of(state, check, wall).is_some() {
            Some("maintenance")
        } else if known.flapping.is_some() {
            Some("flapping")
        } else if stale {
            Some("stale")
        } else {
            None
        };
        let alerts = document.alerts_of(check).map(|(alert, by_default)| {
            if by_default {
                format!("{}*", alert.name)
            } else {
                alert.name.clone()
            }
        });
        CheckLine {
            id: check.id.clone(),
            name: check.name.clone(),
            status: known.status,
            since: known.since,
            mark: mark.map(str::to_owned),
            ok: snapshot.ok,
            total: snapshot.reports,
            alerts: alerts.collect(),
            detail: snapshot.detail.clone(),
            acknowledged: known
                .incident
                .is_some_and(|incident| is_acknowledged(&incident, wall)),
        }
    };
    document.checks.iter().map(line).collect()
}

/// The status of this node.
pub async fn status(shared: &Arc<Shared>, no_wait: bool) -> Status {
    if !no_wait {
        propose::soon_master(shared).await;
    }
    let view = shared.view();
    let document = shared.document();
    let mastery = shared.mastery();
    let (master, no_master) = match mastery {
        Mastery::Is(master) => (Some(master), None),
        Mastery::NoQuorum => (None, Some("no quorum")),
        Mastery::Election => (None, Some("election in progress")),
        Mastery::Removed => (None, Some("removed from cluster")),
    };
    let need = match &view {
        Some(view) if !view.members.is_empty() => quorum_of(view),
        _ => document.quorum(),
    };
    let peers = peers(shared, view.as_deref(), &document);
    Status {
        node: shared.me,
        term: view.as_ref().map_or(0, |view| view.term),
        master,
        no_master: no_master.map(str::to_owned),
        quorum: master.is_some(),
        need,
        config_version: document.version,
        notes: notes(shared, &peers),
        peers,
        checks: checks(shared, master).await,
    }
}

fn peers(shared: &Shared, view: Option<&View>, document: &Document) -> Vec<PeerLine> {
    let (ears, now, dead_after) = (shared.ears.lock(), shared.now(), shared.dead_after());
    let mut lines: Vec<PeerLine> = document
        .peers
        .iter()
        .map(|peer| {
            let me = peer.node_id == shared.me;
            PeerLine {
                node: peer.node_id,
                advertise: peer.advertise.clone(),
                votes: view.is_none_or(|view| {
                    view.members.is_empty() || view.members.get(&peer.node_id.number()) == Some(&true)
                }),
                live: me || ears.is_live(peer.node_id, now, dead_after),
                last_seen: if me {
                    Some(shared.wall())
                } else {
                    ears.of(peer.node_id).map(|heard| heard.last_wall)
                },
            }
        })
        .collect();
    lines.sort_by_key(|line| line.node);
    lines
}

async fn checks(shared: &Arc<Shared>, master: Option<NodeId>) -> Vec<CheckLine> {
    if let Some(table) = shared.table.read().clone() {
        return as_configured(shared, (*table).clone());
    }
    if let (Some(master), Some(transport)) = (
        master.filter(|master| *master != shared.me),
        shared.transport.get(),
    ) {
        let asked = transport
            .request(master.number(), kind::CHECKS, encode(&()), TABLE_TIMEOUT)
            .await;
        if let Ok(lines) = asked
            .map_err(|_| ())
            .and_then(|answer| decode(&answer).map_err(|_| ()))
        {
            return as_configured(shared, lines);
        }
    }
    match shared.view() {
        Some(view) if view.state.document.version > 0 => table(shared, &view.state, None),
        _ => Vec::new(),
    }
}

/// The master makes its table every so often. What was added, removed, renamed or paused since then is known here, and whoever has just done
/// it wants to see it.
fn as_configured(shared: &Shared, lines: Vec<CheckLine>) -> Vec<CheckLine> {
    let Some(view) = shared.view().filter(|view| view.state.document.version > 0) else {
        return lines;
    };
    let mut made: BTreeMap<String, CheckLine> =
        lines.into_iter().map(|line| (line.id.clone(), line)).collect();
    let is_stale = |mark: &String| mark == "stale";
    let row = |own: CheckLine| match made.remove(&own.id) {
        None => CheckLine {
            mark: own.mark.filter(|mark| !is_stale(mark)),
            ..own
        },
        Some(line) => CheckLine {
            name: own.name,
            alerts: own.alerts,
            mark: own
                .mark
                .filter(|mark| !is_stale(mark))
                .or(line.mark.filter(is_stale)),
            ..line
        },
    };
    table(shared, &view.state, None).into_iter().map(row).collect()
}

fn notes(shared: &Shared, peers: &[PeerLine]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(edit) = shared.file.lock().note() {
        notes.push(edit);
    }
    notes.extend(shared.waiting.lock().iter().cloned());
    for peer in peers.iter().filter(|peer| !peer.votes) {
        notes.push(format!(
            "joining: {} ({}) catches up and does not vote yet",
            peer.node, peer.advertise
        ));
    }
    if let Some(view) = shared.view() {
        for node in &view.state.impaired {
            notes.push(format!(
                "impaired: node {node} finds what the others do not; its votes do not count"
            ));
        }
        let stuck = view
            .state
            .deliveries
            .values()
            .filter(|delivery| delivery.error.is_some());
        for delivery in stuck.take(10) {
            let alert = view
                .state
                .document
                .alert(&delivery.alert)
                .map_or("?", |alert| alert.name.as_str());
            let error = delivery.error.as_deref().unwrap_or_default();
            notes.push(format!(
                "undelivered: {} to {alert}, {} attempts: {error}",
                delivery.verb.name(),
                delivery.attempts
            ));
        }
    }
    let own = env!("CARGO_PKG_VERSION");
    let document = shared.document();
    let ears = shared.ears.lock();
    let heard = document.peers.iter().filter_map(|peer| ears.of(peer.node_id));
    let others: Vec<String> = heard
        .filter(|heard| heard.beat.program != own)
        .map(|heard| format!("{} has {}", heard.beat.node, heard.beat.program))
        .collect();
    if !others.is_empty() {
        notes.push(format!(
            "mixed versions: this node has {own}, {}",
            others.join(", ")
        ));
    }
    notes
}

/// What this node says of itself to `doctor`.
pub fn examine(shared: &Shared) -> Examined {
    let home = &shared.home;
    let files = [
        home.node_file(),
        home.cluster_file(),
        home.trust_file(),
        home.keys().join("private.pem"),
    ];
    let open = files.iter().filter_map(|path| {
        let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
        (mode & 0o077 != 0).then(|| format!("{} has mode {mode:04o}; run chmod 600", path.display()))
    });
    let certificate_end =
        pki::Certificate::parse(&shared.identity.certificate().into()).map_or(0, |known| known.not_after);
    Examined {
        beat: shared.beat(),
        troubles: shared.troubles.recent(),
        modes: open.collect(),
        icmp: shared.icmp.clone(),
        certificate_end,
        edit: shared.file.lock().note(),
    }
}

/// Looks at all nodes.
pub async fn doctor(shared: &Arc<Shared>) -> Vec<Finding> {
    let document = shared.document();
    let mut examined: BTreeMap<NodeId, Result<Examined, String>> = BTreeMap::new();
    examined.insert(shared.me, Ok(examine(shared)));
    for peer in document.peers.iter().filter(|peer| peer.node_id != shared.me) {
        let asked = match shared.transport.get() {
            None => Err("not started".to_owned()),
            Some(transport) => {
                let asked =
                    transport.request(peer.node_id.number(), kind::DOCTOR, encode(&()), EXAMINE_TIMEOUT);
                asked
                    .await
                    .map_err(|error| error.to_string())
                    .and_then(|answer| decode(&answer))
            }
        };
        examined.insert(peer.node_id, asked);
    }
    judge(shared, &document, &examined)
}

fn judge(
    shared: &Shared,
    document: &Document,
    examined: &BTreeMap<NodeId, Result<Examined, String>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |verdict: &str, subject: &str, text: String| {
        findings.push(Finding {
            verdict: verdict.to_owned(),
            subject: subject.to_owned(),
            text,
        });
    };
    let name = |node: NodeId| {
        document
            .peer(node)
            .map_or_else(|| node.to_string(), |peer| peer.advertise.clone())
    };
    match shared.mastery() {
        Mastery::Is(master) => say("pass", "quorum", format!("true, master {}", name(master))),
        Mastery::NoQuorum => say(
            "fail",
            "quorum",
            "false; start the nodes that are missing".to_owned(),
        ),
        Mastery::Election => say("fail", "quorum", "an election is in progress".to_owned()),
        Mastery::Removed => say(
            "fail",
            "quorum",
            "this node was removed from the cluster".to_owned(),
        ),
    }
    let there: Vec<(NodeId, &Examined)> = examined
        .iter()
        .filter_map(|(node, known)| Some((*node, known.as_ref().ok()?)))
        .collect();
    for (node, known) in examined {
        if let Err(error) = known {
            say("fail", "reachable", format!("{}: {error}", name(*node)));
        }
    }
    if there.len() == examined.len() {
        say(
            "pass",
            "reachable",
            format!("all {} nodes answer", examined.len()),
        );
    }
    let same = |what: &str, of: &dyn Fn(&Examined) -> String| {
        let values: Vec<String> = there
            .iter()
            .map(|(node, known)| format!("{} {}", name(*node), of(known)))
            .collect();
        let equal = there.windows(2).all(|pair| of(pair[0].1) == of(pair[1].1));
        let text = if equal {
            there.first().map_or_else(String::new, |first| of(first.1))
        } else {
            values.join(", ")
        };
        (if equal { "pass" } else { "fail" }, what.to_owned(), text)
    };
    for (verdict, subject, text) in [
        same("config ver", &|known| known.beat.version.to_string()),
        same("content", &|known| known.beat.digest.clone()),
        same("master", &|known| {
            known
                .beat
                .master
                .map_or_else(|| "none".to_owned(), |master| master.to_string())
        }),
    ] {
        say(verdict, &subject, text);
    }
    for (node, known) in &there {
        let deaf: Vec<String> = document
            .peers
            .iter()
            .map(|peer| peer.node_id)
            .filter(|peer| peer != node && !known.beat.hears.contains(peer))
            .map(name)
            .collect();
        if !deaf.is_empty() {
            say(
                "fail",
                "hears",
                format!("{} does not hear {}", name(*node), deaf.join(", ")),
            );
        }
        for trouble in &known.troubles {
            say("fail", "log", format!("{}: {trouble}", name(*node)));
        }
        for mode in &known.modes {
            say("fail", "files", format!("{}: {mode}", name(*node)));
        }
        if let Some(edit) = &known.edit {
            say("warn", "hand edit", format!("{}: {edit}", name(*node)));
        }
        let uses_icmp = document
            .checks
            .iter()
            .any(|check| check.kind == crate::document::CheckKind::Icmp);
        let verdict = if uses_icmp && known.icmp.starts_with("none") {
            "fail"
        } else {
            "pass"
        };
        say(verdict, "icmp", format!("{}: {}", name(*node), known.icmp));
        let days = (known.certificate_end - shared.wall() as i64 / 1000) / 86_400;
        let verdict = if days < CERTIFICATE_DAYS { "warn" } else { "pass" };
        say(
            verdict,
            "certificate",
            format!("{}: ends in {days} days", name(*node)),
        );
        let offset = known.beat.clock as i64 - shared.wall() as i64;
        if offset.abs() > OFFSET_MAX_MS {
            say(
                "warn",
                "clock",
                format!("{}: {} s apart from this node", name(*node), offset / 1000),
            );
        }
    }
    if there.iter().all(|(_, known)| known.troubles.is_empty()) {
        say("pass", "log", "no errors in the last 10 minutes".to_owned());
    }
    if let Some(view) = shared.view() {
        let waiting = view
            .state
            .deliveries
            .values()
            .filter(|delivery| delivery.error.is_some())
            .count();
        let verdict = if waiting == 0 { "pass" } else { "fail" };
        say(verdict, "alerts", format!("{waiting} undelivered"));
        let last_sent: BTreeMap<&str, u64> = view
            .state
            .finished
            .iter()
            .filter(|finished| finished.dropped.is_none())
            .filter_map(|finished| Some((finished.id.rsplit('/').next()?, finished.at)))
            .collect();
        for alert in &document.alerts {
            match last_sent.get(alert.id.as_str()) {
                Some(_) => say("pass", "alert", format!("{} has delivered", alert.name)),
                None => say(
                    "warn",
                    "alert",
                    format!(
                        "{} has delivered nothing yet; run qu alert test {}",
                        alert.name, alert.name
                    ),
                ),
            }
        }
    }
    findings
}
