//! The data directory as a whole: made, put in the place of another, kept aside.
//!
//! What is being made lies beside the data directory, under a name that nothing else uses, and takes its place with one rename when it is
//! complete. So there is never half of a cluster in the data directory, and a keeper that was killed meanwhile leaves a folder that the next
//! one knows for what it is. A copy that is still being written by a program whose keeper is gone harms nobody either.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use service::clock::{Clock as _, SystemClock, utc_compact};

use crate::database::Error;

/// Between the directory's name and a time: it is being made.
const NEW: &str = ".new-";
/// It was replaced by a copy of another node's.
const ASIDE: &str = ".diverged-";
/// It was being rewound, so it is neither what it was nor what it was to be.
const REWINDING: &str = ".rewinding";

/// A file in the place of the one there is, or of none; on disk when this returns.
///
/// On the caller's thread on purpose: a write that were given to another one could land after that of the next caller.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder_of(path)
    };
    write().map_err(|error| Error::failed("write", format!("{}: {error}", path.display())))
}

/// Reads one whole.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::failed("read", format!("{}: {error}", path.display())))
}

/// Takes a file away; on disk when this returns.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let remove = || match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder_of(path),
    };
    remove().map_err(|error| Error::failed("remove", format!("{}: {error}", path.display())))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Whether there is a cluster.
pub(super) fn is_cluster(pgdata: &Path) -> bool {
    pgdata.join("PG_VERSION").is_file()
}

/// An error unless there is nothing at all, or an empty folder.
pub(super) fn must_be_empty(pgdata: &Path) -> Result<(), Error> {
    const WHAT: &str = "look into the data directory";
    match fs::read_dir(pgdata) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::failed(WHAT, format!("{}: {error}", pgdata.display()))),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::failed(
                WHAT,
                format!("{} is neither empty nor a PostgreSQL cluster", pgdata.display()),
            )),
        },
    }
}

/// Where a new one is made, beside where it will be. Nothing is there yet.
pub(super) fn new(pgdata: &Path) -> PathBuf {
    beside(pgdata, &format!("{NEW}{}-{}", now(), std::process::id()))
}

fn now() -> String {
    utc_compact(SystemClock::new().unix_ms())
}

fn beside(pgdata: &Path, ending: &str) -> PathBuf {
    let mut name = pgdata.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Folders beside it whose names go on like that.
fn others(pgdata: &Path, ending: &str) -> Vec<PathBuf> {
    let prefix = beside(pgdata, ending);
    let Some(prefix) = prefix.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Vec::new();
    };
    let entries = fs::read_dir(pgdata.parent().unwrap_or(Path::new(".")));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Takes away what a keeper that is gone has begun to make.
pub(super) fn sweep(pgdata: &Path) {
    for folder in others(pgdata, NEW) {
        tracing::info!("removing {}, which was never completed", folder.display());
        let _ = fs::remove_dir_all(&folder);
    }
}

/// Puts a complete new one into its place. What was there is kept aside, and what was kept aside before is not any more.
pub(super) fn replace(pgdata: &Path, new: &Path) -> Result<Option<PathBuf>, Error> {
    let kept = is_cluster(pgdata).then(|| beside(pgdata, &format!("{ASIDE}{}", now())));
    let replace = || -> io::Result<()> {
        if let Some(kept) = &kept {
            forget_aside(pgdata);
            fs::rename(pgdata, kept)?;
        }
        fs::rename(new, pgdata)?;
        sync_folder_of(pgdata)
    };
    replace().map_err(|error| {
        let what = format!(
            "{}: {error}; the folder above must be writable, and a mount point cannot be replaced: use a folder below it",
            pgdata.display()
        );
        Error::failed("put the new data directory into its place", what)
    })?;
    Ok(kept)
}

fn forget_aside(pgdata: &Path) {
    for folder in others(pgdata, ASIDE) {
        let _ = fs::remove_dir_all(&folder);
    }
}

/// Makes room for a copy: what is kept aside goes if there is less free than twice what is in use, and then, if that is still so, what is to
/// be replaced.
pub(super) fn make_room(pgdata: &Path) {
    let wanted = 2 * size(pgdata);
    if wanted == 0 || free(pgdata) >= wanted {
        return;
    }
    forget_aside(pgdata);
    if free(pgdata) < wanted {
        tracing::warn!(
            "not enough room beside {} to keep it until it is replaced; removing it",
            pgdata.display()
        );
        let _ = fs::remove_dir_all(pgdata);
    }
}

fn free(pgdata: &Path) -> u64 {
    let folder = pgdata.parent().unwrap_or(Path::new("."));
    // What cannot be asked is not short.
    nix::sys::statvfs::statvfs(folder).map_or(u64::MAX, |found| {
        found.blocks_available().saturating_mul(found.fragment_size())
    })
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

/// Notes that it is being rewound, before that begins.
pub(super) fn mark_rewinding(pgdata: &Path) -> Result<(), Error> {
    write(&beside(pgdata, REWINDING), "pg_rewind has begun and not ended\n")
}

/// Whether a rewind has begun and not ended.
pub(super) fn is_rewinding(pgdata: &Path) -> bool {
    beside(pgdata, REWINDING).exists()
}

/// Takes the note away.
pub(super) fn unmark_rewinding(pgdata: &Path) -> Result<(), Error> {
    remove(&beside(pgdata, REWINDING))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(path: &Path, version: &str) {
        fs::create_dir(path).expect("a folder");
        fs::write(path.join("PG_VERSION"), version).expect("a file");
    }

    #[test]
    fn one_predecessor_is_kept_aside() {
        let dir = testkit::TestDir::new("replace").expect("a directory");
        let pgdata = dir.join("data");
        cluster(&pgdata, "1");
        for version in ["2", "3"] {
            let new = new(&pgdata);
            cluster(&new, version);
            fs::rename(&pgdata, dir.join("data.diverged-20000101T000000Z")).expect("renamed");
            cluster(&pgdata, "other");
            replace(&pgdata, &new).expect("replaced");
            assert_eq!(read(&pgdata.join("PG_VERSION")).expect("there"), version);
        }
        let kept = others(&pgdata, ASIDE);
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(read(&kept[0].join("PG_VERSION")).expect("there"), "other");
    }

    #[test]
    fn what_was_not_completed_goes_and_nothing_else() {
        let dir = testkit::TestDir::new("sweep").expect("a directory");
        let pgdata = dir.join("data");
        cluster(&pgdata, "15");
        cluster(&new(&pgdata), "15");
        cluster(&dir.join("data.newer"), "15");
        sweep(&pgdata);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["data", "data.newer"]);
    }

    #[test]
    fn what_is_no_cluster_is_left_alone() {
        let dir = testkit::TestDir::new("empty").expect("a directory");
        assert!(must_be_empty(dir.path()).is_ok());
        assert!(must_be_empty(&dir.join("missing")).is_ok());
        fs::write(dir.join("letter.txt"), "dear").expect("a file");
        assert!(must_be_empty(dir.path()).is_err());
    }
}
