//! How a node gets into its group: once, with a number that nobody had before.

use super::Trouble;
use crate::NodeId;
use crate::group::GroupState;
use crate::layout::{Formation, GroupId, NodeEntry, Stored, check_name};
use crate::state::NodeState;
use crate::store::{Outcome, Store};

/// Tries when others register at the same moment.
const TRIES: u32 = 20;

/// Who wants to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// A name; nothing for `node<number>`.
    pub name: Option<String>,
    /// Where others reach its PostgreSQL.
    pub host: String,
    /// Where others reach its PostgreSQL.
    pub port: u16,
    /// 0 to 100.
    pub candidate_priority: u8,
    /// Whether commits may wait for it.
    pub replication_quorum: bool,
    /// Of the cluster in its directory, if there is one.
    pub system_identifier: Option<u64>,
    /// The application's database, for the first node of a formation that does not exist yet.
    pub dbname: Option<String>,
}

/// Registers a node, or finds it registered already. Answers with its number.
pub async fn register(store: &Store, id: &GroupId, who: &Registration) -> Result<NodeId, Trouble> {
    if let Some(name) = &who.name {
        check_name("name", name)?;
    }
    for _ in 0..TRIES {
        let snapshot = store.read(crate::layout::PREFIX).await?;
        let group = GroupState::read(&snapshot, id)?;
        if let Some(node) = known(&group, who)? {
            return Ok(node);
        }
        same_cluster(&group, who)?;
        let mut formation = group.formation.as_ref().map_or_else(
            || Formation {
                dbname: who.dbname.clone().unwrap_or_else(|| Formation::default().dbname),
                ..Formation::default()
            },
            |at| at.value.clone(),
        );
        let node = formation.next_node;
        formation.next_node += 1;
        let entry = NodeEntry {
            name: who.name.clone().unwrap_or_else(|| format!("node{node}")),
            host: who.host.clone(),
            port: who.port,
            candidate_priority: who.candidate_priority,
            replication_quorum: who.replication_quorum,
            goal: NodeState::Init,
            goal_before: NodeState::Init,
        };
        let at = group.formation.as_ref().map_or(0, |at| at.revision);
        let change = group
            .unchanged_rule()
            .if_at(id.formation_key(), at)
            .if_at(id.node_key(node), 0)
            .put(id.formation_key(), formation.encode())
            .put(id.node_key(node), entry.encode());
        if let Outcome::Done(_) = store.commit(change).await? {
            return Ok(node);
        }
    }
    Err(Trouble::Refused(format!(
        "not registered: the group was changed by others {TRIES} times"
    )))
}

/// Whether it is there already; what it has in common with another node is refused.
fn known(group: &GroupState, who: &Registration) -> Result<Option<NodeId>, Trouble> {
    for (node, at) in &group.nodes {
        let entry = &at.value;
        let place = entry.host == who.host && entry.port == who.port;
        let name = who.name.as_ref() == Some(&entry.name);
        if place && (name || who.name.is_none()) {
            return Ok(Some(*node));
        }
        if place || name {
            return Err(Trouble::Refused(format!(
                "node {node} is called {} and is at {}:{} already",
                entry.name, entry.host, entry.port
            )));
        }
    }
    Ok(None)
}

/// A directory of another cluster is not taken in.
fn same_cluster(group: &GroupState, who: &Registration) -> Result<(), Trouble> {
    let Some(here) = who.system_identifier.map(|here| here.to_string()) else {
        return Ok(());
    };
    let primary = group.record.as_ref().map(|at| at.value.node);
    let there = primary
        .and_then(|primary| group.reports.get(&primary))
        .and_then(|report| report.value.system_identifier.clone());
    match there {
        Some(there) if there != here => Err(Trouble::Refused(format!(
            "the directory has the system identifier {here}; the group's is {there}"
        ))),
        _ => Ok(()),
    }
}
