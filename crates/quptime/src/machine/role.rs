//! Who is master, followed from outside: every node does, so that whoever becomes master knows what went before.
//!
//! What is known here is what [`super::preference`] decides by: who lost the role, and whether there was a master before the present one.

use super::Millis;
use super::preference::Preference;
use crate::identity::NodeId;

/// A gap that is longer than any fail-over: quorum was lost, or never there.
pub const REGAINED_AFTER_MS: Millis = 8000;
/// How much later than the run itself the wait for the first master may begin and still be the whole of it.
const BEGIN_SLACK_MS: Millis = 1000;

/// The role has changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Who had it last.
    pub old: Option<NodeId>,
    /// Who has it now.
    pub new: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// What is known of why.
    pub reason: &'static str,
}

/// Follows the role.
#[derive(Debug, Default)]
pub struct Role {
    master: Option<NodeId>,
    last: Option<NodeId>,
    term: u64,
    /// Since when there is no master.
    without_since: Option<Millis>,
    /// For how long there was none before the present one.
    gap: Millis,
    begun: bool,
    preference: Preference,
}

impl Role {
    /// Takes note of who leads at this moment. `now` counts from the begin of the run.
    pub fn look(&mut self, now: Millis, master: Option<NodeId>, term: u64) -> Option<Changed> {
        if !self.begun {
            self.begun = true;
            self.without_since = Some(0);
        }
        if master == self.master && (master.is_none() || term == self.term) {
            return None;
        }
        let reason = match (self.master, master) {
            (Some(old), Some(new)) if old == new => "elected again",
            (Some(_), Some(_)) => "another one was elected",
            (_, None) => "no leader is heard",
            (None, Some(_)) => "elected",
        };
        let changed = Changed {
            old: self.master.or(self.last),
            new: master,
            term,
            reason,
        };
        match master {
            Some(new) => {
                let without = self.without_since.take();
                self.gap = without.map_or(0, |since| now.saturating_sub(since));
                // Who is not there when another one takes over has lost the role; who handed it over has not.
                if let Some(old) = self.last.filter(|old| *old != new && self.master.is_none()) {
                    self.preference.lost(old, now);
                }
                self.last = Some(new);
            }
            None => self.without_since = Some(now),
        }
        self.master = master;
        self.term = term;
        Some(changed)
    }

    /// When quorum came back: now, if the master has just begun after there was none for long, or for as long as this node runs.
    pub fn regained(&self, now: Millis) -> Option<Millis> {
        let just_begun = now < REGAINED_AFTER_MS + self.gap && self.gap + BEGIN_SLACK_MS >= now;
        (self.gap >= REGAINED_AFTER_MS || just_begun).then_some(now)
    }

    /// Who is preferred.
    pub fn preference(&self) -> &Preference {
        &self.preference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> [NodeId; 2] {
        ["00000001", "00000002"].map(|start| format!("{start}-0c1d-4e2f-8a3b-4c5d6e7f8091").parse().unwrap())
    }

    #[test]
    fn changes_are_told_once_with_their_reason() {
        let [one, two] = nodes();
        let mut role = Role::default();
        assert_eq!(role.look(100, None, 0), None);
        let mut reasons = Vec::new();
        for (now, master, term) in [
            (1000, Some(one), 1),
            (2000, Some(one), 1),
            (3000, Some(two), 2),
            (4000, None, 2),
            (5000, Some(two), 3),
            (6000, Some(two), 4),
        ] {
            reasons.extend(role.look(now, master, term).map(|changed| changed.reason));
        }
        assert_eq!(
            reasons,
            [
                "elected",
                "another one was elected",
                "no leader is heard",
                "elected",
                "elected again"
            ]
        );
    }

    #[test]
    fn quorum_is_regained_after_a_long_gap_and_at_the_begin() {
        let [one, two] = nodes();
        let mut role = Role::default();
        role.look(0, None, 0);
        role.look(1500, Some(one), 1);
        assert_eq!(role.regained(1500), Some(1500), "there was none before");
        role.look(60_000, None, 1);
        role.look(62_000, Some(two), 2);
        assert_eq!(role.regained(62_000), None, "a fail-over");
        role.look(100_000, None, 2);
        role.look(108_000, Some(two), 3);
        assert_eq!(role.regained(108_000), Some(108_000));
    }

    #[test]
    fn who_is_away_at_the_takeover_has_lost_the_role() {
        let [one, two] = nodes();
        let mut role = Role::default();
        let mut now = 0;
        for term in 1..=3 {
            now += 10_000;
            role.look(now, Some(one), 2 * term);
            role.look(now + 1000, Some(two), 2 * term + 1);
        }
        assert_eq!(role.preference().cooldown(one, 1000, now), 1000, "handed over");
        for term in 4..=6 {
            now += 10_000;
            role.look(now, Some(one), 2 * term);
            role.look(now + 1000, None, 2 * term);
            role.look(now + 2000, Some(two), 2 * term + 1);
        }
        assert_eq!(role.preference().cooldown(one, 1000, now), 2000);
    }
}
