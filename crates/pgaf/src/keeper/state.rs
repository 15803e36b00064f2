//! What a keeper remembers on its own disk: `pg_autoctl.state`.
//!
//! Written as a whole, synced, and put in the place of the old one. A damaged or unknown file is an error, never taken for an empty one: it
//! holds a promise.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Trouble;
use crate::layout::{GroupId, Vote};
use crate::state::NodeState;
use crate::{NodeId, Promise};

/// The form of the file.
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Which group it belongs to.
    pub group: GroupId,
    /// Its number there.
    pub node: NodeId,
    /// What it is.
    pub reported: NodeState,
    /// What it must not do any more.
    pub promise: Promise,
    /// What it said in the last election.
    pub vote: Option<Vote>,
    /// Whom it follows, or followed last; nobody after it has cut itself off.
    pub upstream: Option<NodeId>,
    /// The directory was a standby's when it was touched last; a primary's otherwise.
    pub standby: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    formation: String,
    group: u32,
    node: NodeId,
    reported: NodeState,
    promise: Promise,
    vote: Option<Vote>,
    upstream: Option<NodeId>,
    standby: bool,
}

/// The file and what it says.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    kept: Remembered,
}

impl StateFile {
    /// Reads it; nothing if there is none.
    pub fn open(path: &Path) -> Result<Option<StateFile>, Trouble> {
        let wrong = |error| Trouble::File {
            what: path.display().to_string(),
            error,
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error)),
        };
        let form: Form = serde_json::from_slice(&text).map_err(|error| wrong(io::Error::other(error)))?;
        if form.version != VERSION {
            let reason = format!("version {} is not known here; {VERSION} is", form.version);
            return Err(wrong(io::Error::other(reason)));
        }
        let mut group = GroupId::of(&form.formation)?;
        group.group = form.group;
        Ok(Some(StateFile {
            path: path.to_owned(),
            kept: Remembered {
                group,
                node: form.node,
                reported: form.reported,
                promise: form.promise,
                vote: form.vote,
                upstream: form.upstream,
                standby: form.standby,
            },
        }))
    }

    /// Of a node that has just registered.
    pub fn create(path: &Path, group: GroupId, node: NodeId) -> Result<StateFile, Trouble> {
        let kept = Remembered {
            group,
            node,
            reported: NodeState::Init,
            promise: Promise::default(),
            vote: None,
            upstream: None,
            standby: false,
        };
        let file = StateFile {
            path: path.to_owned(),
            kept,
        };
        file.write(&file.kept)?;
        Ok(file)
    }

    /// What it says.
    pub fn get(&self) -> &Remembered {
        &self.kept
    }

    /// Changes it; after an error nothing has changed.
    pub fn change(&mut self, change: impl FnOnce(&mut Remembered)) -> Result<(), Trouble> {
        let mut kept = self.kept.clone();
        change(&mut kept);
        if kept != self.kept {
            self.write(&kept)?;
            self.kept = kept;
        }
        Ok(())
    }

    fn write(&self, kept: &Remembered) -> Result<(), Trouble> {
        let form = Form {
            version: VERSION,
            formation: kept.group.formation.clone(),
            group: kept.group.group,
            node: kept.node,
            reported: kept.reported,
            promise: kept.promise,
            vote: kept.vote,
            upstream: kept.upstream,
            standby: kept.standby,
        };
        let text = serde_json::to_string_pretty(&form).expect("plain data") + "\n";
        replace(&self.path, text.as_bytes()).map_err(|error| Trouble::File {
            what: self.path.display().to_string(),
            error,
        })
    }
}

/// A new file in the place of the old one; both synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}
