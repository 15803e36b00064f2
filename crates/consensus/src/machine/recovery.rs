//! Recovery elections: the probe that comes before, what must hold to begin one, and the admission that its winner appends.

use std::collections::{BTreeMap, BTreeSet};

use super::{Replica, Role, Sender};
use crate::configuration::Configuration;
use crate::message::{Body, Message};
use crate::mutation::broken;
use crate::progress::Peer;
use crate::ready::{Event, Missing};
use crate::types::{Fence, Incarnation, NodeId, Position, Refusal, Term};

/// A recovery election leaps over up to so many epochs, at random: two that cannot see each other must not meet in one term.
const EPOCHS_SKIPPED_MAX: u64 = 1 << 20;

/// With whom a recovery election is held.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Recovery {
    /// Everybody who must grant it, in the life that answered the probe.
    pub(super) fence: Fence,
    /// Those of them that forgot.
    pub(super) flagged: Fence,
}

/// A question to everybody: who are you, and how far is your log?
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Probe {
    pub(super) round: u64,
    pub(super) ticks: u32,
    pub(super) answers: BTreeMap<NodeId, Answer>,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq, Hash))]
pub(super) struct Answer {
    pub(super) incarnation: Incarnation,
    pub(super) recovering: bool,
    pub(super) term: Term,
    pub(super) last: Position,
    pub(super) has_leader: bool,
}

impl Replica {
    /// The operator says, on this node and while there is no leader, that `node` was replaced by an empty one. Kept on disk until
    /// the next leader.
    pub fn note_replaced(&mut self, node: NodeId) -> Result<(), Refusal> {
        if self.leader.is_some() {
            return Err(Refusal::HasLeader);
        }
        if !self.everybody().contains(&node) {
            return Err(Refusal::UnknownMember(node));
        }
        if self.hard.replaced.insert(node) {
            self.storage.hard_changed();
        }
        Ok(())
    }

    /// Other nodes of this cluster that are not in the configuration but may hold a more advanced log: from gossip, or from the
    /// settings. They are probed too; if they do not answer, that is no obstacle. A probe under way has not asked new ones, so it ends.
    pub fn set_bystanders(&mut self, nodes: BTreeSet<NodeId>) {
        if !nodes.is_subset(&self.bystanders) {
            self.probe = None;
        }
        self.bystanders = nodes;
    }

    /// `U`: all voters of every configuration from the last one known to be committed to the newest.
    pub(super) fn everybody(&self) -> BTreeSet<NodeId> {
        if broken!(self.settings, RecoveryAsksNewest) {
            return self.configuration().voters().map(|(node, _)| node).collect();
        }
        let configurations = self.log.configurations_from(self.hard.commit);
        configurations
            .flat_map(|configuration| configuration.voters().map(|(node, _)| node))
            .collect()
    }

    /// Asks everybody, if this replica could lead.
    pub(super) fn begin_probe(&mut self) {
        self.probe = None;
        let everybody = self.everybody();
        if self.log.last() == 0 || !self.configuration().is_voter(self.settings.node) {
            self.missing = vec![Missing::NotEligible];
            return;
        }
        self.probes += 1;
        self.probe = Some(Probe {
            round: self.probes,
            ticks: 0,
            answers: BTreeMap::new(),
        });
        for node in everybody.union(&self.bystanders).copied().collect::<Vec<_>>() {
            if node != self.settings.node {
                let body = Body::Probe { round: self.probes };
                self.post(node, Incarnation::UNKNOWN, body);
            }
        }
    }

    pub(super) fn answer_probe(&mut self, message: &Message, round: u64) {
        let body = Body::ProbeAnswer {
            round,
            last: self.log.last_position(),
            has_leader: self.protects_leader(),
        };
        self.post(message.from, message.from_incarnation, body);
    }

    pub(super) fn count_probe(&mut self, message: Message) {
        let Body::ProbeAnswer {
            round,
            last,
            has_leader,
        } = message.body
        else {
            return;
        };
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.round == round) {
            let answer = Answer {
                incarnation: message.from_incarnation,
                recovering: message.recovering,
                term: message.term,
                last,
                has_leader,
            };
            probe.answers.insert(message.from, answer);
        }
    }

    /// A probe is looked at when everybody had time to answer, so that nobody more advanced is overlooked for being slow.
    pub(super) fn tick_probe(&mut self) {
        let Some(probe) = &mut self.probe else { return };
        probe.ticks += 1;
        if probe.ticks < self.settings.election_ticks.div_ceil(2) {
            return;
        }
        let Some(mut probe) = self.probe.take() else {
            return;
        };
        if self.leader.is_some() {
            return;
        }
        let own = Answer {
            incarnation: self.hard.incarnation,
            recovering: self.hard.recovering,
            term: self.hard.term,
            last: self.log.last_position(),
            has_leader: false,
        };
        probe.answers.insert(self.settings.node, own);
        self.missing = self.obstacles(&probe);
        if self.missing.is_empty() {
            let skipped = self.random.below(EPOCHS_SKIPPED_MAX);
            self.hold_recovery_election(&probe, skipped);
        }
    }

    pub(super) fn obstacles(&self, probe: &Probe) -> Vec<Missing> {
        let everybody = self.everybody();
        let mut missing = Vec::new();
        let silent: Vec<NodeId> = everybody
            .iter()
            .copied()
            .filter(|node| !probe.answers.contains_key(node))
            .collect();
        if !silent.is_empty() && !broken!(self.settings, RecoveryByMajority) {
            missing.push(Missing::Answers(silent));
        }
        let whole = |node: &NodeId| probe.answers.get(node).is_some_and(|answer| !answer.recovering);
        let whole_voters = self.configuration().voters().filter(|(node, _)| whole(node));
        if whole_voters.count() >= self.configuration().quorum() {
            missing.push(Missing::Nothing);
        }
        let own = self.log.last_position();
        let ahead = probe.answers.iter().find(|(_, answer)| answer.last > own);
        if let Some((node, answer)) = ahead
            && !broken!(self.settings, RecoveryIgnoresLog)
        {
            missing.push(Missing::MoreAdvanced(*node, answer.last));
        }
        if let Some((node, _)) = probe.answers.iter().find(|(_, answer)| answer.has_leader) {
            missing.push(Missing::Leader(*node));
        }
        let undeclared: Vec<NodeId> = everybody
            .into_iter()
            .filter(|node| probe.answers.get(node).is_some_and(|answer| answer.recovering))
            .filter(|node| !self.hard.replaced.contains(node))
            .collect();
        if !undeclared.is_empty() && !broken!(self.settings, RecoveryWithoutOperator) {
            missing.push(Missing::Declarations(undeclared));
        }
        missing
    }

    pub(super) fn hold_recovery_election(&mut self, probe: &Probe, epochs_skipped: u64) {
        let everybody = self.everybody();
        let voters = probe.answers.iter().filter(|(node, _)| everybody.contains(node));
        let (mut fence, mut flagged) = (Fence::new(), Fence::new());
        for (node, answer) in voters {
            fence.insert(*node, answer.incarnation);
            if answer.recovering {
                flagged.insert(*node, answer.incarnation);
            }
        }
        // Above whatever anybody remembers; what was forgotten is why the leap is random and wide.
        let newest = probe.answers.values().map(|answer| answer.term).max();
        let term = if broken!(self.settings, RecoveryInNextTerm) {
            self.hard.term.next()
        } else {
            newest
                .unwrap_or_default()
                .max(self.hard.term)
                .next_epoch(epochs_skipped)
        };
        self.outbox.events.push(Event::RecoveryElection(term));
        self.stand(term, Some(Recovery { fence, flagged }), false);
    }

    pub(super) fn merge_fence(&mut self, fence: Fence) {
        if broken!(self.settings, NoFence) {
            return;
        }
        for (node, life) in fence {
            let newest = self.hard.fence.entry(node).or_default();
            *newest = life.max(*newest);
        }
    }

    /// The configuration that the winner of a recovery election appends first.
    pub(super) fn admission(&self, recovery: &Recovery) -> Configuration {
        let mut configuration = self.configuration().clone();
        for (node, life) in &recovery.flagged {
            if let Some(member) = configuration.member_mut(*node).filter(|member| member.voter) {
                member.incarnation = *life;
            }
        }
        configuration
    }

    /// Notes which life of a member speaks. False for an older one than the leader has already heard.
    pub(super) fn see_life(&mut self, node: NodeId, life: Incarnation, recovering: bool) -> bool {
        let next = self.log.last() + 1;
        let Role::Leader(lead) = &mut self.role else {
            return true;
        };
        let Some(peer) = lead.peers.get_mut(&node) else {
            return true;
        };
        if life < peer.incarnation {
            return broken!(self.settings, AnyIncarnationCounts);
        }
        if life > peer.incarnation {
            let leaving = peer.leaving;
            *peer = Peer::new(life, next);
            peer.leaving = leaving;
            self.outbox.events.push(Event::LifeSeen(node, life));
        }
        peer.recovering = recovering;
        true
    }

    /// The leader's log contradicts what is committed here.
    pub(super) fn take_contradiction(&mut self, at: Position) {
        if at.index <= self.hard.commit && self.log.holds(at) {
            self.discard();
        }
    }

    /// Whether an answer counts for a leader, apart from what it acknowledges.
    pub(super) fn answer_counts(&self, sender: Sender) -> bool {
        let any_life = broken!(self.settings, AnyIncarnationCounts | NormalAfterContact);
        let named = self.configuration().counts(sender.node, sender.incarnation)
            || (any_life && self.configuration().is_voter(sender.node));
        let admitted = match &self.role {
            Role::Leader(lead) => lead.admitted.get(&sender.node) == Some(&sender.incarnation),
            _ => false,
        };
        named && (!sender.recovering || admitted || broken!(self.settings, FlaggedAcksCount))
    }
}
