//! Deadlines. A pure state machine: every method that needs the time is given it, in milliseconds on the leader's own clock.
//!
//! A next leader does not know how long ago a lease was renewed. So that a long one does not start anew with each change of
//! leader, the leader notes in the log what is left of it, every five minutes or as set in which nobody has renewed it
//! ([`Lessor::checkpoints_due`]); a renewal takes the note back.

use std::collections::{BTreeSet, HashMap};

use super::Lease;

/// How often what is left of a lease is noted unless another interval is set (etcd's number).
pub const CHECKPOINT_EVERY_MS: u64 = 5 * 60 * 1000;

/// What a client is told about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Seconds as granted.
    pub granted: i64,
    /// Whole seconds left, at least 0.
    pub left: i64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ttl: i64,
    /// Seconds left at the last checkpoint; 0 for none.
    checkpointed: i64,
    /// When it runs out; `None` once its expiry has been proposed, or while this node does not lead.
    deadline: Option<u64>,
    /// When what is left is to be noted next.
    checkpoint: Option<u64>,
}

/// All leases and, while this node leads, when they run out.
///
/// Invariant: `wheel` holds exactly the entries with a deadline, `checkpoints` those with a checkpoint to come.
#[derive(Debug)]
pub struct Lessor {
    leases: HashMap<i64, Entry>,
    wheel: BTreeSet<(u64, i64)>,
    checkpoints: BTreeSet<(u64, i64)>,
    /// A lease with less than this left is not worth a checkpoint.
    checkpoint_every_ms: u64,
    leading: bool,
}

impl Lessor {
    /// With the leases of the database; nothing runs out until [`Lessor::lead`].
    pub fn new(leases: impl IntoIterator<Item = Lease>) -> Lessor {
        let entry = |lease: Lease| Entry {
            ttl: lease.ttl,
            checkpointed: lease.remaining,
            deadline: None,
            checkpoint: None,
        };
        Lessor {
            leases: leases.into_iter().map(|lease| (lease.id, entry(lease))).collect(),
            wheel: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            checkpoint_every_ms: CHECKPOINT_EVERY_MS,
            leading: false,
        }
    }

    /// Takes these leases instead of its own, and does not lead.
    pub fn reload(&mut self, leases: impl IntoIterator<Item = Lease>) {
        *self = Lessor {
            checkpoint_every_ms: self.checkpoint_every_ms,
            ..Lessor::new(leases)
        };
    }

    /// Sets how often what is left of a lease is noted, in milliseconds.
    pub fn checkpoint_every(&mut self, every_ms: u64, now: u64) {
        self.checkpoint_every_ms = every_ms;
        self.checkpoints.clear();
        for (id, entry) in &mut self.leases {
            entry.checkpoint = entry
                .deadline
                .and_then(|deadline| checkpoint_after(now, deadline, every_ms));
            self.checkpoints.extend(entry.checkpoint.map(|due| (due, *id)));
        }
    }

    /// This node leads from now on. Every lease gets what it had left at its last checkpoint, or its whole time: the old
    /// leader's renewals are not known here, so nothing may run out early.
    pub fn lead(&mut self, now: u64) {
        self.leading = true;
        self.wheel.clear();
        self.checkpoints.clear();
        for (id, entry) in &mut self.leases {
            let seconds = if entry.checkpointed > 0 {
                entry.checkpointed
            } else {
                entry.ttl
            };
            let deadline = now.saturating_add(milliseconds(seconds));
            entry.deadline = Some(deadline);
            self.wheel.insert((deadline, *id));
            entry.checkpoint = checkpoint_after(now, deadline, self.checkpoint_every_ms);
            self.checkpoints.extend(entry.checkpoint.map(|due| (due, *id)));
        }
    }

    /// This node no longer leads: it must not let anything run out.
    pub fn follow(&mut self) {
        self.leading = false;
        self.wheel.clear();
        self.checkpoints.clear();
        for entry in self.leases.values_mut() {
            entry.deadline = None;
            entry.checkpoint = None;
        }
    }

    /// True if the lease is there, expiring or not.
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Ids of all leases, ascending.
    pub fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.leases.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// A grant was applied.
    pub fn grant(&mut self, id: i64, ttl: i64, now: u64) {
        let deadline = self.leading.then(|| now.saturating_add(milliseconds(ttl)));
        let checkpoint =
            deadline.and_then(|deadline| checkpoint_after(now, deadline, self.checkpoint_every_ms));
        self.wheel.extend(deadline.map(|deadline| (deadline, id)));
        self.checkpoints.extend(checkpoint.map(|due| (due, id)));
        self.leases.insert(
            id,
            Entry {
                ttl,
                checkpointed: 0,
                deadline,
                checkpoint,
            },
        );
    }

    /// A revocation or expiry was applied.
    pub fn remove(&mut self, id: i64) {
        let Some(entry) = self.leases.remove(&id) else {
            return;
        };
        if let Some(deadline) = entry.deadline {
            self.wheel.remove(&(deadline, id));
        }
        if let Some(due) = entry.checkpoint {
            self.checkpoints.remove(&(due, id));
        }
    }

    /// A checkpoint was applied: the next leader starts from it. One that was taken back means that the lease was renewed; a
    /// leader that began before it had applied that may have given the lease too little, and gives it its whole time now.
    pub fn checkpoint(&mut self, id: i64, remaining: i64, now: u64) -> Option<Lease> {
        let entry = self.leases.get_mut(&id)?;
        entry.checkpointed = remaining;
        let whole = now.saturating_add(milliseconds(entry.ttl));
        if remaining == 0
            && let Some(old) = entry.deadline.filter(|old| *old < whole)
        {
            entry.deadline = Some(whole);
            self.wheel.remove(&(old, id));
            self.wheel.insert((whole, id));
        }
        Some(Lease {
            id,
            ttl: entry.ttl,
            remaining,
        })
    }

    /// Starts the lease's time anew. Returns its time to live, or `None` if it is unknown or running out already. The second
    /// value says that a checkpoint would now tell the next leader too little and should be cleared.
    pub fn renew(&mut self, id: i64, now: u64) -> Option<(i64, bool)> {
        let entry = self.leases.get_mut(&id)?;
        let old = entry.deadline?;
        let deadline = now.saturating_add(milliseconds(entry.ttl));
        entry.deadline = Some(deadline);
        self.wheel.remove(&(old, id));
        self.wheel.insert((deadline, id));
        if let Some(due) = entry.checkpoint {
            self.checkpoints.remove(&(due, id));
        }
        entry.checkpoint = checkpoint_after(now, deadline, self.checkpoint_every_ms);
        self.checkpoints.extend(entry.checkpoint.map(|due| (due, id)));
        Some((entry.ttl, entry.checkpointed > 0))
    }

    /// What is left of a lease. A lease that is running out has nothing left.
    pub fn remaining(&self, id: i64, now: u64) -> Option<Remaining> {
        let entry = self.leases.get(&id)?;
        let left = entry
            .deadline
            .map_or(0, |deadline| deadline.saturating_sub(now) / 1000);
        Some(Remaining {
            granted: entry.ttl,
            left: left as i64,
        })
    }

    /// Takes out up to `most` leases that have run out. Their expiry is to be proposed now; until it is applied they exist
    /// but cannot be renewed.
    pub fn expire(&mut self, now: u64, most: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while expired.len() < most {
            match self.wheel.first() {
                Some((deadline, _)) if *deadline <= now => {}
                _ => break,
            }
            let (_, id) = self.wheel.pop_first().expect("looked at just now");
            if let Some(entry) = self.leases.get_mut(&id) {
                entry.deadline = None;
            }
            expired.push(id);
        }
        expired
    }

    /// The expiry of these leases could not be proposed: try again at `when`, if it is still this node that decides on it.
    pub fn retry(&mut self, ids: &[i64], when: u64) {
        if !self.leading {
            return;
        }
        for id in ids {
            if let Some(entry) = self.leases.get_mut(id).filter(|entry| entry.deadline.is_none()) {
                entry.deadline = Some(when);
                self.wheel.insert((when, *id));
            }
        }
    }

    /// Takes out up to `most` leases of which it is time to note what is left, in seconds.
    pub fn checkpoints_due(&mut self, now: u64, most: usize) -> Vec<(i64, i64)> {
        let mut due = Vec::new();
        while due.len() < most {
            match self.checkpoints.first() {
                Some((when, _)) if *when <= now => {}
                _ => break,
            }
            let (_, id) = self.checkpoints.pop_first().expect("looked at just now");
            let Some(entry) = self.leases.get_mut(&id) else {
                continue;
            };
            entry.checkpoint = None;
            // One that is running out needs none.
            let Some(deadline) = entry.deadline else { continue };
            entry.checkpoint = checkpoint_after(now, deadline, self.checkpoint_every_ms);
            self.checkpoints.extend(entry.checkpoint.map(|due| (due, id)));
            let left = seconds_left(deadline, now);
            if left > 0 && left < entry.ttl {
                // At once, so that a renewal from now on takes it back.
                entry.checkpointed = left;
                due.push((id, left));
            }
        }
        due
    }

    /// Of leases whose checkpoints were noted, those that have been renewed on the way: their checkpoints now tell the next
    /// leader too little.
    pub fn renewed_since(&self, noted: &[(i64, i64)], now: u64) -> Vec<i64> {
        let renewed = |(id, left): &&(i64, i64)| {
            self.leases
                .get(id)
                .and_then(|entry| entry.deadline)
                .is_some_and(|deadline| seconds_left(deadline, now) > *left)
        };
        noted.iter().filter(renewed).map(|(id, _)| *id).collect()
    }

    /// When the next lease runs out.
    pub fn next_deadline(&self) -> Option<u64> {
        self.wheel.first().map(|(deadline, _)| *deadline)
    }
}

/// When to note what is left of a lease, if that is worth it.
fn checkpoint_after(now: u64, deadline: u64, every_ms: u64) -> Option<u64> {
    (deadline.saturating_sub(now) > every_ms).then(|| now + every_ms)
}

/// Rounded up: never less than there is.
fn seconds_left(deadline: u64, now: u64) -> i64 {
    deadline.saturating_sub(now).div_ceil(1000).cast_signed()
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leading() -> Lessor {
        let mut lessor = Lessor::new([]);
        lessor.lead(0);
        lessor
    }

    #[test]
    fn a_lease_runs_out_when_its_time_has_passed() {
        let mut lessor = leading();
        lessor.grant(1, 5, 1000);
        assert_eq!(lessor.expire(5999, 10), Vec::<i64>::new());
        assert_eq!(lessor.remaining(1, 5999), Some(Remaining { granted: 5, left: 0 }));
        assert_eq!(lessor.expire(6000, 10), vec![1]);
        assert_eq!(lessor.expire(6000, 10), Vec::<i64>::new());
    }

    #[test]
    fn renewal_starts_the_time_anew_until_expiry_is_proposed() {
        let mut lessor = leading();
        lessor.grant(1, 5, 0);
        assert_eq!(lessor.renew(1, 4000), Some((5, false)));
        assert_eq!(lessor.expire(8999, 10), Vec::<i64>::new());
        assert_eq!(lessor.expire(9000, 10), vec![1]);
        assert_eq!(lessor.renew(1, 9001), None);
        lessor.retry(&[1], 10_000);
        assert_eq!(lessor.expire(10_000, 10), vec![1]);
        lessor.remove(1);
        assert!(lessor.is_empty() && lessor.next_deadline().is_none());
    }

    #[test]
    fn a_new_leader_never_expires_early() {
        let long = Lease {
            id: 1,
            ttl: 100,
            remaining: 40,
        };
        let short = Lease {
            id: 2,
            ttl: 10,
            remaining: 0,
        };
        let mut lessor = Lessor::new([long, short]);
        assert_eq!(lessor.expire(u64::MAX, 10), Vec::<i64>::new());
        lessor.lead(1_000_000);
        assert_eq!(
            lessor.remaining(1, 1_000_000),
            Some(Remaining {
                granted: 100,
                left: 40
            })
        );
        assert_eq!(lessor.expire(1_010_000, 10), vec![2]);
        lessor.follow();
        assert_eq!(lessor.expire(u64::MAX, 10), Vec::<i64>::new());
    }

    #[test]
    fn expiry_comes_in_bounded_batches() {
        let mut lessor = leading();
        for id in 1..=2500 {
            lessor.grant(id, 1, 0);
        }
        assert_eq!(lessor.expire(1000, 1000).len(), 1000);
        assert_eq!(lessor.expire(1000, 1000).len(), 1000);
        assert_eq!(lessor.expire(1000, 1000).len(), 500);
    }

    #[test]
    fn what_is_left_of_long_leases_is_noted_while_nobody_renews_them() {
        const EVERY: u64 = CHECKPOINT_EVERY_MS;
        let mut lessor = leading();
        lessor.grant(1, 1000, 0);
        lessor.grant(2, 300, 0);
        assert_eq!(lessor.checkpoints_due(EVERY - 1, 10), []);
        assert_eq!(lessor.checkpoints_due(EVERY, 10), [(1, 700)]);
        assert_eq!(lessor.checkpoints_due(2 * EVERY + 1, 10), [(1, 400)]);
        // A renewal takes it back, and the time until the next begins anew.
        assert_eq!(lessor.renew(1, 2 * EVERY + 2), Some((1000, true)));
        assert_eq!(lessor.checkpoints_due(3 * EVERY + 1, 10), []);
        assert_eq!(lessor.checkpoints_due(3 * EVERY + 2, 10), [(1, 700)]);
        // Near its end it is left alone.
        assert_eq!(lessor.checkpoints_due(4 * EVERY + 2, 10), [(1, 400)]);
        assert_eq!(lessor.checkpoints_due(5 * EVERY + 2, 10), [(1, 100)]);
        assert_eq!(lessor.checkpoints_due(u64::MAX, 10), []);
        assert!(lessor.checkpoints.is_empty());
    }

    #[test]
    fn another_interval_counts_from_when_it_is_set() {
        let mut lessor = leading();
        lessor.grant(1, 1000, 0);
        lessor.checkpoint_every(1000, 500);
        assert_eq!(lessor.checkpoints_due(1499, 10), []);
        assert_eq!(lessor.checkpoints_due(1500, 10), [(1, 999)]);
        lessor.reload([Lease {
            id: 2,
            ttl: 1000,
            remaining: 0,
        }]);
        lessor.lead(2000);
        assert_eq!(lessor.checkpoints_due(3000, 10), [(2, 999)]);
    }

    #[test]
    fn a_checkpoint_that_a_renewal_overtook_is_found() {
        let mut lessor = leading();
        lessor.grant(1, 1000, 0);
        lessor.grant(2, 1000, 0);
        let noted = lessor.checkpoints_due(CHECKPOINT_EVERY_MS, 10);
        assert_eq!(noted, [(1, 700), (2, 700)]);
        lessor.renew(2, CHECKPOINT_EVERY_MS);
        assert_eq!(lessor.renewed_since(&noted, CHECKPOINT_EVERY_MS + 10), [2]);
    }

    #[test]
    fn who_no_longer_leads_does_not_try_an_expiry_again() {
        let mut lessor = leading();
        lessor.grant(1, 5, 0);
        assert_eq!(lessor.expire(5000, 10), vec![1]);
        lessor.follow();
        lessor.retry(&[1], 5500);
        assert_eq!(lessor.next_deadline(), None);
        assert_eq!(lessor.expire(u64::MAX, 10), Vec::<i64>::new());
        lessor.lead(6000);
        lessor.retry(&[1], 6500);
        assert_eq!(lessor.next_deadline(), Some(11_000));
    }

    #[test]
    fn a_checkpoint_taken_back_under_the_last_leader_counts_under_the_next() {
        let lease = Lease {
            id: 1,
            ttl: 1000,
            remaining: 100,
        };
        let mut lessor = Lessor::new([lease]);
        lessor.lead(0);
        assert_eq!(lessor.next_deadline(), Some(100_000));
        lessor.checkpoint(1, 0, 10).unwrap();
        assert_eq!(lessor.next_deadline(), Some(1_000_010));
        // What is noted shortens nothing.
        lessor.checkpoint(1, 700, 20).unwrap();
        assert_eq!(lessor.next_deadline(), Some(1_000_010));
        assert_eq!(lessor.expire(1_000_010, 10), vec![1]);
        // One whose expiry is on its way stays as it is.
        lessor.checkpoint(1, 0, 1_000_011).unwrap();
        assert_eq!(lessor.next_deadline(), None);
    }

    #[test]
    fn only_the_leader_notes_and_what_is_gone_is_not_noted() {
        let lease = Lease {
            id: 1,
            ttl: 10_000,
            remaining: 5000,
        };
        let mut lessor = Lessor::new([lease]);
        assert_eq!(lessor.checkpoints_due(u64::MAX, 10), []);
        lessor.lead(0);
        lessor.grant(2, 10_000, 0);
        lessor.grant(3, 10_000, 0);
        lessor.remove(2);
        assert_eq!(lessor.checkpoints_due(CHECKPOINT_EVERY_MS, 1), [(1, 4700)]);
        assert_eq!(lessor.checkpoints_due(CHECKPOINT_EVERY_MS, 1), [(3, 9700)]);
        assert_eq!(lessor.checkpoints_due(CHECKPOINT_EVERY_MS, 1), []);
        lessor.follow();
        assert_eq!(lessor.checkpoints_due(u64::MAX, 10), []);
    }
}
