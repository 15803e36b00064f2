//! Handing the role over: send nothing new, wait for messages under way, let the other one lead. Checks are judged until then.

use super::Look;
use crate::identity::NodeId;
use crate::machine::Millis;

/// How long a hand-over waits for messages under way.
const FINISH_MS: Millis = 10_000;
/// How long the other one has to take the role.
const TRANSFER_MS: Millis = 3000;

/// Why the role is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A preferred node is live again for long enough.
    Preferred,
    /// This node is about to stop.
    Stopping,
}

impl Reason {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Preferred => "a preferred node is live and caught up",
            Reason::Stopping => "this node stops",
        }
    }
}

/// A hand-over under way.
#[derive(Debug)]
pub(super) struct Leaving {
    to: NodeId,
    reason: Reason,
    since: Millis,
    asked: Option<Millis>,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Transfer(NodeId),
    GiveUp,
}

impl Leaving {
    pub(super) fn new(to: NodeId, reason: Reason, now: Millis) -> Leaving {
        Leaving {
            to,
            reason,
            since: now,
            asked: None,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the other one was asked to take the role, and may have it already.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// `idle` is whether nothing is under way any more.
    pub(super) fn step(&mut self, now: Millis, idle: bool) -> Step {
        match self.asked {
            None if idle || now.saturating_sub(self.since) >= FINISH_MS => {
                self.asked = Some(now);
                Step::Transfer(self.to)
            }
            Some(asked) if now.saturating_sub(asked) >= TRANSFER_MS => Step::GiveUp,
            None | Some(_) => Step::Wait,
        }
    }
}

/// Who leads best when this node stops: the smallest live voter that has caught up, rather one whose votes count.
pub(super) fn successor(me: NodeId, look: &Look<'_>) -> Option<NodeId> {
    let suits = |node: &NodeId| {
        let member = look.members.get(&node.number());
        *node != me
            && look.live.contains_key(node)
            && member.is_some_and(|member| member.voter && member.ready)
    };
    let mut peers: Vec<NodeId> = look
        .state
        .document
        .peers
        .iter()
        .map(|peer| peer.node_id)
        .collect();
    peers.sort();
    peers.retain(suits);
    let well = peers.iter().find(|node| !look.state.impaired.contains(node));
    well.or(peers.first()).copied()
}
