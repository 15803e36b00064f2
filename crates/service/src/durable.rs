//! Files that are replaced whole: what is there is the old or the new content, also after a crash, and a disk that is full changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// New content beside a file, complete and synced. It is removed again unless it takes the file's place.
#[derive(Debug)]
#[must_use = "nothing is replaced before it takes its place"]
pub struct Staged {
    /// Nothing once it has taken its place.
    beside: Option<PathBuf>,
    path: PathBuf,
}

/// Writes new content beside a file, as `.NAME.new`, with this mode from its first byte on.
///
/// # Errors
/// The system. Nothing has changed then; see [`is_full`].
pub fn stage(path: &Path, content: &[u8], mode: u32) -> io::Result<Staged> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&beside)?;
    let staged = Staged {
        beside: Some(beside),
        path: path.to_owned(),
    };
    file.write_all(content)?;
    file.sync_all()?;
    Ok(staged)
}

impl Staged {
    /// Takes the file's place, in a way that survives a crash.
    ///
    /// # Errors
    /// The system. Whether the old or the new content is there after a crash is not known then.
    pub fn put(mut self) -> io::Result<()> {
        if let Some(beside) = &self.beside {
            fs::rename(beside, &self.path)?;
        }
        self.beside = None;
        sync_dir(folder_of(&self.path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // What stays is written over the next time.
            drop(fs::remove_file(beside));
        }
    }
}

/// Replaces a file's content: [`stage`] and [`Staged::put`].
///
/// # Errors
/// The system.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    stage(path, content, mode)?.put()
}

/// Makes what was renamed in a folder survive a crash.
///
/// # Errors
/// The system.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether a write failed because there is no room, on the disk or within a quota.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn folder_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let files = fs::read_dir(dir).unwrap().flatten();
        files
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_file_has_the_old_content_until_it_has_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, b"old", 0o600).unwrap();
        let staged = stage(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(staged);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a"], "nothing else is left");
        stage(&path, b"new", 0o600).unwrap().put().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["a"], "nothing else is left");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_take_its_place_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, b"new", 0o600).unwrap_err();
        assert!(!is_full(&error), "{error}");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_full_disk_is_known_by_its_error() {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .write_all(b"x");
        assert!(is_full(&full.unwrap_err()));
        assert!(is_full(&io::Error::from_raw_os_error(nix::libc::EDQUOT)));
        assert!(!is_full(&io::Error::from_raw_os_error(nix::libc::EIO)));
    }
}
