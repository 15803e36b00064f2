//! Looking at a database without changing anything in its directory, and reading all of it.

use std::path::Path;
use std::sync::Mutex;

use rocksdb::{Cache, ColumnFamilyDescriptor, ReadOptions};

use crate::error::{Error, Result};
use crate::families::{Database, Store, open_error};
use crate::inspect::inspect;
use crate::options::{Options, size};

/// RocksDB writes its own log into the directory unless that lies elsewhere; here it can lie nowhere.
const NO_LOG: &str = "/dev/null";

impl Store {
    /// Opens `path` for reading: nothing in it changes, also where a server was killed. Writing fails. All `families` must be
    /// there. Nothing keeps a server from starting meanwhile: see [`crate::Hold`].
    pub fn open_read_only(path: &Path, options: &Options, families: &[&'static str]) -> Result<Store> {
        if let Some(damage) = inspect(path)?.damage.into_iter().next() {
            return Err(damage);
        }
        let cache = Cache::new_lru_cache(size(options.block_cache_size));
        let mut database_options = options.database(&cache);
        database_options.create_if_missing(false);
        database_options.set_db_log_dir(NO_LOG);
        let there = Database::list_cf(&database_options, path).map_err(|source| open_error(path, source))?;
        if let Some(missing) = families
            .iter()
            .find(|family| there.iter().all(|there| there != *family))
        {
            return Err(Error::NoFamily {
                path: path.to_owned(),
                family: missing,
            });
        }
        let mut names = vec!["default"];
        names.extend(families.iter().copied().filter(|name| *name != "default"));
        let descriptors = names.iter().map(|name| {
            let mut family = options.family(&cache);
            // Else a scan leaps over the blocks of old versions.
            family.set_max_sequential_skip_in_iterations(u64::MAX);
            ColumnFamilyDescriptor::new(*name, family)
        });
        let database = Database::open_cf_descriptors_read_only(&database_options, path, descriptors, false)
            .map_err(|source| open_error(path, source))?;
        Ok(Store {
            database,
            options: database_options,
            families: names,
            path: path.to_owned(),
            option_files: Mutex::default(),
            torn_writes: Vec::new(),
        })
    }

    /// Reads every block of every table, removed entries included, and compares the checksums; the first damage of each family.
    pub fn verify(&self) -> Vec<Error> {
        let read = |family: &&'static str| {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            options.set_verify_checksums(true);
            #[allow(
                deprecated,
                reason = "without it blocks of ranges that were deleted are leapt over"
            )]
            options.set_ignore_range_deletions(true);
            let mut entries = self.database.raw_iterator_cf_opt(self.handle(family), options);
            entries.seek_to_first();
            while entries.valid() {
                entries.next();
            }
            entries.status().map_err(Error::operation("read")).err()
        };
        self.families.iter().filter_map(read).collect()
    }
}
