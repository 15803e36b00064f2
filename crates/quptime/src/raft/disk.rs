//! The folder `raft/`: vote, term, log and snapshots of this node.
//!
//! - `meta`: which group this is, and the number of the inode of the folder. A copied folder has another number and counts as absent:
//!   a node must not vote out of a memory that may be old.
//! - `log`: records, appended and synced. The first says what the log begins after; then entries (an entry replaces whatever lies at or
//!   above its index) and hard states (the last counts).
//! - `snapshot-<index>-<term>`: the state that the log begins after.
//!
//! A new snapshot is written beside the old one, then a new log that names it takes the place of the old log in one rename; what the log
//! does not name is removed. So there is one moment at which the old becomes the new, whatever is cut off.
//!
//! - `synced`: how many bytes of the log were synced, and of which log. Written after each sync, and not synced itself: that would cost as much
//!   again, and what it says can only be too little.
//!
//! Each record carries its length and a CRC-32C. A record that is cut off or wrong at the very end, behind what was synced, is what a crash left of
//! an append that nobody was told about. If it was synced, others may count on it: a member that has forgotten what it acknowledged, or whom it
//! voted for, must not take part any more ([`DiskError::Shortened`]). Anywhere else it is damage and the folder is refused.

mod synced;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, BufMut as _, Bytes};
use consensus::{Configuration, Entry, HardState, Index, Kind, Position, Snapshot, Term};
use serde::{Deserialize, Serialize};

use self::synced::Synced;
use crate::document::schema::SCHEMA;
use crate::machine::state::State;

const MAGIC: &[u8; 8] = b"QULOG\x00\x01\n";
/// A record that is longer is damage: commands are bounded by the frame they come in.
const RECORD_MAX: usize = 64 << 20;
const HEADER: usize = 8;

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
    /// The content cannot be.
    #[error("{} is damaged: {what}; move the folder raft/ aside and start again, the other nodes have what this one had", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The end of the log is gone, although it was synced.
    #[error("{} has lost its end: {lost} bytes that were synced are missing; move the folder aside and start again, the other nodes have what this one had", .path.display())]
    Shortened {
        /// Which file.
        path: PathBuf,
        /// How many bytes.
        lost: u64,
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
            what: error.to_string(),
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
            write_snapshot(dir, base, &body)?;
        }
        write_log(dir, base, hard_state, &VecDeque::new())?;
        let inode = fs::metadata(dir).map_err(io_error("look at", dir))?.ino();
        let meta = Meta {
            group: group.1,
            generation: group.0,
            inode,
            schema: SCHEMA,
        };
        let text = serde_json::to_vec(&meta).expect("four numbers");
        // Last: without it the folder counts as absent.
        replace(dir, "meta", &text)?;
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
        let content = fs::read(&path).map_err(io_error("read", &path))?;
        let damaged = |what: String| DiskError::Damaged {
            path: path.clone(),
            what,
        };
        let read = read_log(&content).map_err(damaged)?;
        let (synced, lost) = Synced::open(dir, &path, read.length)?;
        if lost > 0 {
            return Err(DiskError::Shortened { path, lost });
        }
        let state = load_snapshot(dir, &read.base)?;
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        if read.length < content.len() as u64 {
            file.set_len(read.length).map_err(io_error("shorten", &path))?;
            file.flush().map_err(io_error("shorten", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
        }
        synced.note(&file, read.length);
        remove_others(dir, &read.base);
        Ok(Some(Loaded {
            meta,
            disk: Disk {
                dir: dir.to_owned(),
                file,
                base: read.base,
                entries: read.entries.into(),
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
    /// The disk. Nothing may be told to anybody afterwards.
    pub fn write(&mut self, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), DiskError> {
        let mut batch = Vec::new();
        for entry in entries {
            record(&mut batch, KIND_ENTRY, |out| {
                out.put_u64(entry.index);
                entry.encode(out);
            });
        }
        if let Some(hard_state) = hard_state {
            record(&mut batch, KIND_HARD_STATE, |out| out.extend(hard_state.encode()));
        }
        let path = || self.dir.join("log");
        self.file
            .write_all(&batch)
            .map_err(|error| io_error("write", &path())(error))?;
        self.file
            .sync_data()
            .map_err(|error| io_error("sync", &path())(error))?;
        self.length += batch.len() as u64;
        self.synced.note(&self.file, self.length);
        if let Some(first) = entries.first() {
            cut(&mut self.entries, first.index);
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
        if snapshot.position.index > 0 {
            write_snapshot(&self.dir, snapshot, &body)?;
        }
        let mut entries = VecDeque::new();
        if keep_entries {
            let after = self.entries.iter();
            entries.extend(
                after
                    .filter(|entry| entry.index > snapshot.position.index)
                    .cloned(),
            );
        }
        let (file, length) = write_log(&self.dir, snapshot, hard_state, &entries)?;
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

const KIND_BASE: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_HARD_STATE: u8 = 3;

fn record(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let mut content = vec![kind];
    body(&mut content);
    out.put_u32(u32::try_from(content.len()).expect("entries are bounded by the frame they come in"));
    out.put_u32(crc32c::crc32c(&content));
    out.extend(content);
}

fn cut(entries: &mut VecDeque<Entry>, from: Index) {
    while entries.back().is_some_and(|entry| entry.index >= from) {
        entries.pop_back();
    }
}

fn encode_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    out.put_u64(snapshot.position.index);
    out.put_u64(snapshot.position.term.0);
    let configuration = snapshot.configuration.encode();
    out.put_u32(configuration.len() as u32);
    out.extend(configuration);
}

fn decode_snapshot(bytes: &mut Bytes) -> Result<Snapshot, String> {
    let short = |_| "cut off".to_owned();
    let index = bytes.try_get_u64().map_err(short)?;
    let term = Term(bytes.try_get_u64().map_err(short)?);
    let length = bytes.try_get_u32().map_err(short)? as usize;
    if bytes.len() < length {
        return Err("cut off".to_owned());
    }
    let configuration = Configuration::decode(bytes.split_to(length)).map_err(|error| error.to_string())?;
    Ok(Snapshot {
        position: Position { term, index },
        configuration,
    })
}

struct ReadLog {
    base: Snapshot,
    entries: Vec<Entry>,
    hard_state: HardState,
    length: u64,
}

fn read_log(content: &[u8]) -> Result<ReadLog, String> {
    let Some(mut rest) = content.strip_prefix(MAGIC) else {
        return Err("it does not begin like a log".to_owned());
    };
    let (mut base, mut hard_state) = (None, None);
    let mut entries: VecDeque<Entry> = VecDeque::new();
    while !rest.is_empty() {
        let at = content.len() - rest.len();
        let Some((kind, body, after)) = next_record(rest) else {
            // Whole records behind it would mean that it was not the last append that was cut off.
            if followed_by_record(rest) {
                return Err(format!("the record at byte {at} is wrong"));
            }
            break;
        };
        let mut body = Bytes::copy_from_slice(body);
        match kind {
            KIND_BASE if base.is_none() => base = Some(decode_snapshot(&mut body)?),
            KIND_ENTRY => {
                let index = body
                    .try_get_u64()
                    .map_err(|_| format!("the entry at byte {at} is cut off"))?;
                let entry = Entry::decode(index, &mut body)
                    .map_err(|error| format!("the entry at byte {at}: {error}"))?;
                cut(&mut entries, index);
                entries.push_back(entry);
            }
            KIND_HARD_STATE => {
                let read = HardState::decode(&body);
                hard_state = Some(read.ok_or_else(|| format!("the hard state at byte {at} is wrong"))?);
            }
            kind => return Err(format!("a record of kind {kind} at byte {at}")),
        }
        rest = after;
    }
    let length = (content.len() - rest.len()) as u64;
    Ok(ReadLog {
        base: base.ok_or("it does not say where it begins")?,
        entries: entries.into(),
        hard_state: hard_state.ok_or("it holds no hard state")?,
        length,
    })
}

fn next_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (mut length, mut checksum) = header.split_at(4);
    let (length, checksum) = (length.get_u32() as usize, checksum.get_u32());
    if length == 0 || length > RECORD_MAX {
        return None;
    }
    let (content, after) = rest.split_at_checked(length)?;
    if crc32c::crc32c(content) != checksum {
        return None;
    }
    Some((content[0], &content[1..], after))
}

/// Whether a right record begins anywhere behind the first byte of a wrong one.
fn followed_by_record(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|offset| next_record(&bytes[offset..]).is_some())
}

fn write_log(
    dir: &Path,
    base: &Snapshot,
    hard_state: &HardState,
    entries: &VecDeque<Entry>,
) -> Result<(File, u64), DiskError> {
    let mut content = MAGIC.to_vec();
    record(&mut content, KIND_BASE, |out| encode_snapshot(out, base));
    record(&mut content, KIND_HARD_STATE, |out| {
        out.extend(hard_state.encode());
    });
    for entry in entries {
        record(&mut content, KIND_ENTRY, |out| {
            out.put_u64(entry.index);
            entry.encode(out);
        });
    }
    replace(dir, "log", &content)?;
    let path = dir.join("log");
    let file = OpenOptions::new()
        .append(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    Ok((file, content.len() as u64))
}

fn snapshot_name(position: Position) -> String {
    format!("snapshot-{}-{}", position.index, position.term.0)
}

fn write_snapshot(dir: &Path, snapshot: &Snapshot, body: &[u8]) -> Result<(), DiskError> {
    let mut content = Vec::with_capacity(body.len() + 64);
    content.put_u32(crc32c::crc32c(body));
    content.extend(body);
    replace(dir, &snapshot_name(snapshot.position), &content)
}

fn load_snapshot(dir: &Path, base: &Snapshot) -> Result<State, DiskError> {
    if base.position.index == 0 {
        return Ok(State::default());
    }
    let path = dir.join(snapshot_name(base.position));
    let content = fs::read(&path).map_err(io_error("read", &path))?;
    let damaged = |what: String| DiskError::Damaged {
        path: path.clone(),
        what,
    };
    let Some((mut checksum, body)) = content.split_at_checked(4) else {
        return Err(damaged("it is cut off".to_owned()));
    };
    if crc32c::crc32c(body) != checksum.get_u32() {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))
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

fn replace(dir: &Path, name: &str, content: &[u8]) -> Result<(), DiskError> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    written().map_err(io_error("write", &path))?;
    sync_dir(dir)
}

/// Makes what was renamed in a folder survive a crash.
///
/// # Errors
/// The disk.
pub fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(io_error("sync", dir))
}

#[cfg(test)]
mod tests;
