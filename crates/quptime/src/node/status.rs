//! What commands show: the status of a node, and the table of checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::propose;
use super::shared::{Mastery, Shared, quorum_of};
use super::wire::{CheckLine, Here, decode, encode, kind};
use crate::api::{PeerLine, Status};
use crate::document::Document;
use crate::identity::NodeId;
use crate::machine::announce::{is_acknowledged, window_of};
use crate::machine::rounds::Rounds;
use crate::machine::state::State;
use crate::raft::view::View;

/// How long the master may take for its table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Somebody waits for the table of checks.
pub type TableCall = oneshot::Sender<Vec<CheckLine>>;

/// The table of checks as the master has it, if this node is it. Its rounds are known to one task only, which makes the table when it is asked
/// for: with ten thousand checks a table takes megabytes.
pub async fn own_table(shared: &Shared) -> Option<Vec<CheckLine>> {
    if shared.master() != Some(shared.me) {
        return None;
    }
    let (call, table) = oneshot::channel();
    shared.tables.send(call).await.ok()?;
    tokio::time::timeout(TABLE_TIMEOUT, table).await.ok()?.ok()
}

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
                .as_ref()
                .is_some_and(|incident| is_acknowledged(incident, wall)),
            here: None,
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
    let is_full = view.as_ref().is_some_and(|view| view.full.is_some());
    let no_master = no_master.map(|why| if is_full { "disk full" } else { why });
    let need = match &view {
        Some(view) if !view.members.is_empty() => quorum_of(view),
        _ => document.quorum(),
    };
    let peers = peers(shared, view.as_deref(), &document);
    let mut checks = checks(shared, master).await;
    if master.is_none() {
        look_here(shared, &mut checks);
    }
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
        checks,
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
    if let Some(table) = own_table(shared).await {
        return table;
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

/// Verdicts stay as they were when there was quorum last, so what this node finds itself stands beside them.
fn look_here(shared: &Shared, lines: &mut [CheckLine]) {
    let (now, wall) = (shared.now(), shared.wall());
    let found = shared.found.lock();
    for line in lines {
        line.here = found.get(&line.id).map(|found| Here {
            result: found.result,
            detail: found.detail.clone(),
            at: wall.saturating_sub(now.saturating_sub(found.at)),
        });
    }
}

/// The master may be behind this node or ahead of it. What was added, removed, renamed or paused is taken from here: whoever has just done
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
    notes.extend(shared.unwritten().map(|text| format!("disk: {text}")));
    notes.extend(shared.waiting.lock().iter().cloned());
    if shared.mastery() == Mastery::Removed {
        notes.push(format!("removed: {}", propose::REMOVED));
    }
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
