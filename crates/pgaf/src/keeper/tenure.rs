//! Holding the lock.
//!
//! The deadline counts from the moment *before* a renewal was sent: whatever happened on its way, the store cannot have ended the lease
//! earlier. It is kept by a task of its own, with a clock that runs on while the machine sleeps.
//!
//! While the record says `alone` there is no deadline, as nobody can be promoted. That may only be relied on if no write of ours is under way
//! that would change it: a write whose outcome nobody knows may still happen as long as the record has the revision which it compares.

use std::sync::Arc;
use std::time::Duration;

use service::clock::Moment;
use tracing::{error, warn};

use super::{Shared, Trouble};
use crate::database::{Database, Stop};
use crate::layout::{Lock, Stored};
use crate::store::Store;
use crate::{Kind, Record};

/// How often the deadline is looked at. A small part of the least there can be between deadline and death: a sixth of a second.
const LOOK: Duration = Duration::from_millis(20);

/// Part of the lock's life that one endpoint of the store may take for an answer. A renewal is due after an eighth; if an endpoint hangs then,
/// the next one is asked before half of the life is over, and the deadline is at two thirds.
const PATIENCE: u32 = 4;

/// A store that answers, or leaves an endpoint, in time for a lock that lives so long. Its connections are its own: nothing large is under way.
pub(super) fn quick(store: &Store, ttl: Duration) -> Store {
    store.with_timeout(ttl / PATIENCE)
}

/// The time as primary.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    held: Option<Held>,
    /// The revision that the last write of `sync` compared.
    sync_base: i64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: i64,
    ttl: Duration,
    /// When the last renewal that succeeded was sent.
    sent: Moment,
    alone: bool,
}

impl Tenure {
    /// The lock has been taken by a transaction that was sent after `sent`.
    pub(super) fn begin(&mut self, lease: i64, ttl: Duration, sent: Moment, record: &Record) {
        self.held = Some(Held {
            lease,
            ttl,
            sent,
            alone: record.kind == Kind::Alone,
        });
    }

    pub(super) fn end(&mut self) {
        self.held = None;
    }

    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// A write of `sync` or `async` is about to be sent that compares this revision of the record. Answers whether it may be.
    pub(super) fn widen(&mut self, base: i64, now: Moment) -> bool {
        let Some(held) = &mut self.held else { return false };
        if now.since(held.sent) >= held.ttl * 2 / 3 {
            return false;
        }
        held.alone = false;
        self.sync_base = base;
        true
    }

    /// The record was read, or written by us, at that revision.
    pub(super) fn read(&mut self, record: &Record, revision: i64) {
        let settled = revision > self.sync_base;
        if let Some(held) = &mut self.held {
            held.alone = record.kind == Kind::Alone && settled;
        }
    }

    /// If the deadline has passed: for how long a stop may go on.
    fn overdue(&self, now: Moment) -> Option<Duration> {
        let held = self.held.filter(|held| !held.alone)?;
        let passed = now.since(held.sent);
        (passed >= held.ttl * 2 / 3).then(|| (held.ttl * 5 / 6).saturating_sub(passed))
    }
}

impl<D: Database> Shared<D> {
    /// Stops PostgreSQL when the deadline has passed.
    pub(super) async fn keep_deadline(shared: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let now = shared.clock.now();
            let overdue = shared.tenure.lock().overdue(now);
            if let Some(left) = overdue {
                error!("the lock could not be renewed in time: postgres is stopped");
                shared.resign(Stop::Within(left)).await;
            }
        }
    }

    /// Stops PostgreSQL, whatever else goes on, and only then forgets the lock.
    async fn resign(&self, how: Stop) {
        if let Err(error) = self.database.stop(how).await {
            error!(%error, "stop");
            return;
        }
        self.tenure.lock().end();
        self.attention.notify_one();
        self.news.notify_one();
    }

    /// Renews the lock while it is held, and sees each time that lock and record still name this node.
    pub(super) async fn renew(shared: Arc<Self>) {
        let mut last = None;
        let mut store: Option<(Duration, Store)> = None;
        loop {
            let held = shared.tenure.lock().held;
            let pause = held.map_or(Duration::from_millis(100), |held| held.ttl / 8);
            tokio::time::sleep(pause).await;
            let Some(held) = shared.tenure.lock().held else {
                continue;
            };
            let (_, store) = match &mut store {
                Some(store) if store.0 == held.ttl => store,
                other => other.insert((held.ttl, quick(&shared.store, held.ttl))),
            };
            match shared.renew_once(store, held.lease).await {
                Ok(true) => last = None,
                Ok(false) => {
                    // It may have been given back, or taken again, meanwhile.
                    if shared.tenure.lock().held.map(|now| now.lease) == Some(held.lease) {
                        error!("another node is primary: postgres is stopped");
                        shared.resign(Stop::Kill).await;
                    }
                }
                Err(trouble) => {
                    let trouble = trouble.to_string();
                    if last.as_ref() != Some(&trouble) {
                        warn!("the lock is not renewed: {trouble}");
                        last = Some(trouble);
                    }
                }
            }
        }
    }

    /// Whether this node is still the primary.
    async fn renew_once(&self, store: &Store, lease: i64) -> Result<bool, Trouble> {
        let sent = self.clock.now();
        let alive = store.renew(lease).await?;
        let (lock_key, record_key) = (self.group.lock_key(), self.group.record_key());
        let lock = store.read(&lock_key).await?;
        let records = store.read(&record_key).await?;
        let Some(entry) = records.entries.get(&record_key) else {
            return Ok(false);
        };
        let record = Record::read(&record_key, entry)?;
        if record.node != self.node {
            return Ok(false);
        }
        if let Some(entry) = lock.entries.get(&lock_key)
            && Lock::read(&lock_key, entry)?.node != self.node
        {
            return Ok(false);
        }
        let mut tenure = self.tenure.lock();
        tenure.read(&record, entry.revision);
        let on_this_lease = lock
            .entries
            .get(&lock_key)
            .is_some_and(|entry| entry.lease == lease);
        let absent = lock.entries.is_empty();
        match &mut tenure.held {
            Some(held) if held.lease == lease && alive && on_this_lease => held.sent = held.sent.max(sent),
            // Its lease has ended, and nobody has taken the lock: the next turn takes it again.
            Some(held) if held.lease == lease && held.alone && (absent || !alive) => {
                tenure.held = None;
                drop(tenure);
                self.attention.notify_one();
            }
            _ => {}
        }
        Ok(true)
    }
}
