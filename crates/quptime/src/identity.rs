//! Who a node is: its NodeID, and the number the Raft group knows it by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A node: a UUID, written in lower case. Ordered as it is written, which decides who is preferred as master.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Uuid);

/// Not a NodeID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad node id \"{0}\": it is a UUID, such as 7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091")]
pub struct BadNodeId(String);

impl NodeId {
    /// A new one. Drawn by the system's generator, once in a node's life.
    pub fn draw() -> NodeId {
        NodeId(Uuid::from_bytes(
            uuid::Builder::from_random_bytes(crate::secret::random())
                .into_uuid()
                .into_bytes(),
        ))
    }

    /// All of its bits.
    pub fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// What the Raft group calls it: the first half of the UUID, which keeps the order. Two nodes of a cluster that share it are
    /// refused where peers are checked.
    pub fn number(self) -> consensus::NodeId {
        let (high, _) = self.0.as_u64_pair();
        consensus::NodeId(high)
    }
}

impl FromStr for NodeId {
    type Err = BadNodeId;

    fn from_str(text: &str) -> Result<NodeId, BadNodeId> {
        let bad = || BadNodeId(terminal::brief(text).into_owned());
        let id = Uuid::try_parse(text).map_err(|_| bad())?;
        // The short forms that a UUID may have would not be found again by whoever searches for the text.
        if text.len() != 36 || id.is_nil() || NodeId(id).number().0 == 0 {
            return Err(bad());
        }
        Ok(NodeId(id))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_number_go_together() {
        let mut ids: Vec<NodeId> = (0..100).map(|_| NodeId::draw()).collect();
        ids.sort();
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert!(texts.is_sorted() && ids.iter().map(|id| id.number()).is_sorted());
        assert!(texts.iter().all(|text| text.parse::<NodeId>().is_ok()));
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            "",
            "alpha",
            "00000000-0000-0000-0000-000000000000",
            "7f3a5b9e0c1d4e2f8a3b4c5d6e7f8091",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
        let upper: NodeId = "7F3A5B9E-0C1D-4E2F-8A3B-4C5D6E7F8091".parse().unwrap();
        assert_eq!(upper.to_string(), "7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091");
    }
}
