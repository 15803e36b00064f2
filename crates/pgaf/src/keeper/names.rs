//! Changing whose confirmation commits wait for, one step of [`crate::change`] in a turn.

use super::turn::Pace;
use super::{Keeper, Trouble};
use crate::database::Database;
use crate::group::GroupState;
use crate::layout::Stored;
use crate::state::NodeState;
use crate::store::{Change, Outcome};
use crate::{Change as NamesChange, Kind, Names, Record, Work};

/// How far a change is.
pub(super) enum Progress {
    /// In effect and recorded.
    Done,
    /// There is more to do.
    More(Pace),
}

impl<D: Database> Keeper<D> {
    /// The next step towards these names.
    pub(super) async fn change(&mut self, group: &GroupState, names: &Names) -> Result<Progress, Trouble> {
        let Some(at) = &group.record else {
            return Err(Trouble::Refused("there is no record".to_owned()));
        };
        let record = &at.value;
        let old = self.shared.database.names().await?;
        let settled = record.settled(names);
        let recorded =
            record.kind == settled.kind && record.members == settled.members && record.need == settled.need;
        if old == *names && recorded {
            self.changing = None;
            return Ok(Progress::Done);
        }
        // Whatever fails below drops the change where it stands; the next one begins at its beginning.
        let change = match self.changing.take() {
            Some(change) if change.names().1 == names => change,
            _ => {
                self.barrier = None;
                NamesChange::new(old, names.clone())
            }
        };
        let pace = match change.work(record) {
            Work::Write(next) => {
                let last = change.clone().advance().is_none();
                let revision = self.write_record(group, &next, last).await?;
                Pace::Written(revision)
            }
            Work::Effect(new) => {
                self.shared.database.set_names(new).await?;
                Pace::Again
            }
            Work::Barrier(new) => {
                let until = match self.barrier {
                    Some(until) => until,
                    None => *self.barrier.insert(self.shared.database.inserted().await?),
                };
                let flushed = self.shared.database.flushed(until).await?;
                if !new.acknowledge(&flushed) {
                    self.changing = Some(change);
                    return Ok(Progress::More(Pace::Soon));
                }
                self.barrier = None;
                Pace::Again
            }
        };
        self.changing = change.advance();
        Ok(if self.changing.is_none() {
            Progress::Done
        } else {
            Progress::More(pace)
        })
    }

    /// Writes the record, comparing lock and record. With the last write of a change, whoever it does without is told to catch up.
    async fn write_record(&mut self, group: &GroupState, next: &Record, last: bool) -> Result<i64, Trouble> {
        let shared = &self.shared;
        let base = group.record.as_ref().map_or(0, |at| at.revision);
        let mine = group.lock.as_ref().is_some_and(|at| at.value.node == shared.node);
        if !mine || !shared.tenure.lock().holds() {
            return Err(Trouble::Refused("the lock is not held here".to_owned()));
        }
        let mut change: Change = group.unchanged_rule().put(group.id.record_key(), next.encode());
        if last && next.kind == Kind::Sync {
            for (node, at) in &group.nodes {
                let out = *node != shared.node
                    && at.value.goal == NodeState::Secondary
                    && at.value.replication_quorum
                    && !next.members.contains(node);
                if out {
                    let mut entry = at.value.clone();
                    entry.goal_before = entry.goal;
                    entry.goal = NodeState::CatchingUp;
                    change = change
                        .if_at(group.id.node_key(*node), at.revision)
                        .put(group.id.node_key(*node), entry.encode());
                }
            }
        }
        if next.kind != Kind::Alone && !shared.tenure.lock().widen(base, shared.clock.now()) {
            return Err(Trouble::Refused(
                "the lock has not been renewed in time to say who may be promoted".to_owned(),
            ));
        }
        match shared.store.commit(change).await? {
            Outcome::Done(revision) => {
                shared.tenure.lock().read(next, revision);
                Ok(revision)
            }
            Outcome::Conflict => Err(Trouble::Refused(
                "the record has been changed meanwhile".to_owned(),
            )),
        }
    }
}
