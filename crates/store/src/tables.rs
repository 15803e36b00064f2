//! A family as one table file: written apart from any database, and later taken over whole.
//!
//! Writing it costs what copying costs, but holds nobody up. Taking it over is a matter of a link and a line in RocksDB's manifest,
//! however large it is.

use std::path::Path;

use rocksdb::{Cache, IngestExternalFileOptions, SstFileWriter};

use crate::error::{Error, Result};
use crate::families::Store;
use crate::options::Options;

/// What the link is called that RocksDB uses up.
const LINK: &str = "taken";

/// The writer reads nothing, but wants a cache to be named.
const NO_CACHE_BYTES: usize = 1 << 20;

impl Store {
    /// Writes the entries of `family` whose keys are `wanted` to the new table file `to`, synced. If there are none there is no file,
    /// and this says false. Other versions' entries and the range of keys do not matter: the table is an ordered list.
    pub fn write_table(
        &self,
        family: &'static str,
        options: &Options,
        to: &Path,
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<bool> {
        let failed = Error::operation("write a table");
        let mut cursor = self.uncached_cursor(family, None, None);
        cursor.seek_to_first();
        while cursor.entry().is_some_and(|(key, _)| !wanted(key)) {
            cursor.next();
        }
        if cursor.entry().is_none() {
            cursor.check()?;
            return Ok(false);
        }
        let options = options.family(&Cache::new_lru_cache(NO_CACHE_BYTES));
        let mut writer = SstFileWriter::create(&options);
        writer.open(to).map_err(&failed)?;
        while let Some((key, value)) = cursor.entry() {
            if wanted(key) {
                writer.put(key, value).map_err(&failed)?;
            }
            cursor.next();
        }
        cursor.check()?;
        // This syncs it too.
        writer.finish().map_err(&failed)?;
        Ok(true)
    }

    /// Adds all entries of a table that [`Store::write_table`] wrote to `family`, over what lies under the same keys there; on disk when
    /// this returns. The file stays as it is, and on the same file system its content is not copied.
    pub fn take_table(&self, family: &'static str, from: &Path) -> Result<()> {
        let file_error = |operation, source| Error::File {
            operation,
            path: from.to_owned(),
            source,
        };
        let link = from.with_extension(LINK);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error("remove the link of", error));
            }
            // A crash has left it, or it is not there.
            _ => {}
        }
        std::fs::hard_link(from, &link).map_err(|error| file_error("link", error))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.database
            .ingest_external_file_cf_opts(self.handle(family), &options, vec![link])
            .map_err(Error::operation("take a table over"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Durability;

    const FAMILY: &str = "things";

    fn open(path: &Path) -> Store {
        Store::open(path, &Options::default(), &[FAMILY]).unwrap()
    }

    fn put(store: &Store, key: &[u8], value: &[u8]) {
        let mut batch = store.batch();
        batch.put(FAMILY, key, value);
        store.write(batch, Durability::Volatile).unwrap();
    }

    fn content(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        let mut cursor = store.cursor(FAMILY, None, None);
        cursor.seek_to_first();
        while let Some((key, value)) = cursor.entry() {
            all.push((key.to_vec(), value.to_vec()));
            cursor.next();
        }
        cursor.check().unwrap();
        all
    }

    #[test]
    fn a_table_takes_the_place_of_what_was_deleted_and_can_be_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let source = open(&dir.path().join("source"));
        for number in 0..1000u32 {
            put(&source, &number.to_be_bytes(), b"new");
        }
        let table = dir.path().join("things.table");
        let not_seven = |key: &[u8]| key != 7u32.to_be_bytes();
        assert!(
            source
                .write_table(FAMILY, &Options::default(), &table, &not_seven)
                .unwrap()
        );
        assert!(
            !source
                .write_table(FAMILY, &Options::default(), &dir.path().join("none"), &|_| false)
                .unwrap()
        );
        assert!(!dir.path().join("none").exists());

        let path = dir.path().join("target");
        let target = open(&path);
        put(&target, b"old", b"old");
        put(&target, &7u32.to_be_bytes(), b"old");
        for _ in 0..2 {
            let mut batch = target.batch();
            batch.delete_range(FAMILY, &[], &[0xff; 9]);
            target.write(batch, Durability::Volatile).unwrap();
            target.take_table(FAMILY, &table).unwrap();
            let taken = content(&target);
            assert_eq!(taken.len(), 999);
            assert!(taken.iter().all(|(key, value)| not_seven(key) && value == b"new"));
        }
        // What comes later lies above it, also after a new start.
        put(&target, &1u32.to_be_bytes(), b"newer");
        target.flush().unwrap();
        drop(target);
        let target = open(&path);
        assert_eq!(
            target.get(FAMILY, &1u32.to_be_bytes()).unwrap().as_deref(),
            Some(&b"newer"[..])
        );
        assert_eq!(content(&target).len(), 999);
        assert!(target.verify().is_empty());
    }

    #[test]
    fn the_content_of_a_table_is_not_copied() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let source = open(&dir.path().join("source"));
        put(&source, b"a", b"1");
        let table = dir.path().join("things.table");
        source
            .write_table(FAMILY, &Options::default(), &table, &|_| true)
            .unwrap();
        let path = dir.path().join("target");
        let target = open(&path);
        target.take_table(FAMILY, &table).unwrap();
        let number = std::fs::metadata(&table).unwrap().ino();
        let same = std::fs::read_dir(&path)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().metadata().unwrap().ino() == number);
        assert_eq!(same.count(), 1);
    }
}
