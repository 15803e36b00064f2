//! The store of one monitor on one machine: a file that is written anew with every change.
//!
//! A change is there when the new file has been synced and has taken the place of the old one; before, nobody sees it. A lease that was alive
//! when the process ended gets its whole life again at the next start: its holder could not renew it meanwhile.
//!
//! **Invariant:** after a write that failed nothing has changed, here or in the file.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd::store::{Change, Changes, Entry, Error, Outcome, Snapshot};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use service::clock::{Moment, SharedClock};
use tokio::sync::watch;

/// Changes that a watcher may be behind before it has to read again.
const REMEMBERED: usize = 10_000;
/// How often leases are looked at while somebody watches.
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// See the module. Clones are the same store.
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    clock: SharedClock,
    state: Mutex<State>,
    revision: watch::Sender<i64>,
}

#[derive(Debug)]
struct State {
    kept: Kept,
    /// When leases end.
    ends: BTreeMap<i64, Moment>,
    /// What changed lately, in order.
    changes: VecDeque<(i64, String, Option<Entry>)>,
}

/// What the file holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of the form of the file.
    version: u32,
    revision: i64,
    next_lease: i64,
    /// Seconds that each lives.
    leases: BTreeMap<i64, i64>,
    keys: BTreeMap<String, KeptEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptEntry {
    /// All that is kept here is text.
    value: String,
    revision: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    lease: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl FileStore {
    /// Reads the file, or begins without one.
    pub fn open(path: &Path, clock: SharedClock) -> Result<FileStore, Error> {
        let wrong = |reason: String| Error::Endpoint {
            endpoint: path.display().to_string(),
            reason,
        };
        let kept = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept {
                version: 1,
                revision: 1,
                ..Kept::default()
            },
            Err(error) => return Err(wrong(error.to_string())),
        };
        if kept.version != 1 {
            return Err(wrong(format!(
                "form {} of the file is not known here; 1 is",
                kept.version
            )));
        }
        let now = clock.now();
        let ends = kept
            .leases
            .iter()
            .map(|(lease, seconds)| (*lease, now + life(*seconds)));
        let state = State {
            ends: ends.collect(),
            changes: VecDeque::new(),
            kept,
        };
        Ok(FileStore(Arc::new(Inner {
            path: path.to_owned(),
            clock,
            revision: watch::Sender::new(state.kept.revision),
            state: Mutex::new(state),
        })))
    }

    pub(super) fn read(&self, prefix: &str) -> Snapshot {
        let mut state = self.0.state.lock();
        self.end_leases(&mut state);
        let keys = state.kept.keys.range(prefix.to_owned()..);
        Snapshot {
            revision: state.kept.revision,
            entries: keys
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, kept)| (key.clone(), kept.entry()))
                .collect(),
        }
    }

    pub(super) fn commit(&self, change: &Change) -> Result<Outcome, Error> {
        let mut state = self.0.state.lock();
        self.end_leases(&mut state);
        let at = |key: &str| state.kept.keys.get(key).map_or(0, |kept| kept.revision);
        if change.conditions().any(|(key, revision)| at(key) != revision) {
            return Ok(Outcome::Conflict);
        }
        let mut kept = state.kept.clone();
        kept.revision += 1;
        let mut changes = Vec::new();
        for (key, value, lease) in change.puts() {
            if lease != 0 && !kept.leases.contains_key(&lease) {
                return Err(Error::Refused("requested lease not found".to_owned()));
            }
            let value =
                String::from_utf8(value.to_vec()).map_err(|error| Error::Refused(error.to_string()))?;
            let entry = KeptEntry {
                value,
                revision: kept.revision,
                lease,
            };
            changes.push((kept.revision, key.to_owned(), Some(entry.entry())));
            kept.keys.insert(key.to_owned(), entry);
        }
        for key in change.deletes() {
            if kept.keys.remove(key).is_some() {
                changes.push((kept.revision, key.to_owned(), None));
            }
        }
        self.replace(&mut state, kept, changes)?;
        Ok(Outcome::Done(state.kept.revision))
    }

    pub(super) fn grant(&self, seconds: i64) -> Result<i64, Error> {
        let mut state = self.0.state.lock();
        let mut kept = state.kept.clone();
        kept.next_lease += 1;
        let lease = kept.next_lease;
        kept.leases.insert(lease, seconds);
        self.replace(&mut state, kept, Vec::new())?;
        state.ends.insert(lease, self.0.clock.now() + life(seconds));
        Ok(lease)
    }

    pub(super) fn renew(&self, lease: i64) -> bool {
        let mut state = self.0.state.lock();
        self.end_leases(&mut state);
        let Some(seconds) = state.kept.leases.get(&lease).copied() else {
            return false;
        };
        state.ends.insert(lease, self.0.clock.now() + life(seconds));
        true
    }

    pub(super) fn watch(&self, prefix: &str, from: i64) -> Watch {
        Watch {
            store: self.clone(),
            prefix: prefix.to_owned(),
            next: from,
            revision: self.0.revision.subscribe(),
        }
    }

    /// Takes leases that are over out, with their keys. If the file cannot be written they stay, and it is tried again at the next look.
    fn end_leases(&self, state: &mut State) {
        let now = self.0.clock.now();
        let over: Vec<i64> = state
            .ends
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(lease, _)| *lease)
            .collect();
        if over.is_empty() {
            return;
        }
        let mut kept = state.kept.clone();
        kept.leases.retain(|lease, _| !over.contains(lease));
        let gone: Vec<String> = kept
            .keys
            .iter()
            .filter(|(_, entry)| over.contains(&entry.lease))
            .map(|(key, _)| key.clone())
            .collect();
        if !gone.is_empty() {
            kept.revision += 1;
        }
        let revision = kept.revision;
        kept.keys.retain(|key, _| !gone.contains(key));
        let changes = gone.into_iter().map(|key| (revision, key, None)).collect();
        if self.replace(state, kept, changes).is_ok() {
            state.ends.retain(|lease, _| !over.contains(lease));
        }
    }

    /// The file first, then what others see.
    fn replace(
        &self,
        state: &mut State,
        kept: Kept,
        changes: Vec<(i64, String, Option<Entry>)>,
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&kept).map_err(|error| Error::Refused(error.to_string()))?;
        service::durable::replace(&self.0.path, &bytes, 0o600)
            .map_err(|error| Error::Refused(format!("write {}: {error}", self.0.path.display())))?;
        state.kept = kept;
        state.changes.extend(changes);
        while state.changes.len() > REMEMBERED {
            state.changes.pop_front();
        }
        self.0.revision.send_replace(state.kept.revision);
        Ok(())
    }
}

fn life(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl KeptEntry {
    fn entry(&self) -> Entry {
        Entry {
            value: self.value.clone().into(),
            revision: self.revision,
            lease: self.lease,
        }
    }
}

/// Changes as they happen.
#[derive(Debug)]
pub struct Watch {
    store: FileStore,
    prefix: String,
    /// The revision that is wanted next.
    next: i64,
    revision: watch::Receiver<i64>,
}

impl Watch {
    /// The next changes of one or several revisions.
    pub(super) async fn next(&mut self) -> Result<Changes, Error> {
        loop {
            let changes = self.look()?;
            if !changes.keys.is_empty() {
                return Ok(changes);
            }
            // Leases end by themselves; somebody has to look.
            let changed = tokio::time::timeout(LEASE_LOOK, self.revision.changed()).await;
            if let Ok(Err(_)) = changed {
                return Err(Error::Unknown("the store is closed".to_owned()));
            }
        }
    }

    fn look(&mut self) -> Result<Changes, Error> {
        let mut state = self.store.0.state.lock();
        self.store.end_leases(&mut state);
        let forgotten = state.changes.len() == REMEMBERED
            && state
                .changes
                .front()
                .is_some_and(|(revision, ..)| *revision > self.next);
        if forgotten {
            return Err(Error::Refused("too far behind; read again".to_owned()));
        }
        let new = state
            .changes
            .iter()
            .filter(|(revision, key, _)| *revision >= self.next && key.starts_with(&self.prefix))
            .map(|(_, key, entry)| (key.clone(), entry.clone()));
        let changes = Changes {
            keys: new.collect(),
            revision: state.kept.revision,
        };
        self.next = state.kept.revision + 1;
        Ok(changes)
    }
}
