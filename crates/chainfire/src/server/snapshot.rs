//! A consistent copy of the store, as a stream.
//!
//! The content is a `.tar.gz` of a checkpoint with one leading directory, followed by the SHA-256 of all before it (32 bytes),
//! so a client can tell a whole copy from a cut one. Without the last 32 bytes it is exactly what `backup` writes and what
//! `tar -xzf FILE -C DIR --strip-components=1` restores. It is made while it is sent: nothing but hard links touches the disk.
//!
//! `etcdctl snapshot save` takes a file for whole only if its length is 32 more than a multiple of 512, so an empty gzip
//! member of the right length follows the archive.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::error::Error;
use crate::node::{CHECKPOINT_PREFIX, Node, VERSION};
use crate::wire::etcdserverpb::SnapshotResponse;

/// Bytes in one message.
const PIECE: usize = 64 << 10;

/// Pieces made ahead of the client.
const PIECES_IN_FLIGHT: usize = 8;

/// Snapshots made at a time; others wait. Each holds a thread, and files that are no longer needed.
static SNAPSHOTS: Semaphore = Semaphore::const_new(4);

/// How long a client may take nothing before its snapshot is given up.
const STALL: Duration = Duration::from_mins(1);

/// The one leading directory of the archive.
const TOP: &str = "chainfire";

/// Marks a directory as restored: a server that finds it knows that others may have moved on since.
const RESTORED: &str = "RESTORED";

type Sender = mpsc::Sender<Result<SnapshotResponse, Status>>;

/// The stream of one snapshot.
pub(super) fn stream(node: Arc<Node>) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send + Unpin {
    let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
    tokio::spawn(async move {
        let turn = tokio::select! {
            turn = SNAPSHOTS.acquire() => turn,
            () = sender.closed() => return,
        };
        let made = tokio::task::spawn_blocking(move || {
            if let Err(error) = send(&node, &sender) {
                // A client that has gone away, or does not read, is why sending failed, or will not hear of it.
                let _ = sender.try_send(Err(error.into()));
            }
        });
        // Its own failure has been told; a panic ends the process.
        let _ = made.await;
        drop(turn);
    });
    ReceiverStream::new(receiver)
}

/// A checkpoint that goes away with this value.
struct Checkpoint(PathBuf);

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(target: "chainfire_storage", error = %error, "Checkpoint not removed");
        }
    }
}

fn send(node: &Node, sender: &Sender) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Local(format!("snapshot: {error}"));
    let id = node.entropy_id()?;
    let dir = node.store.path().join(format!("{CHECKPOINT_PREFIX}{id:016x}"));
    node.store.checkpoint(&dir)?;
    let dir = Checkpoint(dir);

    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir.0).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let size = entry.metadata().map_err(failed)?.len();
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, entry.path(), size));
    }
    files.sort();
    let total = files.iter().map(|(_, _, size)| size).sum();

    let pieces = Pieces {
        sender,
        header: node.header(node.machine.mvcc.revision()),
        hash: Sha256::new(),
        sent: 0,
        piece: Vec::with_capacity(PIECE),
        remaining: total,
    };
    let mut archive = tar::Builder::new(GzEncoder::new(pieces, Compression::fast()));
    archive.mode(tar::HeaderMode::Deterministic);
    let revision = node.machine.mvcc.revision();
    let marker = format!(
        "chainfire {VERSION}\nnode {}\ncluster {}\nrevision {revision}\n",
        node.id(),
        node.config.cluster.id
    );
    let mut header = tar::Header::new_gnu();
    header.set_size(marker.len() as u64);
    header.set_mode(0o600);
    archive
        .append_data(&mut header, format!("{TOP}/{RESTORED}"), marker.as_bytes())
        .map_err(failed)?;
    for (name, path, size) in files {
        archive
            .append_path_with_name(&path, format!("{TOP}/{name}"))
            .map_err(failed)?;
        let pieces = archive.get_mut().get_mut();
        pieces.remaining = pieces.remaining.saturating_sub(size);
    }
    let mut pieces = archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    let padding = padding(pieces.sent);
    pieces.write_all(&padding).map_err(failed)?;
    pieces.finish().map_err(failed)
}

/// An empty gzip member (RFC 1952) that makes `length` a multiple of 512.
fn padding(length: u64) -> Vec<u8> {
    /// Header with the length of the extra field, one empty subfield, a final deflate block, checksum and size.
    const LEAST: u64 = 12 + 4 + 2 + 8;
    let extra = (512 - (length + LEAST) % 512) % 512;
    let mut member = vec![0x1f, 0x8b, 8, 0b100, 0, 0, 0, 0, 0, 255];
    member.extend_from_slice(&(extra as u16 + 4).to_le_bytes());
    member.extend_from_slice(b"PD");
    member.extend_from_slice(&(extra as u16).to_le_bytes());
    member.resize(member.len() + extra as usize, 0);
    member.extend_from_slice(&[3, 0]);
    member.extend_from_slice(&[0; 8]);
    member
}

/// Cuts what is written into messages and hashes it.
struct Pieces<'a> {
    sender: &'a Sender,
    header: crate::wire::etcdserverpb::ResponseHeader,
    hash: Sha256,
    /// Bytes written so far.
    sent: u64,
    piece: Vec<u8>,
    /// Bytes still to be read, before compression: what progress can be judged by.
    remaining: u64,
}

impl Pieces<'_> {
    fn emit(&mut self) -> std::io::Result<()> {
        let blob = Bytes::from(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE)));
        let message = SnapshotResponse {
            header: Some(self.header),
            remaining_bytes: self.remaining,
            blob,
            version: VERSION.to_owned(),
        };
        let sent = self.sender.send_timeout(Ok(message), STALL);
        tokio::runtime::Handle::current()
            .block_on(sent)
            .map_err(|error| match error {
                SendTimeoutError::Closed(_) => {
                    std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the client has gone away")
                }
                SendTimeoutError::Timeout(_) => {
                    std::io::Error::new(std::io::ErrorKind::TimedOut, "the client takes nothing")
                }
            })
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.remaining = 0;
        let hash = std::mem::take(&mut self.hash).finalize();
        self.piece.extend_from_slice(&hash);
        self.emit()
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.sent += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            rest = later;
            if self.piece.len() == PIECE {
                self.emit()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn padding_is_an_empty_member_of_the_right_length() {
        for length in [0u64, 1, 100, 485, 486, 487, 511, 512, 70_000] {
            let member = padding(length);
            assert_eq!((length + member.len() as u64) % 512, 0, "{length}");
            let mut out = Vec::new();
            flate2::read::MultiGzDecoder::new(member.as_slice())
                .read_to_end(&mut out)
                .unwrap();
            assert!(out.is_empty());
        }
    }
}
