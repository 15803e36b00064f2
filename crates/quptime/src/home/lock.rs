//! One process at a time uses a directory: the daemon for as long as it runs, `init` and `enroll join` while they write.
//!
//! Two daemons on one directory would both append to one log, and tell everything twice. The directory itself is locked, not a file in it: there is
//! nothing to write, so a full disk is no obstacle, and nothing that a backup copies or that somebody removes because it looks stale.
//! The system gives the lock back when the process ends, however it ends. Programs that are started do not inherit it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::files::io_error;
use super::{Home, HomeError};

/// The directory is this process's as long as this lives.
#[derive(Debug)]
#[must_use = "the directory is free again when this is dropped"]
pub struct HomeLock {
    _dir: File,
}

impl Home {
    /// Takes the directory, which must be there, for this process alone.
    ///
    /// # Errors
    /// Another process has it, or the system.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let dir = File::open(self.dir()).map_err(io_error("open", self.dir()))?;
        match dir.try_lock() {
            Ok(()) => Ok(HomeLock { _dir: dir }),
            Err(TryLockError::WouldBlock) => Err(HomeError::InUse {
                path: self.dir().to_owned(),
                holder: holder(&dir),
            }),
            // Some network file systems have no locks. Refusing to run there would help nobody.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                terminal::note(&format!(
                    "{} cannot be locked ({error}); take care that one daemon alone uses it",
                    self.dir().display()
                ));
                Ok(HomeLock { _dir: dir })
            }
            Err(TryLockError::Error(error)) => Err(io_error("lock", self.dir())(error)),
        }
    }
}

/// The process that has the lock, as far as this one may see it: in another container it has no number here.
fn holder(dir: &File) -> Option<u32> {
    let inode = dir.metadata().ok()?.ino();
    holder_in(&fs::read_to_string(Path::new("/proc/locks")).ok()?, inode)
}

/// The holder of a whole-file lock as `/proc/locks` lists it: `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`. The device is not compared: some
/// file systems show another one there than to `stat`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let inode = inode.to_string();
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Whoever waits for a lock has an arrow before the kind.
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words[..] else {
            return None;
        };
        (place.rsplit(':').next() == Some(&inode)).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let held = home.lock().unwrap();
        let error = home.lock().unwrap_err().to_string();
        let expected = format!(
            "{} is in use by another qu process (pid {}); stop that first (the service: systemctl stop quptime), or set QUPTIME_DIR to a directory of its own",
            dir.path().display(),
            std::process::id()
        );
        assert_eq!(error, expected);
        drop(held);
        drop(home.lock().unwrap());
    }

    #[test]
    fn the_holder_is_who_has_the_lock_and_not_who_waits() {
        let locks = "1: POSIX  ADVISORY  WRITE 3 fe:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4 fe:01:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 5 fe:01:78 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4711 fe:01:77 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(4711));
        assert_eq!(holder_in(locks, 7), None);
    }
}
