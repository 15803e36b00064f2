//! One database directory and its column families.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DBPinnableSlice, DBWithThreadMode, FlushOptions,
    ReadOptions, ReadTier, SingleThreaded, WriteOptions,
};

use crate::batch::{Batch, Durability};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::inspect::{TornWrite, inspect};
use crate::lock;
use crate::options::{Options, size};

/// Families are fixed when the store is opened, so the mode without a lock around them fits.
pub(crate) type Database = DBWithThreadMode<SingleThreaded>;

/// An open database. Reads and writes may come from any thread; RocksDB orders them.
#[allow(missing_debug_implementations, reason = "RocksDB's handle has none")]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) options: rocksdb::Options,
    pub(crate) families: Vec<&'static str>,
    pub(crate) path: PathBuf,
    /// RocksDB's `OPTIONS-*` files, which are kept here instead of on disk. Locked while a checkpoint needs them there.
    pub(crate) option_files: Mutex<Vec<(PathBuf, Vec<u8>)>>,
    pub(crate) torn_writes: Vec<TornWrite>,
}

pub(crate) fn open_error(path: &Path, source: rocksdb::Error) -> Error {
    let path = path.to_owned();
    if source.as_ref().contains("lock file") || source.as_ref().contains("lock hold by") {
        Error::Locked { path }
    } else {
        Error::Open { path, source }
    }
}

impl Store {
    /// Opens `path`, creating it and any missing family. `default` is always there and need not be named.
    pub fn open(path: &Path, options: &Options, families: &[&'static str]) -> Result<Store> {
        std::fs::create_dir_all(path).map_err(|source| Error::File {
            operation: "create directory",
            path: path.to_owned(),
            source,
        })?;
        let inspection = inspect(path)?;
        if let Some(damage) = inspection.damage.into_iter().next() {
            // What another process is writing may look like anything.
            return Err(match lock::holder(path) {
                Some(_) => Error::Locked {
                    path: path.to_owned(),
                },
                None => damage,
            });
        }
        let cache = Cache::new_lru_cache(size(options.block_cache_size));
        let database_options = options.database(&cache);
        let mut names = vec!["default"];
        names.extend(families.iter().copied().filter(|name| *name != "default"));
        let descriptors = names
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(*name, options.family(&cache)));
        let database = Database::open_cf_descriptors(&database_options, path, descriptors)
            .map_err(|source| open_error(path, source))?;
        let store = Store {
            database,
            options: database_options,
            families: names,
            path: path.to_owned(),
            option_files: Mutex::default(),
            torn_writes: inspection.torn,
        };
        store.take_option_files()?;
        Ok(store)
    }

    /// An older `ldb` refuses to start on option names it does not know, and we never read these files.
    fn take_option_files(&self) -> Result<()> {
        let mut taken = self.option_files.lock().expect("nothing panics while it is held");
        for entry in std::fs::read_dir(&self.path).map_err(|error| self.file_error("list", error))? {
            let entry = entry.map_err(|error| self.file_error("list", error))?;
            if entry.file_name().to_string_lossy().starts_with("OPTIONS-") {
                let path = entry.path();
                let content =
                    std::fs::read(&path).map_err(|error| self.file_error("read options in", error))?;
                std::fs::remove_file(&path).map_err(|error| self.file_error("remove options in", error))?;
                taken.push((path, content));
            }
        }
        Ok(())
    }

    fn file_error(&self, operation: &'static str, source: std::io::Error) -> Error {
        Error::File {
            operation,
            path: self.path.clone(),
            source,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What opening dropped: writes that a crash cut short, so that nobody was told of them.
    pub fn torn_writes(&self) -> &[TornWrite] {
        &self.torn_writes
    }

    pub(crate) fn handle(&self, family: &'static str) -> &ColumnFamily {
        self.database
            .cf_handle(family)
            .expect("every family named in the code is opened with the store")
    }

    /// Reads one key. The value is pinned in the cache, not copied.
    pub fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.database
            .get_pinned_cf(self.handle(family), key)
            .map_err(Error::operation("read"))
    }

    /// The same without keeping the block it lies in: for what is about to be overwritten.
    pub fn get_uncached(&self, family: &'static str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        self.database
            .get_pinned_cf_opt(self.handle(family), key, &options)
            .map_err(Error::operation("read"))
    }

    /// Reads one key as a crash right now would leave it: what [`Durability::Volatile`] batches wrote since the last flush is
    /// not seen.
    pub fn get_flushed(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        self.database
            .get_cf_opt(self.handle(family), key, &options)
            .map_err(Error::operation("read"))
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            store: self,
            inner: rocksdb::WriteBatch::default(),
        }
    }

    /// Carries out `batch`, whole or not at all.
    pub fn write(&self, batch: Batch<'_>, durability: Durability) -> Result<()> {
        let mut options = WriteOptions::default();
        options.disable_wal(durability == Durability::Volatile);
        let failed = Error::operation("write");
        self.database.write_opt(batch.inner, &options).map_err(&failed)?;
        if durability == Durability::Synced {
            // Not with the write: RocksDB admits one write at a time, and every other one would wait for the disk too.
            self.database.flush_wal(true).map_err(&failed)?;
        }
        Ok(())
    }

    /// A cursor over `[from, to)` of `family`; `None` leaves that side open. It starts nowhere: seek first.
    pub fn cursor(&self, family: &'static str, from: Option<&[u8]>, to: Option<&[u8]>) -> Cursor<'_> {
        self.cursor_with(family, from, to, ReadOptions::default())
    }

    /// The same without keeping the blocks it reads: for scans so long that they would push everything else out.
    pub fn uncached_cursor(
        &self,
        family: &'static str,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Cursor<'_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        self.cursor_with(family, from, to, options)
    }

    fn cursor_with(
        &self,
        family: &'static str,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
        mut options: ReadOptions,
    ) -> Cursor<'_> {
        if let Some(from) = from {
            options.set_iterate_lower_bound(from);
        }
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        Cursor {
            inner: self.database.raw_iterator_cf_opt(self.handle(family), options),
        }
    }

    /// Writes all memory buffers of all families to disk, as of one instant.
    pub fn flush(&self) -> Result<()> {
        let handles: Vec<&ColumnFamily> = self.families.iter().map(|name| self.handle(name)).collect();
        self.database
            .flush_cfs_opt(&handles, &FlushOptions::default())
            .map_err(Error::operation("flush"))
    }

    /// Compacts `family` by hand, giving back the space of removed entries. Reads and writes go on meanwhile.
    pub fn compact(&self, family: &'static str) {
        self.database
            .compact_range_cf(self.handle(family), None::<&[u8]>, None::<&[u8]>);
    }

    /// A copy of the database as of now in the new directory `to`, made of hard links where the file system allows.
    pub fn checkpoint(&self, to: &Path) -> Result<()> {
        // RocksDB insists on copying its options, so they are there for as long as that takes.
        let option_files = self.option_files.lock().expect("nothing panics while it is held");
        for (path, content) in option_files.iter() {
            std::fs::write(path, content).map_err(|error| self.file_error("write options in", error))?;
        }
        let failed = Error::operation("checkpoint");
        let made = Checkpoint::new(&self.database)
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(&failed);
        for (path, _) in option_files.iter() {
            std::fs::remove_file(path).map_err(|error| self.file_error("remove options in", error))?;
            if let (Ok(()), Some(name)) = (&made, path.file_name()) {
                std::fs::remove_file(to.join(name))
                    .map_err(|error| self.file_error("remove options in", error))?;
            }
        }
        made
    }

    /// Stops flushes and compactions and waits for those under way, before the process ends.
    pub fn stop_background_work(&self) {
        self.database.cancel_all_background_work(true);
    }
}
