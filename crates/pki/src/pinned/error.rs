//! What can be wrong with an identity. Each text names the file to look at.

use std::path::PathBuf;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {}: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Others than the owner may use the private key.
    #[error(
        "the private key {path} has mode {mode:04o}, so others than its owner can use it: run `chmod 600 {path}`",
        path = .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate carries something that is no public key.
    #[error("{} holds a certificate without a usable key: {reason}", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Anything that is the same with other certificates.
    #[error(transparent)]
    Files(crate::Error),
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Error {
        match error {
            // With a remedy that fits any program.
            crate::Error::Read { path, source } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Error::Read {
                    path,
                    reason: "permission denied: it must belong to the user that the program runs as"
                        .to_owned(),
                }
            }
            other => Error::Files(other),
        }
    }
}
