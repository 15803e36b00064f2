//! Who leads: pre-vote, votes, and what makes an election won.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::recovery::Recovery;
use super::{Ballot, BallotAnswer, Leadership, Replica, Role, Sender};
use crate::entry::Kind;
use crate::message::{Body, Message};
use crate::mutation::broken;
use crate::progress::Peer;
use crate::types::{Fence, Incarnation, NodeId, Position, Term, Vote};

impl Replica {
    /// Whether this replica may hold an ordinary election: one that forgot, or whose life does not count, would only disturb.
    pub(super) fn may_campaign(&self) -> bool {
        let unflagged = !self.hard.recovering || broken!(self.settings, FlaggedVotesCount);
        self.is_counted_voter(self.hard.incarnation) && unflagged && self.log.last() > 0
    }

    fn is_counted_voter(&self, life: Incarnation) -> bool {
        let node = self.settings.node;
        self.configuration().counts(node, life)
            || (broken!(self.settings, AnyIncarnationCounts | NormalAfterContact)
                && self.configuration().is_voter(node))
    }

    /// True while a leader was heard so lately that no election is needed.
    pub(super) fn protects_leader(&self) -> bool {
        self.leader.is_some() && self.elapsed < self.settings.election_ticks
    }

    pub(super) fn campaign(&mut self) {
        if !self.may_campaign() {
            if !matches!(self.role, Role::Follower) {
                self.become_follower(self.hard.term);
            }
            return;
        }
        if broken!(self.settings, NoPreVote) {
            return self.stand(self.hard.term.next(), None, false);
        }
        let ballot = self.own_ballot(None);
        self.set_role(Role::PreCandidate(ballot));
        let body = Body::PreVote {
            term: self.hard.term.next(),
            last: self.log.last_position(),
        };
        self.ask_voters(&body);
        self.tally();
    }

    /// The leader hands over: no pre-vote, because everybody still hears it.
    pub(super) fn take_over(&mut self) {
        if self.may_campaign() {
            self.stand(self.hard.term.next(), None, true);
        }
    }

    fn own_ballot(&self, recovery: Option<Recovery>) -> Ballot {
        let own = BallotAnswer {
            granted: true,
            incarnation: self.hard.incarnation,
            recovering: self.hard.recovering,
        };
        Ballot {
            answers: BTreeMap::from([(self.settings.node, own)]),
            recovery,
        }
    }

    /// Becomes a candidate in `term` and asks for votes.
    pub(super) fn stand(&mut self, term: Term, recovery: Option<Recovery>, transfer: bool) {
        self.become_follower(term);
        self.hard.vote = Some(Vote {
            node: self.settings.node,
            incarnation: self.hard.incarnation,
        });
        self.storage.hard_changed();
        let fence = recovery.as_ref().map(|recovery| recovery.fence.clone());
        self.merge_fence(fence.clone().unwrap_or_default());
        let ballot = self.own_ballot(recovery);
        self.set_role(Role::Candidate(ballot));
        let body = Body::Vote {
            last: self.log.last_position(),
            transfer,
            recovery: fence.clone(),
        };
        match fence {
            None => self.ask_voters(&body),
            Some(everybody) => {
                for (node, life) in everybody {
                    if node != self.settings.node {
                        self.post(node, life, body.clone());
                    }
                }
            }
        }
        self.tally();
    }

    fn ask_voters(&mut self, body: &Body) {
        let voters: Vec<_> = self.configuration().voters().collect();
        for (node, life) in voters {
            if node != self.settings.node {
                self.post(node, life, body.clone());
            }
        }
    }

    pub(super) fn answer_pre_vote(&mut self, message: &Message, term: Term, last: Position) {
        let granted = term > self.hard.term
            && !self.protects_leader()
            && (!self.hard.recovering || broken!(self.settings, FlaggedVotesCount))
            && self.accepts_log(last);
        let body = Body::PreVoteAnswer { term, granted };
        self.post(message.from, message.from_incarnation, body);
    }

    fn accepts_log(&self, last: Position) -> bool {
        last >= self.log.last_position() || broken!(self.settings, VotesIgnoreLog)
    }

    pub(super) fn answer_vote(&mut self, sender: Sender, last: Position, recovery: Option<Fence>) {
        let vote = Vote {
            node: sender.node,
            incarnation: sender.incarnation,
        };
        let free = self.hard.vote.is_none_or(|given| given == vote) && self.leader.is_none();
        let free = free || broken!(self.settings, VotesTwice);
        let entitled =
            !self.hard.recovering || recovery.is_some() || broken!(self.settings, FlaggedVotesCount);
        let ignores_log = broken!(self.settings, RecoveryIgnoresLog) && recovery.is_some();
        let granted = free && entitled && (self.accepts_log(last) || ignores_log);
        if granted {
            self.hard.vote = Some(vote);
            self.merge_fence(recovery.unwrap_or_default());
            self.storage.hard_changed();
            self.elapsed = 0;
        }
        self.post(sender.node, sender.incarnation, Body::VoteAnswer { granted });
    }

    pub(super) fn count_pre_vote(&mut self, sender: Sender, term: Term, granted: bool) {
        let expected = self.hard.term.next();
        if let Role::PreCandidate(ballot) = &mut self.role
            && term == expected
        {
            ballot.count(sender, granted);
            self.tally();
        }
    }

    pub(super) fn count_vote(&mut self, sender: Sender, granted: bool) {
        if let Role::Candidate(ballot) = &mut self.role {
            ballot.count(sender, granted);
            self.tally();
        }
    }

    /// Looks whether enough have answered. A candidate's own vote is one like any other: it counts when it is on disk.
    pub(super) fn tally(&mut self) {
        match &self.role {
            Role::PreCandidate(ballot) if self.is_won(ballot) => {
                self.stand(self.hard.term.next(), None, false);
            }
            Role::Candidate(ballot) if self.storage.knows_hard_state() && self.is_won(ballot) => {
                self.become_leader();
            }
            _ => {}
        }
    }

    fn is_won(&self, ballot: &Ballot) -> bool {
        let configuration = self.configuration();
        let any_life = broken!(self.settings, AnyIncarnationCounts | NormalAfterContact);
        let counts = |node: NodeId, answer: &BallotAnswer| {
            let named =
                configuration.counts(node, answer.incarnation) || (any_life && configuration.is_voter(node));
            let unflagged = !answer.recovering || broken!(self.settings, FlaggedVotesCount);
            answer.granted && named && unflagged
        };
        let counted = ballot
            .answers
            .iter()
            .filter(|(node, answer)| counts(**node, answer));
        if counted.count() >= configuration.quorum() {
            return true;
        }
        let Some(Recovery { fence: everybody, .. }) = &ballot.recovery else {
            return false;
        };
        let granted = |(node, life): (&NodeId, &Incarnation)| {
            let answer = ballot.answers.get(node);
            answer.is_some_and(|answer| answer.granted && answer.incarnation == *life)
        };
        if broken!(self.settings, RecoveryByMajority) {
            return everybody.iter().filter(|asked| granted(*asked)).count() > everybody.len() / 2;
        }
        everybody.iter().all(granted)
    }

    fn become_leader(&mut self) {
        let Role::Candidate(ballot) = &mut self.role else {
            return;
        };
        let (kind, payload, admitted) = match ballot.recovery.take() {
            None => (Kind::Blank, Bytes::new(), Fence::new()),
            Some(recovery) => {
                let configuration = self.admission(&recovery);
                (Kind::Configuration, configuration.encode(), recovery.flagged)
            }
        };
        let mut lead = Leadership::new(self.log.last() + 1, admitted);
        let next = self.log.last() + 1;
        for (node, _) in self.configuration().members() {
            if node != self.settings.node {
                lead.peers.insert(node, Peer::new(self.newest_life(node), next));
            }
        }
        self.elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.set_role(Role::Leader(Box::new(lead)));
        self.set_leader(Some(self.settings.node));
        self.append_own(kind, payload);
        self.send_heartbeats();
    }
}

impl Ballot {
    fn count(&mut self, sender: Sender, granted: bool) {
        let answer = BallotAnswer {
            granted,
            incarnation: sender.incarnation,
            recovering: sender.recovering,
        };
        // A grant is not taken back by an answer that overtook it, and a later life does not replace the one that granted.
        let entry = self.answers.entry(sender.node).or_insert(answer);
        if granted && !entry.granted {
            *entry = answer;
        }
    }
}
