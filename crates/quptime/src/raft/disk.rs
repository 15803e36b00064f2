//! The folder `raft/`: vote, term, log and snapshots of this node.
//!
//! - `meta`: which group this is, and the number of the inode of the folder. A copied folder has another number and counts as absent:
//!   a node must not vote out of a memory that may be old.
//! - `log`: records, appended and synced. The first says what the log begins after; then entries (an entry replaces whatever lies at or
//!   above its index) and hard states (the last counts).
//! - `snapshot-<index>-<term>`: the state that the log begins after.
//!
//! A new snapshot and a new log are written beside the old ones; when both are complete, the log that names the snapshot takes the place of the old log in one rename; what the log
//! does not name is removed. So there is one moment at which the old becomes the new, whatever is cut off.
//!
//! - `synced`: how many bytes of the log were synced, and of which log. Written after each sync, and not synced itself: that would cost as much
//!   again, and what it says can only be too little.
//!
//! Each record carries its length and a CRC-32C. A record that is cut off or wrong at the very end, behind what was synced, is what a crash left of
//! an append that nobody was told about: it is removed. Whatever else is wrong or missing was synced, or may have been, so others may count on
//! it. A member that has forgotten what it acknowledged, or whom it voted for, must not take part any more; so the folder is refused
//! ([`DiskError::Damaged`]) and nothing of it is changed. What people can do then is the matter of `node/enter/damage.rs`.

mod record;
mod synced;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, BufMut as _};
use consensus::{Configuration, Entry, HardState, Index, Kind, Position, Snapshot, Term};
use serde::{Deserialize, Serialize};
use service::durable;

use self::synced::Synced;
use crate::document::schema::SCHEMA;
use crate::machine::state::State;

/// What is wrong with the folder, or with the disk under it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("{operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no room. Nothing has changed by the attempt, so it can be made again.
    #[error("write {}: {source}", .path.display())]
    Full {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The content cannot be: something of what was synced is wrong or missing.
    #[error("{} is damaged at byte {at}: {what}", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where what can be read ends.
        at: u64,
        /// What was found there.
        what: String,
    },
    /// Written by a later program.
    #[error("{} was written by a newer qu (schema {level}, this one knows {SCHEMA})", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its level.
        level: u32,
    },
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io {
        operation,
        path,
        source,
    }
}

/// What came of a write that changes nothing if there is no room for it.
fn write_error(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| {
        if durable::is_full(&source) {
            DiskError::Full { path, source }
        } else {
            io_error("write", &path)(source)
        }
    }
}

/// What names the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The group.
    pub group: u64,
    /// Groups that this one came after; see [`crate::machine::entrance`].
    #[serde(default)]
    pub generation: u32,
    /// Of the folder itself.
    pub inode: u64,
    /// Level of what is stored here.
    pub schema: u32,
}

/// The folder, open.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    file: File,
    base: Snapshot,
    entries: VecDeque<Entry>,
    hard_state: HardState,
    /// Bytes in the log file.
    length: u64,
    synced: Synced,
}

/// What a folder holds when it is opened.
#[derive(Debug)]
pub struct Loaded {
    /// What names it.
    pub meta: Meta,
    /// The open folder.
    pub disk: Disk,
    /// The state that the log begins after.
    pub state: State,
}

impl Disk {
    /// Whether there is a genuine folder. A copied one, or one that was never finished, is none.
    ///
    /// # Errors
    /// It cannot be read, or a later program wrote it.
    pub fn look(dir: &Path) -> Result<Option<Meta>, DiskError> {
        let path = dir.join("meta");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let meta: Meta = serde_json::from_slice(&text).map_err(|error| DiskError::Damaged {
            path: path.clone(),
            // It is one line.
            at: error.column().saturating_sub(1) as u64,
            what: if text.is_empty() {
                "it is empty".to_owned()
            } else {
                error.to_string()
            },
        })?;
        let inode = fs::metadata(dir).map_err(io_error("look at", dir))?.ino();
        if meta.inode != inode {
            return Ok(None);
        }
        if meta.schema > SCHEMA {
            return Err(DiskError::Newer {
                path,
                level: meta.schema,
            });
        }
        Ok(Some(meta))
    }

    /// Makes a folder for a new replica of a group that begins after `base` with `state`; an empty base and state if it remembers
    /// nothing. What is left of an attempt that was cut off is removed.
    ///
    /// # Errors
    /// The disk.
    pub fn create(
        dir: &Path,
        group: (u32, u64),
        base: &Snapshot,
        state: &State,
        hard_state: &HardState,
    ) -> Result<(), DiskError> {
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(io_error("remove", dir))?;
        }
        fs::create_dir(dir).map_err(io_error("create", dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io_error("protect", dir))?;
        if base.position.index > 0 {
            let body =
                serde_json::to_vec(state).expect("a state consists of texts, numbers, lists and structs");
            stage_snapshot(dir, base, &body)?.put(dir)?;
        }
        stage_log(dir, base, hard_state, &VecDeque::new())?.put(dir)?;
        let inode = fs::metadata(dir).map_err(io_error("look at", dir))?.ino();
        let meta = Meta {
            group: group.1,
            generation: group.0,
            inode,
            schema: SCHEMA,
        };
        let text = serde_json::to_vec(&meta).expect("four numbers");
        // Last: without it the folder counts as absent.
        stage(dir, "meta", &text)?.put(dir)?;
        match dir.parent() {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// The disk, or damage.
    pub fn open(dir: &Path) -> Result<Option<Loaded>, DiskError> {
        let Some(meta) = Disk::look(dir)? else {
            return Ok(None);
        };
        let path = dir.join("log");
        let content = read_part(&path)?;
        let damaged = |at: u64, what: String| DiskError::Damaged {
            path: path.clone(),
            at,
            what,
        };
        let read = record::read_log(&content).map_err(|wrong| damaged(wrong.at, wrong.what))?;
        let (synced, lost) = Synced::open(dir, &path, read.length)?;
        if lost > 0 {
            let what = format!("the last {lost} bytes that were synced are wrong or missing");
            return Err(damaged(read.length, what));
        }
        let state = load_snapshot(dir, &read.base)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        if read.length < content.len() as u64 {
            tracing::info!(
                target: "quptime", file = %path.display(), at = read.length, bytes = content.len() as u64 - read.length,
                "removed the beginning of an append that a crash cut off; nobody was told of it"
            );
            file.set_len(read.length).map_err(io_error("shorten", &path))?;
        }
        // A process that was killed between writing and syncing leaves whole records that no disk has yet. From here on they count.
        file.sync_all().map_err(io_error("sync", &path))?;
        synced.note(&file, read.length);
        remove_others(dir, &read.base);
        Ok(Some(Loaded {
            meta,
            disk: Disk {
                dir: dir.to_owned(),
                file,
                base: read.base,
                entries: read.entries,
                hard_state: read.hard_state,
                length: read.length,
                synced,
            },
            state,
        }))
    }

    /// What the log begins after.
    pub fn base(&self) -> &Snapshot {
        &self.base
    }

    /// As written last.
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// The newest configuration in the log, committed or not.
    pub fn newest_configuration(&self) -> Configuration {
        let mut configurations = self
            .entries
            .iter()
            .rev()
            .filter(|entry| entry.kind == Kind::Configuration);
        configurations
            .find_map(|entry| Configuration::decode(entry.payload.clone()).ok())
            .unwrap_or_else(|| self.base.configuration.clone())
    }

    /// Every entry after the base.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The term of an entry, or of the base.
    pub fn term(&self, index: Index) -> Option<Term> {
        let base = self.base.position;
        match index.checked_sub(base.index)? {
            0 => Some(base.term),
            after => self.entries.get(after as usize - 1).map(|entry| entry.term),
        }
    }

    /// The last entry, or the base.
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.base.position, Entry::position)
    }

    /// Bytes in the log.
    pub fn log_bytes(&self) -> u64 {
        self.length
    }

    /// Appends entries, first removing whatever lies at or above the first one, and the hard state; synced.
    ///
    /// # Errors
    /// The disk. Unless it was [`DiskError::Full`], nothing may be told to anybody afterwards.
    pub fn write(&mut self, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), DiskError> {
        let mut batch = Vec::new();
        for entry in entries {
            record::put(&mut batch, record::KIND_ENTRY, |out| {
                out.put_u64(entry.index);
                entry.encode(out);
            });
        }
        if let Some(hard_state) = hard_state {
            record::put(&mut batch, record::KIND_HARD_STATE, |out| {
                out.extend(hard_state.encode());
            });
        }
        let path = || self.dir.join("log");
        if let Err(error) = self.file.write_all(&batch) {
            // What fitted is taken away again.
            if durable::is_full(&error) {
                let cut = self.file.set_len(self.length);
                cut.map_err(|error| io_error("shorten", &path())(error))?;
            }
            return Err(write_error(&path())(error));
        }
        self.file
            .sync_data()
            .map_err(|error| io_error("sync", &path())(error))?;
        self.length += batch.len() as u64;
        self.synced.note(&self.file, self.length);
        if let Some(first) = entries.first() {
            record::cut(&mut self.entries, first.index);
            self.entries.extend(entries.iter().cloned());
        }
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
        }
        Ok(())
    }

    /// Entries from `from` to `until`, as many as fit into `bytes_max` but at least one.
    pub fn fetch(&self, from: Index, until: Index, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let wanted = self
            .entries
            .iter()
            .filter(|entry| (from..=until).contains(&entry.index));
        let mut fetched = Vec::new();
        for entry in wanted {
            bytes += entry.size();
            if !fetched.is_empty() && bytes > bytes_max {
                break;
            }
            fetched.push(entry.clone());
        }
        fetched
    }

    /// The log begins after `snapshot` from now on, whose content is `state`; entries after it stay if they belong to it.
    ///
    /// # Errors
    /// The disk.
    pub fn rebase(
        &mut self,
        snapshot: &Snapshot,
        state: &State,
        hard_state: &HardState,
        keep_entries: bool,
    ) -> Result<(), DiskError> {
        let body = serde_json::to_vec(state).expect("a state consists of texts, numbers, lists and structs");
        let mut entries = VecDeque::new();
        if keep_entries {
            let after = self.entries.iter();
            entries.extend(
                after
                    .filter(|entry| entry.index > snapshot.position.index)
                    .cloned(),
            );
        }
        // Both are complete on disk before the first takes its place, so a disk that is full changes nothing.
        let staged = (snapshot.position.index > 0).then(|| stage_snapshot(&self.dir, snapshot, &body));
        let staged = staged.transpose()?;
        let log = stage_log(&self.dir, snapshot, hard_state, &entries)?;
        if let Some(staged) = staged {
            staged.put(&self.dir)?;
        }
        let length = log.length;
        log.put(&self.dir)?;
        let file = open_log(&self.dir)?;
        self.synced.note(&file, length);
        self.file = file;
        self.length = length;
        self.base = snapshot.clone();
        self.entries = entries;
        self.hard_state = hard_state.clone();
        remove_others(&self.dir, snapshot);
        Ok(())
    }
}

/// A file of the folder that is complete and has not taken its place.
struct Staged {
    file: durable::Staged,
    length: u64,
}

impl Staged {
    fn put(self, dir: &Path) -> Result<(), DiskError> {
        self.file.put().map_err(io_error("replace a file in", dir))
    }
}

fn stage(dir: &Path, name: &str, content: &[u8]) -> Result<Staged, DiskError> {
    let path = dir.join(name);
    let file = durable::stage(&path, content, 0o600).map_err(write_error(&path))?;
    Ok(Staged {
        file,
        length: content.len() as u64,
    })
}

fn open_log(dir: &Path) -> Result<File, DiskError> {
    let path = dir.join("log");
    let opened = OpenOptions::new().append(true).open(&path);
    opened.map_err(io_error("open", &path))
}

fn stage_log(
    dir: &Path,
    base: &Snapshot,
    hard_state: &HardState,
    entries: &VecDeque<Entry>,
) -> Result<Staged, DiskError> {
    let mut content = record::MAGIC.to_vec();
    record::put(&mut content, record::KIND_BASE, |out| {
        record::encode_snapshot(out, base);
    });
    record::put(&mut content, record::KIND_HARD_STATE, |out| {
        out.extend(hard_state.encode());
    });
    for entry in entries {
        record::put(&mut content, record::KIND_ENTRY, |out| {
            out.put_u64(entry.index);
            entry.encode(out);
        });
    }
    stage(dir, "log", &content)
}

fn snapshot_name(position: Position) -> String {
    format!("snapshot-{}-{}", position.index, position.term.0)
}

fn stage_snapshot(dir: &Path, snapshot: &Snapshot, body: &[u8]) -> Result<Staged, DiskError> {
    let mut content = Vec::with_capacity(body.len() + 64);
    content.put_u32(crc32c::crc32c(body));
    content.extend(body);
    stage(dir, &snapshot_name(snapshot.position), &content)
}

fn load_snapshot(dir: &Path, base: &Snapshot) -> Result<State, DiskError> {
    if base.position.index == 0 {
        return Ok(State::default());
    }
    let path = dir.join(snapshot_name(base.position));
    let content = read_part(&path)?;
    let damaged = |at: usize, what: String| DiskError::Damaged {
        path: path.clone(),
        at: at as u64,
        what,
    };
    let Some((mut checksum, body)) = content.split_at_checked(4) else {
        return Err(damaged(content.len(), "it ends there".to_owned()));
    };
    if crc32c::crc32c(body) != checksum.get_u32() {
        let what = format!("the checksum of the {} bytes from there on is wrong", body.len());
        return Err(damaged(4, what));
    }
    serde_json::from_slice(body).map_err(|error| damaged(4, error.to_string()))
}

/// A file that a finished folder cannot be without.
fn read_part(path: &Path) -> Result<Vec<u8>, DiskError> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DiskError::Damaged {
            path: path.to_owned(),
            at: 0,
            what: "the file is missing".to_owned(),
        },
        _ => io_error("read", path)(error),
    })
}

/// Snapshots that the log does not name, and files that were never finished.
fn remove_others(dir: &Path, base: &Snapshot) {
    let kept = snapshot_name(base.position);
    let Ok(listing) = fs::read_dir(dir) else { return };
    for file in listing.flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        if (name.starts_with("snapshot-") && name != kept) || name.ends_with(".new") {
            // What stays is tried again at the next start and is in nobody's way.
            drop(fs::remove_file(file.path()));
        }
    }
}

/// Makes what was renamed in a folder survive a crash.
///
/// # Errors
/// The disk.
pub fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    durable::sync_dir(dir).map_err(io_error("sync", dir))
}

#[cfg(test)]
mod tests;
