//! The only door to RocksDB: opening with the settings operators know, batches with a stated durability, ordered reads,
//! checkpoints, whole tables, sizes and repair.
//!
//! A [`Store`] is one directory with a fixed set of column families. Two kinds of data live in it, told apart by the
//! [`Durability`] of each batch:
//!
//! - a *log* is written [`Durability::Synced`]: it is on disk when `write` returns;
//! - the *state* that can be rebuilt from a log is written [`Durability::Volatile`]: it skips the write-ahead log and reaches
//!   the disk when memory buffers are flushed. All families flush together (atomic flush), so after a crash the state is that
//!   of one earlier instant, never a mixture, and replaying the log from the index stored in the state makes it whole.
//!
//! Files keep table format 5 on every family, the newest that Debian's own `ldb` reads, so that an operator's old tool
//! inspects a database instead of destroying it. RocksDB's `OPTIONS-*` files are removed after opening for the same reason:
//! settings always come from our configuration.
//!
//! Invariant: no other crate names `rocksdb`.

mod batch;
mod cursor;
mod error;
mod families;
mod framing;
mod inspect;
mod lock;
mod options;
mod replace;
mod salvage;
mod stats;
mod tables;
mod verify;

pub use batch::{Batch, Durability};
pub use cursor::Cursor;
pub use error::{Error, Result};
pub use families::Store;
pub use inspect::{TornWrite, damage};
pub use lock::Hold;
pub use options::Options;
pub use replace::{finish_replacement, replace};
pub use salvage::{Salvage, salvage};
pub use stats::{Sizes, WriteStalls};
