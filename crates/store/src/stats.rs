//! What the store can say about itself.

use crate::families::Store;

/// Bytes on disk and in memory, as RocksDB counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Table files, obsolete ones included, plus memory buffers.
    pub total: u64,
    /// Estimate of what is live in the table files, plus the active memory buffers.
    pub live: u64,
}

/// Whether and how long writers were held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteStalls {
    /// Microseconds since the store was opened that writers waited because flush or compaction could not keep up.
    pub total_micros: u64,
    /// Writes stand still at this moment.
    pub stopped: bool,
}

impl Store {
    /// Sizes over all families.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        for family in &self.families {
            let property = |name: &str| {
                self.database
                    .property_int_value_cf(self.handle(family), name)
                    .ok()
                    .flatten()
                    .unwrap_or(0)
            };
            let buffers = property("rocksdb.cur-size-all-mem-tables");
            sizes.total += property("rocksdb.total-sst-files-size") + buffers;
            sizes.live += property("rocksdb.estimate-live-data-size") + buffers;
        }
        sizes
    }

    /// Stalls so far. There are no stall events in the bindings, so this is polled.
    pub fn write_stalls(&self) -> WriteStalls {
        let stopped = self
            .database
            .property_int_value("rocksdb.is-write-stopped")
            .ok()
            .flatten()
            .unwrap_or(0);
        WriteStalls {
            total_micros: self
                .options
                .get_ticker_count(rocksdb::statistics::Ticker::StallMicros),
            stopped: stopped != 0,
        }
    }
}
