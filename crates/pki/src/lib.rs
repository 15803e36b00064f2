//! Certificates of machines: made, read, checked, and exchanged while they are in use.
//!
//! - [`Authority`] issues certificates; [`dev`] makes a whole set for trying things out.
//! - [`Certificate`] is what people want to know of one: whose, by whom, for which names, until when.
//! - [`Material`] is a certificate with its key and the authorities to trust, read from files and checked against each other, so
//!   that a mistake is told with the name of the file before the first handshake.
//! - [`Reloadable`] holds the configuration made of it, and takes new files when they come. Files that cannot be used change
//!   nothing: what was good stays in use.
//! - [`pinned`] does without authorities: a machine is its key, and others remember the key's fingerprint.
//! - [`Trouble`] says of a failed handshake which side refused what.
//!
//! Nothing here opens a socket, starts a timer or logs: programs own these, and their log targets.
//!
//! **Invariant:** TLS is 1.2 or 1.3 (with pinned keys 1.3), by aws-lc-rs, whoever asks. A private key is never in a file that others can read, not for
//! a moment, and never printed.

mod authority;
mod certificate;
pub mod cli;
pub mod dev;
mod error;
pub mod files;
mod material;
pub mod pinned;
mod reload;
mod trouble;

pub use authority::{Authority, Issued, Name, Profile, Usage};
pub use certificate::{Certificate, time_text};
pub use error::Error;
pub use material::{ClientAuth, Material, Paths, Warning, client_config, read_authorities, server_config};
pub use reload::{Look, Reloadable};
pub use trouble::{Trouble, Unverified};
