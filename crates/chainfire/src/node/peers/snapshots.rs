//! The whole state for a member that lags too far: made here as a checkpoint, sent over a connection of its own, staged and prepared there.
//!
//! The message of the group that tells the member to install it follows when the content is ready; see [`crate::raft`]'s `install`.

use std::path::PathBuf;
use std::time::Duration;

use consensus::{NodeId, Snapshot};
use peer::BulkError;
use store::Store;

use super::Peers;
use crate::error::{Error, Result};
use crate::log::{decode_base, encode_base};
use crate::mvcc::{Meta, family};
use crate::node::{CHECKPOINT_PREFIX, Node};
use crate::raft::prepare;

/// What the names of staged directories begin with.
pub(in crate::node) const STAGED_PREFIX: &str = "snapshot-";

/// What the name of a directory ends in that holds the tables of a snapshot, ready to be installed.
const TABLES: &str = "tables";

/// Attempts to go on after a cut.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Begins to send the state to a member, unless that is under way.
pub(super) fn send(peers: &Peers, to: NodeId) {
    let (Some(node), Some(runtime)) = (peers.node(), peers.runtime.get()) else {
        return;
    };
    if !peers.sending.lock().insert(to) {
        return;
    }
    runtime.spawn(async move {
        tracing::info!(target: "chainfire_raft", node_id = to.0, "Node lags too far, sending a snapshot");
        let watch = service::clock::Stopwatch::start();
        let outcome = send_now(&node, to).await;
        node.peers.sending.lock().remove(&to);
        match outcome {
            Ok(snapshot) => {
                let index = snapshot.position.index;
                tracing::info!(
                    target: "chainfire_raft",
                    node_id = to.0,
                    index,
                    duration = format_args!("{}ms", watch.elapsed_ms()),
                    "Snapshot sent"
                );
                node.raft.snapshot_sent(to, snapshot);
            }
            Err(error) => {
                tracing::warn!(target: "chainfire_raft", node_id = to.0, reason = %error, "Snapshot not sent");
                node.raft.snapshot_failed(to);
            }
        }
    });
}

async fn send_now(node: &Node, to: NodeId) -> Result<Snapshot> {
    let id = node.entropy_id()?;
    let dir = node.store.path().join(format!("{CHECKPOINT_PREFIX}{id:016x}"));
    let made = {
        let (store, dir) = (node.store.clone(), dir.clone());
        tokio::task::spawn_blocking(move || {
            store.checkpoint(&dir)?;
            // The state in the copy may be newer than when the copy was begun: it says itself how far it is.
            let copy = Store::open_read_only(&dir, &store::Options::default(), family::ALL)?;
            Ok::<_, Error>(Meta::load(&copy)?.applied_index)
        })
        .await
    };
    let sent = async {
        let index = made.map_err(|error| Error::Local(format!("checkpoint: {error}")))??;
        let described = node.raft.describe(index).await;
        let snapshot = described.ok_or_else(|| Error::Local("the log has moved on".to_owned()))?;
        transfer(node, to, &snapshot, &dir).await?;
        Ok(snapshot)
    }
    .await;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        tracing::warn!(target: "chainfire_storage", error = %error, "Checkpoint not removed");
    }
    sent
}

async fn transfer(node: &Node, to: NodeId, snapshot: &Snapshot, dir: &std::path::Path) -> Result<()> {
    let transport = node.peers.transport.get().ok_or(Error::Stopped)?;
    let header = bytes::Bytes::from(encode_base(snapshot));
    let mut attempt = 1;
    loop {
        match transport.send_directory(to, header.clone(), dir, None).await {
            Ok(()) => return Ok(()),
            Err(BulkError::Cut { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(Error::Local(error.to_string())),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where a snapshot with this header is staged.
pub(super) fn place(peers: &Peers, header: &[u8]) -> std::result::Result<PathBuf, String> {
    let snapshot = decode_base(header).ok_or("malformed header of a snapshot")?;
    let position = snapshot.position;
    let name = format!("{STAGED_PREFIX}{}-{}", position.term.0, position.index);
    let dir = peers.store.path().join(name);
    // What an earlier leader began is not gone on with.
    let mut stays = peers.staged.keep_only(position);
    stays.push(dir.clone());
    remove_staged(&peers.store, &stays);
    Ok(dir)
}

/// All of it is there: makes it ready to be installed.
pub(super) async fn arrived(
    peers: &Peers,
    from: NodeId,
    header: &[u8],
    dir: PathBuf,
) -> std::result::Result<(), String> {
    let snapshot = decode_base(header).ok_or("malformed header of a snapshot")?;
    let position = snapshot.position;
    tracing::info!(target: "chainfire_raft", index = position.index, node_id = from.0, "Snapshot arrived");
    let (store, staged) = (peers.store.clone(), peers.staged.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        if !staged.has(position) {
            let watch = service::clock::Stopwatch::start();
            let tables = dir.with_extension(TABLES);
            prepare(&dir, &tables)?;
            // So that little is left to be written when the state is replaced.
            store.flush().map_err(|error| error.to_string())?;
            tracing::info!(
                target: "chainfire_storage",
                index = position.index,
                duration = format_args!("{}ms", watch.elapsed_ms()),
                "Snapshot prepared"
            );
            staged.put(position, tables);
        }
        std::fs::remove_dir_all(&dir).map_err(|error| format!("remove {}: {error}", dir.display()))
    });
    let prepared = prepared.await.map_err(|error| error.to_string()).flatten();
    if let Err(reason) = &prepared {
        tracing::warn!(target: "chainfire_storage", index = position.index, reason, "Snapshot cannot be used");
    }
    prepared
}

/// Removes staged directories, but for those that stay.
pub(in crate::node) fn remove_staged(store: &Store, stays: &[PathBuf]) {
    let Ok(entries) = std::fs::read_dir(store.path()) else {
        return;
    };
    for entry in entries.flatten() {
        let staged = entry.file_name().to_string_lossy().starts_with(STAGED_PREFIX);
        if staged
            && !stays.contains(&entry.path())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(target: "chainfire_storage", error = %error, "Staged snapshot not removed");
        }
    }
}
