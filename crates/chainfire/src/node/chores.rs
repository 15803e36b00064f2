//! What goes on beside requests: leases run out, old revisions are swept, space is watched.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use consensus::{Change, NodeId};
use prost::Message as _;
use service::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use super::Node;
use crate::config::Retention;
use crate::error::{Error, Result};
use crate::wire::etcdserverpb::alarm_request::AlarmAction;
use crate::wire::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, LeaseCheckpoint, LeaseCheckpointRequest,
};
use crate::wire::logpb::command::Request;
use crate::wire::logpb::{self, LeaseExpire};

/// Leases that one log entry lets expire. Bounded so that a million of them does not stop everything else.
const EXPIRE_MAX: usize = 1000;

/// When an expiry that could not be proposed is tried again, in milliseconds.
const EXPIRE_RETRY_MS: u64 = 500;

/// Leases whose rest one log entry notes (etcd's number), and how often it is looked which are due.
const CHECKPOINTS_MAX: usize = 1000;
const CHECKPOINT_LOOK: Duration = Duration::from_secs(10);

/// How often the leader compares what the members hold.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// How often space and stalls are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Room on the file system below which writes are refused, so that flushes and compactions still have some: then deleting
/// and compacting can help, and the database never meets a full disk.
const DISK_RESERVE_BYTES: u64 = 64 << 20;

/// Shares of the quota, in percent: warn above, and clear the alarm below.
const QUOTA_WARN: u64 = 80;
const QUOTA_CLEAR: u64 = 90;

/// Runs a chore until the node shuts down.
fn until(shutdown: &Shutdown, chore: impl Future<Output = ()> + Send + 'static) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.wait() => {}
            () = chore => {}
        }
    });
}

/// The command that notes these seconds left of leases; 0 takes a note back.
fn checkpoints(left: impl Iterator<Item = (i64, i64)>) -> Request {
    let checkpoints = left
        .map(|(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl })
        .collect();
    Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
}

impl Node {
    /// Starts all chores; they end with `shutdown`.
    pub fn start_chores(self: &Arc<Node>, shutdown: &Shutdown) {
        let (leases, sweeper, space, retention) = (self.clone(), self.clone(), self.clone(), self.clone());
        until(shutdown, async move { leases.expire_leases().await });
        let checkpoints = self.clone();
        until(shutdown, async move { checkpoints.checkpoint_leases().await });
        until(shutdown, async move { sweeper.sweep().await });
        until(shutdown, async move { space.watch_space().await });
        until(shutdown, async move { retention.compact_by_itself().await });
        let hashes = self.clone();
        until(shutdown, async move { hashes.compare_hashes().await });
        let promotion = self.clone();
        until(shutdown, async move { promotion.promote_who_asked().await });
        let removal = self.clone();
        until(shutdown, async move { removal.end_when_removed().await });
    }

    async fn expire_leases(&self) {
        loop {
            // Taken before: what runs out later than a change of leaders has the new leader's time.
            let term = self.raft.view().term;
            let now = self.now_ms();
            let (expired, next) = {
                let mut lessor = self.machine.lessor.lock();
                (lessor.expire(now, EXPIRE_MAX), lessor.next_deadline())
            };
            if expired.is_empty() {
                let changed = self.aftermath.lease_changed.notified();
                match next {
                    None => changed.await,
                    Some(deadline) => {
                        let wait = Duration::from_millis(deadline.saturating_sub(now).max(1));
                        // Ends early when a new lease may run out before.
                        let _ = tokio::time::timeout(wait, changed).await;
                    }
                }
                continue;
            }
            let request = Request::LeaseExpire(LeaseExpire { ids: expired.clone() });
            if let Err(error) = self.decide(term, request).await {
                if self.raft.view().leads() {
                    tracing::warn!(target: "chainfire_storage", error = %error, "Leases could not expire");
                }
                self.machine.lessor.lock().retry(&expired, now + EXPIRE_RETRY_MS);
            }
        }
    }

    /// Notes in the log what is left of long leases.
    async fn checkpoint_leases(&self) {
        let every_ms = self.config.limits.lease_checkpoint_interval_ms;
        self.machine
            .lessor
            .lock()
            .checkpoint_every(every_ms, self.now_ms());
        let mut looks = interval(CHECKPOINT_LOOK.min(Duration::from_millis(every_ms)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            loop {
                let term = self.raft.view().term;
                let noted = self
                    .machine
                    .lessor
                    .lock()
                    .checkpoints_due(self.now_ms(), CHECKPOINTS_MAX);
                if noted.is_empty() {
                    break;
                }
                let mut result = self.decide(term, checkpoints(noted.iter().copied())).await;
                let renewed = self.machine.lessor.lock().renewed_since(&noted, self.now_ms());
                if !renewed.is_empty() {
                    // Whoever leads: this gives a lease time and never takes any.
                    let taken_back = checkpoints(renewed.into_iter().map(|id| (id, 0)));
                    result = self.propose_internal(taken_back).await.map(drop);
                }
                if let Err(error) = result {
                    // Due again one interval later. Meanwhile a next leader would give these leases more time, never less.
                    tracing::warn!(target: "chainfire_storage", error = %error, "What is left of leases not noted");
                    break;
                }
            }
        }
    }

    async fn sweep(self: &Arc<Node>) {
        loop {
            let wanted = self.aftermath.sweep_wanted.notified();
            if self.machine.mvcc.is_swept() {
                self.swept.notify_waiters();
                wanted.await;
                continue;
            }
            let node = self.clone();
            let result = tokio::task::spawn_blocking(move || {
                node.machine.mvcc.sweep(&mut || {
                    std::thread::yield_now();
                    ControlFlow::Continue(())
                })
            });
            if let Ok(Err(error)) = result.await {
                tracing::warn!(target: "chainfire_storage", error = %error, "Sweep failed");
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
        }
    }

    /// As the leader, compares what the members hold once a minute. One that differs is not served any more: alarm CORRUPT.
    async fn compare_hashes(&self) {
        let mut ticks = interval(COMPARE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let view = self.raft.view();
            if !view.leads() || view.configuration.members().count() < 2 {
                continue;
            }
            let revision = self.machine.mvcc.revision();
            let Ok(ours) = self.hash_of(NodeId(self.id()), revision).await else {
                continue;
            };
            for (member, _) in view
                .configuration
                .members()
                .filter(|(member, _)| member.0 != self.id())
            {
                // One that is behind or away is compared the next time.
                let Ok(theirs) = self.hash_of(member, revision).await else {
                    continue;
                };
                let comparable = theirs.1 == ours.1;
                if comparable && theirs.0 != ours.0 {
                    tracing::error!(
                        target: "chainfire_storage",
                        node_id = member.0,
                        revision,
                        error = "data_differs",
                        "Node holds other data than the leader"
                    );
                    if let Err(error) = self
                        .change_alarm(AlarmAction::Activate, AlarmType::Corrupt, member.0)
                        .await
                    {
                        tracing::warn!(target: "chainfire_storage", error = %error, "Alarm not raised");
                    }
                }
            }
        }
    }

    /// Makes voters of the learners that were added as such, once they have caught up.
    async fn promote_who_asked(&self) {
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let view = self.raft.view();
            if !view.leads() {
                continue;
            }
            for (node, member) in view.configuration.members() {
                let told = logpb::Member::decode(member.context.clone()).unwrap_or_default();
                if member.voter || !told.wants_vote {
                    continue;
                }
                match self.change(Change::Promote { node }).await {
                    Ok(()) => {
                        tracing::info!(target: "chainfire_raft", node_id = node.0, "Node promoted to voter");
                    }
                    Err(error) => {
                        tracing::debug!(target: "chainfire_raft", node_id = node.0, error = %error, "Not promoted yet");
                    }
                }
            }
        }
    }

    /// A node that was taken out of the cluster has nothing more to do.
    async fn end_when_removed(&self) {
        let mut view = self.raft.watch();
        if view.wait_for(|view| view.removed).await.is_ok() {
            // Clients of this node are told that it stops, and the others that they need not wait for it.
            tokio::time::sleep(WATCH_INTERVAL).await;
            self.raft.end(0, "removed from cluster");
        }
    }

    async fn watch_space(&self) {
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stalled_before = 0;
        let mut warned = false;
        loop {
            ticks.tick().await;
            self.look_at_disk();

            let stalled = self.store.write_stalls().total_micros;
            let since = stalled.saturating_sub(stalled_before) / 1000;
            if since > 0 {
                let duration = format_args!("{since}ms").to_string();
                tracing::warn!(target: "chainfire_storage", duration = %duration, "RocksDB stall detected");
            }
            stalled_before = stalled;

            let quota = self.config.storage.quota_backend_bytes.bytes();
            if quota == 0 {
                continue;
            }
            let used = self.machine.mvcc.bytes_in_use();
            let above = used > quota / 100 * QUOTA_WARN;
            if above && !warned {
                tracing::warn!(target: "chainfire_storage", in_use = used, quota, "Space is running out");
            }
            warned = above;
            let raised = self
                .machine
                .alarms()
                .iter()
                .any(|alarm| alarm.alarm == AlarmType::Nospace as i32 && alarm.member_id == self.id());
            if raised
                && used < quota / 100 * QUOTA_CLEAR
                && self.clear_alarm(AlarmType::Nospace).await.is_ok()
            {
                tracing::info!(target: "chainfire_storage", in_use = used, quota, "Space is there again, alarm cleared");
            }
        }
    }

    fn look_at_disk(&self) {
        let Ok(stat) = nix::sys::statvfs::statvfs(self.store.path()) else {
            return;
        };
        let free = stat.blocks_available() * stat.fragment_size();
        let full = free < DISK_RESERVE_BYTES;
        if !full && self.raft.is_halted() {
            self.raft.give_up();
        }
        if self.disk_full.swap(full, Ordering::AcqRel) != full {
            if full {
                tracing::error!(target: "chainfire_storage", free, error = "disk_full", "Writes are refused");
            } else {
                tracing::info!(target: "chainfire_storage", free, "Disk has room again, writes are taken");
            }
        }
    }

    /// Raises an alarm for this node. Raising one that is there changes nothing.
    pub async fn raise_alarm(&self, alarm: AlarmType) -> Result<()> {
        tracing::error!(target: "chainfire_storage", error = alarm.as_str_name(), "Alarm raised");
        self.alarm(AlarmAction::Activate, alarm).await
    }

    async fn clear_alarm(&self, alarm: AlarmType) -> Result<()> {
        self.alarm(AlarmAction::Deactivate, alarm).await
    }

    async fn alarm(&self, action: AlarmAction, alarm: AlarmType) -> Result<()> {
        self.change_alarm(action, alarm, self.id()).await
    }

    async fn change_alarm(&self, action: AlarmAction, alarm: AlarmType, member_id: u64) -> Result<()> {
        let request = AlarmRequest {
            action: action as i32,
            member_id,
            alarm: alarm as i32,
        };
        self.propose_internal(Request::Alarm(request)).await.map(drop)
    }

    /// Drops old revisions by age or number, if the settings say so.
    async fn compact_by_itself(&self) {
        let Some(retention) = self.config.storage.retention() else {
            return;
        };
        // Age is kept as revisions noted in the past: ten notes for each retention, as etcd does.
        let (every, notes) = match retention {
            Retention::Keep => return,
            Retention::Age(age) => (Duration::from_millis((age / 10).clamp(1000, 3_600_000)), age),
            Retention::Revisions(_) => (Duration::from_mins(5), 0),
        };
        let mut noted: std::collections::VecDeque<(u64, i64)> = std::collections::VecDeque::new();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.raft.view().leads() {
                noted.clear();
                continue;
            }
            let revision = self.machine.mvcc.revision();
            let now = self.now_ms();
            let target = match retention {
                Retention::Keep => return,
                Retention::Revisions(keep) => revision - keep,
                Retention::Age(_) => {
                    noted.push_back((now, revision));
                    let mut target = 0;
                    while noted.front().is_some_and(|(then, _)| *then + notes <= now) {
                        target = noted.pop_front().map_or(0, |(_, revision)| revision);
                    }
                    target
                }
            };
            if target > self.machine.mvcc.compacted() && target > 0 {
                let request = CompactionRequest {
                    revision: target,
                    physical: false,
                };
                match self.propose_internal(Request::Compaction(request)).await {
                    Ok(_) | Err(Error::Compacted) => {
                        tracing::info!(target: "chainfire_storage", revision = target, "Compacted old revisions");
                    }
                    Err(error) => {
                        tracing::warn!(target: "chainfire_storage", error = %error, "Compaction failed");
                    }
                }
            }
        }
    }
}
