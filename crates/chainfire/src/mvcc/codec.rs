//! How versions and changes are laid out in the database. These bytes outlive releases.
//!
//! Integers inside values are LEB128 varints as in protocol buffers. Integers inside keys are big-endian so that byte order is
//! number order.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use super::Revision;
use crate::wire::mvccpb::KeyValue;

/// One version of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Revision of the write that created the key's present life.
    pub created: Revision,
    /// Revision of this write.
    pub modified: Revision,
    /// Writes since creation; 1 for the creating one, 0 for a tombstone.
    pub version: i64,
    /// Lease the key hangs on; 0 for none.
    pub lease: i64,
    /// The value, or `None` for a tombstone.
    pub value: Option<Bytes>,
}

const TOMBSTONE: u8 = 1;

/// Bytes counted for a version beside its key and value: its numbers, its place in `rev`, index overhead.
const VERSION_OVERHEAD: u64 = 48;

impl Version {
    /// A tombstone written at `modified`.
    pub fn tombstone(modified: Revision) -> Version {
        Version {
            created: 0,
            modified,
            version: 0,
            lease: 0,
            value: None,
        }
    }

    /// True for a deletion.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// Bytes that a version of `key` counts against the quota.
    pub fn cost(key: &[u8], value_len: usize) -> u64 {
        2 * key.len() as u64 + value_len as u64 + VERSION_OVERHEAD
    }

    /// Length of the value; 0 for a tombstone.
    pub fn value_len(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Layout: flags, created, modified, version, lease, value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.put_u8(if self.is_tombstone() { TOMBSTONE } else { 0 });
        encode_varint(self.created as u64, out);
        encode_varint(self.modified as u64, out);
        encode_varint(self.version as u64, out);
        encode_varint(self.lease as u64, out);
        if let Some(value) = &self.value {
            out.put_slice(value);
        }
    }

    /// Reads what `encode` wrote. `None` means the bytes are none of ours.
    pub fn decode(bytes: &[u8]) -> Option<Version> {
        let (head, value) = Head::decode(bytes)?;
        Some(Version {
            created: head.created,
            modified: head.modified,
            version: head.version,
            lease: head.lease,
            value: (!head.tombstone).then(|| Bytes::copy_from_slice(value)),
        })
    }

    /// The form clients see. The key's bytes are shared, not copied.
    pub fn key_value(self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            value: self.value.unwrap_or_default(),
            lease: self.lease,
        }
    }
}

/// The numbers of a version, read without copying its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) tombstone: bool,
}

impl Head {
    /// The numbers, and the bytes of the value.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<(Head, &[u8])> {
        let flags = *bytes.first()?;
        bytes.advance(1);
        let head = Head {
            created: decode_varint(&mut bytes).ok()? as i64,
            modified: decode_varint(&mut bytes).ok()? as i64,
            version: decode_varint(&mut bytes).ok()? as i64,
            lease: decode_varint(&mut bytes).ok()? as i64,
            tombstone: flags & TOMBSTONE != 0,
        };
        Some((head, bytes))
    }
}

/// One entry of `rev`: a key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// True for a deletion.
    pub deleted: bool,
    /// Revision of the live version this one replaced; 0 for none, also where it replaced a tombstone.
    pub previous: Revision,
    /// Length of the replaced version's value, so that compaction can keep the books without reading it.
    pub previous_len: u64,
}

impl Change {
    /// Layout: flags, previous, previous_len, key.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.put_u8(if self.deleted { TOMBSTONE } else { 0 });
        encode_varint(self.previous as u64, out);
        encode_varint(self.previous_len, out);
        out.put_slice(&self.key);
    }

    /// Reads what `encode` wrote. `None` means the bytes are none of ours.
    pub fn decode(mut bytes: &[u8]) -> Option<Change> {
        let flags = *bytes.first()?;
        bytes.advance(1);
        let previous = decode_varint(&mut bytes).ok()? as i64;
        let previous_len = decode_varint(&mut bytes).ok()?;
        Some(Change {
            key: Bytes::copy_from_slice(bytes),
            deleted: flags & TOMBSTONE != 0,
            previous,
            previous_len,
        })
    }
}

/// Key in `rev`: revision, then the change's position within it.
pub(crate) fn rev_key(revision: Revision, position: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key[8..].copy_from_slice(&position.to_be_bytes());
    key
}

/// The revision in a key of `rev`. `None` means the bytes are none of ours.
pub(crate) fn rev_of(key: &[u8]) -> Option<Revision> {
    Some(i64::from_be_bytes(key.get(..8)?.try_into().ok()?))
}

/// Writes the part of a key in `hist` that all versions of `key` share: the key with 0x00 as 0x00 0xFF, then 0x00 0x00. Keys
/// keep their order, and no key's versions lie between another's.
pub(crate) fn hist_prefix(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(key.len() + 10);
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Key in `hist` of the version of `key` written at `revision`.
pub(crate) fn hist_key(key: &[u8], revision: Revision, out: &mut Vec<u8>) {
    hist_prefix(key, out);
    out.extend_from_slice(&revision.to_be_bytes());
}

/// User key and revision of a key in `hist`. `None` means the bytes are none of ours.
pub(crate) fn hist_parts(bytes: &[u8]) -> Option<(Vec<u8>, Revision)> {
    let split = bytes.len().checked_sub(10)?;
    let (escaped, rest) = bytes.split_at(split);
    if rest[..2] != [0, 0] {
        return None;
    }
    let revision = i64::from_be_bytes(rest[2..].try_into().ok()?);
    let mut key = Vec::with_capacity(escaped.len());
    let mut escaped = escaped.iter();
    while let Some(byte) = escaped.next() {
        key.push(*byte);
        if *byte == 0 && escaped.next() != Some(&0xff) {
            return None;
        }
    }
    Some((key, revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_survive_the_round_trip(created: i64, modified: i64, version: i64, lease: i64, value: Option<Vec<u8>>) {
            let before = Version { created, modified, version, lease, value: value.map(Bytes::from) };
            let mut bytes = Vec::new();
            before.encode(&mut bytes);
            prop_assert_eq!(Version::decode(&bytes), Some(before));
        }

        #[test]
        fn changes_survive_the_round_trip(key: Vec<u8>, deleted: bool, previous: i64, previous_len: u64) {
            let before = Change { key: Bytes::from(key), deleted, previous, previous_len };
            let mut bytes = Vec::new();
            before.encode(&mut bytes);
            prop_assert_eq!(Change::decode(&bytes), Some(before));
        }

        #[test]
        fn history_is_ordered_by_key_then_revision(
            a in prop::collection::vec(0u8..3, 0..6), b in prop::collection::vec(0u8..3, 0..6),
            x in 0i64..1000, y in 0i64..1000,
        ) {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            hist_key(&a, x, &mut one);
            hist_key(&b, y, &mut two);
            prop_assert_eq!(one.cmp(&two), (&a, x).cmp(&(&b, y)));
            prop_assert_eq!(hist_parts(&one), Some((a, x)));
        }

        #[test]
        fn foreign_bytes_are_refused_not_fatal(bytes: Vec<u8>) {
            let _ = Version::decode(&bytes);
            let _ = Change::decode(&bytes);
            let _ = hist_parts(&bytes);
        }
    }
}
