//! A network that loses, delays, reorders and repeats, and in which any direction between any two nodes can be cut.

use std::collections::BTreeSet;

use crate::Rng;

/// How bad the network is, while it works.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Of a thousand messages, how many vanish.
    pub lost: u64,
    /// Of a thousand messages, how many arrive twice.
    pub repeated: u64,
    /// Usual delay in microseconds, at least and at most. Unequal delays reorder.
    pub delay: (u64, u64),
    /// Of a thousand messages, how many are late.
    pub late: u64,
    /// By so many microseconds at most.
    pub lateness: u64,
}

impl Faults {
    /// A good local network.
    pub const NONE: Faults = Faults {
        lost: 0,
        repeated: 0,
        delay: (200, 400),
        late: 0,
        lateness: 0,
    };
}

/// Who can reach whom, and how well.
#[derive(Debug)]
pub struct Network {
    /// How bad it is.
    pub faults: Faults,
    cut: BTreeSet<(u64, u64)>,
}

impl Network {
    /// Everybody reaches everybody.
    pub fn new(faults: Faults) -> Network {
        Network {
            faults,
            cut: BTreeSet::new(),
        }
    }

    /// The delays after which a message sent now arrives: usually one, maybe none, maybe two. What is on its way when a direction is
    /// cut still arrives.
    pub fn delays(&self, rng: &mut Rng, from: u64, to: u64) -> Vec<u64> {
        if self.cut.contains(&(from, to)) || rng.chance(self.faults.lost) {
            return Vec::new();
        }
        let copies = 1 + u64::from(rng.chance(self.faults.repeated));
        (0..copies)
            .map(|_| {
                let (least, most) = self.faults.delay;
                let late = rng.chance(self.faults.late);
                rng.between(least, most) + if late { rng.below(self.faults.lateness) } else { 0 }
            })
            .collect()
    }

    /// Nothing gets from `from` to `to` any more.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Nothing gets from `node` to anybody, nor from anybody to it.
    pub fn isolate(&mut self, node: u64, others: impl IntoIterator<Item = u64>) {
        for other in others {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// Nothing gets from one side to the other, in either direction.
    pub fn split(&mut self, one: &[u64], other: &[u64]) {
        for node in one {
            self.isolate(*node, other.iter().copied());
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether a message could get from one to the other.
    pub fn is_open(&self, from: u64, to: u64) -> bool {
        !self.cut.contains(&(from, to))
    }
}
