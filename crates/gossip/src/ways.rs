//! Which carrier reaches whom.
//!
//! A node says in every message whether it has lately received a datagram of the receiver. Whoever is told so uses UDP alone; everybody
//! else sends over TCP, and over UDP as well, so that the other end may find out. Where a firewall drops datagrams in one direction only,
//! only that direction stays with TCP.

use std::collections::BTreeMap;
use std::time::Duration;

use service::clock::Moment;

/// What was heard or told this long ago says nothing any more. Shorter than a suspicion, so that a path that breaks is left in time.
const FRESH: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    nodes: BTreeMap<u64, Way>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// When a datagram of the node arrived.
    heard: Option<Moment>,
    /// When it said that ours arrive.
    told: Option<Moment>,
}

/// How to send something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Datagram,
    Stream,
    Both,
}

impl Ways {
    /// A message of a node arrived, and said whether our datagrams reach it.
    pub(crate) fn received(&mut self, from: u64, by_datagram: bool, hears_datagrams: bool, now: Moment) {
        let way = self.nodes.entry(from).or_default();
        if by_datagram {
            way.heard = Some(now);
        }
        if hears_datagrams {
            way.told = Some(now);
        }
    }

    /// Whether datagrams of a node reach us, which it wants to know.
    pub(crate) fn hears(&self, from: u64, now: Moment) -> bool {
        self.nodes.get(&from).is_some_and(|way| is_fresh(way.heard, now))
    }

    /// How to send to a node.
    pub(crate) fn carrier(&self, to: u64, has_udp: bool, now: Moment) -> Carrier {
        let arrives = self.nodes.get(&to).is_some_and(|way| is_fresh(way.told, now));
        match (has_udp, arrives) {
            (false, _) => Carrier::Stream,
            (true, true) => Carrier::Datagram,
            (true, false) => Carrier::Both,
        }
    }

    /// Forgets whoever is not among these.
    pub(crate) fn keep(&mut self, is_known: impl Fn(u64) -> bool) {
        self.nodes.retain(|node, _| is_known(*node));
    }
}

fn is_fresh(at: Option<Moment>, now: Moment) -> bool {
    at.is_some_and(|at| now.since(at) < FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_used_alone_while_the_other_end_says_that_they_arrive() {
        let at = |second: u64| Moment::from_millis(second * 1000);
        let mut ways = Ways::default();
        assert_eq!(ways.carrier(2, true, at(0)), Carrier::Both);
        assert_eq!(ways.carrier(2, false, at(0)), Carrier::Stream);
        // Its datagrams arrive, which says nothing about ours.
        ways.received(2, true, false, at(1));
        assert!(ways.hears(2, at(3)) && !ways.hears(2, at(4)) && !ways.hears(3, at(1)));
        assert_eq!(ways.carrier(2, true, at(1)), Carrier::Both);
        ways.received(2, false, true, at(2));
        assert_eq!(ways.carrier(2, true, at(4)), Carrier::Datagram);
        assert_eq!(ways.carrier(2, true, at(5)), Carrier::Both);
        assert_eq!(ways.carrier(2, false, at(4)), Carrier::Stream);
        ways.keep(|node| node != 2);
        assert!(ways.nodes.is_empty());
    }
}
