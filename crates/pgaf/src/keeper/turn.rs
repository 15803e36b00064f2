//! One turn: the lock, the election, the goal.
//!
//! A turn reads the group once and returns after the first thing it has written to the store, so that everything is decided on what was read
//! at one moment; the writes compare it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{error, warn};

use super::names::Progress;
use super::takeover::peer;
use super::{Keeper, Trouble};
use crate::database::{Database, Running, Status, Stop};
use crate::election;
use crate::group::GroupState;
use crate::layout::Vote;
use crate::state::NodeState;
use crate::{Kind, Names};

/// A standby that receives nothing for so long is brought to follow anew: what it needs may be gone from its upstream.
const RECEIVES_NOTHING: Duration = Duration::from_secs(10);

/// When the next turn is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As soon as what was written at this revision can be read.
    Written(i64),
    /// At once.
    Again,
    /// In a moment: something else has to happen first, and will not be told.
    Soon,
    /// When something has changed, or the interval is over.
    Calm,
}

impl<D: Database> Keeper<D> {
    /// One turn.
    pub(super) async fn turn(&mut self) -> Result<Pace, Trouble> {
        let shared = self.shared.clone();
        let group = GroupState::read(&self.mirror.now(), &shared.group)?;
        let Some(me) = group.nodes.get(&shared.node) else {
            return Err(Trouble::Refused(format!(
                "node {} is not registered any more",
                shared.node
            )));
        };
        let goal = me.value.goal;
        if goal != me.value.goal_before && !me.value.goal_before.may_become(goal) {
            return Err(Trouble::Refused(format!(
                "was told to become {goal} after {}, which is no way; stays as it is",
                me.value.goal_before
            )));
        }
        let status = shared.database.status().await?;
        let reported = shared.remembered.lock().get().reported;
        if let Some(pace) = self.keep_lock(&group, goal, reported, &status).await? {
            return Ok(pace);
        }
        if self.vote(&group, goal, &status).await? {
            return Ok(Pace::Again);
        }
        if goal == reported {
            return self.stay(&group, goal, &status).await;
        }
        let pace = self.obey(&group, goal, &status).await?;
        if let Some(pace) = pace {
            return Ok(pace);
        }
        shared.become_state(goal)?;
        Ok(Pace::Calm)
    }

    /// Lock and record name this node, or its PostgreSQL takes no writes. Who is named and has no lock takes it again.
    async fn keep_lock(
        &mut self,
        group: &GroupState,
        goal: NodeState,
        reported: NodeState,
        status: &Status,
    ) -> Result<Option<Pace>, Trouble> {
        let shared = self.shared.clone();
        let Some(at) = &group.record else { return Ok(None) };
        let serving = status.running == Running::Primary;
        if at.value.node != shared.node {
            if serving {
                error!("another node is primary: postgres is stopped");
                shared.database.stop(Stop::Kill).await?;
                shared.tenure.lock().end();
                return Ok(Some(Pace::Again));
            }
            return Ok(None);
        }
        shared.tenure.lock().read(&at.value, at.revision);
        if !goal.writable() || !reported.writable() {
            return Ok(None);
        }
        let holds = shared.tenure.lock().holds();
        let holder = group.lock.as_ref().map(|at| at.value.node);
        if serving && holds && holder == Some(shared.node) {
            self.attempts = None;
            shared.dead.store(false, Ordering::Relaxed);
            return Ok(None);
        }
        if !holds || holder != Some(shared.node) {
            let revision = self.take_again(group, status).await?;
            return Ok(Some(Pace::Written(revision)));
        }
        self.restart(group).await?;
        Ok(Some(Pace::Again))
    }

    /// Brings a primary's PostgreSQL back, for a while; then says that it is dead, and goes on trying.
    async fn restart(&mut self, group: &GroupState) -> Result<(), Trouble> {
        let shared = self.shared.clone();
        let now = shared.clock.now();
        let (tried, since) = self.attempts.unwrap_or((0, now));
        self.attempts = Some((tried + 1, since));
        if tried > 0 {
            warn!(attempt = tried + 1, "postgres is started again");
        }
        self.let_in = None;
        let started = shared.database.serve().await;
        let settings = &group.settings;
        if started.is_err()
            && tried >= settings.postgresql_restart_failure_max_retries
            && now.since(since) >= settings.postgresql_restart_failure_timeout.duration()
        {
            shared.dead.store(true, Ordering::Relaxed);
            shared.news.notify_one();
        }
        Ok(started?)
    }

    /// Cuts itself off and reports, if an election asks for it.
    async fn vote(&mut self, group: &GroupState, goal: NodeState, status: &Status) -> Result<bool, Trouble> {
        let shared = self.shared.clone();
        let Some(at) = &group.record else { return Ok(false) };
        let asked = goal == NodeState::ReportLsn || goal.candidate();
        let member = at.value.members.contains(&shared.node) && at.value.node != shared.node;
        if !asked || !at.value.open || !member {
            return Ok(false);
        }
        let revision = group.record_revision();
        let kept = shared.remembered.lock().get().clone();
        if kept.vote.is_some_and(|vote| vote.revision == revision) {
            if status.running == Running::Not {
                // It was stopped since; it starts as it was, cut off.
                shared.database.cut().await?;
            }
            return Ok(false);
        }
        shared.remember(|kept| kept.promise = kept.promise.cut(revision))?;
        let position = shared.database.cut().await?;
        shared.remember(|kept| {
            kept.upstream = None;
            kept.vote = Some(Vote { revision, position });
        })?;
        shared.news.notify_one();
        Ok(true)
    }

    /// It is what it is to be, and sees that it stays so.
    async fn stay(&mut self, group: &GroupState, goal: NodeState, status: &Status) -> Result<Pace, Trouble> {
        match goal {
            NodeState::CatchingUp | NodeState::Secondary => {
                let Some(record) = group.record.as_ref().map(|at| &at.value) else {
                    return Ok(Pace::Calm);
                };
                let kept = self.shared.remembered.lock().get().clone();
                let now = self.shared.clock.now();
                let receiving = status.running == Running::Standby { receiving: true };
                let silent = if receiving {
                    self.cut_off_since = None;
                    false
                } else {
                    now.since(*self.cut_off_since.get_or_insert(now)) >= RECEIVES_NOTHING
                };
                let other = kept.upstream != Some(record.node);
                // A secondary stays with whom it confirms to until it is told; the end of its upstream is what elections are for.
                let anew = goal == NodeState::CatchingUp && (other || silent);
                if status.running == Running::Not || anew {
                    self.cut_off_since = None;
                    self.follow(group).await?;
                } else {
                    self.let_in(group, status.running).await?;
                }
                Ok(Pace::Calm)
            }
            NodeState::Primary | NodeState::WaitPrimary | NodeState::Single => {
                self.let_in(group, status.running).await?;
                Ok(Pace::Calm)
            }
            _ => Ok(Pace::Calm),
        }
    }

    /// Does what belongs to a goal. Answers with nothing when all of it is done.
    async fn obey(
        &mut self,
        group: &GroupState,
        goal: NodeState,
        status: &Status,
    ) -> Result<Option<Pace>, Trouble> {
        let shared = self.shared.clone();
        let database = &shared.database;
        let serving = status.running == Running::Primary;
        let cut_off = || {
            shared.remembered.lock().get().upstream.is_none()
                && status.running == Running::Standby { receiving: false }
        };
        let wait = |done: bool| Ok(if done { None } else { Some(Pace::Calm) });
        match goal {
            NodeState::Single => self.be_single(group, status).await,
            NodeState::WaitPrimary if serving => {
                // The monitor has made the record `alone` before; if not, that comes first.
                let alone = group
                    .record
                    .as_ref()
                    .is_some_and(|at| at.value.kind == Kind::Alone);
                if alone {
                    self.changing = None;
                    database.set_names(&Names::nobody()).await?;
                } else if let Progress::More(pace) = self.change(group, &Names::nobody()).await? {
                    return Ok(Some(pace));
                }
                self.let_in(group, Running::Primary).await?;
                Ok(None)
            }
            NodeState::WaitPrimary => self.take_over(group, status).await,
            NodeState::Primary | NodeState::ApplySettings => self.be_primary(group, status).await,
            NodeState::Draining => self.drain(group, serving).await,
            NodeState::DemoteTimeout | NodeState::Demoted | NodeState::Dropped => {
                let how = if goal == NodeState::DemoteTimeout {
                    Stop::Kill
                } else {
                    Stop::Within(group.settings.primary_lease_ttl.duration() / 6)
                };
                database.stop(how).await?;
                shared.tenure.lock().end();
                Ok(None)
            }
            NodeState::CatchingUp => {
                self.follow(group).await?;
                Ok(None)
            }
            NodeState::Secondary => {
                let receiving = status.running == Running::Standby { receiving: true };
                if !receiving {
                    self.stay(group, NodeState::CatchingUp, status).await?;
                }
                wait(receiving)
            }
            NodeState::ReportLsn | NodeState::StopReplication => wait(cut_off()),
            NodeState::FastForward => self.fetch(group).await,
            NodeState::PreparePromotion => {
                if status.running == Running::Not {
                    return Ok(Some(Pace::Calm));
                }
                database.replay().await?;
                Ok(None)
            }
            NodeState::WaitStandby | NodeState::JoinSecondary => Ok(None),
            NodeState::Init
            | NodeState::PrepareMaintenance
            | NodeState::Maintenance
            | NodeState::WaitMaintenance
            | NodeState::JoinPrimary => Err(Trouble::Refused(format!(
                "does not know how to become {goal}; stays as it is"
            ))),
        }
    }

    async fn be_single(&mut self, group: &GroupState, status: &Status) -> Result<Option<Pace>, Trouble> {
        let shared = self.shared.clone();
        let Some(at) = &group.record else {
            shared.database.create().await?;
            let revision = self.take_first(group, status).await?;
            return Ok(Some(Pace::Written(revision)));
        };
        if at.value.node != shared.node {
            return Err(Trouble::Refused(
                "the record names another node; this one cannot become single".to_owned(),
            ));
        }
        if let Some(revision) = self.hold_again(group, status).await? {
            return Ok(Some(Pace::Written(revision)));
        }
        if status.running != Running::Primary {
            self.restart(group).await?;
            return Ok(Some(Pace::Again));
        }
        if let Progress::More(pace) = self.change(group, &Names::nobody()).await? {
            return Ok(Some(pace));
        }
        self.let_in(group, Running::Primary).await?;
        Ok(None)
    }

    async fn be_primary(&mut self, group: &GroupState, status: &Status) -> Result<Option<Pace>, Trouble> {
        if status.running != Running::Primary {
            // It has its place back, with the names on its disk, as the record has them.
            if let Some(revision) = self.hold_again(group, status).await? {
                return Ok(Some(Pace::Written(revision)));
            }
            self.restart(group).await?;
            return Ok(None);
        }
        self.let_in(group, Running::Primary).await?;
        if group.group.wanted.any() == 0 {
            return Ok(None);
        }
        let wanted = group.group.wanted.clone();
        Ok(match self.change(group, &wanted).await? {
            Progress::Done => None,
            Progress::More(pace) => Some(pace),
        })
    }

    /// A clean stop sends connected standbys all there is. One that takes too long is cut short.
    async fn drain(&mut self, group: &GroupState, serving: bool) -> Result<Option<Pace>, Trouble> {
        let shared = self.shared.clone();
        self.changing = None;
        let patience = group.settings.prepare_promotion_catchup.duration();
        let stopped = tokio::time::timeout(patience, shared.database.stop(Stop::Clean)).await;
        let position = match stopped {
            Ok(stopped) => stopped?,
            Err(_elapsed) => {
                warn!("postgres did not stop in time: it is killed");
                shared.database.stop(Stop::Kill).await?
            }
        };
        if let Some(position) = position.filter(|_| serving) {
            // The stop took its time; lock and record as they are now.
            let group = GroupState::read(&self.mirror.now(), &shared.group)?;
            self.release(&group, position).await?;
        }
        shared.tenure.lock().end();
        Ok(None)
    }

    /// Follows whom the record names, if that one serves and no promise forbids it.
    async fn follow(&mut self, group: &GroupState) -> Result<(), Trouble> {
        let shared = self.shared.clone();
        let refused = |reason: String| Err(Trouble::Refused(reason));
        let Some(at) = &group.record else {
            return refused("there is no primary to follow".to_owned());
        };
        let primary = at.value.node;
        let Some(upstream) = peer(group, primary).filter(|_| primary != shared.node) else {
            return refused("there is no primary to follow".to_owned());
        };
        let serves = group
            .reports
            .get(&primary)
            .is_some_and(|report| report.value.state.writable() && report.value.running);
        let holds = group.lock.as_ref().is_some_and(|lock| lock.value.node == primary);
        if !serves || !holds {
            return refused(format!("node {primary} does not serve yet; waits to follow it"));
        }
        let promise = shared.remembered.lock().get().promise;
        let promise = match promise.follow(group.record_revision(), at.value.epoch) {
            Ok(promise) => promise,
            Err(refusal) => return refused(refusal.to_string()),
        };
        shared.remember(|kept| {
            kept.promise = promise;
            kept.upstream = Some(primary);
            kept.standby = true;
        })?;
        shared.database.follow(shared.node, &upstream).await?;
        Ok(())
    }

    /// The winner of an election fetches what another voter has and it lacks.
    async fn fetch(&mut self, group: &GroupState) -> Result<Option<Pace>, Trouble> {
        let shared = self.shared.clone();
        let Some(at) = &group.record else {
            return Ok(Some(Pace::Calm));
        };
        let votes = group.votes();
        let winner = election::judge(&at.value, group.record_revision(), &votes)
            .map_err(|open| Trouble::Refused(open.to_string()))?;
        if winner.node != shared.node {
            return Ok(Some(Pace::Calm));
        }
        let Some(from) = winner.fetch_from else {
            return Ok(None);
        };
        let (Some(peer), Some(vote)) = (peer(group, from), votes.get(&from)) else {
            return Ok(Some(Pace::Calm));
        };
        shared.database.fetch(shared.node, &peer, vote.position).await?;
        let position = shared.database.cut().await?;
        let revision = group.record_revision();
        shared.remember(|kept| kept.vote = Some(Vote { revision, position }))?;
        shared.news.notify_one();
        Ok(None)
    }
}
