//! Deadlines. A pure state machine: every method that needs the time is given it, in milliseconds on the leader's own clock.

use std::collections::{BTreeSet, HashMap};

use super::Lease;

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
}

/// All leases and, while this node leads, when they run out.
///
/// Invariant: `wheel` holds exactly the entries with a deadline.
#[derive(Debug, Default)]
pub struct Lessor {
    leases: HashMap<i64, Entry>,
    wheel: BTreeSet<(u64, i64)>,
    leading: bool,
}

impl Lessor {
    /// With the leases of the database; nothing runs out until [`Lessor::lead`].
    pub fn new(leases: impl IntoIterator<Item = Lease>) -> Lessor {
        let entry = |lease: Lease| Entry {
            ttl: lease.ttl,
            checkpointed: lease.remaining,
            deadline: None,
        };
        Lessor {
            leases: leases.into_iter().map(|lease| (lease.id, entry(lease))).collect(),
            wheel: BTreeSet::new(),
            leading: false,
        }
    }

    /// This node leads from now on. Every lease gets what it had left at its last checkpoint, or its whole time: the old
    /// leader's renewals are not known here, so nothing may run out early.
    pub fn lead(&mut self, now: u64) {
        self.leading = true;
        self.wheel.clear();
        for (id, entry) in &mut self.leases {
            let seconds = if entry.checkpointed > 0 {
                entry.checkpointed
            } else {
                entry.ttl
            };
            let deadline = now.saturating_add(milliseconds(seconds));
            entry.deadline = Some(deadline);
            self.wheel.insert((deadline, *id));
        }
    }

    /// This node no longer leads: it must not let anything run out.
    pub fn follow(&mut self) {
        self.leading = false;
        self.wheel.clear();
        for entry in self.leases.values_mut() {
            entry.deadline = None;
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
        if let Some(deadline) = deadline {
            self.wheel.insert((deadline, id));
        }
        self.leases.insert(
            id,
            Entry {
                ttl,
                checkpointed: 0,
                deadline,
            },
        );
    }

    /// A revocation or expiry was applied.
    pub fn remove(&mut self, id: i64) {
        if let Some(deadline) = self.leases.remove(&id).and_then(|entry| entry.deadline) {
            self.wheel.remove(&(deadline, id));
        }
    }

    /// A checkpoint was applied: the next leader starts from it.
    pub fn checkpoint(&mut self, id: i64, remaining: i64) -> Option<Lease> {
        let entry = self.leases.get_mut(&id)?;
        entry.checkpointed = remaining;
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

    /// The expiry of these leases could not be proposed: try again at `when`.
    pub fn retry(&mut self, ids: &[i64], when: u64) {
        for id in ids {
            if let Some(entry) = self.leases.get_mut(id).filter(|entry| entry.deadline.is_none()) {
                entry.deadline = Some(when);
                self.wheel.insert((when, *id));
            }
        }
    }

    /// When the next lease runs out.
    pub fn next_deadline(&self) -> Option<u64> {
        self.wheel.first().map(|(deadline, _)| *deadline)
    }
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leading() -> Lessor {
        let mut lessor = Lessor::default();
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
}
