//! The monitor: any number of them run, one is elected, and it assigns goals.
//!
//! It keeps a [`Mirror`], makes a [`View`] of each group, asks [`decide`](crate::decide()), and writes what comes of it with the events in one
//! transaction, which also compares that it is still the elected one. What it knows of time it knows from its own clock: when it saw a report
//! change, when it saw a goal change, since when looks at a node fail. A newly elected monitor knows nothing of that and takes everybody for
//! just heard; `startup_grace_period` gives it time to learn.

mod look;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use service::clock::SharedClock;
use tracing::{info, warn};

use crate::NodeId;
use crate::decide::{self, Step};
use crate::group::GroupState;
use crate::layout::{self, Event, Group, GroupId, Leader, Stored, Wish};
use crate::mirror::Mirror;
use crate::probe::Probe;
use crate::state::NodeState;
use crate::store::{Change, Error, Outcome, Snapshot, Store};

pub use look::Looks;
use view::Seen;

/// Seconds that a monitor stays elected without renewal. A store counts in whole seconds, and no lease below two survives a slow disk.
const TERM: i64 = 5;
/// Renewals in that time.
const RENEWALS: u32 = 5;
/// The least time between two looks at everything, when nothing in the store changes: clocks decide too.
const TICK: Duration = Duration::from_millis(100);
/// How long it waits to read its own writes.
const OWN_WRITES: Duration = Duration::from_secs(2);

/// A monitor.
#[derive(Debug)]
pub struct Monitor<P> {
    store: Store,
    probe: Arc<P>,
    clock: SharedClock,
    /// Host and process, for people.
    name: String,
}

impl<P: Probe> Monitor<P> {
    /// One that works on this store.
    pub fn new(store: Store, probe: Arc<P>, clock: SharedClock, name: String) -> Monitor<P> {
        Monitor {
            store,
            probe,
            clock,
            name,
        }
    }

    /// Runs until it is dropped. Waits for its election, works, and begins anew when it is not the elected one any more.
    pub async fn run(self) {
        let mut said = None;
        loop {
            match self.term().await {
                Ok(()) => said = None,
                Err(error) => {
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        warn!(error, "the store does not answer");
                        said = Some(error);
                    }
                    tokio::time::sleep(TICK * 5).await;
                }
            }
        }
    }

    /// One term in office.
    async fn term(&self) -> Result<(), Error> {
        let mut mirror = Mirror::start(self.store.clone()).await?;
        let (lease, office) = self.elected(&mut mirror).await?;
        info!(monitor = self.name, "elected");
        let looks = Looks::start(mirror.receiver(), self.probe.clone(), self.clock.clone());
        let mut seen = Seen::new(self.clock.now().millis());
        let renew = Duration::from_secs(TERM.unsigned_abs()) / RENEWALS;
        let mut renewal = tokio::time::interval(renew);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = mirror.changed() => {}
                _ = tick.tick() => {}
                _ = renewal.tick() => {
                    if !self.store.renew(lease).await? {
                        warn!("another monitor may be elected now");
                        return Ok(());
                    }
                    continue;
                }
            }
            let snapshot = mirror.now();
            if snapshot.entries.get(layout::LEADER).map(|entry| entry.revision) != Some(office) {
                warn!("another monitor is elected now");
                return Ok(());
            }
            for id in groups(&snapshot) {
                if let Some(revision) = self.look_at(&snapshot, &id, office, &looks, &mut seen).await? {
                    mirror.reach(revision, OWN_WRITES).await;
                }
            }
        }
    }

    /// Waits until nobody is elected, and is elected. Answers with the lease and the revision of that.
    async fn elected(&self, mirror: &mut Mirror) -> Result<(i64, i64), Error> {
        loop {
            while mirror.now().entries.contains_key(layout::LEADER) {
                mirror.changed().await;
            }
            let lease = self.store.grant(TERM).await?;
            let leader = Leader {
                monitor: self.name.clone(),
            };
            let change = Change::default().if_at(layout::LEADER, 0).put_with_lease(
                layout::LEADER,
                leader.encode(),
                lease,
            );
            if let Outcome::Done(revision) = self.store.commit(change).await? {
                mirror.reach(revision, OWN_WRITES).await;
                return Ok((lease, revision));
            }
            // The mirror is late, or somebody else was quicker.
            tokio::time::timeout(TICK * 10, mirror.changed()).await.ok();
        }
    }

    /// Decides and writes one step of a group, and what looks found. Answers with the revision of its last write.
    async fn look_at(
        &self,
        snapshot: &Snapshot,
        id: &GroupId,
        office: i64,
        looks: &Looks,
        seen: &mut Seen,
    ) -> Result<Option<i64>, Error> {
        let state = match GroupState::read(snapshot, id) {
            Ok(state) => state,
            Err(wrong) => {
                seen.complain(&wrong);
                return Ok(None);
            }
        };
        let now = self.clock.now().millis();
        let nodes = seen.nodes(&state, looks, now);
        let mut written = self.write_health(&state, office, looks).await?;
        let record = state.record.as_ref().map(|at| &at.value);
        let view = decide::View {
            now,
            elected: seen.elected,
            settings: &state.settings,
            number_sync: state
                .formation
                .as_ref()
                .map_or(0, |at| at.value.number_sync_standbys),
            nodes: &nodes,
            record,
            revision: state.record_revision(),
            lock: state.lock.as_ref().map(|at| at.value.node),
            wanted: &state.group.wanted,
            request: state.group.request.map(|wish| match wish {
                Wish::Failover => decide::Request::Failover,
                Wish::Promotion(node) => decide::Request::Promotion(node),
                Wish::Forced { node, record, loss } => decide::Request::Forced { node, record, loss },
            }),
        };
        let Some(step) = decide::decide(&view) else {
            return Ok(written);
        };
        let change = self.step(&state, &step).if_at(layout::LEADER, office);
        if let Outcome::Done(revision) = self.store.commit(change).await? {
            for assignment in &step.goals {
                let name = &state.nodes[&assignment.node].value.name;
                info!(
                    node = name,
                    goal = assignment.goal.name(),
                    because = assignment.because,
                    "assigned"
                );
            }
            written = Some(revision);
        }
        Ok(written)
    }

    /// A step as a transaction that compares all it rests on.
    fn step(&self, state: &GroupState, step: &Step) -> Change {
        let mut change = state.unchanged();
        let mut group = Group {
            wanted: step.wanted.clone().unwrap_or_else(|| state.group.wanted.clone()),
            request: state.group.request.filter(|_| !step.request_done),
            next_event: state.group.next_event,
        };
        for assignment in &step.goals {
            let before = &state.nodes[&assignment.node].value;
            assert!(
                before.goal.may_become(assignment.goal),
                "{} is no way from {}",
                assignment.goal,
                before.goal
            );
            let mut node = before.clone();
            node.goal_before = node.goal;
            node.goal = assignment.goal;
            change = change.put(state.id.node_key(assignment.node), node.encode());
            let description = format!(
                "{} is to become {}: {}",
                node.name, assignment.goal, assignment.because
            );
            let event = self.event(state, assignment.node, assignment.goal, description);
            change = kept(change, state, &mut group, &event);
        }
        if let Some(forced) = step.forced {
            let before = &state.nodes[&forced.node].value;
            let assigned = step.goals.iter().find(|goal| goal.node == forced.node);
            let lost = forced.loss.map_or_else(
                || "an unknown number of bytes".to_owned(),
                |bytes| format!("at least {bytes} bytes"),
            );
            let description = format!(
                "{} is to be primary by the word of the operator, who accepts the loss of {lost}",
                before.name
            );
            let goal = assigned.map_or(before.goal, |assigned| assigned.goal);
            let mut event = self.event(state, forced.node, goal, description);
            event.accepted_loss_bytes = forced.loss;
            change = kept(change, state, &mut group, &event);
        }
        if let Some(record) = &step.record {
            change = change.put(state.id.record_key(), record.encode());
        }
        if group != state.group {
            change = change.put(state.id.group_key(), group.encode());
        }
        change
    }

    /// Something that happens to a node, now.
    fn event(&self, state: &GroupState, node: NodeId, goal: NodeState, description: String) -> Event {
        let entry = &state.nodes[&node].value;
        let report = state.reports.get(&node).map(|at| &at.value);
        Event {
            time_ms: self.clock.unix_ms(),
            node,
            group: state.id.group,
            name: entry.name.clone(),
            host: entry.host.clone(),
            port: entry.port,
            reported: report.map_or(entry.goal_before, |report| report.state),
            goal,
            position: report.and_then(|report| report.position),
            candidate_priority: entry.candidate_priority,
            replication_quorum: entry.replication_quorum,
            description,
            accepted_loss_bytes: None,
        }
    }

    /// Writes what looks found, where it has changed, for tables.
    async fn write_health(
        &self,
        state: &GroupState,
        office: i64,
        looks: &Looks,
    ) -> Result<Option<i64>, Error> {
        let found: BTreeMap<_, _> = state
            .nodes
            .keys()
            .filter_map(|node| Some((*node, looks.looked(&state.id, *node)?)))
            .filter(|(node, looked)| state.health.get(node) != Some(looked))
            .collect();
        if found.is_empty() {
            return Ok(None);
        }
        let mut change = Change::default().if_at(layout::LEADER, office);
        for (node, looked) in found {
            change = change.put(state.id.health_key(node), looked.encode());
        }
        Ok(match self.store.commit(change).await? {
            Outcome::Done(revision) => Some(revision),
            Outcome::Conflict => None,
        })
    }
}

/// With an event, and without the oldest one.
fn kept(change: Change, state: &GroupState, group: &mut Group, event: &Event) -> Change {
    let mut change = change.put(state.id.event_key(group.next_event), event.encode());
    if let Some(old) = group.next_event.checked_sub(layout::EVENTS_KEPT) {
        change = change.delete(state.id.event_key(old));
    }
    group.next_event += 1;
    change
}

/// All groups that have nodes.
fn groups(snapshot: &Snapshot) -> Vec<GroupId> {
    let prefix = format!("{}nodes/", layout::PREFIX);
    let mut groups: Vec<GroupId> = snapshot
        .entries
        .range(prefix.clone()..)
        .map_while(|(key, _)| key.strip_prefix(&prefix))
        .filter_map(|rest| GroupId::of(rest.split('/').next()?).ok())
        .collect();
    groups.dedup();
    groups
}
