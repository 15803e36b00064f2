//! A node that lags too far takes over the whole state of the leader: a *snapshot*.
//!
//! What the leader sends is a checkpoint of its database, which is *staged* in a directory of its own, whole and synced, before the
//! message about it is looked at. Then it takes the place of the state here:
//!
//! 1. a mark is written and synced that says what is about to be installed;
//! 2. everything of the old state is deleted, the new one copied, all of it flushed;
//! 3. one synced batch sets where the log begins, the hard state, and takes the mark away.
//!
//! A crash in between leaves the mark, and the next start does it again from the staged directory ([`finish_interrupted`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use consensus::{HardState, Position, Snapshot};
use parking_lot::Mutex;
use store::{Durability, Store};

use crate::log;
use crate::mvcc::{Revision, family};
use crate::state_machine::StateMachine;

/// Bytes copied with one batch.
const BATCH_BYTES: usize = 4 << 20;

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

/// Snapshots that have arrived, by the position that they are of.
#[derive(Debug, Default)]
pub struct Staged(Mutex<BTreeMap<Position, PathBuf>>);

impl Staged {
    /// The content of a snapshot lies in `directory`, whole and synced.
    pub fn put(&self, position: Position, directory: PathBuf) {
        self.0.lock().insert(position, directory);
    }

    fn take(&self, position: Position) -> Option<PathBuf> {
        self.0.lock().remove(&position)
    }
}

/// Replaces the state.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Installer {
    pub(super) store: Arc<Store>,
    pub(super) machine: Arc<StateMachine>,
    pub(super) staged: Arc<Staged>,
    pub(super) replaced: Box<dyn Fn(Revision) + Send>,
}

impl Installer {
    /// Whether the content of the snapshot at this position has arrived.
    pub(super) fn has(&self, position: Position) -> bool {
        self.staged.0.lock().contains_key(&position)
    }

    /// Replaces log and state by the staged snapshot that `base` describes, or, if it describes nothing, drops them.
    pub(super) fn replace(&self, base: &Snapshot, hard_state: Option<&HardState>) -> Result<(), log::Error> {
        let hard_state = hard_state.ok_or(log::Error::Corrupt {
            index: base.position.index,
            reason: "a snapshot without a hard state",
        })?;
        let from = if base.position.index == 0 {
            None
        } else {
            let staged = self.staged.take(base.position).ok_or(log::Error::Missing {
                index: base.position.index,
            })?;
            Some(staged)
        };
        let watch = service::clock::Stopwatch::start();
        install(
            &self.store,
            &Installation {
                base,
                hard_state,
                from: from.as_deref(),
            },
        )?;
        self.machine.reload().map_err(|_| log::Error::Corrupt {
            index: base.position.index,
            reason: "snapshot",
        })?;
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
    let Some(bytes) = store.get(family::HARD, MARK)? else {
        return Ok(());
    };
    let corrupt = log::Error::Corrupt {
        index: 0,
        reason: "mark of a snapshot",
    };
    let (base, hard_state, from) = decode_mark(&bytes, store.path()).ok_or(corrupt)?;
    tracing::info!(target: "chainfire_storage", index = base.position.index, "Snapshot was being installed, doing it again");
    install(
        store,
        &Installation {
            base: &base,
            hard_state: &hard_state,
            from: from.as_deref(),
        },
    )
}

fn install(store: &Store, installation: &Installation<'_>) -> Result<(), log::Error> {
    let mut batch = store.batch();
    batch.put(family::HARD, MARK, &installation.encode());
    store.write(batch, Durability::Synced)?;

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
    if let Some(from) = installation.from {
        let source = Store::open_read_only(from, &store::Options::default(), family::ALL)?;
        for name in STATE {
            copy(&source, store, name, &|_| true)?;
        }
        copy(&source, store, family::META, &is_state)?;
    }
    store.flush()?;

    let mut batch = store.batch();
    log::replace(&mut batch, installation.base);
    log::put_hard_state(&mut batch, installation.hard_state);
    batch.delete(family::HARD, MARK);
    store.write(batch, Durability::Synced)?;
    if let Some(from) = installation.from
        && let Err(error) = std::fs::remove_dir_all(from)
    {
        tracing::warn!(target: "chainfire_storage", error = %error, "Staged snapshot not removed");
    }
    Ok(())
}

fn copy(
    from: &Store,
    to: &Store,
    name: &'static str,
    wanted: &dyn Fn(&[u8]) -> bool,
) -> Result<(), log::Error> {
    let mut cursor = from.uncached_cursor(name, None, None);
    cursor.seek_to_first();
    let mut batch = to.batch();
    let mut bytes = 0;
    while let Some((key, value)) = cursor.entry() {
        if wanted(key) {
            batch.put(name, key, value);
            bytes += key.len() + value.len();
        }
        if bytes >= BATCH_BYTES {
            to.write(std::mem::replace(&mut batch, to.batch()), Durability::Volatile)?;
            bytes = 0;
        }
        cursor.next();
    }
    cursor.check()?;
    to.write(batch, Durability::Volatile)?;
    Ok(())
}
