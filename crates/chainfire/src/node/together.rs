//! Several members that were restored from one snapshot, each on its own machine, and begin a new cluster together.
//!
//! Each directory holds the same state, its own new life, and this: who the first members are, and a *token* that says from what and for
//! whom the state was restored. The members form the cluster as empty ones do (see `peers/forming`), but only with those that
//! show the same token, so that all of them certainly hold the same before the first entry of the new log. Until then nothing is served.
//!
//! A directory that is restored once more afterwards has another life, so it takes no part in what the earlier one promised: it is
//! admitted like a member that lost its disk.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use consensus::{NodeId, Position};
use sha2::{Digest as _, Sha256};
use store::{Batch, Store};

use crate::log;
use crate::mvcc::{Revision, family};

const KEY: &[u8] = b"together";

/// Length of a token.
const TOKEN_BYTES: usize = 32;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Together {
    /// Equal on members that hold the same state for the same cluster.
    pub(crate) token: [u8; TOKEN_BYTES],
    /// Where the first members are, the node itself included.
    pub(crate) members: BTreeMap<NodeId, String>,
}

/// What members that begin together must have in common.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    /// SHA-256 of what was restored.
    pub(super) content: &'a [u8; TOKEN_BYTES],
    pub(super) cluster_id: u64,
    pub(super) position: Position,
    /// After it was raised.
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) members: &'a BTreeMap<NodeId, String>,
}

impl Together {
    pub(super) fn of(origin: &Origin<'_>) -> Together {
        let mut hashed = Vec::new();
        hashed.put_slice(b"restored together 1");
        hashed.put_slice(origin.content);
        hashed.put_u64(origin.cluster_id);
        hashed.put_u64(origin.position.term.0);
        hashed.put_u64(origin.position.index);
        hashed.put_i64(origin.revision);
        hashed.put_i64(origin.compacted);
        put_members(origin.members, &mut hashed);
        Together {
            token: Sha256::digest(&hashed).into(),
            members: origin.members.clone(),
        }
    }

    /// As the database has it; none if the directory was not restored so.
    pub(super) fn load(store: &Store) -> Result<Option<Together>, log::Error> {
        let Some(bytes) = store.get(family::HARD, KEY)? else {
            return Ok(None);
        };
        Together::decode(&bytes).map(Some).ok_or(log::Error::Corrupt {
            index: 0,
            reason: "first members",
        })
    }

    pub(super) fn put(&self, batch: &mut Batch<'_>) {
        batch.put(family::HARD, KEY, &self.encode());
    }

    /// Whoever was restored so before is restored in another way now.
    pub(super) fn remove(batch: &mut Batch<'_>) {
        batch.delete(family::HARD, KEY);
    }

    /// Token, members, CRC-32C over both.
    fn encode(&self) -> Vec<u8> {
        let mut out = self.token.to_vec();
        put_members(&self.members, &mut out);
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Together> {
        let (content, mut checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32c::crc32c(content) != checksum.get_u32() {
            return None;
        }
        let (token, mut rest) = content.split_first_chunk::<TOKEN_BYTES>()?;
        let mut members = BTreeMap::new();
        for _ in 0..rest.try_get_u32().ok()? {
            let node = NodeId(rest.try_get_u64().ok()?);
            let length = rest.try_get_u32().ok()? as usize;
            let (address, others) = rest.split_at_checked(length)?;
            members.insert(node, std::str::from_utf8(address).ok()?.to_owned());
            rest = others;
        }
        rest.is_empty().then_some(Together {
            token: *token,
            members,
        })
    }
}

fn put_members(members: &BTreeMap<NodeId, String>, out: &mut Vec<u8>) {
    let length = |length: usize| u32::try_from(length).expect("members are few and their addresses short");
    out.put_u32(length(members.len()));
    for (node, address) in members {
        out.put_u64(node.0);
        out.put_u32(length(address.len()));
        out.put_slice(address.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use consensus::Term;

    use super::*;

    fn origin<'a>(content: &'a [u8; 32], members: &'a BTreeMap<NodeId, String>) -> Origin<'a> {
        Origin {
            content,
            cluster_id: 1,
            position: Position {
                term: Term(3),
                index: 70,
            },
            revision: 1000,
            compacted: 1000,
            members,
        }
    }

    #[test]
    fn the_token_tells_another_state_and_other_members_apart() {
        let members: BTreeMap<NodeId, String> = [(1, "a:2380"), (2, "b:2380")]
            .map(|(node, address)| (NodeId(node), address.to_owned()))
            .into();
        let mut others = members.clone();
        others.insert(NodeId(2), "c:2380".to_owned());
        let token = |origin: &Origin<'_>| Together::of(origin).token;
        let same = token(&origin(&[7; 32], &members));
        assert_eq!(same, token(&origin(&[7; 32], &members)));
        assert_ne!(same, token(&origin(&[8; 32], &members)));
        assert_ne!(same, token(&origin(&[7; 32], &others)));
        let mut raised = origin(&[7; 32], &members);
        raised.revision += 1;
        assert_ne!(same, token(&raised));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let members = [(NodeId(1), "a:2380".to_owned()), (NodeId(9), "b:1".to_owned())].into();
        let together = Together::of(&origin(&[7; 32], &members));
        let bytes = together.encode();
        assert_eq!(Together::decode(&bytes), Some(together));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x20;
            assert_eq!(Together::decode(&damaged), None);
        }
    }
}
