//! Putting a repaired database in the place of the damaged one, whose files are kept in `lost/`.
//!
//! A crash at any moment leaves a directory that no server takes for a new or whole one, and from which the next repair goes
//! on: the name of the directory with the repaired files tells how far it had come.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::inspect::{HEAD, file_error, is_numbered, names};
use crate::salvage::give_to_owner_of;

/// All is there; the old files are on their way out.
const READY: &str = "repaired";
/// The old files are out; the new ones are on their way in.
const MOVING_IN: &str = "replacing";
/// Where a directory is that none of it may be taken for a whole database.
pub(crate) const STAGES: [&str; 2] = [READY, MOVING_IN];
/// Where old files go.
const LOST: &str = "lost";

/// Replaces the database in `dir` by the one in `by`, a closed one in a directory below it. Where the old files are now.
pub fn replace(dir: &Path, by: &Path) -> Result<PathBuf> {
    give_to_owner_of(by, dir)?;
    for name in names(by)? {
        give_to_owner_of(&by.join(&name), dir)?;
        sync(&by.join(name))?;
    }
    sync(by)?;
    rename(by, &dir.join(READY))?;
    sync(dir)?;
    Ok(move_out(dir)?.expect("it was put there just now"))
}

/// Goes on with a replacement that was interrupted; where the old files are, if there was one.
pub fn finish_replacement(dir: &Path) -> Result<Option<PathBuf>> {
    if dir.join(MOVING_IN).exists() {
        move_in(dir)?;
        return Ok(Some(dir.join(LOST)));
    }
    move_out(dir)
}

fn move_out(dir: &Path) -> Result<Option<PathBuf>> {
    if !dir.join(READY).exists() {
        return Ok(None);
    }
    let mut number = 1;
    let lost = loop {
        let lost = dir.join(LOST).join(number.to_string());
        if !lost.exists() {
            break lost;
        }
        number += 1;
    };
    std::fs::create_dir_all(&lost).map_err(|source| file_error("create directory", &lost, source))?;
    // Without it no server starts.
    let mut files: Vec<String> = names(dir)?
        .into_iter()
        .filter(|name| is_file_of_rocksdb(name))
        .collect();
    files.sort_by_key(|name| name != HEAD);
    for name in files {
        rename(&dir.join(&name), &lost.join(&name))?;
    }
    give_to_owner_of(&dir.join(LOST), dir)?;
    give_to_owner_of(&lost, dir)?;
    sync(&lost)?;
    sync(dir)?;
    rename(&dir.join(READY), &dir.join(MOVING_IN))?;
    sync(dir)?;
    move_in(dir)?;
    Ok(Some(lost))
}

fn move_in(dir: &Path) -> Result<()> {
    let from = dir.join(MOVING_IN);
    let mut files = names(&from)?;
    files.sort_by_key(|name| name == HEAD);
    for name in files {
        // Its lock is its own.
        if name == "LOCK" {
            std::fs::remove_file(from.join(&name)).map_err(|source| file_error("remove", &from, source))?;
        } else {
            rename(&from.join(&name), &dir.join(&name))?;
        }
    }
    sync(dir)?;
    std::fs::remove_dir(&from).map_err(|source| file_error("remove", &from, source))?;
    sync(dir)
}

fn is_file_of_rocksdb(name: &str) -> bool {
    name == HEAD
        || name == "IDENTITY"
        || is_numbered(name, "sst")
        || is_numbered(name, "log")
        || ["MANIFEST-", "OPTIONS-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || name == "LOG"
        || name.starts_with("LOG.old")
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|source| file_error("rename", from, source))
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| file_error("sync", path, source))
}
