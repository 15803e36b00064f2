//! The programs of the running binary, as links in a folder that a step's `PATH` begins with.
//!
//! Pages call programs by their own names (`chainfire-client`). A lab has links for its hosts, a package has installed
//! them; with `--on HOST=ADDRESS` from a checkout neither is there, and the binary at hand is the one that was meant. The
//! folder goes with the value.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

/// Names tried for the folder; more are taken only if that many runs of the same process number were killed.
const TRIES_MAX: u32 = 100;

/// A folder of links, removed when dropped.
#[derive(Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Links every name to the running binary.
    pub fn link(names: &[&str]) -> io::Result<Self> {
        let binary = std::env::current_exe()?;
        let programs = Self {
            folder: make_folder()?,
        };
        for name in names {
            symlink(&binary, programs.folder.join(name))?;
        }
        Ok(programs)
    }

    /// Where the links are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder); // links in the folder for temporary files harm nobody
    }
}

/// A new folder that only this user can enter. One that exists already may be somebody else's and is never used.
fn make_folder() -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let name = format!("mainstay-programs-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < TRIES_MAX => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_point_to_this_program_and_go_with_the_value() {
        let programs = Programs::link(&["one", "two"]).unwrap();
        let folder = programs.folder().to_owned();
        let target = std::fs::read_link(folder.join("two")).unwrap();
        assert_eq!(target, std::env::current_exe().unwrap());
        let beside = Programs::link(&[]).unwrap();
        assert_ne!(beside.folder(), folder);
        drop(programs);
        assert!(!folder.exists());
    }
}
