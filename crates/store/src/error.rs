//! What can go wrong below: always RocksDB's own words, with the operation and the directory in front.

use std::path::PathBuf;

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed store operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the directory.
    #[error("open {}: the database is in use: another process holds its LOCK file", .path.display())]
    Locked {
        /// The database directory.
        path: PathBuf,
    },
    /// A server, or another repair, has the directory.
    #[error("{} is held by {}: stop the server first", .path.display(), .process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}")))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process, if it can be told.
        process: Option<i32>,
    },
    /// The directory could not be opened.
    #[error("open {}: {source}", .path.display())]
    Open {
        /// The database directory.
        path: PathBuf,
        /// RocksDB's reason.
        source: rocksdb::Error,
    },
    /// There are files of a database, but not the one that says which of them count.
    #[error("open {}: the file CURRENT is missing, while {} and perhaps more of a database is there", .path.display(), .file.display())]
    Headless {
        /// The database directory.
        path: PathBuf,
        /// A file in it.
        file: PathBuf,
    },
    /// A file that RocksDB would have read differently is not as it was written.
    #[error("open {}: corrupted {what} in {file} at byte {at}, error={reason}", .path.display())]
    Damaged {
        /// The database directory.
        path: PathBuf,
        /// What lies there.
        what: &'static str,
        /// Name of the file in it.
        file: String,
        /// Where in the file, in bytes from its beginning.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A family is not there, and nothing may be made.
    #[error("open {}: the column family `{family}` is missing", .path.display())]
    NoFamily {
        /// The database directory.
        path: PathBuf,
        /// Its name.
        family: &'static str,
    },
    /// A read, write, flush or checkpoint failed.
    #[error("{operation}: {source}")]
    Operation {
        /// What was being done.
        operation: &'static str,
        /// RocksDB's reason.
        source: rocksdb::Error,
    },
    /// A file operation around the database failed.
    #[error("{operation} {}: {source}", .path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn operation(operation: &'static str) -> impl Fn(rocksdb::Error) -> Error {
        move |source| Error::Operation { operation, source }
    }

    /// True when the disk had no room. Nothing of the failed write can be read, now or later. RocksDB then refuses every
    /// further write until the store is opened anew, even when there is room again.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::Open { source, .. } | Error::Operation { source, .. } => {
                source.as_ref().contains("No space left on device")
            }
            Error::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Error::Locked { .. }
            | Error::Held { .. }
            | Error::Headless { .. }
            | Error::Damaged { .. }
            | Error::NoFamily { .. } => false,
        }
    }

    /// True when the system could not say whether data reached the disk. Doing it again proves nothing: what was lost is
    /// reported once.
    pub fn is_sync_failure(&self) -> bool {
        match self {
            Error::Open { source, .. } | Error::Operation { source, .. } => {
                let text = source.as_ref();
                text.contains("While fsync") || text.contains("While fdatasync")
            }
            Error::File { .. }
            | Error::Locked { .. }
            | Error::Held { .. }
            | Error::Headless { .. }
            | Error::Damaged { .. }
            | Error::NoFamily { .. } => false,
        }
    }

    /// True when the directory cannot be used as it is: another process holds it, it may not be read or written, or it is none.
    /// Only a person can change that.
    pub fn is_unusable(&self) -> bool {
        match self {
            Error::Locked { .. } | Error::Held { .. } => true,
            Error::Open { source, .. } => {
                let text = source.as_ref();
                [
                    "Permission denied",
                    "Read-only file system",
                    "Not a directory",
                    "Operation not permitted",
                ]
                .iter()
                .any(|reason| text.contains(reason))
            }
            Error::File { source, .. } => {
                use std::io::ErrorKind as Kind;
                matches!(
                    source.kind(),
                    Kind::PermissionDenied
                        | Kind::ReadOnlyFilesystem
                        | Kind::NotADirectory
                        | Kind::AlreadyExists
                        | Kind::NotFound
                        | Kind::InvalidFilename
                        | Kind::InvalidInput
                )
            }
            Error::Operation { .. }
            | Error::Headless { .. }
            | Error::Damaged { .. }
            | Error::NoFamily { .. } => false,
        }
    }

    /// True when a file's content is not what was written, or a file is gone.
    pub fn is_corruption(&self) -> bool {
        match self {
            Error::Open { source, .. } | Error::Operation { source, .. } => {
                source.kind() == rocksdb::ErrorKind::Corruption
                    || source.as_ref().contains("No such file or directory: While open")
            }
            Error::Headless { .. } | Error::Damaged { .. } | Error::NoFamily { .. } => true,
            Error::File { .. } | Error::Locked { .. } | Error::Held { .. } => false,
        }
    }
}
