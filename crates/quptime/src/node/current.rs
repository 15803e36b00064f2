//! Whether what a node shows of the configuration is what the cluster has decided.
//!
//! A command is answered from the replica at hand. A node that was just added, or was away, catches up within a second or so, and whoever
//! asks meanwhile would see what was, and might change it: so the answer waits a little, and says that it may be old if that was not enough.

use std::sync::Arc;
use std::time::Duration;

use super::shared::{Mastery, Shared};
use crate::machine::Millis;

/// How long an answer waits.
const WAIT: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A run that is younger may not have heard anybody yet.
const YOUNG_MS: Millis = 5000;

/// Comes back when the configuration is current here as far as peers tell, or with the reason why it is not.
pub async fn current(shared: &Arc<Shared>) -> Option<String> {
    let deadline = shared.clock.now() + WAIT;
    loop {
        let why = Facts::of(shared).old()?;
        if shared.clock.now() >= deadline {
            return Some(format!("{why}; what is shown may be old"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What decides whether it is.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// The version here; 0 if none has arrived.
    own: u64,
    /// The newest that a peer has which is heard. What a peer has is decided, whoever is master.
    newest: u64,
    /// Whether this node belongs to the cluster.
    belongs: bool,
    /// Whether this node is the master, or hears it.
    hears_master: bool,
    /// Whether it may not have had the time to.
    is_young: bool,
}

impl Facts {
    fn of(shared: &Shared) -> Facts {
        let (now, dead_after) = (shared.now(), shared.dead_after());
        let (mastery, document) = (shared.mastery(), shared.document());
        let group = shared.group.get().copied();
        let ears = shared.ears.lock();
        let live = |node| ears.is_live(node, now, dead_after);
        let heard = document.peers.iter().map(|peer| peer.node_id);
        let heard = heard.filter(|node| live(*node)).filter_map(|node| ears.of(node));
        let ours = heard.filter(|heard| group.is_none_or(|group| heard.beat.group == group));
        Facts {
            own: document.version,
            newest: ours.map(|heard| heard.beat.version).max().unwrap_or(0),
            belongs: !matches!(mastery, Mastery::Removed),
            hears_master: matches!(mastery, Mastery::Is(master) if master == shared.me || live(master)),
            is_young: now < YOUNG_MS,
        }
    }

    /// Why the configuration here is not the newest.
    fn old(self) -> Option<String> {
        let Facts { own, newest, .. } = self;
        if !self.belongs {
            None
        } else if own == 0 {
            Some("the cluster's configuration has not arrived on this node".to_owned())
        } else if newest > own {
            Some(format!(
                "this node has version {own} of the configuration, others have {newest}"
            ))
        } else if !self.hears_master && self.is_young {
            Some("this node has just started and has not heard from its master yet".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_have_and_what_a_young_node_may_not_know_is_waited_for() {
        let well = Facts {
            own: 7,
            newest: 7,
            belongs: true,
            hears_master: true,
            is_young: true,
        };
        let old = |facts: Facts| facts.old().unwrap_or_default();
        assert_eq!(old(well), "");
        assert_eq!(old(Facts { own: 8, ..well }), "", "it is the first to have it");
        let behind = Facts { newest: 9, ..well };
        assert_eq!(
            old(behind),
            "this node has version 7 of the configuration, others have 9"
        );
        assert_eq!(
            old(Facts {
                belongs: false,
                ..behind
            }),
            ""
        );
        let none = Facts {
            own: 0,
            newest: 0,
            ..well
        };
        assert!(old(none).contains("has not arrived"));
        let deaf = Facts {
            newest: 0,
            hears_master: false,
            ..well
        };
        assert!(old(deaf).contains("has just started"));
        assert_eq!(
            old(Facts {
                is_young: false,
                ..deaf
            }),
            "",
            "nobody waits without quorum"
        );
    }
}
