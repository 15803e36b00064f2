//! Transactions about the lock: taking it for the first time, again, or from another node, and giving it back.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::turn::Pace;
use super::{Keeper, Trouble};
use crate::database::{Database, Peer, Running, Status};
use crate::election;
use crate::group::GroupState;
use crate::layout::{Lock, Stored};
use crate::store::Outcome;
use crate::{Names, NodeId, Position, Record};

impl<D: Database> Keeper<D> {
    /// Lock and record in one transaction that compares both. Answers with its revision.
    async fn take(&self, group: &GroupState, record: &Record, tli: u32) -> Result<i64, Trouble> {
        let shared = &self.shared;
        let ttl = group.settings.primary_lease_ttl.duration();
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let sent = shared.clock.now();
        let lease = shared.store.grant(seconds).await?;
        let lock = Lock {
            node: shared.node,
            epoch: record.epoch,
            tli,
        };
        let change = group
            .unchanged_rule()
            .put_with_lease(group.id.lock_key(), lock.encode(), lease)
            .put(group.id.record_key(), record.encode());
        match shared.store.commit(change).await? {
            Outcome::Done(revision) => {
                shared.tenure.lock().begin(lease, ttl, sent, record);
                info!(epoch = record.epoch, "took the lock");
                shared.remember(|kept| kept.promise.epoch = kept.promise.epoch.max(record.epoch))?;
                Ok(revision)
            }
            Outcome::Conflict => Err(Trouble::Refused(
                "lock or record have been changed meanwhile".to_owned(),
            )),
        }
    }

    /// The first node of a group.
    pub(super) async fn take_first(&self, group: &GroupState, status: &Status) -> Result<i64, Trouble> {
        let tli = status.position.map_or(1, |position| position.timeline);
        self.take(group, &Record::first(self.shared.node), tli).await
    }

    /// The record names this node, and the lock is absent or its own.
    pub(super) async fn take_again(&self, group: &GroupState, status: &Status) -> Result<i64, Trouble> {
        let record = self.own_record(group)?;
        let free = group
            .lock
            .as_ref()
            .is_none_or(|at| at.value.node == self.shared.node);
        if !free {
            return Err(Trouble::Refused("another node holds the lock".to_owned()));
        }
        let tli = status.position.map_or(1, |position| position.timeline);
        self.take(group, &record.taken_again(), tli).await
    }

    fn own_record<'a>(&self, group: &'a GroupState) -> Result<&'a Record, Trouble> {
        group
            .record
            .as_ref()
            .map(|at| &at.value)
            .filter(|record| record.node == self.shared.node)
            .ok_or_else(|| Trouble::Refused("the record does not name this node".to_owned()))
    }

    /// The lock, unless it is held already.
    pub(super) async fn hold_again(
        &self,
        group: &GroupState,
        status: &Status,
    ) -> Result<Option<i64>, Trouble> {
        let mine = group
            .lock
            .as_ref()
            .is_some_and(|at| at.value.node == self.shared.node);
        if mine && self.shared.tenure.lock().holds() {
            return Ok(None);
        }
        self.take_again(group, status).await.map(Some)
    }

    /// From standby to primary: the lock, the names, and then PostgreSQL. Never in another order.
    pub(super) async fn take_over(
        &mut self,
        group: &GroupState,
        status: &Status,
    ) -> Result<Option<Pace>, Trouble> {
        let shared = self.shared.clone();
        let Some(at) = &group.record else {
            return Err(Trouble::Refused("there is no record".to_owned()));
        };
        if at.value.node != shared.node {
            let position = status.position.filter(|_| status.running != Running::Not);
            let position = position.ok_or_else(|| Trouble::Refused("postgres does not run".to_owned()))?;
            let equal = at.value.released == Some(position) && group.lock.is_none();
            let won = election::judge(&at.value, group.record_revision(), &group.votes())
                .is_ok_and(|winner| winner.node == shared.node && winner.fetch_from.is_none());
            if !equal && !won {
                return Err(Trouble::Refused(
                    "the record does not let this node take over".to_owned(),
                ));
            }
            let revision = self
                .take(group, &at.value.taken_by(shared.node), position.timeline)
                .await?;
            return Ok(Some(Pace::Written(revision)));
        }
        if let Some(revision) = self.hold_again(group, status).await? {
            return Ok(Some(Pace::Written(revision)));
        }
        shared.database.cut().await?;
        shared.remember(|kept| kept.upstream = None)?;
        shared.database.set_names(&self.first_names(group)).await?;
        shared.database.promote().await?;
        shared.remember(|kept| kept.standby = false)?;
        self.let_in(group, Running::Primary).await?;
        Ok(None)
    }

    /// What a new primary begins with: with `number_sync_standbys` it waits for others before it acknowledges anything.
    fn first_names(&self, group: &GroupState) -> Names {
        let number = group
            .formation
            .as_ref()
            .map_or(0, |at| at.value.number_sync_standbys);
        let others: BTreeSet<NodeId> = group
            .nodes
            .keys()
            .copied()
            .filter(|node| *node != self.shared.node)
            .collect();
        let any = number.min(u32::try_from(others.len()).unwrap_or(u32::MAX));
        if any == 0 {
            return Names::nobody();
        }
        Names::of(others, any).unwrap_or_default()
    }

    /// PostgreSQL has stopped cleanly, there: the lock goes, and the record says where.
    pub(super) async fn release(
        &self,
        group: &GroupState,
        position: Position,
    ) -> Result<Option<i64>, Trouble> {
        let shared = &self.shared;
        let mine = group.lock.as_ref().is_some_and(|at| at.value.node == shared.node);
        let Some(at) = group
            .record
            .as_ref()
            .filter(|at| mine && at.value.node == shared.node && !at.value.open)
        else {
            return Ok(None);
        };
        let change = group
            .unchanged_rule()
            .delete(group.id.lock_key())
            .put(group.id.record_key(), at.value.released_at(position).encode());
        let outcome = shared.store.commit(change).await?;
        shared.tenure.lock().end();
        match outcome {
            Outcome::Done(revision) => {
                info!("gave the lock back");
                Ok(Some(revision))
            }
            Outcome::Conflict => {
                warn!("the lock was not given back: it has been changed meanwhile");
                Ok(None)
            }
        }
    }
}

/// Where the others' PostgreSQL are.
pub(super) fn others(group: &GroupState, me: NodeId) -> Vec<Peer> {
    group
        .nodes
        .keys()
        .filter(|node| **node != me)
        .filter_map(|node| peer(group, *node))
        .collect()
}

/// Where a node's PostgreSQL is.
pub(super) fn peer(group: &GroupState, node: NodeId) -> Option<Peer> {
    let entry = &group.nodes.get(&node)?.value;
    Some(Peer {
        node,
        host: entry.host.clone(),
        port: entry.port,
    })
}
