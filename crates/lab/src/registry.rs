//! Which directories hold labs of this user, so that `lab list` and `down --all` find those started elsewhere.
//!
//! One small file per lab in `${XDG_STATE_HOME:-~/.local/state}/mainstay/labs`, holding the directory as a line of
//! text. An entry whose directory holds no running lab is harmless and dropped by the next listing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::state;

fn folder() -> Result<PathBuf> {
    Ok(state::state_home()?.join("labs"))
}

fn entry(dir: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    Ok(folder()?.join(format!("{:016x}", hasher.finish())))
}

/// Notes a lab.
pub(crate) fn record(dir: &Path) -> Result<()> {
    let path = entry(dir)?;
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    std::fs::write(&path, format!("{}\n", dir.display()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Forgets a lab.
pub(crate) fn forget(dir: &Path) -> Result<()> {
    let path = entry(dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Directories of all noted labs, sorted.
pub(crate) fn all() -> Result<Vec<PathBuf>> {
    let folder = folder()?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut dirs = vec![];
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        dirs.push(PathBuf::from(text.trim_end_matches('\n')));
    }
    dirs.sort();
    dirs.dedup();
    Ok(dirs)
}
