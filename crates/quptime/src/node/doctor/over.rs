//! What is told of the last minutes and is over: it stays in view, and is no failure any more.
//!
//! An error of the log is over when what it speaks of is gone or was made good since. What cannot be told counts as not over.

use std::collections::BTreeSet;

use super::Facts;
use crate::api::Examined;
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::state::State;
use crate::node::shared::Mastery;

/// A node that was added needs so long to be heard by all and to catch up.
const FRESH_MS: Millis = 15_000;

/// How the transport says that a node is not known where it calls.
const NOT_A_PEER: &str = "not a peer of this cluster";

/// Nodes whose entries were changed a moment ago. They are not there yet, as far as others can see.
pub(super) fn fresh(state: &State, wall: Millis) -> BTreeSet<NodeId> {
    let recent = state.audit.iter().rev().take_while(|audit| {
        let at: Option<jiff::Timestamp> = audit.at.parse().ok();
        at.is_some_and(|at| (at.as_millisecond() as u64).abs_diff(wall) <= FRESH_MS)
    });
    let entries = recent.flat_map(|audit| &audit.entries);
    entries
        .filter_map(|entry| entry.strip_prefix("peer ")?.parse().ok())
        .collect()
}

impl Facts<'_> {
    /// Whether nothing is left to do about this error.
    pub(super) fn is_over(&self, text: &str) -> bool {
        let begins = |beginning: &str| {
            let begin = text.get(..beginning.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(beginning))
        };
        if begins("not delivered, ") || begins("not told again, ") {
            return self.is_delivered(text);
        }
        if begins("template failed") {
            return !self
                .document
                .alerts
                .iter()
                .any(|alert| text.contains(&alert.name));
        }
        if begins("check cannot be made") {
            return !self
                .document
                .checks
                .iter()
                .any(|check| text.contains(&check.name));
        }
        if begins("propose to master") {
            return matches!(self.mastery, Mastery::Is(_));
        }
        if begins("replicate: pull from") {
            return self.is_one_version();
        }
        if begins("a node lost what it had acknowledged") || begins("group conflict: this node and that one")
        {
            // Gone, or back in.
            return self
                .named(text)
                .is_none_or(|_| self.is_one_group() && self.is_one_version());
        }
        if begins("two processes run as node") {
            return self.there().all(|(_, known)| known.beat.twins.is_empty());
        }
        false
    }

    /// Nothing waits of it, and nobody gave up who still could be told.
    fn is_delivered(&self, text: &str) -> bool {
        let Some(state) = self.state else { return false };
        let alerts = || self.document.alerts.iter().filter(|alert| !alert.disabled);
        let is_alert = alerts().any(|alert| text.contains(&format!("/{},", alert.id)));
        let waits = state.deliveries.keys().any(|id| text.contains(id.as_str()));
        let dropped = state
            .finished
            .iter()
            .filter(|finished| finished.dropped.is_some());
        let given_up = dropped.into_iter().any(|finished| text.contains(&finished.id));
        // What is told again has been told before, and may fail again as long as there is the alert.
        let again = text.starts_with("Not told again") || text.starts_with("not told again");
        !is_alert || (!waits && !given_up && !again)
    }

    /// The peer that a text names by its id.
    fn named(&self, text: &str) -> Option<NodeId> {
        let peers = self.document.peers.iter().map(|peer| peer.node_id);
        peers.into_iter().find(|node| text.contains(&node.to_string()))
    }

    fn is_one_version(&self) -> bool {
        self.there()
            .all(|(_, known)| known.beat.version == self.document.version)
    }

    fn is_one_group(&self) -> bool {
        let groups: BTreeSet<u64> = self.there().map(|(_, known)| known.beat.group).collect();
        groups.len() == 1
    }

    /// Attempts of a node to reach a peer that say anything about now: not those of a removed one, nor those at a node that did not know
    /// this one yet and hears it since, or was added just now.
    pub(super) fn attempts<'a>(&self, node: NodeId, known: &'a Examined) -> impl Iterator<Item = &'a String> {
        known.attempts.iter().filter(move |text| {
            let Some(number) = number_in(text) else {
                return true;
            };
            let mut peers = self.document.peers.iter();
            let Some(peer) = peers.find(|peer| peer.node_id.number().0 == number) else {
                return false;
            };
            let heard = known.beat.hears.contains(&peer.node_id);
            let new = self.fresh.contains(&peer.node_id) || self.fresh.contains(&node);
            !(text.contains(NOT_A_PEER) && (heard || new))
        })
    }
}

/// `7` of `Failed to connect to peer, node_id=7, error=...`.
fn number_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("node_id=")?;
    let digits = rest.find(|letter: char| !letter.is_ascii_digit());
    rest[..digits.unwrap_or(rest.len())].parse().ok()
}
