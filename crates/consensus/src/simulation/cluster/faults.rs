//! Faults, the operator, and the repair of everything.

use sim::{Faults, Rng};

use super::{Cluster, Happening, SECOND, is_leader};
use crate::simulation::node::Empty;
use crate::{Change, Missing, NodeId};

impl Cluster {
    pub(super) fn fault(&mut self) {
        if self.repaired {
            return;
        }
        let next = self.rng.between(SECOND / 5, 3 * SECOND);
        self.queue.after(next, Happening::Fault);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        // Leaders are where it hurts.
        let leader = self
            .nodes
            .values()
            .find(|node| is_leader(node))
            .map(|node| node.id);
        let node = leader
            .filter(|_| self.rng.chance(350))
            .unwrap_or(*self.rng.pick(&ids));
        let delay = self.rng.below(5 * SECOND);
        match self.rng.below(14) {
            0 | 1 if self.profile.crashes => self.crash(node, delay),
            2 if self.profile.crashes => {
                for node in ids {
                    self.crash(node, delay);
                }
            }
            3 | 4 if self.profile.partitions && ids.len() > 1 => self.partition(&ids),
            5 if self.profile.partitions && self.rng.chance(500) => {
                self.network
                    .isolate(node.0, ids.iter().map(|id| id.0).filter(|other| *other != node.0));
            }
            5 if self.profile.partitions => self.network.heal(),
            6 => {
                self.say(node, "is frozen");
                let until = self.queue.now() + delay;
                let this = self.nodes.get_mut(&node).expect("a node");
                this.frozen_until = until;
            }
            7 => {
                let keep = self.rng.below(5);
                self.checkpoint(node, keep);
            }
            8 if self.rng.chance(300) => {
                self.say(node, "has a full disk");
                self.nodes.get_mut(&node).expect("a node").disk.set_full(true);
            }
            8 => self.nodes.values_mut().for_each(|node| node.disk.set_full(false)),
            9 => self.with_leader(|_, replica| {
                // Refused when nobody can take over, which is fine.
                drop(replica.transfer(None));
            }),
            10 | 11 if self.profile.changes => self.change(node),
            12 if self.profile.operator && self.rng.chance(600) => {
                // Too many at once for the rest to go on, sometimes all but one, rarely all.
                let mut ids = ids;
                self.rng.shuffle(&mut ids);
                let most = if self.rng.chance(50) {
                    ids.len()
                } else {
                    ids.len() - 1
                };
                let count = usize::try_from(self.rng.between(ids.len() as u64 / 2, most as u64)).unwrap();
                for node in &ids[..count] {
                    self.lose(*node, delay);
                }
            }
            12 if self.profile.losses => self.lose(node, delay),
            13 if self.profile.losses => {
                let disk = self.nodes[&node].disk.clone();
                self.backups.insert(node, disk);
            }
            _ => {}
        }
    }

    pub(super) fn partition(&mut self, ids: &[NodeId]) {
        self.network.heal();
        let mut ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        self.rng.shuffle(&mut ids);
        match self.rng.below(3) {
            0 => {
                let at = usize::try_from(self.rng.between(1, ids.len() as u64 - 1)).unwrap();
                let (one, other) = ids.split_at(at);
                self.network.split(one, other);
            }
            1 => self.network.isolate(ids[0], ids[1..].iter().copied()),
            _ => {
                // One direction only.
                let cuts = self.rng.between(1, 4);
                for _ in 0..cuts {
                    let (from, to) = (*self.rng.pick(&ids), *self.rng.pick(&ids));
                    self.network.cut(from, to);
                }
            }
        }
    }

    pub(super) fn crash(&mut self, node: NodeId, delay: u64) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.replica.is_none() {
            return;
        }
        this.crash(&mut self.rng);
        self.say(node, "crashes");
        self.queue.after(1 + delay, Happening::Restart(node));
    }

    pub(super) fn restart(&mut self, node: NodeId) {
        let this = &self.nodes[&node];
        if this.replica.is_some() {
            return;
        }
        let life = self.draw_life();
        self.boot(node, life, Empty::Unknown);
    }

    /// A disk is lost, or an old copy of it is put back, marked as such.
    pub(super) fn lose(&mut self, node: NodeId, delay: u64) {
        // A machine that is set up anew comes back when nothing is on its way any more that it said before. Founding relies on that.
        if self.profile.founding && self.nodes[&node].replica.is_none() {
            return;
        }
        let delay = if self.profile.founding {
            delay + 4 * SECOND
        } else {
            delay
        };
        self.crash(node, delay);
        let backup = self.backups.get(&node).cloned().filter(|_| self.rng.chance(400));
        let this = self.nodes.get_mut(&node).expect("a node");
        this.wipe();
        if let Some(mut backup) = backup {
            backup.set_full(false);
            this.disk = backup;
            this.restored = true;
        }
        let restored = this.restored;
        self.say(
            node,
            if restored {
                "is restored from a copy"
            } else {
                "is wiped"
            },
        );
    }

    pub(super) fn checkpoint(&mut self, node: NodeId, keep: u64) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.replica.is_some() && this.frozen_until <= self.queue.now() {
            // A full disk has no room for a checkpoint; the next one may.
            let _: Result<(), sim::Full> = this.checkpoint(keep);
            self.pump(node);
        }
    }

    pub(super) fn with_leader(&mut self, what: impl FnOnce(&mut Rng, &mut crate::Replica)) {
        let now = self.queue.now();
        let leader = self
            .nodes
            .values_mut()
            .find(|node| is_leader(node) && node.frozen_until <= now);
        let Some(node) = leader.map(|leader| {
            what(&mut self.rng, leader.replica.as_mut().expect("a leader"));
            leader.id
        }) else {
            return;
        };
        self.pump(node);
    }

    pub(super) fn change(&mut self, node: NodeId) {
        let now = self.queue.now();
        let leaders: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| is_leader(node))
            .map(|node| node.id)
            .collect();
        let Some(leader) = leaders.first() else { return };
        let leader = *self.rng.pick(if leaders.len() > 1 {
            &leaders
        } else {
            std::slice::from_ref(leader)
        });
        let remove = self.rng.chance(500);
        let this = self.nodes.get_mut(&leader).expect("a node");
        let Some(replica) = this.replica.as_mut().filter(|_| this.frozen_until <= now) else {
            return;
        };
        let configuration = replica.status().configuration;
        let change = match configuration.member(node) {
            None => Change::AddLearner {
                node,
                context: bytes::Bytes::new(),
            },
            Some(member) if !member.voter => Change::Promote { node },
            Some(_) if remove && configuration.voters().count() > 2 => Change::Remove { node },
            Some(_) => return,
        };
        let outcome = replica.change(change.clone());
        self.say(leader, &format!("{change:?}: {outcome:?}"));
        self.pump(leader);
        // As the operator is told to: a removed member comes back empty.
        if outcome.is_ok() && matches!(change, Change::Remove { .. }) && self.profile.losses {
            self.lose(node, SECOND);
        }
    }

    /// Without a leader, the operator declares whatever a node says is missing.
    pub(super) fn operate(&mut self) {
        self.queue.after(SECOND, Happening::Operator);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let this = self.nodes.get_mut(&node).expect("a node");
            let Some(replica) = this
                .replica
                .as_mut()
                .filter(|_| this.frozen_until <= self.queue.now())
            else {
                continue;
            };
            let missing = replica.status().missing;
            let declarations = missing.into_iter().find_map(|missing| match missing {
                Missing::Declarations(nodes) => Some(nodes),
                _ => None,
            });
            for replaced in declarations.unwrap_or_default() {
                // Refused when a leader has appeared meanwhile.
                drop(replica.note_replaced(replaced));
            }
            self.pump(node);
        }
    }

    /// All trouble ends.
    pub(super) fn repair(&mut self) {
        self.repaired = true;
        self.network.heal();
        self.network.faults = Faults::NONE;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let this = self.nodes.get_mut(&node).expect("a node");
            this.disk.set_full(false);
            this.frozen_until = 0;
            self.restart(node);
        }
    }
}
