//! Reading and writing files of the directory: bounded, whole, and nobody else's to read.
//!
//! **Invariant:** whatever is written here has mode 0600 from its first byte on. The directory holds keys, secrets and addresses of channels;
//! no place in it is for other users' eyes.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use service::durable;

use super::HomeError;
use crate::document::{self, Mistake};

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io {
        operation,
        path,
        source,
    }
}

pub(super) fn read(path: &Path) -> Result<Option<String>, HomeError> {
    let mistake = |line: u64, text: String| HomeError::Mistake {
        path: path.to_owned(),
        mistake: Mistake { line, text },
    };
    // Opening a pipe would wait for somebody who writes into it, and opening a device may do anything.
    let not_a_file = || mistake(0, "it is not a file; put a file in its place".to_owned());
    match fs::metadata(path) {
        Ok(known) if !known.is_file() => return Err(not_a_file()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let known = file.metadata().map_err(io_error("look at", path))?;
    if !known.is_file() {
        return Err(not_a_file());
    }
    let most = document::parse::BYTES_MAX as u64;
    let mut bytes = Vec::new();
    if known.len() <= most {
        // One byte more, in case that the file grows.
        let read = file.take(most + 1).read_to_end(&mut bytes);
        read.map_err(io_error("read", path))?;
    }
    let length = known.len().max(bytes.len() as u64);
    if length > most {
        return Err(mistake(
            0,
            format!("the file has {length} bytes; at most {most} are read"),
        ));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count() as u64;
        mistake(line, "it is not UTF-8 text".to_owned())
    })
}

pub(super) fn refuse_open(path: &Path) -> Result<(), HomeError> {
    let mode = fs::metadata(path).map_err(io_error("look at", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HomeError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Writes a file whole, readable by its owner alone: what is there is the old or the new content, also after a crash.
///
/// # Errors
/// The system.
pub fn write(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    write_if(path, content, || true).map(drop)
}

/// The same, if this still holds when the new content has been synced and is about to take its place.
pub(super) fn write_if(path: &Path, content: &[u8], still: impl FnOnce() -> bool) -> Result<bool, HomeError> {
    let written = || -> io::Result<bool> {
        let staged = durable::stage(path, content, 0o600)?;
        if !still() {
            return Ok(false);
        }
        staged.put().map(|()| true)
    };
    written().map_err(io_error("write", path))
}

/// A path that nothing has yet: this one, or with a number behind it.
pub fn free_path(path: &Path) -> PathBuf {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    };
    let mut free = path.to_owned();
    let mut number = 1;
    while free.symlink_metadata().is_ok() {
        number += 1;
        free = numbered(number);
    }
    free
}
