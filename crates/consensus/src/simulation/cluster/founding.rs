//! How several empty nodes become a group: what a server does around [`crate::Replica::found`] and [`crate::Replica::founded`].
//!
//! Every first member asks all others, again and again, who they are. When all have answered in one round and all are empty, the lowest
//! id notes the group on its disk and founds it, with exactly the lives that answered. Whoever hears of a group notes it and counts
//! from then on if it was founded with his life. A crash may come between the note and the founding, so a node that has a note founds,
//! or is founded, again whenever it starts.
//!
//! A machine whose disk was lost comes back later than what it said before: see `Cluster::lose`.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use super::{Cluster, Happening, SECOND};
use crate::simulation::node::Node;
use crate::{Configuration, Incarnation, NodeId};

/// How often everybody is asked. An answer that comes later than the next question is none.
const ROUND: u64 = SECOND / 2;

const NOTE: &str = "group";

/// What a server could do wrong when groups are founded: so that it is seen that the schedules notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulation) enum Flaw {
    None,
    /// The founder does not wait for those who do not answer.
    FoundsWithSome,
    /// A node that crashed after it noted its group is not told again that it was founded.
    ToldOnce,
}

/// Which group a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    instance: Incarnation,
    pub(super) first: Configuration,
}

/// What a node says when it is asked.
#[derive(Debug, Clone)]
pub(super) struct Introduction {
    life: Incarnation,
    group: Option<Group>,
    empty: bool,
}

/// A question on its way, and the answer on its way back.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    from: NodeId,
    /// Of the node that asks: an answer for an earlier one is for nobody.
    run: u64,
    round: u64,
    to: NodeId,
    answer: Option<Introduction>,
}

/// What a node that belongs to no group does about it.
#[derive(Debug, Default)]
pub(super) struct Forming {
    round: u64,
    answers: BTreeMap<NodeId, Introduction>,
}

impl Group {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.instance.0);
        out.put_slice(&self.first.encode());
        out
    }

    /// As the disk of `node` has it.
    fn read(node: &Node) -> Option<Group> {
        let mut bytes = Bytes::from(node.disk.read(NOTE));
        let instance = Incarnation(bytes.try_get_u64().ok()?);
        let first = Configuration::decode(bytes).expect("as written");
        Some(Group { instance, first })
    }
}

impl Cluster {
    /// A first member has started.
    pub(super) fn begin_forming(&mut self, node: NodeId) {
        let this = &self.nodes[&node];
        let run = this.run;
        self.forming.insert(node, Forming::default());
        match Group::read(this) {
            Some(_) if self.profile.flaw == Flaw::ToldOnce => {}
            Some(group) => self.belong(node, &group),
            None => self.queue.after(1, Happening::Form(node, run)),
        }
    }

    /// A round has ended, and the next begins.
    pub(super) fn form_round(&mut self, node: NodeId, run: u64) {
        let this = &self.nodes[&node];
        if this.run != run || Group::read(this).is_some() {
            return;
        }
        let forming = self.forming.get_mut(&node).expect("it forms");
        let answers = std::mem::take(&mut forming.answers);
        forming.round += 1;
        let round = forming.round;
        let others: Vec<NodeId> = self
            .nodes
            .keys()
            .copied()
            .filter(|other| *other != node)
            .collect();
        let flaw = self.profile.flaw;
        let fits = |other: &NodeId| match answers.get(other) {
            Some(answer) => answer.empty,
            None => flaw == Flaw::FoundsWithSome && round > 1,
        };
        if others.iter().all(|other| node < *other && fits(other)) {
            return self.found(node, &answers);
        }
        for to in others {
            let asking = Asking {
                from: node,
                run,
                round,
                to,
                answer: None,
            };
            self.carry(node, to, &asking);
        }
        self.queue.after(ROUND, Happening::Form(node, run));
    }

    fn carry(&mut self, from: NodeId, to: NodeId, asking: &Asking) {
        for delay in self.network.delays(&mut self.rng, from.0, to.0) {
            self.queue.after(delay, Happening::Ask(Box::new(asking.clone())));
        }
    }

    /// A question or an answer arrives.
    pub(super) fn ask_who(&mut self, mut asking: Asking) {
        let Some(answer) = asking.answer.take() else {
            let Some(this) = self.nodes.get(&asking.to).filter(|this| this.replica.is_some()) else {
                return;
            };
            let status = this.replica.as_ref().expect("running").status();
            let group = Group::read(this);
            asking.answer = Some(Introduction {
                life: status.incarnation,
                empty: group.is_none() && status.last.index == 0,
                group,
            });
            return self.carry(asking.to, asking.from, &asking);
        };
        if self.nodes[&asking.from].run != asking.run {
            return;
        }
        if let Some(group) = &answer.group {
            self.meet_group(asking.from, group);
        }
        let forming = self.forming.entry(asking.from).or_default();
        if forming.round == asking.round {
            forming.answers.insert(asking.to, answer);
        }
    }

    fn found(&mut self, node: NodeId, answers: &BTreeMap<NodeId, Introduction>) {
        let own = self.nodes[&node].life().expect("running");
        let others = answers.iter().map(|(other, answer)| (*other, answer.life));
        let voters = others
            .chain([(node, own)])
            .map(|(other, life)| (other, life, Bytes::new()));
        let group = Group {
            instance: own,
            first: Configuration::of_voters(voters),
        };
        let holder = self
            .nodes
            .values()
            .find(|other| Group::read(other).is_some() || !other.holds_nothing());
        if let Some(holder) = holder {
            let text = format!(
                "founding: member {node} founds a group, and member {} holds data of one",
                holder.id
            );
            self.failure.get_or_insert(text);
        }
        self.say(node, "founds the group");
        self.ledger.begin_anew();
        self.note_group(node, &group);
    }

    /// `node` hears of a group.
    pub(super) fn meet_group(&mut self, node: NodeId, group: &Group) {
        match Group::read(&self.nodes[&node]) {
            None => self.note_group(node, group),
            Some(own) if own == *group => {}
            Some(own) => {
                let text = format!(
                    "founding: two groups, {:?} on member {node} and {:?}",
                    own.instance, group.instance
                );
                self.failure.get_or_insert(text);
            }
        }
    }

    /// What the group of a node is, so that whoever hears from it knows too.
    pub(super) fn group_of(&self, node: NodeId) -> Option<Group> {
        Group::read(&self.nodes[&node])
    }

    fn note_group(&mut self, node: NodeId, group: &Group) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.disk.replace_synced(NOTE, group.encode()).is_err() {
            return self.crash(node, SECOND);
        }
        // The worst moment: the group is noted, and the replica knows nothing of it.
        if !self.repaired && self.rng.chance(250) {
            let delay = self.rng.below(3 * SECOND);
            return self.crash(node, delay);
        }
        self.belong(node, group);
    }

    fn belong(&mut self, node: NodeId, group: &Group) {
        let founder = group.first.members().next().map(|(first, _)| first);
        let this = self.nodes.get_mut(&node).expect("a node");
        let Some(replica) = &mut this.replica else { return };
        if founder == Some(node) {
            replica.found(&group.first);
        } else {
            replica.founded(&group.first);
        }
        self.say(node, "belongs to a group");
        self.pump(node);
    }
}
