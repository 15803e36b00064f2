//! Who holds a database directory: RocksDB locks the file `LOCK` in it, the way of `fcntl(F_SETLK)`.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Error, Result};
use crate::inspect::file_error;
use crate::salvage::give_to_owner_of;

/// The locked file.
const NAME: &str = "LOCK";

fn wanted(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Process that holds `dir`; none if nobody does, or nobody can tell.
///
/// To be asked only while this process holds nothing there: a closed file gives up all locks that the process has on it.
pub(crate) fn holder(dir: &Path) -> Option<libc::pid_t> {
    let file = File::open(dir.join(NAME)).ok()?;
    let mut lock = wanted(libc::F_WRLCK);
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    (libc::c_int::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
}

/// A directory that no server can open meanwhile.
#[derive(Debug)]
pub struct Hold {
    _file: Option<File>,
}

impl Hold {
    /// Keeps servers out of `dir`, and others that want to change it. With `exclusive` also those that only look.
    pub fn take(dir: &Path, exclusive: bool) -> Result<Hold> {
        let path = dir.join(NAME);
        let opened = if exclusive {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
        } else {
            File::open(&path)
        };
        let file = match opened {
            Ok(file) => file,
            // A copy need not have one.
            Err(error) if !exclusive && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Hold { _file: None });
            }
            Err(error) => return Err(file_error("open", &path, error)),
        };
        if exclusive {
            give_to_owner_of(&path, dir)?;
        }
        let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
        match fcntl(&file, FcntlArg::F_SETLK(&wanted(kind))) {
            Ok(_) => Ok(Hold { _file: Some(file) }),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
                let process = holder(dir);
                Err(Error::Held { path, process })
            }
            Err(error) => Err(file_error("lock", &path, error.into())),
        }
    }
}
