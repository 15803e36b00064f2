//! What becomes of a data directory that was made from a snapshot.
//!
//! [`rework`] changes it before its first start, at the wish of the operator: another number of node or cluster, and a revision
//! above all that clients have seen, other members than itself to begin with. The log is applied first, so that no entry gets a revision after the raise that it had not
//! before. [`first_start`] is the server meeting such a directory, or a repaired one: it tells, and takes the mark away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{Configuration, HardState, Incarnation, NodeId, Position, Snapshot, Term};
use store::{Batch, Durability, Options, Store};

use super::founding::{self, Group};
use super::start::{self, StartError};
use super::together::{Origin, Together};
use crate::auth;
use crate::log::{self, Log};
use crate::mvcc::family;
use crate::state_machine::StateMachine;

/// The file that marks a directory as restored. Every snapshot and every backup has it, and a repair writes it.
pub(crate) const MARK: &str = "RESTORED";

/// The second line of that file in a directory that was repaired.
pub(crate) const REPAIRED: &str = "repaired";

/// What shall be different.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Number of the node.
    pub(crate) node_id: Option<u64>,
    /// Number of the cluster.
    pub(crate) cluster_id: Option<u64>,
    /// Everything in the log counts, also what may never have been agreed on: nobody else is left who could say.
    pub(crate) keep_all: bool,
    /// How far the revision is raised. What was before is then as if compacted, so that clients notice.
    pub(crate) bump_revision: u64,
    /// First members of the new cluster, if this node is not the only one.
    pub(crate) members: BTreeMap<NodeId, String>,
    /// SHA-256 of what the directory was made from.
    pub(crate) content: [u8; 32],
}

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) node_id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
}

/// Changes a directory that no server uses.
pub(crate) fn rework(dir: &Path, changes: &Changes) -> Result<Restored, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Failed(error.to_string());
    let store = Arc::new(Store::open(dir, &Options::default(), family::ALL)?);
    let (node_id, cluster_id) =
        start::identity(&store, dir)?.ok_or_else(|| failed(&"no node has ever used the database in it"))?;
    let machine = StateMachine::load(store.clone()).map_err(|error| failed(&error))?;
    let applied = machine.mvcc.applied_index();
    let log = Log::open(store.clone(), applied).map_err(|error| failed(&error))?;
    // A snapshot has the state as its member had applied it, so all that was acknowledged; what the log has beyond that may never have
    // been agreed on, unless nobody else could have had a say.
    let hard_state = log.hard_state().map_err(|error| failed(&error))?;
    let sole = founding::is_sole(&log, NodeId(node_id)).map_err(|error| failed(&error))?;
    let agreed = hard_state.map_or(0, |hard_state| hard_state.commit.min(log.last()));
    let until = if sole || changes.keep_all {
        log.last()
    } else {
        agreed
    };
    start::replay(&machine, &log, until).map_err(|error| failed(&error))?;

    let mut meta = machine.mvcc.meta();
    let mut batch = store.batch();
    if changes.bump_revision > 0 {
        let raised = i64::try_from(changes.bump_revision)
            .ok()
            .and_then(|by| meta.revision.checked_add(by));
        meta.revision = raised.ok_or_else(|| {
            failed(&format!(
                "raise revision {} by {}: there is no revision that high",
                meta.revision, changes.bump_revision
            ))
        })?;
        meta.compacted = meta.revision;
        meta.save(&mut batch);
    }
    let restored = Restored {
        node_id: changes.node_id.unwrap_or(node_id),
        cluster_id: changes.cluster_id.unwrap_or(cluster_id),
        revision: meta.revision,
    };
    start::set_identity(&mut batch, restored.node_id, restored.cluster_id);
    let base = Position {
        term: Term(meta.applied_term.max(1)),
        index: meta.applied_index.max(1),
    };
    let clock = service::SystemClock::shared();
    let life = founding::draw_life(&clock, &auth::system_entropy()).map_err(|error| failed(&error))?;
    if changes.members.is_empty() {
        found_alone(&mut batch, base, NodeId(restored.node_id), life);
    } else {
        let together = Together::of(&Origin {
            content: &changes.content,
            cluster_id: restored.cluster_id,
            position: base,
            revision: meta.revision,
            compacted: meta.compacted,
            members: &changes.members,
        });
        wait_for_others(&mut batch, base, &together, life);
    }
    store.write(batch, Durability::Synced)?;
    store.flush()?;
    store.stop_background_work();
    Ok(restored)
}

/// Makes the directory that of the only member of a new cluster, which has agreed on what is there and on nothing else.
fn found_alone(batch: &mut Batch<'_>, base: Position, node: NodeId, life: Incarnation) {
    let configuration = Configuration::of_voters([(node, life, Bytes::new())]);
    begin_after(batch, base, configuration.clone(), HardState::new(life, false));
    Together::remove(batch);
    let group = Group {
        instance: life.0,
        first: configuration,
    };
    group.put(batch);
    founding::put_remade(batch);
}

/// Makes the directory that of a member of a cluster which begins when all of its first members have met. Until then it counts for
/// nothing, and nobody belongs to the cluster.
fn wait_for_others(batch: &mut Batch<'_>, base: Position, together: &Together, life: Incarnation) {
    begin_after(batch, base, Configuration::default(), HardState::new(life, true));
    Group::remove(batch);
    together.put(batch);
}

/// An empty log that begins after `base`.
fn begin_after(
    batch: &mut Batch<'_>,
    base: Position,
    configuration: Configuration,
    mut hard_state: HardState,
) {
    hard_state.term = base.term;
    hard_state.commit = base.index;
    let base = Snapshot {
        position: base,
        configuration,
    };
    log::replace(batch, &base);
    log::put_hard_state(batch, &hard_state);
}

/// True if the directory was restored and has not been started since.
pub(super) fn is_marked(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Tells that the directory was restored or repaired, and takes the mark away so that it is told once.
pub(super) fn first_start(dir: &Path, revision: i64) -> Result<(), StartError> {
    let path = dir.join(MARK);
    let mark = match std::fs::read_to_string(&path) {
        Ok(mark) => mark,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StartError::Failed(format!("read {}: {error}", path.display()))),
    };
    // Its first line is the version of the program that made it, the second what that did, if it was no copy.
    let mut lines = mark.lines();
    let made_by = lines.next().unwrap_or_default();
    if lines.next() == Some(REPAIRED) {
        tracing::warn!(target: "chainfire_storage", revision, made_by, "Data repaired, what could not be read is missing");
    } else {
        tracing::info!(target: "chainfire_storage", revision, made_by, "Data restored from a snapshot");
    }
    std::fs::remove_file(&path)
        .and_then(|()| std::fs::File::open(dir)?.sync_all())
        .map_err(|error| StartError::Failed(format!("remove {}: {error}", path.display())))
}
