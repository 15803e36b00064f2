//! Users, roles and the switch, as bytes of column family `auth`.
//!
//! | key | value |
//! |---|---|
//! | `meta` | [`Meta`] |
//! | `user/NAME` | [`UserRecord`] |
//! | `role/NAME` | `authpb.Role` |
//!
//! All values are protobuf messages, so that a later release can add fields. Numbers are never reused.

use std::fmt;

use prost::Message;

use crate::error::Error;
use crate::wire::authpb;

const META: &[u8] = b"meta";
const USER: &[u8] = b"user/";
const ROLE: &[u8] = b"role/";

/// One write to column family `auth`: a value, or a deletion.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// The key in the column family.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

impl fmt::Debug for Change {
    /// Values hold password hashes, so only their length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("value_bytes", &self.value.as_ref().map(Vec::len))
            .finish()
    }
}

/// The switch and the revision.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Meta {
    #[prost(bool, tag = "1")]
    pub(super) enabled: bool,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
}

/// One user.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UserRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) user: Option<authpb::User>,
    /// The auth revision at which the user was added or last got a password. Identities established before it are void.
    #[prost(uint64, tag = "2")]
    pub(super) since: u64,
}

/// One entry of the column family, read back.
pub(super) enum Entry {
    Meta(Meta),
    User(authpb::User, u64),
    Role(authpb::Role),
}

pub(super) fn put_meta(meta: &Meta) -> Change {
    Change {
        key: META.to_vec(),
        value: Some(meta.encode_to_vec()),
    }
}

pub(super) fn put_user(user: &authpb::User, since: u64) -> Change {
    let record = UserRecord {
        user: Some(user.clone()),
        since,
    };
    Change {
        key: [USER, &user.name].concat(),
        value: Some(record.encode_to_vec()),
    }
}

pub(super) fn delete_user(name: &str) -> Change {
    Change {
        key: [USER, name.as_bytes()].concat(),
        value: None,
    }
}

pub(super) fn put_role(role: &authpb::Role) -> Change {
    Change {
        key: [ROLE, &role.name].concat(),
        value: Some(role.encode_to_vec()),
    }
}

pub(super) fn delete_role(name: &str) -> Change {
    Change {
        key: [ROLE, name.as_bytes()].concat(),
        value: None,
    }
}

/// Reads one entry back.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Entry, Error> {
    let damaged = |why: &str| {
        Error::Local(format!(
            "load users and roles: entry \"{}\" of column family auth {why}",
            key.escape_ascii()
        ))
    };
    let undecodable = |error: prost::DecodeError| damaged(&format!("cannot be decoded: {error}"));
    if key == META {
        return Ok(Entry::Meta(Meta::decode(value).map_err(undecodable)?));
    }
    if let Some(name) = key.strip_prefix(USER) {
        let record = UserRecord::decode(value).map_err(undecodable)?;
        let user = record.user.ok_or_else(|| damaged("holds no user"))?;
        if user.name != name {
            return Err(damaged("holds a user of another name"));
        }
        return Ok(Entry::User(user, record.since));
    }
    if let Some(name) = key.strip_prefix(ROLE) {
        let role = authpb::Role::decode(value).map_err(undecodable)?;
        if role.name != name {
            return Err(damaged("holds a role of another name"));
        }
        return Ok(Entry::Role(role));
    }
    Err(damaged(
        "is of no known kind (expected meta, user/NAME or role/NAME)",
    ))
}
