//! Leases: time-limited grants that keys hang on.
//!
//! Which leases exist, and what hangs on them, is replicated state in the family `lease`. When they run out is not: only the
//! leader keeps deadlines ([`Lessor`], a state machine that is told the time), renews them for keep-alives without touching
//! the log, and proposes the expiry of what has run out. Expiry takes effect when that entry is applied, so every member
//! deletes the same keys at the same revision and no clock but the leader's matters.

mod lessor;

use bytes::{Buf, BufMut, Bytes};
use store::{Batch, Store};

use crate::error::{Error, Result};
use crate::mvcc::family;

pub use lessor::{CHECKPOINT_EVERY_MS, Lessor, Remaining};

/// Longest time to live in seconds (etcd's `MaxLeaseTTL`).
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// A lease as the database keeps it, under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Positive, unique.
    pub id: i64,
    /// Time to live in seconds, as granted.
    pub ttl: i64,
    /// Seconds that were left at the last checkpoint; 0 if none was taken.
    pub remaining: i64,
}

impl Lease {
    /// Writes or overwrites the lease.
    pub fn save(&self, batch: &mut Batch<'_>) {
        let mut value = Vec::with_capacity(16);
        value.put_i64(self.ttl);
        value.put_i64(self.remaining);
        batch.put(family::LEASE, &self.id.to_be_bytes(), &value);
    }

    /// Removes the lease. What hangs on it must have been deleted in the same batch.
    pub fn remove(id: i64, batch: &mut Batch<'_>) {
        batch.delete(family::LEASE, &id.to_be_bytes());
    }
}

/// Key in `lease` that says `key` hangs on lease `id`: the id, then the key. The lease itself has no key behind its id, and no
/// user key is empty, so they cannot be confused.
pub(crate) fn attachment_key(id: i64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len());
    bytes.put_i64(id);
    bytes.put_slice(key);
    bytes
}

/// All leases in the database.
pub fn load(store: &Store) -> Result<Vec<Lease>> {
    let damaged = || Error::Damaged("read leases: the database holds bytes that are none of ours".to_owned());
    let mut leases = Vec::new();
    let mut cursor = store.cursor(family::LEASE, None, None);
    cursor.seek_to_first();
    while let Some((key, mut value)) = cursor.entry() {
        if key.len() == 8 {
            let id = i64::from_be_bytes(key.try_into().map_err(|_| damaged())?);
            if value.len() != 16 {
                return Err(damaged());
            }
            leases.push(Lease {
                id,
                ttl: value.get_i64(),
                remaining: value.get_i64(),
            });
        }
        cursor.next();
    }
    cursor.check()?;
    Ok(leases)
}

/// Keys that hang on lease `id`, in order.
pub fn attached(store: &Store, id: i64) -> Result<Vec<Bytes>> {
    // Keys are ordered as unsigned numbers; the lease with the highest has no end.
    let end = id.cast_unsigned().checked_add(1).map(u64::to_be_bytes);
    let mut cursor = store.cursor(family::LEASE, None, end.as_ref().map(<[u8; 8]>::as_slice));
    cursor.seek(&id.to_be_bytes());
    let mut keys = Vec::new();
    while let Some((key, _)) = cursor.entry() {
        if key.len() > 8 {
            keys.push(Bytes::copy_from_slice(&key[8..]));
        }
        cursor.next();
    }
    cursor.check()?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_under_every_lease_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &store::Options::default(), family::ALL).unwrap();
        let ids = [i64::MIN, -5, -1, 1, 7, 8, i64::MAX];
        let mut batch = store.batch();
        for id in ids {
            Lease {
                id,
                ttl: 10,
                remaining: 0,
            }
            .save(&mut batch);
            let key = format!("key of {id}");
            batch.put(family::LEASE, &attachment_key(id, key.as_bytes()), &[]);
        }
        store.write(batch, store::Durability::Volatile).unwrap();
        for id in ids {
            assert_eq!(
                attached(&store, id).unwrap(),
                [Bytes::from(format!("key of {id}"))]
            );
        }
        assert_eq!(load(&store).unwrap().len(), ids.len());
    }
}
