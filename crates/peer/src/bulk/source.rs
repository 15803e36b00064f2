//! The directory to send. Everything here blocks.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::offer::{Offered, is_good_name};

/// Read at once while the part that the receiver has is only hashed.
const CHUNK: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    dir: PathBuf,
    pub(super) files: Vec<Offered>,
}

/// A file being read.
#[derive(Debug)]
pub(super) struct Reading {
    path: PathBuf,
    file: File,
    offset: u64,
    size: u64,
    hash: Sha256,
}

impl Source {
    /// Lists the files, by name.
    pub(super) fn scan(dir: &Path, files_max: usize) -> Result<Source, String> {
        let failed = |error: std::io::Error| format!("cannot list {}: {error}", dir.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| is_good_name(name));
            let Some(name) = name.filter(|_| metadata.is_file()) else {
                return Err(format!(
                    "{} is no plain file, so it cannot be sent",
                    path.display()
                ));
            };
            files.push(Offered {
                name,
                size: metadata.len(),
            });
            if files.len() > files_max {
                return Err(format!("{} has more than {files_max} files", dir.display()));
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Source {
            dir: dir.to_owned(),
            files,
        })
    }

    /// What opens one of them and skips what the receiver has of it.
    pub(super) fn open(&self, file: &Offered) -> impl FnOnce(u64) -> Result<Reading, String> + use<> {
        let (path, size) = (self.dir.join(&file.name), file.size);
        move |have| Reading::open(path, size, have)
    }
}

impl Reading {
    fn open(path: PathBuf, size: u64, have: u64) -> Result<Reading, String> {
        let file = File::open(&path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let mut reading = Reading {
            path,
            file,
            offset: 0,
            size,
            hash: Sha256::new(),
        };
        let mut chunk = vec![0; CHUNK];
        while reading.offset < have {
            let length = usize::try_from(have - reading.offset).map_or(CHUNK, |rest| rest.min(CHUNK));
            reading.fill(&mut chunk[..length])?;
        }
        Ok(reading)
    }

    fn fill(&mut self, chunk: &mut [u8]) -> Result<(), String> {
        self.file
            .read_exact(chunk)
            .map_err(|error| format!("cannot read {} to its end: {error}", self.path.display()))?;
        self.hash.update(&*chunk);
        self.offset += chunk.len() as u64;
        Ok(())
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.size
    }

    /// The next piece, of at most `most` bytes.
    pub(super) fn piece(mut self, most: usize) -> Result<(Reading, Vec<u8>), String> {
        let length = usize::try_from(self.size - self.offset).map_or(most, |rest| rest.min(most));
        let mut piece = vec![0; length];
        self.fill(&mut piece)?;
        Ok((self, piece))
    }

    /// Of the whole file.
    pub(super) fn checksum(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}
