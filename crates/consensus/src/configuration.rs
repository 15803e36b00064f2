//! Who belongs to a group. A configuration is written whole into the log and is in force from the moment it is appended; when the
//! entry is truncated, the one before it is in force again.
//!
//! Changes go in steps of one voter, so any majority before and any majority after a step share a member. Which life of a voter
//! counts is part of the configuration: see [`crate::machine`] for why.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use crate::types::{Incarnation, NodeId};

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Whether it votes and is counted; otherwise it only receives the log.
    pub voter: bool,
    /// The life of it that counts, or will when it is a voter. Of a new learner not known until the leader has met it.
    pub incarnation: Incarnation,
    /// The user's own: an address, a name.
    pub context: Bytes,
}

/// All members of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    members: BTreeMap<NodeId, Member>,
}

/// A wish of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new member that receives the log.
    AddLearner {
        /// Its id; one that was removed earlier may be used again.
        node: NodeId,
        /// Its address or whatever the user needs.
        context: Bytes,
    },
    /// A learner that has caught up becomes a voter, in the life that the leader knows.
    Promote {
        /// The learner.
        node: NodeId,
    },
    /// A member leaves.
    Remove {
        /// Whoever it is, also the leader itself.
        node: NodeId,
    },
    /// The user's part of a member changes.
    SetContext {
        /// The member.
        node: NodeId,
        /// What replaces the old.
        context: Bytes,
    },
}

/// The payload of a configuration entry is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("configuration")]
pub struct DecodeError;

impl Configuration {
    /// The first configuration of a group: voters by id, with the incarnations they told.
    pub fn of_voters(voters: impl IntoIterator<Item = (NodeId, Incarnation, Bytes)>) -> Configuration {
        let member = |(node, incarnation, context)| {
            let member = Member {
                voter: true,
                incarnation,
                context,
            };
            (node, member)
        };
        Configuration {
            members: voters.into_iter().map(member).collect(),
        }
    }

    /// The member with this id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// All members, by id.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (*node, member))
    }

    /// All voters, by id.
    pub fn voters(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        self.members()
            .filter(|(_, member)| member.voter)
            .map(|(node, member)| (node, member.incarnation))
    }

    /// True if `node` votes, in whatever life.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.member(node).is_some_and(|member| member.voter)
    }

    /// True if `node` is a voter and this life of it counts.
    pub fn counts(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.member(node)
            .is_some_and(|member| member.voter && member.incarnation == incarnation)
    }

    /// Voters that make a majority.
    pub fn quorum(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    pub(crate) fn insert(&mut self, node: NodeId, member: Member) {
        self.members.insert(node, member);
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        self.members.remove(&node);
    }

    pub(crate) fn member_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.members.get_mut(&node)
    }

    /// The payload of a configuration entry.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u32(u32::try_from(self.members.len()).expect("members are few"));
        for (node, member) in &self.members {
            out.put_u64(node.0);
            out.put_u8(u8::from(member.voter));
            out.put_u64(member.incarnation.0);
            out.put_u32(u32::try_from(member.context.len()).expect("a context is short"));
            out.put_slice(&member.context);
        }
        out.into()
    }

    /// Reads what [`Configuration::encode`] wrote.
    pub fn decode(mut bytes: Bytes) -> Result<Configuration, DecodeError> {
        let mut members = BTreeMap::new();
        let count = bytes.try_get_u32().map_err(|_| DecodeError)?;
        for _ in 0..count {
            let node = NodeId(bytes.try_get_u64().map_err(|_| DecodeError)?);
            let voter = match bytes.try_get_u8() {
                Ok(flag @ (0 | 1)) => flag == 1,
                _ => return Err(DecodeError),
            };
            let incarnation = Incarnation(bytes.try_get_u64().map_err(|_| DecodeError)?);
            let length = bytes.try_get_u32().map_err(|_| DecodeError)? as usize;
            if length > bytes.len() {
                return Err(DecodeError);
            }
            let context = bytes.split_to(length);
            let member = Member {
                voter,
                incarnation,
                context,
            };
            if members.insert(node, member).is_some() {
                return Err(DecodeError);
            }
        }
        if bytes.is_empty() {
            Ok(Configuration { members })
        } else {
            Err(DecodeError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Configuration {
        Configuration::of_voters(
            (1..=3).map(|id| (NodeId(id), Incarnation(id * 10), Bytes::from_static(b"here"))),
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let mut configuration = three();
        configuration.insert(
            NodeId(9),
            Member {
                voter: false,
                incarnation: Incarnation::UNKNOWN,
                context: Bytes::new(),
            },
        );
        let bytes = configuration.encode();
        assert_eq!(Configuration::decode(bytes.clone()), Ok(configuration));
        for length in 0..bytes.len() {
            assert_eq!(Configuration::decode(bytes.slice(..length)), Err(DecodeError));
        }
    }

    #[test]
    fn only_the_named_life_of_a_voter_counts() {
        let configuration = three();
        assert!(configuration.counts(NodeId(2), Incarnation(20)));
        assert!(!configuration.counts(NodeId(2), Incarnation(21)));
        assert!(!configuration.counts(NodeId(4), Incarnation(20)));
        assert_eq!(configuration.quorum(), 2);
    }
}
