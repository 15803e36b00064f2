//! The settings operators tune, under the names RocksDB's own documentation uses.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, WriteBufferManager};

/// Settings of one store. Sizes are in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size at which one memory buffer is flushed.
    pub write_buffer_size: u64,
    /// Memory buffers, the one being filled included. `write_buffer_size * max_write_buffer_number` bounds the buffers of
    /// all families together.
    pub max_write_buffer_number: u32,
    /// Cache of uncompressed blocks, shared by all families. The memory buffers take their room from it.
    pub block_cache_size: u64,
    /// Files in level 0 that start a compaction.
    pub level0_file_num_compaction_trigger: u32,
    /// Bits per key of the bloom filters; 0 writes none.
    pub bloom_filter_bits_per_key: u32,
    /// Files kept open.
    pub max_open_files: u32,
    /// Flush and compact past the page cache.
    pub use_direct_io_for_flush_and_compaction: bool,
    /// Compactions at a time.
    pub max_background_compactions: u32,
    /// Flushes at a time.
    pub max_background_flushes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            write_buffer_size: 64 << 20,
            max_write_buffer_number: 2,
            block_cache_size: 256 << 20,
            level0_file_num_compaction_trigger: 4,
            bloom_filter_bits_per_key: 0,
            max_open_files: 1000,
            use_direct_io_for_flush_and_compaction: false,
            max_background_compactions: 4,
            max_background_flushes: 2,
        }
    }
}

/// The newest table format that RocksDB 7.8, Debian 12's, can read. It must be set for every family, or RocksDB picks its
/// newest, which that version's `repair` would throw away.
const TABLE_FORMAT: i32 = 5;

/// Write-ahead log that makes a flush worth it. What is in it is replayed at the next start, so this bounds that start.
const WAL_BYTES_MAX: u64 = 128 << 20;

impl Options {
    pub(crate) fn database(&self, cache: &Cache) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        options.set_atomic_flush(true);
        // A torn record at the very end is a write that was never acknowledged; anything else damaged refuses to open.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_total_wal_size(WAL_BYTES_MAX);
        // One budget: what the buffers of all families hold, which this also bounds, is taken from the block cache.
        let buffers = size(self.write_buffer_size) * self.max_write_buffer_number as usize;
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(
            buffers,
            false,
            cache.clone(),
        ));
        options.set_max_open_files(i32::try_from(self.max_open_files).unwrap_or(i32::MAX));
        options.set_use_direct_io_for_flush_and_compaction(self.use_direct_io_for_flush_and_compaction);
        #[allow(
            deprecated,
            reason = "the runbook names these two settings; RocksDB still honours them"
        )]
        {
            options.set_max_background_compactions(clamp(self.max_background_compactions));
            options.set_max_background_flushes(clamp(self.max_background_flushes));
        }
        options.set_keep_log_file_num(4);
        options.set_max_manifest_file_size(16 << 20);
        options.set_log_level(rocksdb::LogLevel::Warn);
        options.enable_statistics();
        options.set_statistics_level(rocksdb::statistics::StatsLevel::ExceptHistogramOrTimers);
        options
    }

    pub(crate) fn family(&self, cache: &Cache) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        self.shape(cache, &mut options);
        options
    }

    /// Sets what concerns the tables of a family.
    pub(crate) fn shape(&self, cache: &Cache, options: &mut rocksdb::Options) {
        let mut table = BlockBasedOptions::default();
        table.set_format_version(TABLE_FORMAT);
        table.set_block_cache(cache);
        table.set_block_size(16 << 10);
        if self.bloom_filter_bits_per_key > 0 {
            table.set_bloom_filter(f64::from(self.bloom_filter_bits_per_key), false);
        }

        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(size(self.write_buffer_size));
        options.set_max_write_buffer_number(clamp(self.max_write_buffer_number));
        options.set_level_zero_file_num_compaction_trigger(clamp(self.level0_file_num_compaction_trigger));
        // Young files are rewritten soon; compressing them would cost more than it saves.
        let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
        options.set_compression_per_level(&[none, none, lz4, lz4, lz4, lz4, lz4]);
    }
}

pub(crate) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn clamp(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
