//! How a data directory begins, and which life of its node it is.
//!
//! A new directory is one of three: the first of a cluster of one, which is founded at once; one of several first members, which form
//! the cluster when all of them have been seen to be empty (see [`super::forming`]); or one that waits to be added. A directory that was
//! restored from a copy is another life of its node: others may have moved on since, and what this node said after the copy is
//! forgotten here. Only if nobody else has ever belonged to the cluster does it simply go on.

use bytes::{Buf, BufMut, Bytes};
use consensus::{Configuration, Entry, HardState, Incarnation, Kind, NodeId, Term};
use prost::Message as _;
use service::SharedClock;
use store::{Batch, Durability, Store};

use super::VERSION;
use crate::auth::Entropy;
use crate::config::Config;
use crate::error::Error;
use crate::log::{self, Log};
use crate::mvcc::family;
use crate::wire::logpb;

const GROUP: &[u8] = b"group";

/// There if an operator made a cluster of its own of this directory.
const REMADE: &[u8] = b"remade";

/// Notes that an operator made a cluster of its own of this directory, from a copy or as a last resort.
pub(super) fn put_remade(batch: &mut Batch<'_>) {
    batch.put(family::HARD, REMADE, b"");
}

/// True if [`put_remade`] was done.
pub(super) fn is_remade(store: &Store) -> bool {
    matches!(store.get(family::HARD, REMADE), Ok(Some(_)))
}

/// Which cluster a node belongs to, beyond the number in its settings, and whom it was founded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Drawn when the cluster is founded; later ones are higher. Members of different ones never mix.
    pub(crate) instance: u64,
    /// The first members, each in its first life. Empty on a node that was added later.
    pub(crate) first: Configuration,
}

impl Group {
    /// As the database has it; none before the node belongs to a cluster.
    pub(crate) fn load(store: &Store) -> Result<Option<Group>, log::Error> {
        let Some(bytes) = store.get(family::HARD, GROUP)? else {
            return Ok(None);
        };
        Group::decode(&bytes).map(Some).ok_or(log::Error::Corrupt {
            index: 0,
            reason: "group",
        })
    }

    /// Writes it, on disk when this returns.
    pub(super) fn save(&self, store: &Store) -> Result<(), log::Error> {
        let mut batch = store.batch();
        self.put(&mut batch);
        store.write(batch, Durability::Synced)?;
        Ok(())
    }

    /// Adds it to `batch`.
    pub(super) fn put(&self, batch: &mut Batch<'_>) {
        batch.put(family::HARD, GROUP, &self.encode());
    }

    /// Makes the directory belong to no cluster.
    pub(super) fn remove(batch: &mut Batch<'_>) {
        batch.delete(family::HARD, GROUP);
    }

    /// Instance, first members, CRC-32C over both.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.instance);
        out.put_slice(&self.first.encode());
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out
    }

    /// Reads what [`Group::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Group> {
        let (mut rest, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if rest.len() < 8 || crc32c::crc32c(rest) != checksum.get_u32() {
            return None;
        }
        Some(Group {
            instance: rest.get_u64(),
            first: Configuration::decode(Bytes::copy_from_slice(rest)).ok()?,
        })
    }
}

/// A new life: later ones are higher.
pub(super) fn draw_life(clock: &SharedClock, entropy: &Entropy) -> Result<Incarnation, Error> {
    let mut random = [0; 2];
    entropy(&mut random)?;
    Ok(Incarnation::draw(clock.unix_ms(), u16::from_be_bytes(random)))
}

/// What a configuration says about this node.
pub(super) fn own_context(config: &Config, peer_address: &str, client_url: &str, wants_vote: bool) -> Bytes {
    logpb::Member {
        peer_address: peer_address.to_owned(),
        name: config.node.name.clone(),
        client_url: client_url.to_owned(),
        version: VERSION.to_owned(),
        wants_vote,
    }
    .encode_to_vec()
    .into()
}

/// Founds a cluster: the first entry of its log names its first members.
pub(super) fn found(
    store: &Store,
    log: &mut Log,
    first: Configuration,
    life: Incarnation,
) -> Result<HardState, log::Error> {
    let mut hard_state = HardState::new(life, false);
    hard_state.term = Term(1);
    let entry = Entry {
        index: 1,
        term: Term(1),
        kind: Kind::Configuration,
        payload: first.encode(),
    };
    Group {
        instance: life.0,
        first,
    }
    .save(store)?;
    log.write(&[entry], Some(&hard_state))?;
    Ok(hard_state)
}

/// True if no configuration in the log knows anybody but `node`.
pub(super) fn is_sole(log: &Log, node: NodeId) -> Result<bool, log::Error> {
    let only = |configuration: &Configuration| configuration.members().all(|(member, _)| member == node);
    let mut sole = only(&log.base().configuration);
    log.scan(1, &mut |entry| {
        if entry.kind == Kind::Configuration {
            let configuration = Configuration::decode(entry.payload);
            sole &= configuration.is_ok_and(|configuration| only(&configuration));
        }
        Ok(())
    })?;
    Ok(sole)
}

/// True if the settings name nobody but this node as a first member.
pub(super) fn begins_alone(config: &Config) -> bool {
    let others = config.cluster.initial_members.iter();
    config.cluster.bootstrap && others.filter(|member| member.id != config.node.id).count() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_byte_of_a_group_is_noticed() {
        let group = Group {
            instance: 77,
            first: Configuration::of_voters([(NodeId(1), Incarnation(5), Bytes::from_static(b"x"))]),
        };
        let bytes = group.encode();
        assert_eq!(Group::decode(&bytes), Some(group));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x20;
            assert_eq!(Group::decode(&damaged), None);
        }
    }
}
