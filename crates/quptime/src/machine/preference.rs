//! Who should be master: the live voter with the smallest NodeID, but not at any price.
//!
//! - Whoever is master stays it until a smaller voter has been live without a break, caught up and well for the cooldown (two minutes).
//! - When quorum is back after there was none, nobody is used to anybody: the smallest live voter gets the role at once.
//! - A node that lost the role three times within an hour waits twice as long each time, at most an hour: it is not as well as it looks.

use std::collections::{BTreeMap, VecDeque};

use super::Millis;
use crate::identity::NodeId;

/// For so long after quorum is back the role is handed over without a cooldown.
pub const SETTLE_MS: Millis = 5000;
/// Losses of the role within [`LOSS_WINDOW_MS`] from which the cooldown doubles.
const LOSSES: usize = 3;
/// See [`LOSSES`].
const LOSS_WINDOW_MS: Millis = 3_600_000;
/// Longest cooldown.
const COOLDOWN_MAX_MS: Millis = 3_600_000;
/// Losses that are remembered of each node; more make no difference.
const LOSSES_MAX: usize = 16;

/// What the master knows of a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Since when it has been live without a break; nothing if it is not.
    pub live_since: Option<Millis>,
    /// Whether its log reaches nearly to the end.
    pub caught_up: bool,
    /// Whether its votes do not count.
    pub impaired: bool,
}

/// Remembers who lost the role. Every node watches, so that the next master knows.
#[derive(Debug, Default)]
pub struct Preference {
    losses: BTreeMap<NodeId, VecDeque<Millis>>,
}

impl Preference {
    /// A node was master and is not any more, without having handed the role over.
    pub fn lost(&mut self, node: NodeId, now: Millis) {
        let losses = self.losses.entry(node).or_default();
        losses.push_back(now);
        if losses.len() > LOSSES_MAX {
            losses.pop_front();
        }
    }

    /// How long this node must be live before it is preferred.
    pub fn cooldown(&self, node: NodeId, base: Millis, now: Millis) -> Millis {
        let lately = |at: &&Millis| now.saturating_sub(**at) < LOSS_WINDOW_MS;
        let count = self
            .losses
            .get(&node)
            .map_or(0, |losses| losses.iter().filter(lately).count());
        let doublings = (count + 1).saturating_sub(LOSSES) as u32;
        base.saturating_mul(2u64.saturating_pow(doublings))
            .min(COOLDOWN_MAX_MS.max(base))
    }

    /// To whom the master should hand the role. `regained` is when this master found quorum again after there was none.
    pub fn successor(
        &self,
        own: NodeId,
        voters: &BTreeMap<NodeId, Candidate>,
        base_cooldown: Millis,
        regained: Option<Millis>,
        now: Millis,
    ) -> Option<NodeId> {
        let settling = regained.is_some_and(|at| now.saturating_sub(at) < SETTLE_MS);
        let suits = |(node, candidate): &(&NodeId, &Candidate)| {
            let Some(live_since) = candidate.live_since else {
                return false;
            };
            let live_for = now.saturating_sub(live_since);
            candidate.caught_up
                && !candidate.impaired
                && (settling || live_for >= self.cooldown(**node, base_cooldown, now))
        };
        voters.range(..own).find(suits).map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests;
