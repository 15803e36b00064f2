//! The states of a node, and which may follow which.
//!
//! A node has two: the one its keeper *reports*, which changes only after everything that belongs to it has been done and is on disk, and its
//! *goal*, which only the elected monitor assigns. The names are those that users of `pg_auto_failover` 2.x know from its tables.
//!
//! A pair that is not in [`NodeState::may_become`] is a mistake: the monitor does not assign it, and a keeper that is told so stays where it
//! is and says so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident $name:literal,)*) => {
        /// What a node is, or is to be.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum NodeState {
            $($(#[$doc])* $state,)*
        }

        impl NodeState {
            /// All there are.
            pub const ALL: &[NodeState] = &[$(NodeState::$state,)*];

            /// As it stands in tables and JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(NodeState::$state => $name,)*
                }
            }
        }
    };
}

states! {
    /// Registered; nothing known.
    Init "init",
    /// Alone in its group.
    Single "single",
    /// Primary; no standby takes part in acknowledging.
    WaitPrimary "wait_primary",
    /// Primary; commits wait for standbys.
    Primary "primary",
    /// Primary that is taking over other replication settings.
    ApplySettings "apply_settings",
    /// Primary on its way into maintenance.
    PrepareMaintenance "prepare_maintenance",
    /// The operator's; takes no part.
    Maintenance "maintenance",
    /// Standby that waits until the primary does without it.
    WaitMaintenance "wait_maintenance",
    /// Was primary, is asked to stop.
    Draining "draining",
    /// Was primary and did not confirm; counts as dead until it does.
    DemoteTimeout "demote_timeout",
    /// Stopped, and kept stopped.
    Demoted "demoted",
    /// Waits until the primary lets it in.
    WaitStandby "wait_standby",
    /// Standby that is being built, or behind; not promotable.
    #[serde(rename = "catchingup")]
    CatchingUp "catchingup",
    /// Standby that has caught up; promotable.
    Secondary "secondary",
    /// Cut off from everybody; says where its log ends.
    ReportLsn "report_lsn",
    /// Won the election and fetches what it lacks from the most advanced.
    FastForward "fast_forward",
    /// Replays all it has received.
    PreparePromotion "prepare_promotion",
    /// Follows nobody any more and waits until it may take over.
    StopReplication "stop_replication",
    /// Lost the election and waits for the new primary.
    JoinSecondary "join_secondary",
    /// Known to older tools; never assigned.
    JoinPrimary "join_primary",
    /// Removed from the group.
    Dropped "dropped",
}

impl NodeState {
    /// Whether PostgreSQL takes writes in it.
    #[must_use]
    pub fn writable(self) -> bool {
        matches!(
            self,
            NodeState::Single
                | NodeState::WaitPrimary
                | NodeState::Primary
                | NodeState::ApplySettings
                | NodeState::JoinPrimary
        )
    }

    /// Whether it follows a primary, or is about to.
    #[must_use]
    pub fn standby(self) -> bool {
        matches!(
            self,
            NodeState::WaitStandby | NodeState::CatchingUp | NodeState::Secondary | NodeState::JoinSecondary
        )
    }

    /// Whether it is on its way from standby to primary.
    #[must_use]
    pub fn candidate(self) -> bool {
        matches!(
            self,
            NodeState::FastForward | NodeState::PreparePromotion | NodeState::StopReplication
        )
    }

    /// Whether PostgreSQL is stopped, or must be.
    #[must_use]
    pub fn stopped(self) -> bool {
        matches!(
            self,
            NodeState::Draining
                | NodeState::DemoteTimeout
                | NodeState::Demoted
                | NodeState::PrepareMaintenance
                | NodeState::Dropped
        )
    }

    /// Whether a node in this state may be told to become `next`.
    #[must_use]
    pub fn may_become(self, next: NodeState) -> bool {
        use NodeState::{
            ApplySettings, CatchingUp, DemoteTimeout, Demoted, Draining, Dropped, FastForward, Init,
            JoinSecondary, Maintenance, PrepareMaintenance, PreparePromotion, Primary, ReportLsn, Secondary,
            Single, StopReplication, WaitMaintenance, WaitPrimary, WaitStandby,
        };
        if next == Dropped {
            return true;
        }
        match self {
            Init => matches!(next, Single | WaitStandby),
            Dropped => matches!(next, Single | WaitStandby | ReportLsn),
            Single => next == WaitPrimary,
            WaitStandby => matches!(next, CatchingUp | Single),
            CatchingUp => matches!(next, Secondary | ReportLsn | WaitMaintenance | Single),
            Secondary => matches!(
                next,
                CatchingUp | PreparePromotion | ReportLsn | WaitMaintenance | Single
            ),
            WaitPrimary => matches!(
                next,
                Primary | ApplySettings | Draining | DemoteTimeout | Demoted | Single
            ),
            Primary => matches!(
                next,
                WaitPrimary
                    | ApplySettings
                    | Draining
                    | DemoteTimeout
                    | Demoted
                    | PrepareMaintenance
                    | Single
            ),
            ApplySettings => matches!(next, Primary | WaitPrimary | Draining | DemoteTimeout | Demoted),
            Draining => matches!(next, DemoteTimeout | Demoted | ReportLsn | Primary),
            DemoteTimeout => matches!(next, Demoted | Primary),
            Demoted => matches!(next, CatchingUp | ReportLsn | Single | Primary),
            ReportLsn => matches!(next, PreparePromotion | FastForward | JoinSecondary | Single),
            FastForward => matches!(next, PreparePromotion | JoinSecondary | ReportLsn),
            PreparePromotion => matches!(next, StopReplication | WaitPrimary | ReportLsn | JoinSecondary),
            StopReplication => matches!(next, WaitPrimary | ReportLsn | JoinSecondary),
            JoinSecondary => matches!(next, Secondary | CatchingUp | ReportLsn | Single),
            PrepareMaintenance => matches!(next, Maintenance | CatchingUp),
            WaitMaintenance => matches!(next, Maintenance | CatchingUp),
            Maintenance => matches!(next, CatchingUp | ReportLsn | Single),
            NodeState::JoinPrimary => next == Primary,
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for NodeState {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeState, String> {
        NodeState::ALL
            .iter()
            .copied()
            .find(|state| state.name() == text)
            .ok_or_else(|| format!("no state is called `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_text_and_json() {
        for state in NodeState::ALL {
            assert_eq!(state.name().parse(), Ok(*state));
            assert_eq!(
                serde_json::to_string(state).expect("plain"),
                format!("\"{}\"", state.name())
            );
        }
    }

    #[test]
    fn nobody_becomes_primary_but_through_the_lock() {
        for state in NodeState::ALL {
            if state.standby() {
                assert!(!state.may_become(NodeState::Primary), "{state}");
                assert!(!state.may_become(NodeState::WaitPrimary), "{state}");
            }
        }
    }

    #[test]
    fn every_state_but_the_old_one_can_be_reached_and_left() {
        for state in NodeState::ALL
            .iter()
            .filter(|state| **state != NodeState::JoinPrimary)
        {
            let reached =
                *state == NodeState::Init || NodeState::ALL.iter().any(|from| from.may_become(*state));
            let left = NodeState::ALL
                .iter()
                .any(|next| *next != NodeState::Dropped && state.may_become(*next));
            assert!(reached && left, "{state}");
        }
    }
}
