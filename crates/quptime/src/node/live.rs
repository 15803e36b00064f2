//! Who is heard. Times are of the own monotonic clock: nobody's wall clock decides anything here.

use std::collections::BTreeMap;

use super::wire::Beat;
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::twins::{Last, Lives, Twins, must_go};

/// What is known of a peer by hearing it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// When last, monotonic.
    pub last: Millis,
    /// When last, by the own wall clock, for people.
    pub last_wall: Millis,
    /// Since when without a gap, monotonic.
    pub since: Millis,
    /// What it said last.
    pub beat: Beat,
    /// Its wall clock minus the own, when it said so.
    pub offset_ms: i64,
}

/// Remembers beats.
#[derive(Debug, Default)]
pub struct Ears {
    heard: BTreeMap<NodeId, Heard>,
    told: BTreeMap<NodeId, bool>,
    lives: BTreeMap<NodeId, Lives>,
}

impl Ears {
    /// A beat has come. Silence of `dead_after` before it starts its time anew.
    pub fn hear(&mut self, now: Millis, wall: Millis, dead_after: Millis, beat: Beat) {
        let before = self.heard.get(&beat.node);
        let unbroken = before.filter(|heard| now.saturating_sub(heard.last) <= dead_after);
        let heard = Heard {
            last: now,
            last_wall: wall,
            since: unbroken.map_or(now, |heard| heard.since),
            offset_ms: beat.clock as i64 - wall as i64,
            beat,
        };
        self.heard.insert(heard.beat.node, heard);
    }

    /// The beat is the answer to one that was sent at `asked`, of the same clock as `now`. Yields what has to be told of it.
    pub fn answered(&mut self, asked: Millis, now: Millis, beat: &Beat) -> Option<Twins> {
        // Older programs do not say who they are.
        let process = beat.process.as_ref()?;
        let lives = self.lives.entry(beat.node);
        let lives = lives.or_insert_with(|| Lives::new(beat.node));
        lives.answered(asked, now, process).cloned()
    }

    /// Nodes as which two processes run.
    pub fn twins(&self, now: Millis) -> Vec<Twins> {
        let twins = self.lives.values().filter_map(|lives| lives.twins(now));
        twins.cloned().collect()
    }

    /// The process that this one, with a log up to `last`, has to leave the node to, if enough of these peers, heard lately, say that there
    /// is one.
    pub fn must_go(
        &self,
        (own, last): (u64, Last),
        peers: &[NodeId],
        now: Millis,
        dead_after: Millis,
    ) -> Option<Twins> {
        let live = peers.iter().filter(|peer| self.is_live(**peer, now, dead_after));
        let told = live.filter_map(|peer| Some(self.of(*peer)?.beat.twins.as_slice()));
        let told: Vec<&[Twins]> = told.collect();
        must_go(own, last, &told).cloned()
    }

    /// What is known of a peer.
    pub fn of(&self, node: NodeId) -> Option<&Heard> {
        self.heard.get(&node)
    }

    /// Whether a peer was heard lately.
    pub fn is_live(&self, node: NodeId, now: Millis, dead_after: Millis) -> bool {
        self.live_since(node, now, dead_after).is_some()
    }

    /// Since when a peer is heard without a gap; nothing if it is not.
    pub fn live_since(&self, node: NodeId, now: Millis, dead_after: Millis) -> Option<Millis> {
        let heard = self.heard.get(&node)?;
        (now.saturating_sub(heard.last) <= dead_after).then_some(heard.since)
    }

    /// Who came or went since the last call.
    pub fn changes(&mut self, peers: &[NodeId], now: Millis, dead_after: Millis) -> Vec<(NodeId, bool)> {
        let mut changes = Vec::new();
        for peer in peers {
            let live = self.is_live(*peer, now, dead_after);
            if self.told.insert(*peer, live).unwrap_or(false) != live {
                changes.push((*peer, live));
            }
        }
        self.told.retain(|node, _| peers.contains(node));
        self.heard.retain(|node, _| peers.contains(node));
        self.lives.retain(|node, _| peers.contains(node));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::twins::Process;

    fn beat(node: NodeId) -> Beat {
        Beat {
            node,
            version: 1,
            digest: String::new(),
            group: 1,
            term: 1,
            master: None,
            protocol: 1,
            schema: 1,
            program: String::new(),
            clock: 1000,
            hears: Vec::new(),
            process: None,
            twins: Vec::new(),
        }
    }

    #[test]
    fn a_gap_starts_the_time_anew() {
        let node = NodeId::draw();
        let mut ears = Ears::default();
        for now in [1000, 2000, 6000] {
            ears.hear(now, 900, 4000, beat(node));
        }
        assert_eq!(ears.live_since(node, 10_000, 4000), Some(1000));
        assert_eq!(ears.live_since(node, 10_001, 4000), None);
        ears.hear(10_001, 900, 4000, beat(node));
        assert_eq!(ears.live_since(node, 10_001, 4000), Some(10_001));
        assert_eq!(ears.of(node).unwrap().offset_ms, 100);
    }

    #[test]
    fn only_peers_that_live_are_asked_who_has_to_go() {
        let process = |id| Process {
            id,
            up: 1,
            host: String::new(),
            pid: 1,
            address: String::new(),
            last: (1, 1),
        };
        let (own, one, other, stranger) = (NodeId::draw(), NodeId::draw(), NodeId::draw(), NodeId::draw());
        let twins = Twins {
            node: own,
            stays: process(1),
            goes: process(2),
            behind: false,
        };
        let tells = |node| Beat {
            twins: vec![twins.clone()],
            ..beat(node)
        };
        let peers = [one, other];
        let mut ears = Ears::default();
        ears.hear(1000, 0, 4000, beat(other));
        ears.hear(1000, 0, 4000, tells(one));
        ears.hear(1000, 0, 4000, tells(stranger));
        assert_eq!(ears.must_go((2, (1, 1)), &peers, 1000, 4000), None, "one of two");
        ears.hear(2000, 0, 4000, tells(one));
        assert_eq!(
            ears.must_go((2, (1, 1)), &peers, 5001, 4000),
            Some(twins.clone()),
            "one is left"
        );
        ears.hear(5001, 0, 4000, tells(other));
        assert_eq!(ears.must_go((2, (1, 1)), &peers, 5001, 4000), Some(twins.clone()));
        ears.hear(5002, 0, 4000, beat(one));
        assert_eq!(ears.must_go((2, (1, 1)), &peers, 5002, 4000), None);
    }

    #[test]
    fn changes_are_told_once() {
        let node = NodeId::draw();
        let mut ears = Ears::default();
        assert!(ears.changes(&[node], 0, 4000).is_empty());
        ears.hear(1000, 0, 4000, beat(node));
        assert_eq!(ears.changes(&[node], 1000, 4000), [(node, true)]);
        assert!(ears.changes(&[node], 2000, 4000).is_empty());
        assert_eq!(ears.changes(&[node], 9000, 4000), [(node, false)]);
    }
}
