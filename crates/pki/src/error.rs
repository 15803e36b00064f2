//! What can be wrong with certificates and keys. Each text names the file to look at.

use std::io;
use std::path::PathBuf;

use super::certificate::time_text;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {}: {}{}", .path.display(), plain(.source), hint(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("write {}: {}", .path.display(), plain(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file should hold certificates and has none.
    #[error("{} holds no certificate: want PEM text with -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate cannot be read.
    #[error("{} holds a damaged certificate: {reason}", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file should hold a key and has none.
    #[error("{} holds no private key: want PEM text with -----BEGIN PRIVATE KEY-----", .0.display())]
    NoKey(PathBuf),
    /// A key has a passphrase.
    #[error("{path} holds an encrypted key: remove its passphrase with `openssl pkey -in {path} -out NEW`", path = .0.display())]
    EncryptedKey(PathBuf),
    /// A key cannot be used.
    #[error("{} holds a key that cannot be used: {reason}", .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are not a pair.
    #[error("the key in {} does not belong to the certificate in {}", .key.display(), .certificate.display())]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate was good once.
    #[error("the certificate in {} expired on {}: replace it", .path.display(), time_text(*.not_after))]
    Expired {
        /// The file.
        path: PathBuf,
        /// Seconds since 1970.
        not_after: i64,
    },
    /// The certificate will be good later, or the clock is wrong.
    #[error("the certificate in {} is not valid before {}: is this machine's clock right?", .path.display(), time_text(*.not_before))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Seconds since 1970.
        not_before: i64,
    },
    /// The pieces are good and do not make a configuration.
    #[error("certificates cannot be used: {0}")]
    Unusable(String),
    /// Issuing failed.
    #[error("issue a certificate for {name}: {reason}")]
    Issue {
        /// For whom.
        name: String,
        /// Why not.
        reason: String,
    },
}

/// What the system said, in the form of our own texts.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .rsplit_once(" (os error ")
        .map_or(text.as_str(), |(text, _)| text);
    text.to_lowercase()
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": it must belong to the user that the service runs as, as in `chown chainfire:chainfire FILE`"
        }
        _ => "",
    }
}
