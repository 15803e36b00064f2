//! Authentication and authorisation, as etcd v3 clients know them.
//!
//! A *user* has a password and a set of *roles*; a role grants READ, WRITE or both on key ranges. The role `root` may do
//! everything. While authentication is off nobody is asked; it can only be turned on once user `root` has role `root`.
//!
//! How a request is judged:
//! 1. The node that takes `Authenticate` looks up a [`Credential`] and verifies the password ([`password`]): slow, outside
//!    every lock, never while a log entry is applied. The client gets a token ([`token`]).
//! 2. The node that takes a later request turns its token into an [`Identity`]: a user name, and the revision of the auth
//!    store under which that name was established.
//! 3. [`AuthStore::check`] and its relatives compare the identity with what is granted *now*. For commands of the log this
//!    happens when they are applied, on every member alike.
//!
//! Every change adds one to the store's *auth revision*, which is how a request that was identified before a change and
//! arrives after it is noticed: key access under an older revision is refused, and the client authenticates again.
//!
//! Invariants: [`AuthStore`] reads no clock, no randomness and no file, so members that apply the same commands hold the
//! same users; a refused command changes nothing; plain passwords never reach it.
//!
//! Where this is stricter than etcd 3.5 (later releases of etcd are too): puts and nested transactions inside a
//! transaction are judged like those outside; compaction, moving the leader and setting alarms need role `root`; an empty
//! transaction, a lease grant or a status needs some valid user; and a token older than its user's password opens nothing,
//! not even to `root`.

mod access;
mod machine;
pub mod password;
mod ranges;
mod record;
mod settings;
pub mod token;

pub use access::{Access, LeaseKeys};
pub use machine::{AuthStore, Credential, Outcome, Tokens};
pub use record::Change;
pub use settings::{AuthSettings, JwtSettings, SettingsError, TokenKind};
pub use token::{Entropy, TokenProvider, system_entropy};

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// Who asks, as established by the node that took the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name. Empty: the request named nobody.
    pub user: String,
    /// The auth revision under which the name was established. 0 when the request named nobody.
    pub auth_revision: u64,
}

impl Identity {
    /// `user`, established under `auth_revision`.
    pub fn new(user: impl Into<String>, auth_revision: u64) -> Self {
        Self {
            user: user.into(),
            auth_revision,
        }
    }

    /// The identity of a request that named nobody.
    pub fn nobody() -> Self {
        Self::default()
    }
}
