//! `perform failover` when the primary is lost.
//!
//! Who is there is not in the store: a report stays when its keeper is gone. So reports are watched for a moment first; whoever makes a new
//! one meanwhile is there, whatever anybody's clock says. What is printed about loss is what the primary last said of itself, and so the least
//! that is missing: it may have written on for as long as it was not heard.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, anyhow};
use service::clock::SystemClock;
use service::exit::with_code;

use super::super::STATE;
use super::super::find::read;
use super::super::show::reported;
use super::have;
use crate::group::GroupState;
use crate::layout::Wish;
use crate::state::NodeState;
use crate::store::Store;
use crate::{Kind, NodeId, Position, Record};

/// Reports that a keeper could have made while it is found out who is there.
const REPORTS: u32 = 3;
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(100);
/// The least time to watch.
const LEAST: Duration = Duration::from_secs(1);

/// Promotes a standby although it may lack rows, unless the record lets somebody be promoted without that.
pub(super) async fn failover(store: &Store, before: GroupState, wait: u64, dry_run: bool) -> Result<()> {
    let (state, there) = watch(store, before).await?;
    let refused = |reason: String| Err(with_code(STATE, anyhow!("{reason}")));
    let Some(record) = state.record.as_ref().map(|at| at.value.clone()) else {
        return refused("there is no primary yet".to_owned());
    };
    let old = record.node;
    let name = name_of(&state, old);
    if serves(&state, &record, &there) {
        let is = reported(&state, old);
        return refused(format!(
            "{name} is {is} and serves; nobody is promoted over it. A planned change needs a primary with a secondary"
        ));
    }
    if allowed(&record, &there) {
        let text =
            "the standbys that are there have all acknowledged rows: the monitor promotes one by itself";
        terminal::note(text);
        return if dry_run {
            Ok(())
        } else {
            have(store, state, old, None, wait).await
        };
    }
    let Some(chosen) = choose(&state, old, &there) else {
        return refused(format!(
            "{name} is lost, and no standby is there that could be promoted"
        ));
    };
    let loss = missing(&state, old, chosen);
    terminal::note(&format!(
        "{} {} WARN {}",
        jiff::Zoned::now().strftime("%H:%M:%S"),
        std::process::id(),
        warning(&state, old, chosen, loss, &there, SystemClock::shared().unix_ms())
    ));
    if dry_run {
        let chosen = name_of(&state, chosen);
        terminal::out(&format!(
            "{chosen} would cut itself off from {name}, replay what it has, take the lock with epoch {}, and be promoted\n",
            record.epoch + 1
        ));
        return Ok(());
    }
    let wish = Wish::Forced {
        node: chosen,
        record: state.record_revision(),
        loss,
    };
    have(store, state, old, Some(wish), wait).await
}

/// Who makes a report while it is looked, and the group after that.
async fn watch(store: &Store, before: GroupState) -> Result<(GroupState, BTreeSet<NodeId>)> {
    let patience = (before.settings.keeper_interval.duration() * REPORTS).max(LEAST);
    let mut state = before.clone();
    for _ in 0..patience.as_millis() / LOOK.as_millis() {
        tokio::time::sleep(LOOK).await;
        state = read(store, &before.id).await?;
    }
    let number = |state: &GroupState, node| state.reports.get(&node).map(|at| at.revision);
    let there = state
        .reports
        .keys()
        .copied()
        .filter(|node| number(&before, *node) != number(&state, *node))
        .collect();
    Ok((state, there))
}

fn name_of(state: &GroupState, node: NodeId) -> String {
    let entry = state.nodes.get(&node);
    entry.map_or_else(|| format!("node {node}"), |at| at.value.name.clone())
}

/// Whether the primary is there and takes writes.
fn serves(state: &GroupState, record: &Record, there: &BTreeSet<NodeId>) -> bool {
    let holds = state.lock.as_ref().map(|at| at.value.node) == Some(record.node);
    let report = state.reports.get(&record.node).map(|at| &at.value);
    holds
        && there.contains(&record.node)
        && report.is_some_and(|report| report.running && !report.dead && report.state.writable())
}

/// Whether somebody can be elected who has every acknowledged row.
fn allowed(record: &Record, there: &BTreeSet<NodeId>) -> bool {
    let members = record.members.iter().filter(|node| there.contains(node));
    record.kind == Kind::Sync && members.count() >= record.need as usize
}

fn position(state: &GroupState, node: NodeId) -> Option<Position> {
    state.reports.get(&node)?.value.position
}

/// Whoever has most, then by priority, then by number.
fn choose(state: &GroupState, old: NodeId, there: &BTreeSet<NodeId>) -> Option<NodeId> {
    let able = state.nodes.iter().filter(|(node, at)| {
        let goal = at.value.goal;
        let asked = goal == NodeState::ReportLsn || goal.may_become(NodeState::ReportLsn);
        **node != old && there.contains(node) && asked && at.value.candidate_priority > 0
    });
    able.filter_map(|(node, at)| {
        let report = &state.reports.get(node)?.value;
        // Without an identifier its directory is empty. A standby that was killed does not know where its log ends until it has started.
        report.system_identifier.as_ref()?;
        let rank = (report.position, at.value.candidate_priority, Reverse(*node));
        Some(rank)
    })
    .max()
    .map(|(_, _, Reverse(node))| node)
}

/// Bytes that the primary had by its last report and the other one has not; nothing if the two cannot be compared.
fn missing(state: &GroupState, old: NodeId, chosen: NodeId) -> Option<u64> {
    let (had, has) = (position(state, old)?, position(state, chosen)?);
    (had.timeline == has.timeline).then(|| had.lsn.saturating_sub(has.lsn))
}

/// What the operator accepts.
fn warning(
    state: &GroupState,
    old: NodeId,
    chosen: NodeId,
    loss: Option<u64>,
    there: &BTreeSet<NodeId>,
    now_ms: u64,
) -> String {
    let (name, chosen) = (name_of(state, old), name_of(state, chosen));
    let report = state.reports.get(&old).map(|at| &at.value);
    let age = report.filter(|report| report.time_ms > 0).map_or_else(
        || "at an unknown time".to_owned(),
        |report| format!("{} s ago", now_ms.saturating_sub(report.time_ms) / 1_000),
    );
    let lacks = loss.map_or_else(
        || format!("it is not known how much {chosen} lacks of what {name} had (last report {age})"),
        |bytes| format!("{chosen} lacks at least {bytes} bytes that {name} had at its last report, {age}"),
    );
    let stopped = report.is_some_and(|report| report.dead || there.contains(&old) && !report.running);
    let stopped = if stopped {
        "is confirmed stopped".to_owned()
    } else {
        "is not confirmed stopped: what it acknowledged since, and still does if it runs, is lost".to_owned()
    };
    format!("{lacks}; {name} {stopped}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Names;
    use crate::layout::{GroupId, Lock, NodeEntry, Report, Stored as _};
    use crate::store::{Entry, Snapshot};

    fn group(reports: &[(NodeId, u32, u64)]) -> GroupState {
        let id = GroupId::of("default").expect("a name");
        let mut snapshot = Snapshot::default();
        let mut put = |key: String, text: String| {
            let entry = Entry {
                value: text.into(),
                revision: 3,
                lease: 0,
            };
            snapshot.entries.insert(key, entry);
        };
        for (node, timeline, lsn) in reports {
            let state = if *node == 1 {
                NodeState::WaitPrimary
            } else {
                NodeState::CatchingUp
            };
            let entry = NodeEntry {
                name: format!("node{node}"),
                host: "localhost".to_owned(),
                port: 7400,
                candidate_priority: 50,
                replication_quorum: true,
                goal: state,
                goal_before: state,
            };
            put(id.node_key(*node), entry.encode());
            let report = Report {
                number: 1,
                time_ms: 10_000,
                state,
                running: true,
                dead: false,
                position: Some(Position {
                    timeline: *timeline,
                    lsn: *lsn,
                }),
                vote: None,
                names: Names::nobody(),
                system_identifier: Some("7".to_owned()),
                trouble: None,
            };
            put(id.report_key(*node), report.encode());
        }
        let lock = Lock {
            node: 1,
            epoch: 1,
            tli: 1,
        };
        put(id.lock_key(), lock.encode());
        put(id.record_key(), Record::first(1).encode());
        GroupState::read(&snapshot, &id).expect("well-formed")
    }

    #[test]
    fn who_has_most_is_chosen_among_those_who_are_there() {
        let state = group(&[(1, 1, 500), (2, 1, 300), (3, 1, 400), (4, 1, 450)]);
        assert_eq!(choose(&state, 1, &BTreeSet::from([2, 3])), Some(3));
        assert_eq!(choose(&state, 1, &BTreeSet::from([2, 3, 4])), Some(4));
        assert_eq!(choose(&state, 1, &BTreeSet::from([1])), None, "never the old one");
    }

    #[test]
    fn the_warning_says_how_much_since_when_and_whether_it_is_stopped() {
        let mut state = group(&[(1, 1, 5_000), (2, 1, 904)]);
        let there = BTreeSet::from([2]);
        let loss = missing(&state, 1, 2);
        assert_eq!(loss, Some(4_096));
        assert_eq!(
            warning(&state, 1, 2, loss, &there, 47_500),
            "node2 lacks at least 4096 bytes that node1 had at its last report, 37 s ago; node1 is not confirmed stopped: \
             what it acknowledged since, and still does if it runs, is lost"
        );
        state.reports.get_mut(&1).expect("it is there").value.dead = true;
        assert!(warning(&state, 1, 2, loss, &there, 0).ends_with("; node1 is confirmed stopped"));
        let parted = group(&[(1, 2, 5_000), (2, 1, 904)]);
        assert_eq!(missing(&parted, 1, 2), None);
        assert!(
            warning(&parted, 1, 2, None, &there, 47_500).starts_with("it is not known how much node2 lacks")
        );
    }

    #[test]
    fn who_serves_is_not_forced_over_and_who_can_be_elected_needs_no_force() {
        let state = group(&[(1, 1, 500), (2, 1, 300)]);
        let record = Record::first(1);
        assert!(serves(&state, &record, &BTreeSet::from([1, 2])));
        assert!(!serves(&state, &record, &BTreeSet::from([2])));
        assert!(!allowed(&record, &BTreeSet::from([2, 3])));
        let names: Names = "ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"
            .parse()
            .expect("ours");
        let sync = record.settled(&names);
        assert!(allowed(&sync, &BTreeSet::from([2, 3])));
        assert!(!allowed(&sync, &BTreeSet::from([2])));
    }
}
