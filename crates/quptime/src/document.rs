//! `cluster.yaml`: the configuration of a cluster, replicated through the log and written to a file that people read and edit.
//!
//! - [`schema`]: what it consists of. Files of the reference (v0.1 to v0.3) are read unchanged.
//! - [`parse`]: text to [`Document`], strictly: whatever is not known is an error with its line.
//! - [`render`]: the one text of a document. `version:` is its first line and starts in column 0, since runbooks edit it with `sed`.
//! - [`integrity`]: what must hold between entries; the same rule everywhere and in every version, since replicas apply it.
//! - [`review`]: what else makes no sense, looked at where people type it.
//! - [`size`]: how large it is, and how large it may become.
//! - [`change`]: differences entry by entry, so that edits of different entries do not disturb each other.
//! - [`index`]: look-ups in it, made once.
//! - [`rename`]: what refers to something follows its new name.
//! - [`inventory`]: differences between the documents of two nodes.
//!
//! Nothing here does IO.

pub mod change;
pub mod index;
pub mod integrity;
pub mod inventory;
pub mod parse;
pub mod rename;
pub mod render;
pub mod review;
pub mod schema;
pub mod size;
mod words;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod secrets;

pub use change::{Change, Entry, Key, Section, changes_between, entries};
pub use parse::{Mistake, parse};
pub use render::{Digest, render};
pub use schema::{Alert, AlertKind, Check, CheckKind, Document, Peer};
