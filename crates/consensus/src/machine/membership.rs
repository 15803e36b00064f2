//! Who belongs to the group: changes, promotion, admission of new lives, check-quorum, and handing leadership over.

use super::{Replica, Role, Sender, Transfer};
use crate::configuration::{Change, Configuration, Member};
use crate::entry::{Entry, Kind};
use crate::message::Body;
use crate::mutation::broken;
use crate::progress::Peer;
use crate::types::{Incarnation, NodeId, Position, Refusal, Term};

/// Looks of a leader for its quorum after which it stops telling a removed member about its removal.
const LEAVING_LOOKS_MAX: u32 = 10;

impl Replica {
    /// Changes the membership, if this replica leads. In force when appended; agreed on like any other entry.
    pub fn change(&mut self, change: Change) -> Result<Position, Refusal> {
        self.may_change()?;
        let mut configuration = self.configuration().clone();
        let learner = |node| Member {
            voter: false,
            incarnation: Incarnation::UNKNOWN,
            context: node,
        };
        match change {
            Change::AddLearner { node, context } => {
                if node == NodeId(0) || configuration.member(node).is_some() {
                    return Err(Refusal::IdInUse(node));
                }
                configuration.insert(node, learner(context));
            }
            Change::Promote { node } => {
                let incarnation = self.life_in_sync(node)?;
                let member = configuration
                    .member_mut(node)
                    .ok_or(Refusal::UnknownMember(node))?;
                member.voter = true;
                member.incarnation = incarnation;
            }
            Change::Remove { node } => {
                let member = configuration.member(node).ok_or(Refusal::UnknownMember(node))?;
                if member.voter && configuration.voters().count() == 1 {
                    return Err(Refusal::LastVoter);
                }
                configuration.remove(node);
                let whole = configuration
                    .voters()
                    .filter(|(voter, life)| self.is_whole(*voter, *life));
                // A leader that has committed nothing has met nobody either, so this would hide that clause from its test.
                if whole.count() < configuration.quorum() && !broken!(self.settings, ChangesUnsettled) {
                    return Err(Refusal::TooFewWhole);
                }
            }
            Change::SetContext { node, context } => {
                let member = configuration
                    .member_mut(node)
                    .ok_or(Refusal::UnknownMember(node))?;
                member.context = context;
            }
        }
        self.propose_entry(Kind::Configuration, configuration.encode())
    }

    /// Founds the group: the first entry of its log names its first members. All of them must have been seen to be new, and exactly one
    /// of them may do this. Nothing happens unless this replica is new as well: its log is empty, or begins after a state that all first
    /// members have alike, and nobody has ever belonged to the group.
    pub fn found(&mut self, first: &Configuration) {
        let base = self.log.base();
        let nobody = self.configuration().members().next().is_none();
        let new = self.log.last() == base.index && self.hard.term == base.term && self.hard.vote.is_none();
        if !new || !nobody || !first.counts(self.settings.node, self.hard.incarnation) {
            return;
        }
        self.hard.term = Term(base.term.0 + 1);
        self.hard.recovering = false;
        self.storage.hard_changed();
        let entry = Entry {
            index: base.index + 1,
            term: self.hard.term,
            kind: Kind::Configuration,
            payload: first.encode(),
        };
        self.log.append(entry).expect("an own configuration can be read");
    }

    /// The group was founded with exactly this life of this member, so there is nothing that it could have forgotten.
    pub fn founded(&mut self, first: &Configuration) {
        if self.hard.recovering && first.counts(self.settings.node, self.hard.incarnation) {
            self.hard.recovering = false;
            self.storage.hard_changed();
        }
    }

    /// One change at a time, and none before the leader has shown that it may commit.
    fn may_change(&self) -> Result<(), Refusal> {
        if !matches!(self.role, Role::Leader(_)) {
            return Err(Refusal::NotLeader { leader: self.leader });
        }
        if broken!(self.settings, ChangesUnsettled) {
            return Ok(());
        }
        if self.log.newest_configuration_index() > self.hard.commit {
            return Err(Refusal::ChangeInProgress);
        }
        if self.is_settled() {
            Ok(())
        } else {
            Err(Refusal::LeaderNotSettled)
        }
    }

    /// Whether an entry of this term is committed.
    pub(super) fn is_settled(&self) -> bool {
        self.log.term(self.hard.commit) == Some(self.hard.term)
    }

    /// The life of a learner that holds nearly all of the log.
    fn life_in_sync(&self, node: NodeId) -> Result<Incarnation, Refusal> {
        let Role::Leader(lead) = &self.role else {
            return Err(Refusal::NotLeader { leader: self.leader });
        };
        let member = self
            .configuration()
            .member(node)
            .ok_or(Refusal::UnknownMember(node))?;
        if member.voter {
            return Err(Refusal::NotLearner(node));
        }
        let peer = lead.peers.get(&node).ok_or(Refusal::UnknownMember(node))?;
        let (matched, last) = (peer.matched, self.log.last());
        let near = u128::from(matched) * 10 >= u128::from(last) * 9
            && last - matched <= self.settings.promotion_lag_max;
        // One that is not admitted yet could not acknowledge its own promotion.
        let admitted = peer.incarnation == member.incarnation && !peer.recovering;
        if peer.incarnation == Incarnation::UNKNOWN || !near || !admitted {
            return Err(Refusal::NotInSync { node, matched, last });
        }
        Ok(peer.incarnation)
    }

    /// Begins to talk to new members; those that left are told before they are forgotten.
    pub(super) fn meet_members(&mut self) {
        let configuration = self.configuration().clone();
        let index = self.log.newest_configuration_index();
        let next = self.log.last() + 1;
        let lives: Vec<_> = configuration
            .members()
            .map(|(node, _)| (node, self.newest_life(node)))
            .collect();
        let own = self.settings.node;
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        for (node, life) in lives {
            if node != own {
                let peer = lead.peers.entry(node).or_insert_with(|| Peer::new(life, next));
                peer.leaving = None;
            }
        }
        for (node, peer) in &mut lead.peers {
            if configuration.member(*node).is_none() && peer.leaving.is_none() {
                peer.leaving = Some(index);
                peer.leaving_looks = 0;
            }
        }
    }

    /// Whether this life of a voter has acknowledged anything in a way that counts.
    fn is_whole(&self, node: NodeId, life: Incarnation) -> bool {
        match &self.role {
            _ if node == self.settings.node => !self.hard.recovering,
            Role::Leader(lead) => lead
                .peers
                .get(&node)
                .is_some_and(|peer| peer.incarnation == life && peer.counted > 0),
            _ => false,
        }
    }

    /// A member that came back in another life is admitted as soon as the membership may change, and so is a new learner: after that it
    /// is whole, and can acknowledge its promotion.
    pub(super) fn admit_new_lives(&mut self) {
        if self.may_change().is_err() {
            return;
        }
        let Role::Leader(lead) = &self.role else { return };
        let came_back = self.configuration().members().find_map(|(node, member)| {
            let peer = lead.peers.get(&node)?;
            (peer.incarnation > member.incarnation).then_some((node, peer.incarnation))
        });
        let Some((node, life)) = came_back else { return };
        let mut configuration = self.configuration().clone();
        if let Some(member) = configuration.member_mut(node) {
            member.incarnation = life;
        }
        // Refused only while leadership is handed over; the next leader does it.
        drop(self.propose_entry(Kind::Configuration, configuration.encode()));
    }

    /// Steps down if no majority answered, in a way that counts, since the last look.
    pub(super) fn check_quorum(&mut self) {
        let own = Sender {
            node: self.settings.node,
            incarnation: self.hard.incarnation,
            recovering: self.hard.recovering,
        };
        let own_counts = self.answer_counts(own);
        let quorum = self.configuration().quorum();
        let any_life = broken!(self.settings, AnyIncarnationCounts | NormalAfterContact);
        let voters: Vec<(NodeId, Incarnation)> = self.configuration().voters().collect();
        let commit = self.hard.commit;
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let heard = |(node, life): &(NodeId, Incarnation)| match lead.peers.get(node) {
            Some(peer) => peer.active && (peer.incarnation == *life || any_life),
            None => *node == own.node && own_counts,
        };
        let quorate = voters.iter().filter(|voter| heard(voter)).count() >= quorum;
        for peer in lead.peers.values_mut() {
            peer.active = false;
            peer.fetching = false;
            peer.leaving_looks += u32::from(peer.leaving.is_some());
        }
        lead.peers.retain(|_, peer| {
            peer.leaving.is_none_or(|index| {
                let told = commit >= index && peer.matched >= index && peer.leaving_looks > 1;
                !told && peer.leaving_looks < LEAVING_LOOKS_MAX
            })
        });
        let removed = commit >= self.log.newest_configuration_index()
            && self.configuration().member(self.settings.node).is_none();
        if (!quorate && !broken!(self.settings, NoCheckQuorum)) || removed {
            self.become_follower(self.hard.term);
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        lead.peers.values_mut().for_each(Peer::heartbeat);
        let round = lead.round;
        let known: Vec<_> = lead
            .peers
            .iter()
            .map(|(node, peer)| (*node, peer.incarnation, peer.matched.min(self.hard.commit)))
            .collect();
        for (node, life, commit) in known {
            let body = if life == Incarnation::UNKNOWN {
                Body::Hello
            } else {
                Body::Heartbeat { commit, round }
            };
            self.post(node, life, body);
        }
    }

    /// Hands leadership to `to`, or to the most advanced voter. No proposals are taken until it leads or an election timeout has passed.
    pub fn transfer(&mut self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        let configuration = self.configuration().clone();
        let Role::Leader(lead) = &mut self.role else {
            return Err(Refusal::NotLeader { leader: self.leader });
        };
        let fit = |node: &NodeId| {
            let peer = lead.peers.get(node);
            peer.is_some_and(|peer| configuration.counts(*node, peer.incarnation) && !peer.recovering)
        };
        let to = match to {
            Some(node) if fit(&node) => node,
            Some(node) => return Err(Refusal::BadTransferee(node)),
            None => lead
                .peers
                .iter()
                .filter(|(node, _)| fit(node))
                .max_by_key(|(_, peer)| (peer.active, peer.counted))
                .map(|(node, _)| *node)
                .ok_or(Refusal::BadTransferee(self.settings.node))?,
        };
        lead.transfer = Some(Transfer {
            to,
            ticks: 0,
            told: false,
        });
        Ok(to)
    }

    pub(super) fn tick_transfer(&mut self) {
        let (ticks, every) = (self.settings.election_ticks, self.settings.heartbeat_ticks);
        if let Role::Leader(lead) = &mut self.role
            && let Some(transfer) = &mut lead.transfer
        {
            transfer.ticks += every;
            if transfer.ticks >= ticks {
                lead.transfer = None;
            }
        }
    }

    pub(super) fn hand_over_if_caught_up(&mut self) {
        let last = self.log.last();
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(transfer) = lead.transfer.as_mut().filter(|transfer| !transfer.told) else {
            return;
        };
        let Some(peer) = lead.peers.get(&transfer.to).filter(|peer| peer.matched == last) else {
            return;
        };
        transfer.told = true;
        let (to, life) = (transfer.to, peer.incarnation);
        self.post(to, life, Body::TimeoutNow);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::Snapshot;
    use crate::types::{GroupId, HardState};
    use crate::{Restored, Settings};

    const LIFE: Incarnation = Incarnation(7);

    fn replica(base: Snapshot, recovering: bool) -> Replica {
        let mut hard_state = HardState::new(LIFE, recovering);
        hard_state.term = base.position.term;
        hard_state.commit = base.position.index;
        let restored = Restored {
            hard_state,
            applied: base.position.index,
            base,
            entries: Vec::new(),
        };
        Replica::new(Settings::new(GroupId(1), NodeId(1), 1), restored).unwrap()
    }

    fn base(configuration: Configuration) -> Snapshot {
        Snapshot {
            position: Position {
                term: Term(4),
                index: 70,
            },
            configuration,
        }
    }

    fn first() -> Configuration {
        Configuration::of_voters([(NodeId(1), LIFE, Bytes::new()), (NodeId(2), LIFE, Bytes::new())])
    }

    #[test]
    fn a_group_is_founded_on_a_state_that_belongs_to_nobody_and_on_no_other() {
        let mut restored = replica(base(Configuration::default()), true);
        restored.found(&first());
        let ready = restored.ready().unwrap();
        let founding = &ready.entries[0];
        assert_eq!(
            (founding.index, founding.term, founding.kind),
            (71, Term(5), Kind::Configuration)
        );
        let hard_state = ready.hard_state.unwrap();
        assert_eq!((hard_state.term, hard_state.recovering), (Term(5), false));

        let mut member = replica(base(first()), false);
        member.found(&first());
        assert!(member.ready().is_none_or(|ready| ready.entries.is_empty()));
        let mut of_another_life = replica(base(Configuration::default()), true);
        of_another_life.found(&Configuration::of_voters([(
            NodeId(1),
            Incarnation(6),
            Bytes::new(),
        )]));
        assert!(
            of_another_life
                .ready()
                .is_none_or(|ready| ready.entries.is_empty())
        );
    }
}
