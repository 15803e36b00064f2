//! How a node gets into its group at the start of a run.

use std::sync::Arc;
use std::time::Duration;

use consensus::{HardState, Incarnation};
use serde::{Deserialize, Serialize};

use super::shared::Shared;
use super::wire::{decode, encode, kind};
use crate::document::Digest;
use crate::identity::NodeId;
use crate::raft::disk::{Disk, DiskError, Loaded};
use crate::secret::random;

/// How often peers are asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a peer may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is told why this node waits.
const TELL_EVERY: u32 = 60;

/// What a node says to one that is in no group yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Its group; 0 outside of any.
    pub group: u64,
    /// Whether the group has a leader that this node hears.
    pub runs: bool,
    /// Whether the group lists whoever asks.
    pub lists: bool,
    /// The digest of its file.
    pub digest: String,
    /// The version of its file.
    pub version: u64,
}

/// What this node says to `asker`.
pub fn statement(shared: &Shared, asker: NodeId) -> Statement {
    let document = shared.document();
    let view = shared.view();
    let runs = view.as_ref().is_some_and(|view| view.leader.is_some());
    Statement {
        group: shared.group.get().copied().unwrap_or(0),
        runs,
        lists: runs && document.peer(asker).is_some(),
        digest: Digest::of(&document).to_string(),
        version: document.version,
    }
}

/// Finds or founds the group of this node. Nothing if the run ended before.
///
/// # Errors
/// The disk.
pub async fn enter(shared: &Arc<Shared>) -> Result<Option<Loaded>, DiskError> {
    let raft = shared.home.raft();
    if let Some(loaded) = Disk::open(&raft)? {
        return Ok(Some(loaded));
    }
    let document = shared.document_at_start.clone();
    let alone = document.peers.iter().all(|peer| peer.node_id == shared.me);
    if document.version > 0 && alone {
        let group = u64::from_be_bytes(random::<8>()).max(1);
        return begin(shared, group, false).map(Some);
    }
    let mut asked = 0;
    loop {
        if let Some(group) = running_group(shared).await {
            return begin(shared, group, true).map(Some);
        }
        if asked % TELL_EVERY == 0 {
            tracing::info!(target: "quptime", "waiting for a running cluster that lists this node");
        }
        asked += 1;
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = shared.stop.cancelled() => return Ok(None),
        }
    }
}

fn begin(shared: &Shared, group: u64, recovering: bool) -> Result<Loaded, DiskError> {
    let raft = shared.home.raft();
    let [a, b] = random::<2>();
    let incarnation = Incarnation::draw(shared.wall(), u16::from_be_bytes([a, b]));
    set_aside(shared, &raft)?;
    Disk::create(&raft, group, &HardState::new(incarnation, recovering))?;
    let loaded = Disk::open(&raft)?;
    Ok(loaded.expect("it was made a moment ago"))
}

/// What is there does not count and must not be in the way.
pub fn set_aside(shared: &Shared, raft: &std::path::Path) -> Result<(), DiskError> {
    if !raft.exists() {
        return Ok(());
    }
    let stamp = service::clock::utc_compact(shared.wall());
    let aside = raft.with_file_name(format!("raft.orphan-{stamp}"));
    std::fs::rename(raft, &aside).map_err(|source| DiskError::Io {
        operation: "move aside",
        path: raft.to_owned(),
        source,
    })
}

async fn running_group(shared: &Arc<Shared>) -> Option<u64> {
    let transport = shared.transport.get()?;
    for peer in shared
        .document_at_start
        .peers
        .iter()
        .filter(|peer| peer.node_id != shared.me)
    {
        let asked = transport
            .request(peer.node_id.number(), kind::STATEMENT, encode(&()), ASK_TIMEOUT)
            .await;
        let Ok(said) = asked
            .map_err(|_| ())
            .and_then(|answer| decode::<Statement>(&answer).map_err(|_| ()))
        else {
            continue;
        };
        if said.runs && said.lists {
            return Some(said.group);
        }
    }
    None
}
