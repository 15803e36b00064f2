//! In what the file of this node differs from those of its peers, while that keeps the node from starting.
//!
//! The start-up decision knows digests and so only *that* files differ; what differs is asked for here, and told in the log and in
//! `qu status`, so that whoever carried one file to several machines sees which entry to mend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::wire::{decode, encode, kind};
use crate::document::inventory::Inventory;
use crate::machine::Millis;
use crate::machine::entrance::{NodeId, Waiting};

/// How often a peer is asked.
const EVERY: Millis = 5_000;
/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of the differences.
#[derive(Debug, Default)]
pub struct Differences {
    known: BTreeMap<NodeId, String>,
    asked: Option<Millis>,
}

impl Differences {
    /// Follows what the decision waits for: asks those that differ, by `ask`, and forgets those that do not any more.
    pub fn follow(&mut self, waiting: Option<&Waiting>, now: Millis, ask: impl FnMut(NodeId)) {
        let differing = match waiting {
            Some(Waiting::Differs(nodes)) => nodes.clone(),
            _ => BTreeSet::new(),
        };
        self.known.retain(|node, _| differing.contains(node));
        if differing.is_empty() {
            self.asked = None;
        } else if self.asked.is_none_or(|asked| now.saturating_sub(asked) >= EVERY) {
            self.asked = Some(now);
            differing.into_iter().for_each(ask);
        }
    }

    /// Keeps what a peer's file differs in; returns whether it is news.
    pub fn learn(&mut self, node: NodeId, text: String) -> bool {
        self.known.insert(node, text.clone()) != Some(text)
    }

    /// One line for each peer.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.known.iter().map(|(node, text)| line(*node, text))
    }
}

/// What is said of one peer.
pub fn line(node: NodeId, text: &str) -> String {
    format!("cluster.yaml of {node} is another one: {text}")
}

/// Asks a peer for its inventory and compares; nothing if it does not answer, or has the same by now.
pub async fn ask(shared: Arc<Shared>, node: NodeId) -> Option<String> {
    let number = consensus::NodeId((node.0 >> 64) as u64);
    let transport = shared.transport.get()?;
    let asked = transport
        .request(number, kind::INVENTORY, encode(&()), TIMEOUT)
        .await;
    let there: Inventory = decode(&asked.ok()?).ok()?;
    Inventory::of(&shared.document()).differences(&there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_differs_is_asked_now_and_then_and_forgotten_afterwards() {
        let mut differences = Differences::default();
        let other = NodeId(7);
        let waiting = Waiting::Differs(BTreeSet::from([other]));
        let asked = |differences: &mut Differences, waiting, after| {
            let mut nodes = Vec::new();
            differences.follow(waiting, after, |node| nodes.push(node));
            nodes
        };
        assert_eq!(asked(&mut differences, Some(&waiting), 0), [other]);
        assert_eq!(asked(&mut differences, Some(&waiting), 1_000), []);
        assert!(differences.learn(other, "check a only here".to_owned()));
        assert!(!differences.learn(other, "check a only here".to_owned()));
        assert!(
            differences
                .lines()
                .next()
                .unwrap()
                .ends_with("is another one: check a only here")
        );
        assert_eq!(asked(&mut differences, Some(&waiting), EVERY), [other]);
        assert_eq!(asked(&mut differences, None, EVERY), []);
        assert_eq!(differences.lines().count(), 0);
        assert_eq!(asked(&mut differences, Some(&waiting), EVERY), [other]);
    }
}
