//! A node that lags too far takes over the whole state of the leader: a *snapshot*.
//!
//! What the leader sends is a checkpoint of its database. When it has arrived it is [`prepare`]d: written anew as one table file per
//! family, whole and synced, in a directory of its own. That takes as long as there is data, but nobody waits for it: the group goes on,
//! and only when it is done is the leader told that the content is here. Then the message that says so is looked at, and the tables take
//! the place of the state, which takes no longer for many keys than for few:
//!
//! 1. a mark is written and synced that says what is about to be installed;
//! 2. everything of the old state is deleted, the tables are taken over, all of it flushed;
//! 3. one synced batch sets where the log begins, the hard state, and takes the mark away.
//!
//! A crash in between leaves the mark, and the next start does it again from the tables ([`finish_interrupted`]).
//!
//! **Invariant:** tables that a mark names, or that are about to be installed, are not removed: see [`Staged`].

mod staged;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use consensus::{HardState, Position, Snapshot};
use store::{Durability, Options, Store};

pub use self::staged::Staged;
use crate::log;
use crate::mvcc::{Revision, family};
use crate::state_machine::StateMachine;

/// So many bytes `ff` lie above every key: the longest has 64 KiB, its revision, and the id of a lease.
const ABOVE_ALL_KEYS: usize = (64 << 10) + 64;

pub(crate) const MARK: &[u8] = b"installing";

/// Families that are the state, whole. Of [`family::META`] only some keys are: see [`is_state`].
const STATE: &[&str] = &[
    family::KEY,
    family::REV,
    family::HIST,
    family::LEASE,
    family::AUTH,
];

/// Keys of [`family::META`] that belong to this node and not to the state.
const OWN: &[&[u8]] = &[b"identity"];

fn is_state(key: &[u8]) -> bool {
    !OWN.contains(&key)
}

/// Replaces the state.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Installer {
    pub(super) store: Arc<Store>,
    pub(super) machine: Arc<StateMachine>,
    pub(super) staged: Arc<Staged>,
    pub(super) replaced: Box<dyn Fn(Revision) + Send>,
}

/// Why the state could not be replaced.
enum Failed {
    Log(log::Error),
    /// The new one cannot be read.
    State(crate::error::Error),
}

impl From<crate::error::Error> for Failed {
    fn from(error: crate::error::Error) -> Failed {
        Failed::State(error)
    }
}

impl Installer {
    /// Whether the content of the snapshot at this position is here. It then stays until [`Installer::release`].
    pub(super) fn reserve(&self, position: Position) -> bool {
        self.staged.reserve(position)
    }

    /// What was reserved and has not been installed may go again.
    pub(super) fn release(&self) {
        self.staged.release();
    }

    /// Replaces log and state by the prepared snapshot that `base` describes, or, if it describes nothing, drops them.
    pub(super) fn replace(&self, base: &Snapshot, hard_state: Option<&HardState>) -> Result<(), log::Error> {
        let hard_state = hard_state.ok_or(log::Error::Corrupt {
            index: base.position.index,
            reason: "a snapshot without a hard state",
        })?;
        let from = if base.position.index == 0 {
            None
        } else {
            let tables = self.staged.take(base.position).ok_or(log::Error::Missing {
                index: base.position.index,
            })?;
            Some(tables)
        };
        let watch = service::clock::Stopwatch::start();
        let installation = Installation {
            base,
            hard_state,
            from: from.as_deref(),
        };
        let installed = self
            .machine
            .replace(|| install(&self.store, &installation, &mut drop).map_err(Failed::Log));
        installed.map_err(|failed| match failed {
            Failed::Log(error) => error,
            Failed::State(error) => {
                tracing::error!(target: "chainfire_storage", error = %error, "The state of the snapshot cannot be read");
                log::Error::Corrupt {
                    index: base.position.index,
                    reason: "snapshot",
                }
            }
        })?;
        self.staged.installed();
        (self.replaced)(self.machine.mvcc.revision());
        tracing::info!(
            target: "chainfire_storage",
            index = base.position.index,
            revision = self.machine.mvcc.revision(),
            duration = format_args!("{}ms", watch.elapsed_ms()),
            "Snapshot installed"
        );
        Ok(())
    }
}

/// What [`prepare`] makes of a family.
fn table(tables: &Path, family: &str) -> PathBuf {
    tables.join(format!("{family}.table"))
}

/// Makes tables of a checkpoint, in the new directory `tables`, which appears when all of it is on disk.
pub fn prepare(checkpoint: &Path, tables: &Path) -> Result<(), String> {
    let told = |operation: &str, path: &Path, error: &std::io::Error| {
        format!("{operation} {}: {error}", path.display())
    };
    let sync = |path: &Path| {
        let synced = std::fs::File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| told("sync", path, &error))
    };
    let part = tables.with_extension("part");
    match std::fs::remove_dir_all(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(told("remove", &part, &error));
        }
        _ => {}
    }
    std::fs::create_dir(&part).map_err(|error| told("create directory", &part, &error))?;
    let options = Options::default();
    let source =
        Store::open_read_only(checkpoint, &options, family::ALL).map_err(|error| error.to_string())?;
    let write = |family, wanted: &dyn Fn(&[u8]) -> bool| {
        let written = source.write_table(family, &options, &table(&part, family), wanted);
        written.map(drop).map_err(|error| error.to_string())
    };
    for family in STATE {
        write(family, &|_| true)?;
    }
    write(family::META, &is_state)?;
    drop(source);
    sync(&part)?;
    std::fs::rename(&part, tables).map_err(|error| told("rename", &part, &error))?;
    tables.parent().map_or(Ok(()), sync)
}

struct Installation<'a> {
    base: &'a Snapshot,
    hard_state: &'a HardState,
    from: Option<&'a Path>,
}

impl Installation<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (base, hard_state) = (log::encode_base(self.base), self.hard_state.encode());
        let from = self.from.and_then(Path::file_name).unwrap_or_default();
        for part in [base.as_slice(), &hard_state, from.as_encoded_bytes()] {
            out.put_u32(u32::try_from(part.len()).expect("parts are short"));
            out.put_slice(part);
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out
    }
}

/// Reads a mark; staged directories lie in `directory`.
fn decode_mark(bytes: &[u8], directory: &Path) -> Option<(Snapshot, HardState, Option<PathBuf>)> {
    let (mut rest, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc32c::crc32c(rest) != checksum.get_u32() {
        return None;
    }
    let mut part = || {
        let length = rest.try_get_u32().ok()? as usize;
        let (part, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(part)
    };
    let base = log::decode_base(part()?)?;
    let hard_state = HardState::decode(part()?)?;
    let from = std::str::from_utf8(part()?).ok()?;
    Some((base, hard_state, (!from.is_empty()).then(|| directory.join(from))))
}

/// Does again what a crash interrupted. Called before anything else reads the database.
pub fn finish_interrupted(store: &Store) -> Result<(), log::Error> {
    do_again(store, &mut drop)
}

fn do_again(store: &Store, reached: &mut dyn FnMut(Step)) -> Result<(), log::Error> {
    let Some(bytes) = store.get(family::HARD, MARK)? else {
        return Ok(());
    };
    let corrupt = log::Error::Corrupt {
        index: 0,
        reason: "mark of a snapshot",
    };
    let (base, hard_state, from) = decode_mark(&bytes, store.path()).ok_or(corrupt)?;
    // Without them the old state would be gone and no new one there.
    if from.as_ref().is_some_and(|tables| !tables.is_dir()) {
        return Err(log::Error::Corrupt {
            index: base.position.index,
            reason: "the snapshot that was being installed is gone",
        });
    }
    tracing::info!(target: "chainfire_storage", index = base.position.index, "Snapshot was being installed, doing it again");
    let installation = Installation {
        base: &base,
        hard_state: &hard_state,
        from: from.as_deref(),
    };
    install(store, &installation, reached)
}

/// Moments of an installation, between which a crash may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "looked at by tests")]
enum Step {
    Marked,
    Emptied,
    Taken(&'static str),
    Flushed,
    Switched,
    Removed,
}

fn install(
    store: &Store,
    installation: &Installation<'_>,
    reached: &mut dyn FnMut(Step),
) -> Result<(), log::Error> {
    let mut batch = store.batch();
    batch.put(family::HARD, MARK, &installation.encode());
    store.write(batch, Durability::Synced)?;
    reached(Step::Marked);

    let mut batch = store.batch();
    let above_all = vec![0xff; ABOVE_ALL_KEYS];
    for name in STATE {
        batch.delete_range(name, &[], &above_all);
    }
    let mut cursor = store.cursor(family::META, None, None);
    cursor.seek_to_first();
    while let Some((key, _)) = cursor.entry() {
        if is_state(key) {
            batch.delete(family::META, key);
        }
        cursor.next();
    }
    cursor.check()?;
    drop(cursor);
    store.write(batch, Durability::Volatile)?;
    reached(Step::Emptied);
    if let Some(tables) = installation.from {
        for name in STATE.iter().chain(&[family::META]) {
            let table = table(tables, name);
            if table.exists() {
                store.take_table(name, &table)?;
            }
            reached(Step::Taken(name));
        }
    }
    store.flush()?;
    reached(Step::Flushed);

    let mut batch = store.batch();
    log::replace(&mut batch, installation.base);
    log::put_hard_state(&mut batch, installation.hard_state);
    batch.delete(family::HARD, MARK);
    store.write(batch, Durability::Synced)?;
    reached(Step::Switched);
    if let Some(tables) = installation.from
        && let Err(error) = std::fs::remove_dir_all(tables)
    {
        tracing::warn!(target: "chainfire_storage", error = %error, "Tables of a snapshot not removed");
    }
    reached(Step::Removed);
    Ok(())
}
