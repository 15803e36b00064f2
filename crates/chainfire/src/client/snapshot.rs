//! `snapshot save|status|restore` and `backup`.
//!
//! The server streams a consistent copy of the store and, as the last 32 bytes, the SHA-256 of everything before. `snapshot
//! save` keeps the whole stream; `backup` keeps the copy alone, which is an archive (`.tar.gz`) with one leading directory.
//! Both check the hash before the file gets its name, so a file with that name is always whole. `status` and `restore` take
//! either: an archive has checksums of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use consensus::NodeId;
use serde_json::json;
use service::{Clock as _, SystemClock};
use sha2::{Digest as _, Sha256};

use super::argument;
use super::cli::Context;
use super::connection::Session;
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use crate::node::restore;
use crate::wire::etcdserverpb::SnapshotRequest;

mod content;
mod part;
mod rotation;

use content::{File, Unpacked};
use part::Part;

/// Length of the hash that ends a snapshot.
const HASH_BYTES: usize = 32;

/// How every archive begins: gzip with the method deflate (RFC 1952, section 2.3).
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];

/// Snapshot commands.
#[derive(Debug, Subcommand)]
pub(super) enum Snapshot {
    /// Save a consistent copy of the store, checked and complete
    #[command(
        after_help = "Example:\n  chainfire-client snapshot save chainfire.snapshot\n\n\
                      A snapshot of Chainfire has its own format: `etcdctl snapshot status` and `restore` cannot read it."
    )]
    Save(Save),
    /// Check a snapshot and print what it holds
    #[command(after_help = "Example:\n  chainfire-client snapshot status chainfire.snapshot")]
    Status(SnapshotFile),
    /// Make a data directory from a snapshot
    #[command(
        after_help = "Examples:\n  chainfire-client snapshot restore a.snapshot --data-dir /var/lib/chainfire\n  \
                      chainfire-client snapshot restore a.snapshot --data-dir new --node-id 2\n  \
                      chainfire-client snapshot restore a.snapshot --data-dir new \\\n    \
                      --bump-revision 1000000 --mark-compacted\n  \
                      chainfire-client snapshot restore a.snapshot --data-dir new --node-id 2 \\\n    \
                      --initial-members 1=node1:2380,2=node2:2380,3=node3:2380\n\n\
                      The last one makes one of several members: run it on each machine, with the same file and list and its own \
                      --node-id, then start all of them. They form a new cluster as soon as all have met.\n\n\
                      The files belong to whoever runs this: give them to the user of the server before it starts (chown -R \
                      chainfire:chainfire DIR). Clients that have seen revisions newer than the snapshot would take old data for \
                      new: --bump-revision makes the server tell them instead to read everything again."
    )]
    Restore(Restore),
}

/// A snapshot to write.
#[derive(Debug, Args)]
pub(super) struct Save {
    /// File to write
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// A snapshot file.
#[derive(Debug, Args)]
pub(super) struct SnapshotFile {
    /// File of the snapshot, or archive of `backup`
    file: PathBuf,
}

/// Restore arguments.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// File of the snapshot, or archive of `backup`
    file: PathBuf,
    /// Directory to make; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Do not check the hash
    #[arg(long)]
    skip_hash_check: bool,
    /// Number of the node that will use the directory, if it is another than the one that was saved
    #[arg(long, value_name = "N", value_parser = argument::node_id)]
    node_id: Option<u64>,
    /// Number of the cluster it will be, if it is another
    #[arg(long, value_name = "N", value_parser = argument::node_id)]
    cluster_id: Option<u64>,
    /// First members of the new cluster, ID=HOST:PORT, this node among them; otherwise it begins alone
    #[arg(long, value_name = "MEMBERS", value_delimiter = ',', value_parser = argument::member)]
    initial_members: Vec<(u64, String)>,
    /// Raise the revision by this much, above all that clients have seen
    #[arg(long, value_name = "N", requires = "mark_compacted", value_parser = clap::value_parser!(u64).range(1..))]
    bump_revision: Option<u64>,
    /// Let nobody read or watch what was before the raised revision, so that clients notice
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
}

/// Backup arguments.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("place").required(true).args(["output", "dir"]))]
pub(super) struct Backup {
    /// Archive to write
    #[arg(long, value_name = "FILE.tar.gz")]
    output: Option<PathBuf>,
    /// Write an archive named after the time (UTC) into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Remove the oldest archives that --dir made there beyond this many
    #[arg(long, value_name = "N", requires = "dir", conflicts_with = "output", value_parser = argument::count)]
    keep: Option<u32>,
    /// Replace the file if it exists
    #[arg(long, conflicts_with = "dir")]
    force: bool,
}

pub(super) async fn run(command: Snapshot, context: &mut Context) -> Result<()> {
    match command {
        Snapshot::Save(Save { file, force }) => {
            let saved = save(&file, Keep::All, force, context).await?;
            if context.printer.is_text() {
                return context
                    .printer
                    .text(|text| text.line(format_args!("Snapshot saved at {}", file.display())));
            }
            context.printer.facts(&saved.facts(&file))
        }
        Snapshot::Status(SnapshotFile { file }) => status(&file, context),
        Snapshot::Restore(arguments) => restore_to(&arguments, context),
    }
}

fn refuse(file: &Path) -> impl Fn(String) -> Failure {
    move |wrong| Failure::refused(format!("snapshot {}: {wrong}", file.display()))
}

fn status(path: &Path, context: &mut Context) -> Result<()> {
    let file = File::open(path).and_then(File::checked).map_err(refuse(path))?;
    let scratch = std::env::temp_dir().join(format!("chainfire-snapshot-{}", std::process::id()));
    let contents = Unpacked::create(&file, scratch).and_then(|unpacked| unpacked.contents());
    let contents = contents.map_err(refuse(path))?;
    let hash = file
        .hash
        .map_or_else(|| "none".to_owned(), |hash| hexadecimal(&hash));
    context.printer.facts(&[
        ("file", json!(path.display().to_string())),
        ("hash", json!(hash)),
        ("revision", json!(contents.revision)),
        ("total_keys", json!(contents.keys)),
        ("total_size", json!(file.bytes)),
    ])
}

fn restore_to(arguments: &Restore, context: &mut Context) -> Result<()> {
    let (path, data_dir) = (&arguments.file, &arguments.data_dir);
    let target = data_dir.display();
    let occupied = std::fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || data_dir.is_file() {
        return Err(Failure::refused(format!(
            "{target}: exists and is not an empty directory"
        )));
    }
    let mut file = File::open(path).map_err(refuse(path))?;
    if !arguments.skip_hash_check {
        file = file.checked().map_err(refuse(path))?;
    }
    let place = part::name_beside(data_dir)?;
    part::check_folder(data_dir)?;
    let unpacked = Unpacked::create(&file, place).map_err(refuse(path))?;
    let saved = unpacked.node_id().map_err(refuse(path))?;
    let members = first_members(&arguments.initial_members, arguments.node_id.unwrap_or(saved))?;
    let others: Vec<String> = members.keys().map(ToString::to_string).collect();
    let changes = restore::Changes {
        node_id: arguments.node_id,
        cluster_id: arguments.cluster_id,
        bump_revision: arguments.bump_revision.unwrap_or(0),
        content: file.content_hash().map_err(refuse(path))?,
        members,
        ..restore::Changes::default()
    };
    let restored =
        restore::rework(unpacked.path(), &changes).map_err(|error| refuse(path)(error.to_string()))?;
    let node = restored.node_id;
    unpacked.keep(data_dir).map_err(refuse(path))?;
    if context.printer.is_text() {
        return context.printer.text(|text| {
            text.line(format_args!("Snapshot restored to {target}"));
            if !others.is_empty() {
                text.line(format_args!(
                    "Node {node} serves when nodes {} have been restored from the same file and all of them are started",
                    others.join(", ")
                ));
            }
        });
    }
    context.printer.facts(&[
        ("data_dir", json!(target.to_string())),
        ("node_id", json!(node)),
        ("cluster_id", json!(restored.cluster_id)),
        ("revision", json!(restored.revision)),
    ])
}

/// The first members, if there are others than `node`.
fn first_members(given: &[(u64, String)], node: u64) -> Result<BTreeMap<NodeId, String>> {
    let wrong = |what: String| Err(Failure::usage(format!("--initial-members: {what}")));
    let mut members = BTreeMap::new();
    for (id, address) in given {
        if members.values().any(|known| known == address) {
            return wrong(format!(
                "{address} is there twice: every member has an address of its own"
            ));
        }
        if members.insert(NodeId(*id), address.clone()).is_some() {
            return wrong(format!(
                "node {id} is there twice: every member has an id of its own"
            ));
        }
    }
    if !members.is_empty() && !members.contains_key(&NodeId(node)) {
        return wrong(format!(
            "node {node} is not among them: give the same list on all machines, and on each its own --node-id"
        ));
    }
    if members.len() == 1 {
        members.clear();
    }
    Ok(members)
}

pub(super) async fn backup(arguments: Backup, context: &mut Context) -> Result<()> {
    let file = match (&arguments.output, &arguments.dir) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => dir.join(rotation::name(SystemClock::new().unix_ms())),
        (None, None) => return Err(Failure::usage("backup: want --output FILE.tar.gz or --dir DIR")),
    };
    let saved = save(&file, Keep::Archive, arguments.force, context).await?;
    let removed = match (&arguments.dir, arguments.keep) {
        (Some(dir), Some(keep)) => rotation::remove_oldest(dir, keep as usize)?,
        _ => Vec::new(),
    };
    let removed: Vec<String> = removed.iter().map(|path| path.display().to_string()).collect();
    if context.printer.is_text() {
        return context.printer.text(|text| {
            text.line(format_args!("Backup saved at {}", file.display()));
            for path in &removed {
                text.line(format_args!("Old backup removed: {path}"));
            }
        });
    }
    context.printer.facts(&[
        ("file", json!(file.display().to_string())),
        ("total_size", json!(saved.bytes)),
        ("removed", json!(removed)),
    ])
}

/// What of the stream is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    /// Without the hash; the content must be an archive.
    Archive,
}

/// A file that was written or checked.
struct Saved {
    hash: [u8; HASH_BYTES],
    bytes: u64,
}

impl Saved {
    fn facts(&self, file: &Path) -> [(&'static str, serde_json::Value); 3] {
        [
            ("file", json!(file.display().to_string())),
            ("hash", json!(hexadecimal(&self.hash))),
            ("total_size", json!(self.bytes)),
        ]
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

async fn save(file: &Path, keep: Keep, force: bool, context: &mut Context) -> Result<Saved> {
    let mut interrupt = Interrupt::listen()?;
    // Before the server does any work.
    let mut part = Part::create(file, force)?;
    let session = context.open().await?;
    let saved = tokio::select! {
        saved = receive(&session, &mut part, keep) => saved?,
        _ = interrupt.wait() => return Err(Failure::refused(format!("save {}: interrupted", file.display()))),
    };
    part.finish()?;
    Ok(saved)
}

async fn receive(session: &Session, part: &mut Part, keep: Keep) -> Result<Saved> {
    let mut client = session.maintenance();
    let mut stream = session.ask(client.snapshot(SnapshotRequest {})).await?;
    let mut tail = Tail::default();
    let mut bytes = 0;
    let mut progress = None;
    loop {
        let Ok(message) = tokio::time::timeout(session.patience(), stream.message()).await else {
            return Err(session.silence());
        };
        let message = message.map_err(|status| Failure::of_status(&status, &session.endpoint))?;
        let Some(message) = message else { break };
        let content = tail.push(&message.blob);
        if bytes == 0 && keep == Keep::Archive && !content.is_empty() && !content.starts_with(&GZIP_MAGIC) {
            return Err(Failure::refused(format!(
                "{} did not send an archive: is it a Chainfire server?",
                session.endpoint
            )));
        }
        bytes += content.len() as u64;
        part.write(&content)?;
        let progress = progress.get_or_insert_with(|| {
            let total = message.remaining_bytes + message.blob.len() as u64;
            terminal::progress("Saving", total)
        });
        progress.advance(message.blob.len() as u64);
    }
    let hash = tail
        .finish()
        .map_err(|wrong| Failure::refused(format!("snapshot from {}: {wrong}", session.endpoint)))?;
    if keep == Keep::All {
        part.write(&hash)?;
        bytes += HASH_BYTES as u64;
    }
    Ok(Saved { hash, bytes })
}

/// Holds back what may be the hash at the end, and hashes all before it.
#[derive(Default)]
struct Tail {
    hasher: Sha256,
    held: Vec<u8>,
}

impl Tail {
    /// Takes a piece of the stream; gives what is certain to be content.
    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let certain = self.held.len().saturating_sub(HASH_BYTES);
        let rest = self.held.split_off(certain);
        let content = std::mem::replace(&mut self.held, rest);
        self.hasher.update(&content);
        content
    }

    /// The hash, if it is the right one.
    fn finish(self) -> std::result::Result<[u8; HASH_BYTES], &'static str> {
        let told: [u8; HASH_BYTES] = self
            .held
            .try_into()
            .map_err(|_| "it is shorter than the hash that ends it")?;
        let hash: [u8; HASH_BYTES] = self.hasher.finalize().into();
        if told == hash {
            Ok(hash)
        } else {
            Err("the hash at its end is not that of its content: it is cut short or damaged")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(content: &[u8]) -> Vec<u8> {
        [content, &Sha256::digest(content)[..]].concat()
    }

    fn checked(stream: &[u8], piece: usize) -> std::result::Result<Vec<u8>, &'static str> {
        let mut tail = Tail::default();
        let content = stream.chunks(piece).flat_map(|piece| tail.push(piece)).collect();
        tail.finish().map(|_| content)
    }

    #[test]
    fn the_hash_is_found_however_the_stream_is_cut() {
        let content: Vec<u8> = (0..200).collect();
        for piece in [1, 7, 31, 32, 33, 199, 200, 1000] {
            assert_eq!(
                checked(&snapshot(&content), piece),
                Ok(content.clone()),
                "{piece}"
            );
        }
        assert_eq!(checked(&snapshot(b""), 5), Ok(Vec::new()));
    }

    #[test]
    fn damage_is_found() {
        let whole = snapshot(b"content");
        for n in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[n] ^= 1;
            assert!(checked(&damaged, 8).is_err(), "byte {n}");
            assert!(checked(&whole[..n], 8).is_err(), "cut at {n}");
        }
    }
}
