//! The state file: what is remembered of alerts, and messages that wait. Replaced as a whole, and on disk when [`Store::save`] returns.
//!
//! One process at a time: two with the same file would tell everything twice.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::machine::Memory;
use super::outbox::Outbox;

/// The form of the file.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    /// How fast time ran: moments of another pace mean something else.
    pub time_scale: u64,
    /// Alerts.
    pub alerts: Memory,
    /// Messages.
    pub outbox: Outbox,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Kept {
    /// Nothing yet.
    pub fn new(time_scale: u64) -> Kept {
        Kept {
            version: VERSION,
            time_scale,
            alerts: Memory::default(),
            outbox: Outbox::default(),
        }
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not one of ours.
    pub fn read(path: &Path) -> Result<Option<Kept>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let context = || {
            format!(
                "read {}: it is damaged; move it away, and what fires is told once more",
                path.display()
            )
        };
        let Versioned { version } = serde_json::from_slice(&bytes).with_context(context)?;
        if version != VERSION {
            bail!(
                "read {}: its version is {version}, and this program knows {VERSION} only",
                path.display()
            );
        }
        serde_json::from_slice(&bytes).map(Some).with_context(context)
    }
}

/// The file, held against other processes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Takes the file and reads it.
    ///
    /// # Errors
    /// It cannot be read or written, or another process has it.
    pub fn open(path: &Path, time_scale: u64) -> Result<(Store, Kept)> {
        let context = || format!("state file {}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(context)?;
        }
        let lock = File::create(beside(path, ".lock")).with_context(context)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("state file {}: another `slo run` has it", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        let store = Store {
            path: path.to_owned(),
            _lock: lock,
        };
        let mut kept = Kept::read(path)?.unwrap_or_else(|| Kept::new(time_scale));
        if kept.time_scale != time_scale {
            bail!(
                "state file {}: time ran {} times as fast when it was written, and now {time_scale} times; name another one",
                path.display(),
                kept.time_scale
            );
        }
        kept.outbox.resume();
        // A file that cannot be written is found now rather than with the first page.
        store.save(&kept)?;
        Ok((store, kept))
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// It cannot be written; the old one stays.
    pub fn save(&self, kept: &Kept) -> Result<()> {
        let bytes = serde_json::to_vec(kept).context("state as JSON")?;
        let new = beside(&self.path, ".new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().with_context(|| format!("write {}", self.path.display()))
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
