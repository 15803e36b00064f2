//! What a node publishes of itself, and what is known of others.

use bytes::{Buf, BufMut};

/// A node, as it describes itself. Texts are short: a handful of nodes must fit into a datagram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its id, not 0.
    pub id: u64,
    /// What people call it, at most 64 bytes.
    pub name: String,
    /// A free label, at most 32 bytes.
    pub role: String,
    /// The version of its program, at most 32 bytes.
    pub version: String,
    /// Where others reach this protocol: `host:port`, at most 128 bytes.
    pub gossip_address: String,
    /// Where its clients connect, at most 128 bytes; may be empty.
    pub api_address: String,
    /// Where members connect, at most 128 bytes; may be empty.
    pub raft_address: String,
}

/// A node that cannot be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadNode(String);

impl std::fmt::Display for BadNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadNode {}

/// Longest texts, in the order in which they are encoded.
const LONGEST: [usize; 6] = [64, 32, 32, 128, 128, 128];

/// What an encoded node takes, at most.
pub(crate) const ENCODED_MAX: usize = 8 + 6 + 64 + 32 + 32 + 3 * 128;

impl Node {
    fn texts(&self) -> [(&'static str, &str); 6] {
        [
            ("name", &self.name),
            ("role", &self.role),
            ("version", &self.version),
            ("gossip address", &self.gossip_address),
            ("API address", &self.api_address),
            ("raft address", &self.raft_address),
        ]
    }

    /// Whether it can be published.
    pub fn check(&self) -> Result<(), BadNode> {
        if self.id == 0 {
            return Err(BadNode("node id 0 cannot be published".to_owned()));
        }
        if self.gossip_address.is_empty() {
            return Err(BadNode(
                "a node without a gossip address cannot be reached".to_owned(),
            ));
        }
        for ((what, text), longest) in self.texts().into_iter().zip(LONGEST) {
            if text.len() > longest {
                return Err(BadNode(format!(
                    "the {what} {text:?} has {} bytes, at most {longest} can be published",
                    text.len()
                )));
            }
        }
        Ok(())
    }

    /// Id, then texts, each behind its length.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u64(self.id);
        for (_, text) in self.texts() {
            // Checked before it was published.
            out.put_u8(text.len() as u8);
            out.put_slice(text.as_bytes());
        }
    }

    /// Nothing if it is none, or one that could not have been published.
    pub(crate) fn take(from: &mut impl Buf) -> Option<Node> {
        let id = from.try_get_u64().ok()?;
        let mut texts = LONGEST.map(|_| String::new());
        for text in &mut texts {
            let length = usize::from(from.try_get_u8().ok()?);
            if length > from.remaining() {
                return None;
            }
            let mut bytes = vec![0; length];
            from.copy_to_slice(&mut bytes);
            *text = String::from_utf8(bytes).ok()?;
        }
        let [name, role, version, gossip_address, api_address, raft_address] = texts;
        let node = Node {
            id,
            name,
            role,
            version,
            gossip_address,
            api_address,
            raft_address,
        };
        node.check().is_ok().then_some(node)
    }
}

/// How it stands with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It answers.
    Alive,
    /// Somebody got no answer, and it has not spoken up yet.
    Suspect,
    /// It is gone, or said that it goes.
    Down,
}

impl State {
    /// `alive`, `suspect`, `down`
    pub fn name(self) -> &'static str {
        match self {
            State::Alive => "alive",
            State::Suspect => "suspect",
            State::Down => "down",
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As it described itself last.
    pub node: Node,
    /// How it stands.
    pub state: State,
    /// Since when, by the clock of whoever tells: milliseconds since 1970.
    pub since_unix_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: 3,
            name: "chainfire-node-3".to_owned(),
            role: "worker".to_owned(),
            version: "0.1.0".to_owned(),
            gossip_address: "node3:2381".to_owned(),
            api_address: "http://node3:2379".to_owned(),
            raft_address: "node3:2380".to_owned(),
        }
    }

    #[test]
    fn nodes_are_read_as_written_and_not_when_cut() {
        let mut out = Vec::new();
        node().put(&mut out);
        assert_eq!(Node::take(&mut &out[..]), Some(node()));
        for length in 0..out.len() {
            assert_eq!(Node::take(&mut &out[..length]), None);
        }
    }

    #[test]
    fn what_cannot_be_published_is_neither_sent_nor_read() {
        let long = Node {
            name: "x".repeat(65),
            ..node()
        };
        assert!(long.check().unwrap_err().to_string().contains("at most 64"));
        let nobody = Node { id: 0, ..node() };
        let mute = Node {
            gossip_address: String::new(),
            ..node()
        };
        for bad in [long, nobody, mute] {
            assert!(bad.check().is_err());
            let mut out = Vec::new();
            bad.put(&mut out);
            assert_eq!(Node::take(&mut &out[..]), None);
        }
        let longest = Node {
            id: 1,
            name: "x".repeat(64),
            role: "x".repeat(32),
            version: "x".repeat(32),
            gossip_address: "x".repeat(128),
            api_address: "x".repeat(128),
            raft_address: "x".repeat(128),
        };
        let mut out = Vec::new();
        longest.put(&mut out);
        assert_eq!((out.len(), longest.check()), (ENCODED_MAX, Ok(())));
    }
}
