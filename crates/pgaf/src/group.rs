//! A group as it lies in the store, with the revisions that a change of it compares.

use std::collections::BTreeMap;

use crate::layout::{self, Formation, Group, GroupId, Lock, Looked, NodeEntry, Report, Stored, Wrong};
use crate::settings::Settings;
use crate::store::{Change, Entry, Snapshot};
use crate::{NodeId, Record, election};

/// A value and the revision at which it was written last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The revision.
    pub revision: i64,
    /// The lease it hangs on, or 0.
    pub lease: i64,
}

/// A group at one moment.
#[derive(Debug, Clone)]
pub struct GroupState {
    /// Which one.
    pub id: GroupId,
    /// The moment: the store's revision.
    pub revision: i64,
    /// The settings; those of the default profile if there are none.
    pub settings: Settings,
    settings_at: i64,
    /// Its formation.
    pub formation: Option<At<Formation>>,
    /// What the monitor keeps of it.
    pub group: Group,
    group_at: i64,
    /// Its nodes.
    pub nodes: BTreeMap<NodeId, At<NodeEntry>>,
    /// What they report.
    pub reports: BTreeMap<NodeId, At<Report>>,
    /// What looks at them found.
    pub health: BTreeMap<NodeId, Looked>,
    /// Who may be promoted.
    pub record: Option<At<Record>>,
    /// Who is primary.
    pub lock: Option<At<Lock>>,
}

impl GroupState {
    /// Of all that is in the store.
    pub fn read(snapshot: &Snapshot, id: &GroupId) -> Result<GroupState, Wrong> {
        let settings = one::<Settings>(snapshot, layout::SETTINGS)?;
        let group = one::<Group>(snapshot, &id.group_key())?;
        let health = many(snapshot, id.health_key(0).trim_end_matches('0'))?;
        Ok(GroupState {
            revision: snapshot.revision,
            settings_at: settings.as_ref().map_or(0, |at| at.revision),
            settings: settings.map(|at| at.value).unwrap_or_default(),
            formation: one(snapshot, &id.formation_key())?,
            group_at: group.as_ref().map_or(0, |at| at.revision),
            group: group.map(|at| at.value).unwrap_or_default(),
            nodes: many(snapshot, &id.nodes_prefix())?,
            reports: many(snapshot, id.report_key(0).trim_end_matches('0'))?,
            health: health.into_iter().map(|(node, at)| (node, at.value)).collect(),
            record: one(snapshot, &id.record_key())?,
            lock: one(snapshot, &id.lock_key())?,
            id: id.clone(),
        })
    }

    /// A change that happens only if nothing of this has changed: reports and looks excepted, which nobody's safety rests on.
    pub fn unchanged(&self) -> Change {
        let formation = self.formation.as_ref().map_or(0, |at| at.revision);
        let mut change = self
            .unchanged_rule()
            .if_at(layout::SETTINGS, self.settings_at)
            .if_at(self.id.formation_key(), formation)
            .if_at(self.id.group_key(), self.group_at);
        for (node, at) in &self.nodes {
            change = change.if_at(self.id.node_key(*node), at.revision);
        }
        change
    }

    /// A change that happens only if lock and record are as they are here.
    pub fn unchanged_rule(&self) -> Change {
        let record = self.record.as_ref().map_or(0, |at| at.revision);
        let lock = self.lock.as_ref().map_or(0, |at| at.revision);
        Change::default()
            .if_at(self.id.record_key(), record)
            .if_at(self.id.lock_key(), lock)
    }

    /// Revision of the settings; 0 if there are none.
    pub fn settings_revision(&self) -> i64 {
        self.settings_at
    }

    /// Revision of what the monitor keeps of it; 0 if that is nothing.
    pub fn group_revision(&self) -> i64 {
        self.group_at
    }

    /// The record's revision, which names elections.
    pub fn record_revision(&self) -> u64 {
        self.record
            .as_ref()
            .map_or(0, |at| u64::try_from(at.revision).unwrap_or(0))
    }

    /// What was said in elections, also in earlier ones.
    pub fn votes(&self) -> BTreeMap<NodeId, election::Report> {
        let votes = self.reports.iter().filter_map(|(node, report)| {
            let vote = report.value.vote?;
            let priority = self.nodes.get(node)?.value.candidate_priority;
            let report = election::Report {
                revision: vote.revision,
                position: vote.position,
                priority,
            };
            Some((*node, report))
        });
        votes.collect()
    }
}

fn one<T: Stored>(snapshot: &Snapshot, key: &str) -> Result<Option<At<T>>, Wrong> {
    let entry = snapshot.entries.get(key);
    entry.map(|entry| at(key, entry)).transpose()
}

fn at<T: Stored>(key: &str, entry: &Entry) -> Result<At<T>, Wrong> {
    Ok(At {
        value: T::read(key, entry)?,
        revision: entry.revision,
        lease: entry.lease,
    })
}

/// Values by the numbers at the ends of their keys.
fn many<T: Stored>(snapshot: &Snapshot, prefix: &str) -> Result<BTreeMap<NodeId, At<T>>, Wrong> {
    let mut found = BTreeMap::new();
    for (key, entry) in snapshot.entries.range(prefix.to_owned()..) {
        let Some(number) = key.strip_prefix(prefix) else {
            break;
        };
        let node = number
            .parse::<NodeId>()
            .ok()
            .filter(|node| *node > 0 && node.to_string() == number)
            .ok_or_else(|| Wrong {
                what: key.clone(),
                reason: format!("`{number}` is not a node's number"),
            })?;
        found.insert(node, at(key, entry)?);
    }
    Ok(found)
}
