//! `snapshot save|status|restore` and `backup`.
//!
//! The server streams a consistent copy of the store and, as the last 32 bytes, the SHA-256 of everything before. `snapshot
//! save` keeps the whole stream; `backup` keeps the copy alone, which is an archive (`.tar.gz`) with one leading directory.
//! Both check the hash before the file gets its name, so a file with that name is always whole.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::cli::Context;
use super::connection::Session;
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use crate::wire::etcdserverpb::SnapshotRequest;

mod content;

use content::Unpacked;

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
    Save(SnapshotFile),
    /// Check a snapshot and print what it holds
    #[command(after_help = "Example:\n  chainfire-client snapshot status chainfire.snapshot")]
    Status(SnapshotFile),
    /// Make a data directory from a snapshot
    #[command(
        after_help = "Example:\n  chainfire-client snapshot restore chainfire.snapshot --data-dir /var/lib/chainfire\n\n\
                      The files belong to whoever runs this: give them to the user of the server before it starts. The\n\
                      directory is that of the node that was saved; changing its number is not available in this release."
    )]
    Restore(Restore),
}

/// A snapshot file.
#[derive(Debug, Args)]
pub(super) struct SnapshotFile {
    /// File of the snapshot
    file: PathBuf,
}

/// Restore arguments.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// File of the snapshot
    file: PathBuf,
    /// Directory to make; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Do not check the hash
    #[arg(long)]
    skip_hash_check: bool,
}

/// Backup arguments.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Archive to write
    // Shares its id, and so its type, with the global flag.
    #[arg(long, value_name = "FILE.tar.gz")]
    output: OsString,
}

pub(super) async fn run(command: Snapshot, context: &mut Context) -> Result<()> {
    match command {
        Snapshot::Save(SnapshotFile { file }) => {
            let saved = save(&file, Keep::All, context).await?;
            if context.printer.is_text() {
                return context
                    .printer
                    .text(|text| text.line(format_args!("Snapshot saved at {}", file.display())));
            }
            context.printer.facts(&saved.facts(&file))
        }
        Snapshot::Status(SnapshotFile { file }) => status(&file, context),
        Snapshot::Restore(arguments) => restore(&arguments, context),
    }
}

fn status(file: &Path, context: &mut Context) -> Result<()> {
    let Saved { hash, bytes } = check(file)?;
    let scratch = std::env::temp_dir().join(format!("chainfire-snapshot-{}", std::process::id()));
    let contents = Unpacked::create(file, scratch).and_then(|unpacked| unpacked.contents());
    let contents =
        contents.map_err(|wrong| Failure::refused(format!("snapshot {}: {wrong}", file.display())))?;
    context.printer.facts(&[
        ("file", json!(file.display().to_string())),
        ("hash", json!(hexadecimal(&hash))),
        ("revision", json!(contents.revision)),
        ("total_keys", json!(contents.keys)),
        ("total_size", json!(bytes)),
    ])
}

fn restore(arguments: &Restore, context: &mut Context) -> Result<()> {
    let Restore {
        file,
        data_dir,
        skip_hash_check,
    } = arguments;
    let occupied = std::fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || data_dir.is_file() {
        return Err(Failure::refused(format!(
            "{}: exists and is not an empty directory",
            data_dir.display()
        )));
    }
    if !skip_hash_check {
        check(file)?;
    }
    let unpacked = Unpacked::create(file, part_name(data_dir)?).and_then(|unpacked| unpacked.keep(data_dir));
    unpacked.map_err(|wrong| Failure::refused(format!("snapshot {}: {wrong}", file.display())))?;
    context
        .printer
        .text(|text| text.line(format_args!("Snapshot restored to {}", data_dir.display())))
}

pub(super) async fn backup(Backup { output }: Backup, context: &mut Context) -> Result<()> {
    let file = PathBuf::from(output);
    save(&file, Keep::Archive, context).await?;
    context
        .printer
        .text(|text| text.line(format_args!("Backup saved at {}", file.display())))
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

async fn save(file: &Path, keep: Keep, context: &mut Context) -> Result<Saved> {
    let mut interrupt = Interrupt::listen()?;
    let session = context.open().await?;
    let mut part = Part::create(file)?;
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

/// Checks the hash of a snapshot file.
fn check(path: &Path) -> Result<Saved> {
    let refuse =
        |error: &dyn std::fmt::Display| Failure::refused(format!("snapshot {}: {error}", path.display()));
    let mut file = File::open(path).map_err(|error| refuse(&error))?;
    let mut tail = Tail::default();
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut piece).map_err(|error| refuse(&error))?;
        if length == 0 {
            break;
        }
        tail.push(&piece[..length]);
        bytes += length as u64;
    }
    let hash = tail.finish().map_err(|wrong| refuse(&wrong))?;
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

/// The name under which `target` is made, beside it.
fn part_name(target: &Path) -> Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(Failure::usage(format!(
            "{}: want the name of a file or a directory",
            target.display()
        )));
    };
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".part-{}", std::process::id()));
    Ok(target.with_file_name(part))
}

/// The directory that holds `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A file being written beside its final place, and removed again unless it is finished.
struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Part {
    fn create(target: &Path) -> Result<Self> {
        let path = part_name(target)?;
        // The content is everything anybody ever stored: for the owner's eyes only.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|error| Failure::refused(format!("create {}: {error}", path.display())))?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            finished: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.refuse("write", &error))
    }

    /// Makes the content durable, then gives it its name, then makes the name durable.
    fn finish(mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|error| self.refuse("sync", &error))?;
        std::fs::rename(&self.path, &self.target).map_err(|error| self.refuse("rename", &error))?;
        self.finished = true;
        File::open(folder_of(&self.target))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| self.refuse("sync the folder of", &error))
    }

    fn refuse(&self, operation: &str, error: &std::io::Error) -> Failure {
        Failure::refused(format!("{operation} {}: {error}", self.target.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // The failure that ended the work is told already.
            let _ = std::fs::remove_file(&self.path);
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

    #[test]
    fn an_unfinished_file_is_removed_and_a_finished_one_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x.snapshot");
        let count = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut part = Part::create(&target).unwrap();
        part.write(b"half").unwrap();
        drop(part);
        assert_eq!(count(), 0);
        let mut part = Part::create(&target).unwrap();
        part.write(b"whole").unwrap();
        part.finish().unwrap();
        assert_eq!((count(), std::fs::read(&target).unwrap()), (1, b"whole".to_vec()));
    }
}
