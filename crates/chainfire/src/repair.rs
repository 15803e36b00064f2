//! The program `rocksdb_ldb`: whether a data directory is as it was written, and making the best of one that is not.
//!
//! [`check`] reads everything and changes nothing. [`repair`] makes a new database of what can be read, beside the damaged one,
//! checks it like any other, and only then puts it in the place of the damaged one, whose files stay in `lost/`. So a repair that
//! is not possible, or is interrupted, has changed nothing, and one that was done can be undone.
//!
//! What counts is in this order. The state (keys, leases, users) is right as a whole or not used: a key must not be missing
//! because the block it lay in could not be read. A state that is not right is made anew from the log if that still
//! begins with the first entry. The log is cut at the first bad entry that the state does not have; entries that it has
//! are not needed. Whatever is dropped is said. Afterwards the node may lack what it once promised to have, so the directory
//! is marked like one made from a backup: the node's votes do not count until the others have admitted it.

mod check;
pub mod cli;
mod entries;
mod mend;

use std::path::{Path, PathBuf};

pub use check::check;
pub use mend::{Outcome, repair};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory holds no database.
    #[error("there is no database in {}", .0.display())]
    NoDatabase(PathBuf),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Too much is damaged; nothing was changed.
    #[error(
        "repair is not possible, nothing was changed: {reason}: restore a backup or a snapshot (`chainfire-client snapshot restore`)"
    )]
    Impossible {
        /// What stands in the way.
        reason: String,
    },
}

/// Refuses what is no database, so that none is made there.
fn must_be_database(dir: &Path) -> Result<(), Error> {
    let no_database = || Error::NoDatabase(dir.to_owned());
    let entries = std::fs::read_dir(dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => no_database(),
        _ => store::Error::File {
            operation: "list",
            path: dir.to_owned(),
            source,
        }
        .into(),
    })?;
    let known = entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name == "CURRENT"
            || name.starts_with("MANIFEST-")
            || Path::new(name.as_ref())
                .extension()
                .is_some_and(|extension| extension == "sst" || extension == "log")
            || name == "repaired"
            || name == "replacing"
    });
    if known { Ok(()) } else { Err(no_database()) }
}
