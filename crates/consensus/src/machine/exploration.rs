//! How an explorer moves a replica (`simulation::exhaustive`): what timers, flow control and chance decide elsewhere is one step each
//! here. Exists in tests only.
//!
//! The clauses themselves (who may stand, who grants, what counts, what is admitted) are the ones of the real code: nothing of them is
//! repeated here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::recovery::{Answer, Probe};
use super::{Outbox, Replica, Role, storage};
use crate::configuration::Change;
use crate::log::Slice;
use crate::message::{Body, Message};
use crate::random::Random;
use crate::ready::Missing;
use crate::settings::Settings;
use crate::types::{Fence, HardState, Incarnation, Index, NodeId, Position, Term};

/// What a voter answered to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Answered {
    pub(crate) node: NodeId,
    pub(crate) life: Incarnation,
    pub(crate) recovering: bool,
    pub(crate) term: Term,
    pub(crate) last: Position,
}

impl Replica {
    /// Forgets what only time, chance and flow control look at, so that two replicas which differ in nothing else are equal. Everybody's
    /// patience is over, so nobody protects a leader; everything is on disk, and everything committed is applied.
    pub(crate) fn normalise(&mut self) {
        self.random = Random::new(0);
        self.elapsed = self.settings.election_ticks;
        self.heartbeat_elapsed = 0;
        self.timeout = u32::MAX;
        self.applied = self.hard.commit;
        self.storage = storage::Progress::restored(self.log.last(), self.hard.commit);
        self.outbox = Outbox::default();
        self.forwarded.clear();
        self.probe = None;
        self.probes = 0;
        self.missing.clear();
        if let Role::Leader(lead) = &mut self.role {
            lead.round = 0;
            lead.reads_waiting.clear();
            lead.rounds.clear();
            lead.transfer = None;
            lead.uncommitted = VecDeque::new();
            lead.uncommitted_bytes = 0;
            lead.peers
                .values_mut()
                .for_each(crate::progress::Peer::fall_silent);
        }
    }

    /// Begins an ordinary election, if this replica may, without asking first.
    pub(crate) fn stand_now(&mut self) {
        if self.may_campaign() {
            self.stand(self.hard.term.next(), None, false);
        }
    }

    /// Who must grant a recovery election held here; nobody if none can be.
    pub(crate) fn electorate(&self) -> BTreeSet<NodeId> {
        let fit = self.log.last() > 0 && self.configuration().is_voter(self.settings.node);
        if fit && !matches!(self.role, Role::Leader(_)) {
            self.everybody()
        } else {
            BTreeSet::new()
        }
    }

    /// Begins a recovery election with those who answered. The operator has declared everybody who needs it. What else a probe looks
    /// at (whether an ordinary election would do, whether somebody knows a leader) is only looked at if `guarded`.
    pub(crate) fn hold_recovery(&mut self, answers: &[Answered], epochs_skipped: u64, guarded: bool) {
        let answers: BTreeMap<NodeId, Answer> = answers
            .iter()
            .map(|answered| {
                let answer = Answer {
                    incarnation: answered.life,
                    recovering: answered.recovering,
                    term: answered.term,
                    last: answered.last,
                    has_leader: false,
                };
                (answered.node, answer)
            })
            .collect();
        let probe = Probe {
            round: 0,
            ticks: 0,
            answers,
        };
        let obstacles = self.obstacles(&probe);
        let stops = |obstacle: &Missing| guarded && !matches!(obstacle, Missing::Declarations(_));
        if !obstacles.iter().any(stops) {
            self.hold_recovery_election(&probe, epochs_skipped);
        }
    }

    /// All voters of every configuration that may be in force, whatever clause is broken.
    pub(crate) fn voters_that_may_be_in_force(&self) -> BTreeSet<NodeId> {
        let configurations = self.log.configurations_from(self.hard.commit);
        configurations
            .flat_map(|configuration| configuration.voters().map(|(node, _)| node))
            .collect()
    }

    /// The lives that must grant the recovery election which is being held here.
    pub(crate) fn asked_in_recovery(&self) -> Option<&Fence> {
        match &self.role {
            Role::Candidate(ballot) => ballot.recovery.as_ref().map(|recovery| &recovery.fence),
            _ => None,
        }
    }

    /// An append with the first `until` entries of the log and no more, to the newest life that the leader knows of `to`.
    pub(crate) fn append_for(&self, to: NodeId, until: Index) -> Option<Message> {
        let Role::Leader(lead) = &self.role else {
            return None;
        };
        let life = lead.peers.get(&to)?.incarnation;
        let Slice::Cached(entries) = self.log.slice(self.log.base().index + 1, until, usize::MAX) else {
            unreachable!("nothing leaves the memory of an explored replica");
        };
        let body = Body::Append {
            previous: self.log.base(),
            entries,
            commit: self.hard.commit,
        };
        Some(self.message(to, life, body))
    }

    /// What a heartbeat would tell `to` about what is committed.
    pub(crate) fn heartbeat_for(&self, to: NodeId) -> Option<Message> {
        let Role::Leader(lead) = &self.role else {
            return None;
        };
        let peer = lead.peers.get(&to)?;
        let commit = peer.matched.min(self.hard.commit);
        let body = Body::Heartbeat { commit, round: 0 };
        Some(self.message(to, peer.incarnation, body))
    }

    fn message(&self, to: NodeId, to_incarnation: Incarnation, body: Body) -> Message {
        Message {
            group: self.settings.group,
            from: self.settings.node,
            to,
            from_incarnation: self.hard.incarnation,
            to_incarnation,
            recovering: self.hard.recovering,
            term: self.hard.term,
            body,
        }
    }

    /// Admits whoever came back, if a leader's next heartbeat would.
    pub(crate) fn admit_now(&mut self) {
        self.admit_new_lives();
    }

    /// Promotes `node` as if it had caught up, which is no question of safety.
    pub(crate) fn promote_now(&mut self, node: NodeId) {
        let last = self.log.last();
        let matched = self.set_matched(node, last);
        // What is refused did not happen.
        drop(self.change(Change::Promote { node }));
        self.set_matched(node, matched);
    }

    fn set_matched(&mut self, node: NodeId, matched: Index) -> Index {
        match &mut self.role {
            Role::Leader(lead) => lead
                .peers
                .get_mut(&node)
                .map_or(0, |peer| std::mem::replace(&mut peer.matched, matched)),
            _ => 0,
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.settings.node
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn hard(&self) -> &HardState {
        &self.hard
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub(crate) fn is_candidate(&self) -> bool {
        matches!(self.role, Role::Candidate(_))
    }

    /// What the leader has counted of `node` in this life: nothing if it knows a later one or none.
    pub(crate) fn counted_of(&self, node: NodeId, life: Incarnation) -> Option<Index> {
        let Role::Leader(lead) = &self.role else {
            return None;
        };
        let peer = lead.peers.get(&node)?;
        (peer.incarnation <= life).then_some(if peer.incarnation == life { peer.counted } else { 0 })
    }

    pub(crate) fn has_granted(&self, node: NodeId) -> bool {
        match &self.role {
            Role::Candidate(ballot) => ballot.answers.get(&node).is_some_and(|answer| answer.granted),
            _ => false,
        }
    }

    pub(crate) fn position(&self, index: Index) -> Option<Position> {
        self.log.position(index)
    }

    pub(crate) fn last_index(&self) -> Index {
        self.log.last()
    }

    pub(crate) fn log_entries(&self) -> Vec<crate::entry::Entry> {
        match self
            .log
            .slice(self.log.base().index + 1, self.log.last(), usize::MAX)
        {
            Slice::Cached(entries) => entries,
            Slice::Evicted { .. } => unreachable!("nothing leaves the memory of an explored replica"),
        }
    }
}
