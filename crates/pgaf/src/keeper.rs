//! The keeper: one beside each PostgreSQL. It reports, does what its goal asks for, and holds the lock while its PostgreSQL takes writes.
//!
//! Three tasks share what is in [`Shared`]:
//! - *turns* ([`turn`]): one at a time, each reads the group, and does at most one thing that is written to the store. A turn may take long,
//!   a base backup for one.
//! - *reports*: every `keeper_interval`, and when the state has changed.
//! - *the lock* ([`tenure`]): renewals, and the deadline by which PostgreSQL is stopped when they fail. It waits for nobody.
//!
//! **Invariant:** what a report says has been done and is in the [state file](state::Remembered) before the report leaves.
//!
//! **Invariant:** PostgreSQL takes writes only between a transaction that took the lock and the deadline that follows from when it was sent,
//! or, while the record says that nobody else can be promoted, without one.

mod names;
mod register;
pub mod state;
mod takeover;
mod tenure;
mod turn;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use std::sync::Arc;

use parking_lot::Mutex;
use service::clock::SharedClock;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::database::{self, Database, Running, Stop};
use crate::group::GroupState;
use crate::layout::{GroupId, Report, Stored, Wrong};
use crate::mirror::Mirror;
use crate::state::NodeState;
use crate::store::{Change, Error as StoreError, Store};
use crate::{Change as NamesChange, NodeId};

pub use register::{Registration, register};
use state::StateFile;
use tenure::Tenure;

/// How long it waits to read its own writes.
const OWN_WRITES: Duration = Duration::from_secs(2);
/// The least time between two turns of which the first could not do all it wanted.
const SOON: Duration = Duration::from_millis(50);

/// How often others are let in although nothing has changed: slots of standbys are moved on with it.
const LET_IN_AGAIN: Duration = Duration::from_secs(10);

/// Why a turn came to nothing. The next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// With PostgreSQL.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// With the store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// With what lies in it.
    #[error("store: {0}")]
    Wrong(#[from] Wrong),
    /// With the state file.
    #[error("{what}: {error}")]
    File {
        /// The path.
        what: String,
        /// Why.
        error: std::io::Error,
    },
    /// It must not do what it is told, or cannot yet.
    #[error("{0}")]
    Refused(String),
}

/// What the tasks of a keeper share.
#[derive(Debug)]
struct Shared<D> {
    store: Store,
    database: D,
    clock: SharedClock,
    group: GroupId,
    node: NodeId,
    remembered: Mutex<StateFile>,
    tenure: Mutex<Tenure>,
    /// What keeps turns from getting on.
    trouble: Mutex<Option<String>>,
    /// What keeps reports from leaving.
    unreported: Mutex<Option<String>>,
    /// PostgreSQL does not run and will not without help.
    dead: AtomicBool,
    reports: AtomicU64,
    /// Something that a report should tell at once.
    news: Notify,
    /// Something that a turn should look at.
    attention: Notify,
}

/// A keeper.
#[derive(Debug)]
pub struct Keeper<D> {
    shared: Arc<Shared<D>>,
    mirror: Mirror,
    /// Names that are being changed, and the position that their barrier waits for.
    changing: Option<NamesChange>,
    barrier: Option<u64>,
    /// Attempts to bring PostgreSQL back, and when the first one was.
    attempts: Option<(u32, service::clock::Moment)>,
    /// Since when a standby that should receive does not.
    cut_off_since: Option<service::clock::Moment>,
    /// Whom PostgreSQL was told to let in, what it did then, and when that was.
    let_in: Option<(Vec<database::Peer>, Running, service::clock::Moment)>,
}

impl<D: Database> Keeper<D> {
    /// Of a node that is registered. `clock` runs on while the machine sleeps.
    pub async fn new(
        store: Store,
        database: D,
        clock: SharedClock,
        remembered: StateFile,
    ) -> Result<Keeper<D>, Trouble> {
        let mirror = Mirror::start(store.clone()).await?;
        let kept = remembered.get();
        let shared = Shared {
            store,
            database,
            clock,
            group: kept.group.clone(),
            node: kept.node,
            remembered: Mutex::new(remembered),
            tenure: Mutex::default(),
            trouble: Mutex::default(),
            unreported: Mutex::default(),
            dead: AtomicBool::new(false),
            reports: AtomicU64::new(0),
            news: Notify::new(),
            attention: Notify::new(),
        };
        Ok(Keeper {
            shared: Arc::new(shared),
            mirror,
            changing: None,
            barrier: None,
            attempts: None,
            cut_off_since: None,
            let_in: None,
        })
    }

    /// Runs until `stop` answers, then stops PostgreSQL as that says; a primary that stops cleanly gives the lock back.
    ///
    /// Dropped before, it is as if its process had been killed: nothing of it goes on, above all no report and no renewal.
    pub async fn run(mut self, stop: impl Future<Output = Stop>) -> Result<(), Trouble> {
        let shared = self.shared.clone();
        // A set ends its tasks when it is dropped.
        let mut others = JoinSet::new();
        others.spawn(Shared::renew(shared.clone()));
        others.spawn(Shared::keep_deadline(shared.clone()));
        let reports = others.spawn(Shared::report_always(shared.clone(), self.mirror.receiver()));
        let how = tokio::select! {
            how = stop => how,
            never = self.turns() => match never {},
        };
        reports.abort();
        self.leave(how).await
    }

    async fn turns(&mut self) -> std::convert::Infallible {
        loop {
            let pace = match self.turn().await {
                Ok(pace) => {
                    *self.shared.trouble.lock() = None;
                    pace
                }
                Err(trouble) => {
                    self.shared.complain(&trouble);
                    turn::Pace::Calm
                }
            };
            let shared = self.shared.clone();
            let interval = shared.interval(&self.mirror);
            match pace {
                turn::Pace::Written(revision) => {
                    self.mirror.reach(revision, OWN_WRITES).await;
                }
                turn::Pace::Again => {}
                turn::Pace::Soon => tokio::time::sleep(SOON).await,
                turn::Pace::Calm => {
                    tokio::select! {
                        () = self.mirror.changed() => {}
                        () = shared.database.ended() => {
                            warn!("postgres has ended");
                            shared.news.notify_one();
                        }
                        () = shared.attention.notified() => {}
                        () = tokio::time::sleep(interval) => {}
                    }
                }
            }
        }
    }

    /// Lets the others in if that may have to be done again: somebody has come, PostgreSQL was started, or a while has passed.
    async fn let_in(&mut self, group: &GroupState, running: Running) -> Result<(), Trouble> {
        let others = takeover::others(group, self.shared.node);
        let now = self.shared.clock.now();
        let done = self.let_in.as_ref().is_some_and(|(whom, then, when)| {
            *whom == others && *then == running && now.since(*when) < LET_IN_AGAIN
        });
        if !done {
            self.let_in = None;
            self.shared.database.let_in(&others).await?;
            self.let_in = Some((others, running, now));
        }
        Ok(())
    }

    /// The end of the keeper: PostgreSQL first, then the lock.
    async fn leave(&mut self, how: Stop) -> Result<(), Trouble> {
        let group = GroupState::read(&self.mirror.now(), &self.shared.group)?;
        let position = self.shared.database.stop(how).await?;
        if let Some(position) = position {
            self.release(&group, position).await?;
        }
        self.shared.tenure.lock().end();
        self.shared.dead.store(true, Ordering::Relaxed);
        self.shared.report().await?;
        info!("stopped");
        Ok(())
    }
}

/// Answers whether it was something else than before.
fn say_once(before: &Mutex<Option<String>>, trouble: &Trouble) -> bool {
    let (mut before, trouble) = (before.lock(), trouble.to_string());
    let new = before.as_ref() != Some(&trouble);
    if new {
        warn!("{trouble}");
        *before = Some(trouble);
    }
    new
}

impl<D: Database> Shared<D> {
    fn interval(&self, mirror: &Mirror) -> Duration {
        GroupState::read(&mirror.now(), &self.group)
            .map(|group| group.settings.keeper_interval)
            .unwrap_or_default()
            .duration()
            .max(SOON)
    }

    /// Says what does not get on, once.
    fn complain(&self, trouble: &Trouble) {
        if say_once(&self.trouble, trouble) {
            self.news.notify_one();
        }
    }

    async fn report_always(
        shared: Arc<Shared<D>>,
        state: tokio::sync::watch::Receiver<Arc<crate::store::Snapshot>>,
    ) {
        loop {
            match shared.report().await {
                Ok(()) => *shared.unreported.lock() = None,
                Err(trouble) => {
                    say_once(&shared.unreported, &trouble);
                }
            }
            let interval = {
                let snapshot = state.borrow();
                GroupState::read(&snapshot, &shared.group).map_or(Duration::from_secs(1), |group| {
                    group.settings.keeper_interval.duration()
                })
            };
            tokio::select! {
                () = shared.news.notified() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Tells the store what is.
    async fn report(&self) -> Result<(), Trouble> {
        // The state first: what is looked at later belongs to it or to a later one.
        let kept = self.remembered.lock().get().clone();
        let status = self.database.status().await;
        let names = self.database.names().await.unwrap_or_default();
        let (running, position, system) = match &status {
            Ok(status) => (
                status.running != Running::Not,
                status.position,
                status.system_identifier,
            ),
            Err(_unknown) => (false, None, None),
        };
        let report = Report {
            number: self.reports.fetch_add(1, Ordering::Relaxed) + 1,
            time_ms: self.clock.unix_ms(),
            state: kept.reported,
            running,
            dead: self.dead.load(Ordering::Relaxed),
            position,
            vote: kept.vote,
            names,
            system_identifier: system.map(|system| system.to_string()),
            trouble: self.trouble.lock().clone(),
        };
        let change = Change::default().put(self.group.report_key(self.node), report.encode());
        self.store.commit(change).await?;
        Ok(())
    }

    /// Remembers, durably.
    fn remember(&self, change: impl FnOnce(&mut state::Remembered)) -> Result<(), Trouble> {
        self.remembered.lock().change(change)
    }

    /// It is what it was to become.
    fn become_state(&self, state: NodeState) -> Result<(), Trouble> {
        self.remember(|kept| kept.reported = state)?;
        info!(state = state.name(), "reached");
        self.news.notify_one();
        Ok(())
    }
}
