//! What is inside a snapshot: a `.tar.gz` of a database with one leading directory, and after it the hash.
//!
//! An archive is not trusted: only plain files directly below the leading directory are taken, so that nothing is written
//! outside the target, and a directory that was being filled when something failed is removed again.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use store::{Options, Store};

use super::{GZIP_MAGIC, HASH_BYTES};
use crate::mvcc::{Mvcc, family};
use crate::wire::etcdserverpb::RangeRequest;

/// The file every RocksDB database has.
const DATABASE_MARK: &str = "CURRENT";

/// What a snapshot holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// Newest revision.
    pub(super) revision: i64,
    /// Keys at that revision.
    pub(super) keys: i64,
}

/// A directory being filled, removed again unless it is kept.
pub(super) struct Unpacked {
    path: PathBuf,
    kept: bool,
}

impl Unpacked {
    /// Unpacks the snapshot `file` into the new directory `path`, durably.
    pub(super) fn create(file: &Path, path: PathBuf) -> Result<Self, String> {
        let told = |error: std::io::Error| error.to_string();
        let mut snapshot = File::open(file).map_err(told)?;
        let length = snapshot.metadata().map_err(told)?.len();
        let content = length
            .checked_sub(HASH_BYTES as u64)
            .ok_or("it is shorter than the hash that ends it")?;
        let mut magic = [0; GZIP_MAGIC.len()];
        snapshot.read_exact(&mut magic).map_err(told)?;
        if magic != GZIP_MAGIC {
            return Err("it is no snapshot of Chainfire (one of etcd, perhaps)".to_owned());
        }
        let archive = magic.chain(snapshot).take(content);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("create {}: {error}", path.display()))?;
        let unpacked = Self { path, kept: false };
        unpacked.fill(archive)?;
        Ok(unpacked)
    }

    fn fill(&self, archive: impl Read) -> Result<(), String> {
        let told = |error: std::io::Error| format!("unpack: {error}");
        let mut archive = tar::Archive::new(MultiGzDecoder::new(archive));
        for entry in archive.entries().map_err(told)? {
            let mut entry = entry.map_err(told)?;
            let path = entry.path().map_err(told)?.into_owned();
            if entry.header().entry_type().is_dir() && path.components().count() == 1 {
                continue;
            }
            let name = file_name(&path).filter(|_| entry.header().entry_type().is_file());
            let name =
                name.ok_or_else(|| format!("unpack: unexpected {:?} in the archive", path.display()))?;
            let target = self.path.join(name);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&target)
                .map_err(told)?;
            std::io::copy(&mut entry, &mut file).map_err(told)?;
            file.sync_all().map_err(told)?;
        }
        if !self.path.join(DATABASE_MARK).is_file() {
            return Err("it holds no database".to_owned());
        }
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(told)
    }

    /// Looks into the database. This writes to the directory.
    pub(super) fn contents(&self) -> Result<Contents, String> {
        let store =
            Store::open(&self.path, &Options::default(), family::ALL).map_err(|error| error.to_string())?;
        let mvcc = Mvcc::load(Arc::new(store)).map_err(|error| error.to_string())?;
        let open = Bytes::from_static(b"\0");
        let everything = RangeRequest {
            key: open.clone(),
            range_end: open,
            count_only: true,
            ..Default::default()
        };
        let (reply, revision) = mvcc.range(&everything).map_err(|error| error.to_string())?;
        Ok(Contents {
            revision,
            keys: reply.count,
        })
    }

    /// Gives the directory its final name, which must be free or an empty directory's.
    pub(super) fn keep(mut self, target: &Path) -> Result<(), String> {
        std::fs::rename(&self.path, target)
            .map_err(|error| format!("rename to {}: {error}", target.display()))?;
        self.kept = true;
        File::open(super::folder_of(target))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| format!("sync the folder of {}: {error}", target.display()))
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if !self.kept {
            // What is left is in a directory for temporary files, or beside the target under a name that says so.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The name of a file directly below the leading directory.
fn file_name(path: &Path) -> Option<&OsStr> {
    let mut components = path.components();
    match (components.next(), components.next(), components.next()) {
        (Some(Component::Normal(_)), Some(Component::Normal(name)), None) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A snapshot with these files, and something in place of the hash.
    fn snapshot(folder: &Path, entries: &[(&str, tar::EntryType)]) -> PathBuf {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            // `set_path` would refuse the names that an attacker uses.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o600);
            header.set_cksum();
            archive.append(&header, std::io::empty()).unwrap();
        }
        let mut bytes = archive.into_inner().unwrap().finish().unwrap();
        bytes.write_all(&[0; HASH_BYTES]).unwrap();
        let file = folder.join("x.snapshot");
        std::fs::write(&file, bytes).unwrap();
        file
    }

    #[test]
    fn only_plain_files_below_the_leading_directory_are_taken() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let folder = tempfile::tempdir().unwrap();
        let target = || folder.path().join("target");
        let good = [
            ("top", Directory),
            ("top/CURRENT", Regular),
            ("top/000001.log", Regular),
        ];
        let unpacked = Unpacked::create(&snapshot(folder.path(), &good), target()).unwrap();
        assert_eq!(std::fs::read_dir(target()).unwrap().count(), 2);
        drop(unpacked);
        for (bad, kind) in [
            ("../out", Regular),
            ("/top/out", Regular),
            ("top/../out", Regular),
            ("top/in/out", Regular),
            ("out", Regular),
            ("top/link", Symlink),
            ("top/CURRENT", Regular),
        ] {
            let file = snapshot(folder.path(), &[("top/CURRENT", Regular), (bad, kind)]);
            assert!(Unpacked::create(&file, target()).is_err(), "{bad}");
            assert!(!target().exists(), "{bad}");
        }
        let empty = snapshot(folder.path(), &[]);
        assert_eq!(
            Unpacked::create(&empty, target()).err().as_deref(),
            Some("it holds no database")
        );
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("etcd.db");
        for content in [&b""[..], b"short", &[7; 100]] {
            std::fs::write(&file, content).unwrap();
            assert!(Unpacked::create(&file, folder.path().join("target")).is_err());
        }
    }
}
