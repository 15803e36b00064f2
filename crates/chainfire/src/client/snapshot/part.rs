//! A file being written beside its final place: whoever finds the final name finds a whole file.
//!
//! A name that is taken is refused before any work is done, and once more when the work is done.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::client::failure::{Failure, Result, system};

/// The name under which `target` is made, beside it.
pub(super) fn name_beside(target: &Path) -> Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(Failure::usage(format!(
            "{}: want the name of a file or a directory",
            target.display()
        )));
    };
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".part-{}", std::process::id()));
    Ok(target.with_file_name(part))
}

/// The directory that holds `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Refuses a target in a directory that is none.
pub(super) fn check_folder(target: &Path) -> Result<()> {
    let folder = folder_of(target);
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "write {}: {} is no directory: make it first",
        target.display(),
        folder.display()
    )))
}

fn taken(target: &Path) -> Failure {
    Failure::refused(format!(
        "write {}: it exists already: choose another name, or replace it with --force",
        target.display()
    ))
}

/// The file, removed again unless it is finished.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    force: bool,
    finished: bool,
}

impl Part {
    pub(super) fn create(target: &Path, force: bool) -> Result<Self> {
        let path = name_beside(target)?;
        match target.symlink_metadata() {
            Ok(found) if found.is_dir() => {
                return Err(Failure::refused(format!(
                    "write {}: it is a directory: want the name of a file",
                    target.display()
                )));
            }
            // Giving the file this name would replace the device or the link itself.
            Ok(found) if !found.is_file() => {
                return Err(Failure::refused(format!(
                    "write {}: it is no plain file: want the name of a file",
                    target.display()
                )));
            }
            Ok(_) if !force => return Err(taken(target)),
            _ => check_folder(target)?,
        }
        // The content is everything anybody ever stored: for the owner's eyes only.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| refuse(target, "write", &error))?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            force,
            finished: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| refuse(&self.target, "write", &error))
    }

    /// Makes the content durable, then gives it its name, then makes the name durable.
    pub(super) fn finish(mut self) -> Result<()> {
        let target = &self.target;
        self.file
            .sync_all()
            .map_err(|error| refuse(target, "sync", &error))?;
        match rename(&self.path, target, self.force) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(taken(target)),
            renamed => renamed.map_err(|error| refuse(target, "write", &error))?,
        }
        self.finished = true;
        File::open(folder_of(target))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| refuse(target, "sync the folder of", &error))
    }
}

fn refuse(target: &Path, operation: &str, error: &io::Error) -> Failure {
    Failure::refused(format!("{operation} {}: {}", target.display(), system(error)))
}

fn rename(from: &Path, to: &Path, force: bool) -> io::Result<()> {
    if force {
        return std::fs::rename(from, to);
    }
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems cannot; then the look that was taken first has to do.
        Err(Errno::EINVAL | Errno::ENOSYS) if !to.exists() => std::fs::rename(from, to),
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // The failure that ended the work is told already.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_file_is_removed_and_a_finished_one_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x.snapshot");
        let count = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut part = Part::create(&target, false).unwrap();
        part.write(b"half").unwrap();
        drop(part);
        assert_eq!(count(), 0);
        let mut part = Part::create(&target, false).unwrap();
        part.write(b"whole").unwrap();
        part.finish().unwrap();
        assert_eq!((count(), std::fs::read(&target).unwrap()), (1, b"whole".to_vec()));
    }

    #[test]
    fn a_file_is_replaced_only_when_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x.snapshot");
        let early = Part::create(&target, false).unwrap();
        std::fs::write(&target, b"precious").unwrap();
        let wanted = format!(
            "write {}: it exists already: choose another name, or replace it with --force",
            target.display()
        );
        // Also when it appeared meanwhile.
        assert_eq!(early.finish().unwrap_err().text(), Some(wanted.as_str()));
        let refused = Part::create(&target, false).err().unwrap();
        assert_eq!((refused.text(), refused.exit_code()), (Some(wanted.as_str()), 1));
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        let mut part = Part::create(&target, true).unwrap();
        part.write(b"new").unwrap();
        part.finish().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn refusals_name_the_target_and_what_would_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |target: &Path| {
            let failure = Part::create(target, true).err().unwrap();
            failure
                .text()
                .unwrap()
                .replace(folder.path().to_str().unwrap(), "FOLDER")
        };
        assert_eq!(
            refused(folder.path()),
            "write FOLDER: it is a directory: want the name of a file"
        );
        assert_eq!(
            refused(&folder.path().join("no/such")),
            "write FOLDER/no/such: FOLDER/no is no directory: make it first"
        );
        assert_eq!(
            refused(Path::new("/dev/null")),
            "write /dev/null: it is no plain file: want the name of a file"
        );
        assert!(refused(Path::new("/")).contains("want the name of a file"));
    }
}
