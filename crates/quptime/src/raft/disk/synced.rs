//! How far the log was synced, told by a file beside it: a log whose end is gone looks like one whose last append was cut off by a crash.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::{Buf as _, BufMut as _};

use super::{DiskError, io_error};

/// How far the log was synced. A log is known by the number of its inode: a new one is written beside the old one, so they differ.
#[derive(Debug)]
pub(super) struct Synced(File);

impl Synced {
    /// Opens the file, and yields how many synced bytes the log lacks that holds `length` bytes of whole records.
    pub(super) fn open(dir: &Path, log: &Path, length: u64) -> Result<(Synced, u64), DiskError> {
        let path = dir.join("synced");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let inode = fs::metadata(log).map_err(io_error("look at", log))?.ino();
        let mut content = [0; 20];
        let known = file.read_exact_at(&mut content, 0).ok().and_then(|()| {
            let (body, mut checksum) = content.split_at(16);
            (crc32c::crc32c(body) == checksum.get_u32()).then_some(body)
        });
        let lost = known.map_or(0, |mut known| {
            let of = known.get_u64();
            let synced = known.get_u64();
            if of == inode {
                synced.saturating_sub(length)
            } else {
                0
            }
        });
        Ok((Synced(file), lost))
    }

    /// So much of this log is synced.
    pub(super) fn note(&self, log: &File, length: u64) {
        let Ok(known) = log.metadata() else { return };
        let mut content = Vec::with_capacity(20);
        content.put_u64(known.ino());
        content.put_u64(length);
        content.put_u32(crc32c::crc32c(&content));
        // It says too little then, which costs the warning and nothing else.
        drop(self.0.write_all_at(&content, 0));
    }
}
