//! What becomes of a data directory that was made from a snapshot.
//!
//! [`rework`] changes it before its first start, at the wish of the operator: another number of node or cluster, and a revision
//! above all that clients have seen. The log is applied first, so that no entry gets a revision after the raise that it had not
//! before. [`first_start`] is the server meeting such a directory: it tells, and takes the mark away.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{Configuration, HardState, NodeId, Position, Snapshot, Term};
use store::{Batch, Durability, Options, Store};

use super::founding::{self, Group};
use super::start::{self, StartError};
use crate::auth;
use crate::log::{self, Log};
use crate::mvcc::family;
use crate::state_machine::StateMachine;

/// The file that marks a directory as restored. Every snapshot and every backup has it.
pub(crate) const MARK: &str = "RESTORED";

/// What shall be different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Number of the node.
    pub(crate) node_id: Option<u64>,
    /// Number of the cluster.
    pub(crate) cluster_id: Option<u64>,
    /// Everything in the log counts, also what may never have been agreed on: nobody else is left who could say.
    pub(crate) keep_all: bool,
    /// How far the revision is raised. What was before is then as if compacted, so that clients notice.
    pub(crate) bump_revision: u64,
}

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) node_id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) revision: i64,
}

/// Changes a directory that no server uses.
pub(crate) fn rework(dir: &Path, changes: Changes) -> Result<Restored, StartError> {
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
    found_anew(&store, &machine, &mut batch, restored.node_id)?;
    store.write(batch, Durability::Synced)?;
    store.flush()?;
    store.stop_background_work();
    Ok(restored)
}

/// Makes the directory that of the only member of a new cluster, which has agreed on what is there and on nothing else.
fn found_anew(
    store: &Store,
    machine: &StateMachine,
    batch: &mut Batch<'_>,
    node: u64,
) -> Result<(), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Failed(error.to_string());
    let clock = service::SystemClock::shared();
    let life = founding::draw_life(&clock, &auth::system_entropy()).map_err(|error| failed(&error))?;
    let meta = machine.mvcc.meta();
    let configuration = Configuration::of_voters([(NodeId(node), life, Bytes::new())]);
    let base = Snapshot {
        position: Position {
            term: Term(meta.applied_term.max(1)),
            index: meta.applied_index.max(1),
        },
        configuration: configuration.clone(),
    };
    let mut hard_state = HardState::new(life, false);
    hard_state.term = base.position.term;
    hard_state.commit = base.position.index;
    log::replace(batch, &base);
    log::put_hard_state(batch, &hard_state);
    let group = Group {
        instance: life.0,
        first: configuration,
    };
    group.save(store).map_err(|error| failed(&error))
}

/// True if the directory was restored and has not been started since.
pub(super) fn is_marked(dir: &Path) -> bool {
    dir.join(MARK).exists()
}

/// Tells that the directory was restored, and takes the mark away so that it is told once.
pub(super) fn first_start(dir: &Path, revision: i64) -> Result<(), StartError> {
    let path = dir.join(MARK);
    let mark = match std::fs::read_to_string(&path) {
        Ok(mark) => mark,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StartError::Failed(format!("read {}: {error}", path.display()))),
    };
    // Its first line is the version of the program that made the copy.
    let made_by = mark.lines().next().unwrap_or_default();
    tracing::info!(target: "chainfire_storage", revision, made_by, "Data restored from a snapshot");
    std::fs::remove_file(&path)
        .and_then(|()| std::fs::File::open(dir)?.sync_all())
        .map_err(|error| StartError::Failed(format!("remove {}: {error}", path.display())))
}
