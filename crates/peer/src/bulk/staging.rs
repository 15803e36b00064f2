//! The directory that files arrive in. Everything here blocks.
//!
//! A part of a file that an earlier attempt has left counts by its length alone; whether its content is right is found out by the
//! checksum of the whole file, and if it is not, the file goes.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::offer::Offered;

/// Read at once while a part that is already there is hashed.
const CHUNK: usize = 1 << 20;

/// What ends a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Another attempt helps.
    Damaged(String),
    /// It does not.
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Staging {
    dir: PathBuf,
    files: Vec<Offered>,
    have: Vec<u64>,
    /// Files that are complete: those before it.
    next: usize,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: File,
    offset: u64,
    hash: Sha256,
}

impl Staging {
    /// Makes the directory if need be, and looks at what is there: files that are not offered are removed.
    pub(super) fn open(dir: PathBuf, files: Vec<Offered>) -> Result<Staging, Problem> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| failed("make", &dir, &error))?;
        let offered: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let listed = fs::read_dir(&dir).map_err(|error| failed("list", &dir, &error))?;
        for entry in listed {
            let entry = entry.map_err(|error| failed("list", &dir, &error))?;
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).map_err(|error| failed("look at", &path, &error))?;
            if metadata.is_dir() {
                return Err(Problem::Failed(format!(
                    "{} is a directory where files are to arrive; remove it",
                    path.display()
                )));
            }
            let is_wanted = entry
                .file_name()
                .to_str()
                .is_some_and(|name| offered.contains(name));
            if !is_wanted || !metadata.is_file() {
                fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            }
        }
        let mut have = Vec::with_capacity(files.len());
        for file in &files {
            let path = dir.join(&file.name);
            have.push(match fs::symlink_metadata(&path) {
                // More than there can be is from another file of that name.
                Ok(metadata) if metadata.len() <= file.size => metadata.len(),
                Ok(_) => 0,
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(failed("look at", &path, &error)),
            });
        }
        Ok(Staging {
            dir,
            files,
            have,
            next: 0,
            current: None,
        })
    }

    /// Bytes of each file that need not be sent.
    pub(super) fn have(&self) -> &[u64] {
        &self.have
    }

    /// Writes a piece.
    pub(super) fn piece(mut self, index: usize, offset: u64, bytes: &[u8]) -> Result<Staging, Problem> {
        let size = self.expect(index)?.size;
        let path = self.path(index);
        let current = self.current(index)?;
        let fits = current.offset == offset
            && offset
                .checked_add(bytes.len() as u64)
                .is_some_and(|end| end <= size);
        if !fits {
            return Err(Problem::Failed(
                "a piece does not follow the one before it".to_owned(),
            ));
        }
        current
            .file
            .write_all(bytes)
            .map_err(|error| failed("write", &path, &error))?;
        current.hash.update(bytes);
        current.offset += bytes.len() as u64;
        Ok(self)
    }

    /// Verifies a file that is complete, and syncs it.
    pub(super) fn end(mut self, index: usize, checksum: &[u8]) -> Result<Staging, Problem> {
        let size = self.expect(index)?.size;
        let path = self.path(index);
        self.current(index)?;
        let Some(current) = self.current.take() else {
            return Err(Problem::Failed("a file ends before it begins".to_owned()));
        };
        if current.offset != size {
            return Err(Problem::Failed(format!(
                "{} ends too early",
                self.files[index].name
            )));
        }
        if current.hash.finalize().as_slice() != checksum {
            drop(current.file);
            fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
            return Err(Problem::Damaged(format!(
                "the checksum of {} is wrong; it was removed and has to be sent anew",
                self.files[index].name
            )));
        }
        current
            .file
            .sync_all()
            .map_err(|error| failed("sync", &path, &error))?;
        self.next += 1;
        Ok(self)
    }

    /// All files are there, on disk, and so are their names.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.next != self.files.len() {
            return Err(Problem::Failed(
                "the transfer ended before all files were sent".to_owned(),
            ));
        }
        sync_dir(&self.dir)?;
        // The directory itself may be new as well.
        self.dir.parent().map_or(Ok(()), sync_dir)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.dir.join(&self.files[index].name)
    }

    fn expect(&self, index: usize) -> Result<&Offered, Problem> {
        match self.files.get(index) {
            Some(file) if index == self.next => Ok(file),
            _ => Err(Problem::Failed("files do not come in their order".to_owned())),
        }
    }

    fn current(&mut self, index: usize) -> Result<&mut Current, Problem> {
        if self.current.is_none() {
            let path = self.path(index);
            let current = Current::open(&path, self.have[index]);
            self.current = Some(current.map_err(|error| failed("open", &path, &error))?);
        }
        Ok(self.current.as_mut().expect("it was made right above"))
    }
}

impl Current {
    fn open(path: &Path, have: u64) -> io::Result<Current> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if have == 0 {
            file.set_len(0)?;
        }
        let mut hash = Sha256::new();
        let mut offset = 0;
        let mut chunk = vec![0; CHUNK];
        while offset < have {
            let length = usize::try_from(have - offset).map_or(CHUNK, |rest| rest.min(CHUNK));
            file.read_exact(&mut chunk[..length])?;
            hash.update(&chunk[..length]);
            offset += length as u64;
        }
        Ok(Current { file, offset, hash })
    }
}

fn sync_dir(dir: &Path) -> Result<(), Problem> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| failed("sync", dir, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Problem {
    Problem::Failed(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, size: u64) -> Offered {
        Offered {
            name: name.to_owned(),
            size,
        }
    }

    fn checksum(bytes: &[u8]) -> Vec<u8> {
        Sha256::digest(bytes).to_vec()
    }

    #[test]
    fn what_is_there_is_gone_on_with_and_what_is_not_offered_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("half"), b"abc").unwrap();
        fs::write(dir.join("long"), b"too much").unwrap();
        fs::write(dir.join("stale"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
        let files = vec![
            offered("half", 6),
            offered("link", 1),
            offered("long", 2),
            offered("none", 0),
        ];
        let staging = Staging::open(dir.clone(), files).unwrap();
        assert_eq!(staging.have(), [3, 0, 0, 0]);
        let staging = staging.piece(0, 3, b"def").unwrap();
        let staging = staging.end(0, &checksum(b"abcdef")).unwrap();
        let staging = staging
            .piece(1, 0, b"l")
            .unwrap()
            .end(1, &checksum(b"l"))
            .unwrap();
        let staging = staging
            .piece(2, 0, b"ok")
            .unwrap()
            .end(2, &checksum(b"ok"))
            .unwrap();
        staging.end(3, &checksum(b"")).unwrap().finish().unwrap();
        let mut names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["half", "link", "long", "none"]);
        assert_eq!(fs::read(dir.join("half")).unwrap(), b"abcdef");
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_file());
    }

    #[test]
    fn a_file_with_a_wrong_checksum_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().to_owned();
        fs::write(dir.join("f"), b"old").unwrap();
        let staging = Staging::open(dir.clone(), vec![offered("f", 6)]).unwrap();
        let staging = staging.piece(0, 3, b"new").unwrap();
        let Err(Problem::Damaged(text)) = staging.end(0, &checksum(b"newnew")) else {
            panic!("it was taken");
        };
        assert!(text.contains("checksum of f"), "{text}");
        assert!(!dir.join("f").exists());
    }

    #[test]
    fn pieces_must_follow_each_other_and_stay_within_the_file() {
        let root = tempfile::tempdir().unwrap();
        let open = || Staging::open(root.path().to_owned(), vec![offered("f", 4), offered("g", 4)]).unwrap();
        assert!(open().piece(0, 1, b"x").is_err(), "a gap");
        assert!(open().piece(0, 0, b"12345").is_err(), "too long");
        assert!(open().piece(1, 0, b"1").is_err(), "the wrong file");
        assert!(open().piece(7, 0, b"1").is_err(), "no file");
        assert!(open().end(0, &checksum(b"")).is_err(), "too early");
        assert!(open().finish().is_err(), "not all");
    }
}
