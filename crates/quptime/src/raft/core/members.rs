//! Members that are no peers any more leave the group, and get nothing that comes afterwards.
//!
//! A configuration without a peer says that it shall leave; a *change of members* lets it. Between the two it would be sent, as a member,
//! whatever is proposed next, and that may be a secret which it was removed to be kept from. So the leader appends the change in the very turn
//! in which it carries the configuration out, before anybody is answered or another command is taken. A change is in force when it is
//! appended, and the leader sends no entry behind it to whom it removes.
//!
//! Where that is not possible at once (one change at a time, and only after a leader has committed something), commands are refused meanwhile,
//! as by a node that does not lead yet, and whoever has one tries again. A new leader takes none before it has carried out everything from
//! before its term: its predecessor may have answered somebody who removed a node, and may have died before the change.
//!
//! A leader that is removed itself takes no commands either, and lets another one lead, which removes it. If it removed itself and died
//! before the others had that entry, they would need its vote, which it could not give: its log is the longer one, and it may not lead.

use consensus::{Change, NodeId, RoleName, Status, Term};

use super::{ELECTION_TICKS, Worker};
use crate::machine::mutation::broken;

impl Worker {
    /// The only voter has nobody to wait for.
    pub(super) fn hurry_alone(&mut self) {
        let status = self.replica.status();
        let own = (self.node, status.incarnation);
        let mut voters = status.configuration.voters();
        let alone = voters.next() == Some(own) && voters.next().is_none() && !status.recovering;
        if !alone || status.role == RoleName::Leader {
            return;
        }
        for _ in 0..ELECTION_TICKS {
            self.replica.tick();
        }
    }

    /// Whether this node leads and must not take commands at this moment.
    pub(super) fn holds_commands_back(&self) -> bool {
        let status = self.replica.status();
        if status.role != RoleName::Leader {
            return false;
        }
        let is_settled = self.disk.term(self.applied) == Some(status.term);
        if !is_settled && !broken!(CommandsUnsettled) {
            return true;
        }
        let somebody_leaves = !self.is_peer(self.node) || self.departing(&status).next().is_some();
        somebody_leaves && !broken!(CommandsWhileSomebodyLeaves)
    }

    /// Has members leave that are no peers. True if there is something to carry out.
    pub(super) fn let_go(&mut self) -> bool {
        let status = self.replica.status();
        if status.role != RoleName::Leader {
            return false;
        }
        let departing: Vec<NodeId> = self.departing(&status).collect();
        for node in departing.iter().copied().filter(|node| *node != self.node) {
            match self.replica.change(Change::Remove { node }) {
                Ok(_) => {
                    tracing::info!(target: "quptime", %node, "a member that is no peer any more leaves the group");
                    return true;
                }
                // It is tried again in the next turn.
                Err(refusal) => tracing::trace!(target: "quptime", %node, %refusal, "not yet"),
            }
        }
        departing == [self.node] && self.resign(status.term)
    }

    /// Lets another one lead, which then removes this node.
    fn resign(&mut self, term: Term) -> bool {
        let tried = self
            .resigned
            .is_some_and(|(of, at)| of == term && self.ticks < at + u64::from(ELECTION_TICKS));
        if tried {
            return false;
        }
        self.resigned = Some((term, self.ticks));
        self.replica.transfer(None).is_ok()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        self.replica.tick();
    }

    /// Members that are no peers.
    fn departing<'a>(&'a self, status: &'a Status) -> impl Iterator<Item = NodeId> + 'a {
        let members = status.configuration.members().map(|(node, _)| node);
        members.filter(|node| !self.is_peer(*node))
    }

    fn is_peer(&self, number: NodeId) -> bool {
        let document = &self.state.document;
        // A state that has not begun names nobody.
        document.version == 0 || document.peers.iter().any(|peer| peer.node_id.number() == number)
    }
}

#[cfg(test)]
mod tests;
