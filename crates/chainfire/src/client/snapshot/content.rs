//! What is inside a snapshot: a `.tar.gz` of a database with one leading directory, and after it the hash.
//!
//! An archive is not trusted: only plain files directly below the leading directory are taken, so that nothing is written
//! outside the target, and a directory that was being filled when something failed is removed again.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use store::{Options, Store};

use super::part::folder_of;
use super::{GZIP_MAGIC, HASH_BYTES, Tail};
use crate::client::failure::system;
use crate::mvcc::{Mvcc, family};
use crate::node::identity;
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

/// How the file of etcd's database shows: the magic of bbolt, after the header of its first page.
const BOLT_MAGIC: (usize, [u8; 4]) = (16, 0xed0c_daed_u32.to_le_bytes());

/// A file that begins as an archive does.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Length of the file.
    pub(super) bytes: u64,
    /// The hash at its end, if there is one and it was checked.
    pub(super) hash: Option<[u8; HASH_BYTES]>,
    /// Length of the archive in it.
    content: u64,
}

impl File {
    /// Looks at the beginning. Until [`File::checked`] says otherwise, a hash is taken to end it.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let mut file = fs::File::open(path).map_err(|error| system(&error))?;
        let found = file.metadata().map_err(|error| system(&error))?;
        if found.is_dir() {
            return Err("it is a directory: want a file of `snapshot save`".to_owned());
        }
        let mut start = Vec::new();
        Read::by_ref(&mut file)
            .take((BOLT_MAGIC.0 + BOLT_MAGIC.1.len()) as u64)
            .read_to_end(&mut start)
            .map_err(|error| system(&error))?;
        if start.is_empty() {
            return Err("it is empty".to_owned());
        }
        if start.get(BOLT_MAGIC.0..) == Some(&BOLT_MAGIC.1[..]) {
            return Err("it is a snapshot of etcd, which only etcd's own tools read".to_owned());
        }
        if !start.starts_with(&GZIP_MAGIC) {
            return Err("it is no snapshot of Chainfire: it does not begin as one".to_owned());
        }
        let bytes = found.len();
        Ok(Self {
            path: path.to_owned(),
            bytes,
            hash: None,
            content: bytes.saturating_sub(HASH_BYTES as u64),
        })
    }

    /// Checks the hash at its end; an archive without one is checked by reading it through.
    pub(super) fn checked(mut self) -> Result<Self, String> {
        let mut file = fs::File::open(&self.path).map_err(|error| system(&error))?;
        let mut tail = Tail::default();
        let mut piece = vec![0; 1 << 20];
        loop {
            let length = file.read(&mut piece).map_err(|error| system(&error))?;
            if length == 0 {
                break;
            }
            tail.push(&piece[..length]);
        }
        match tail.finish() {
            Ok(hash) => self.hash = Some(hash),
            Err(_) if self.is_archive() => self.content = self.bytes,
            Err(wrong) => return Err(wrong.to_owned()),
        }
        Ok(self)
    }

    /// SHA-256 of the archive in it.
    pub(super) fn content_hash(&self) -> Result<[u8; HASH_BYTES], String> {
        if let Some(hash) = self.hash {
            return Ok(hash);
        }
        let mut content = fs::File::open(&self.path)
            .map_err(|error| system(&error))?
            .take(self.content);
        let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let length = content.read(&mut piece).map_err(|error| system(&error))?;
            if length == 0 {
                return Ok(hash.finalize().into());
            }
            hash.update(&piece[..length]);
        }
    }

    /// Whether the file is a whole archive of a database from its first byte to its last: gzip and tar have checksums.
    fn is_archive(&self) -> bool {
        let read = || -> std::io::Result<bool> {
            let mut archive = tar::Archive::new(MultiGzDecoder::new(fs::File::open(&self.path)?));
            let mut database = false;
            for entry in archive.entries()? {
                let mut entry = entry?;
                database |= file_name(&entry.path()?) == Some(OsStr::new(DATABASE_MARK));
                std::io::copy(&mut entry, &mut std::io::sink())?;
            }
            // What follows the archive proper, up to the checksum of the last gzip member.
            std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
            Ok(database)
        };
        read().unwrap_or(false)
    }
}

/// A directory being filled, removed again unless it is kept.
pub(super) struct Unpacked {
    path: PathBuf,
    kept: bool,
}

impl Unpacked {
    /// Unpacks `file` into the new directory `path`, durably.
    pub(super) fn create(file: &File, path: PathBuf) -> Result<Self, String> {
        let snapshot = fs::File::open(&file.path).map_err(|error| system(&error))?;
        let archive = snapshot.take(file.content);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("create {}: {}", path.display(), system(&error)))?;
        let unpacked = Self { path, kept: false };
        unpacked.fill(archive)?;
        Ok(unpacked)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
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
        fs::File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(told)
    }

    /// The node that was saved. This writes to the directory.
    pub(super) fn node_id(&self) -> Result<u64, String> {
        let store =
            Store::open(&self.path, &Options::default(), family::ALL).map_err(|error| error.to_string())?;
        let identity = identity(&store, &self.path).map_err(|error| error.to_string())?;
        let (node, _) = identity.ok_or("no node has ever used the database in it")?;
        Ok(node)
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
        fs::rename(&self.path, target).map_err(|error| format!("rename to {}: {error}", target.display()))?;
        self.kept = true;
        fs::File::open(folder_of(target))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| format!("sync the folder of {}: {error}", target.display()))
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if !self.kept {
            // What is left is in a directory for temporary files, or beside the target under a name that says so.
            let _ = fs::remove_dir_all(&self.path);
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
        let create = |entries: &[_]| {
            let file = File::open(&snapshot(folder.path(), entries)).unwrap();
            Unpacked::create(&file, target())
        };
        let unpacked = create(&good).unwrap();
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
            let entries = [("top/CURRENT", Regular), (bad, kind)];
            assert!(create(&entries).is_err(), "{bad}");
            assert!(!target().exists(), "{bad}");
        }
        assert_eq!(create(&[]).err().as_deref(), Some("it holds no database"));
    }

    #[test]
    fn what_is_no_snapshot_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let told = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            File::open(&path).and_then(File::checked).unwrap_err()
        };
        let strange = "it is no snapshot of Chainfire: it does not begin as one";
        assert_eq!(told(b""), "it is empty");
        assert_eq!(told(b"short"), strange);
        assert_eq!(told(&[7; 100]), strange);
        let mut etcd = vec![0; 4096];
        etcd[16..20].copy_from_slice(&0xed0c_daed_u32.to_le_bytes());
        assert_eq!(
            told(&etcd),
            "it is a snapshot of etcd, which only etcd's own tools read"
        );
        assert_eq!(
            told(b"\x1f\x8b\x08cut"),
            "it is shorter than the hash that ends it"
        );
        assert!(told(&[&b"\x1f\x8b\x08"[..], &[0; 100]].concat()).contains("cut short or damaged"));
        assert_eq!(
            File::open(folder.path()).unwrap_err(),
            "it is a directory: want a file of `snapshot save`"
        );
        assert_eq!(
            File::open(&folder.path().join("none")).unwrap_err(),
            "no such file or directory"
        );
    }

    #[test]
    fn an_archive_without_a_hash_is_checked_by_its_own_sums() {
        use tar::EntryType::Regular;
        let folder = tempfile::tempdir().unwrap();
        let path = snapshot(folder.path(), &[("top/CURRENT", Regular), ("top/1.log", Regular)]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - HASH_BYTES);
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).and_then(File::checked).unwrap();
        assert_eq!((file.hash, file.bytes), (None, bytes.len() as u64));
        Unpacked::create(&file, folder.path().join("target")).unwrap();
        // Every byte but the flags, time and system of the gzip header is covered.
        for n in 12..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[n] ^= 1;
            // Bits that fill a byte up in the compressed form mean nothing.
            let content = |bytes: &[u8]| {
                let mut content = Vec::new();
                MultiGzDecoder::new(bytes)
                    .read_to_end(&mut content)
                    .map(|_| content)
            };
            let harmless = content(&damaged).is_ok_and(|found| found == content(&bytes).unwrap());
            std::fs::write(&path, damaged).unwrap();
            let checked = File::open(&path).and_then(File::checked);
            assert_eq!(checked.is_ok(), harmless, "byte {n}");
        }
        for length in 3..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                File::open(&path).and_then(File::checked).is_err(),
                "cut at {length}"
            );
        }
    }
}
