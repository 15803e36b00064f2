//! Machines that know each other by their keys, without an authority.
//!
//! Each machine makes an [`Identity`] for itself: a private key and a certificate that it signs with the same key. What others remember
//! of it (*pin*) is the [`Fingerprint`] of the public key; names and dates in the certificate are only told, never judged, so a
//! certificate may be made anew for the same key, and none expires in the middle of the night.
//!
//! [`server_config`] and [`client_config`] are TLS 1.3 only. A server lets everybody finish the handshake who proves to have the key
//! that he shows, and those who show none as well; whoever uses it decides by the key what they may do. A client takes the one key that
//! it wants, before it has sent anything but its greeting, or at first contact any, and then asks [`Fingerprint::of_certificate`] whom
//! it sees.
//!
//! **Invariant:** what is verified in a handshake is possession of exactly the key whose fingerprint is reported.

mod error;
mod fingerprint;
mod identity;
mod tls;

pub use error::Error;
pub use fingerprint::{BadFingerprint, Fingerprint, certificate_pem};
pub use identity::{CERTIFICATE_FILE, Identity, KeyKind, PRIVATE_FILE, PUBLIC_FILE};
pub use tls::{WrongKey, client_config, server_config};
