//! Linearizable reads. The leader notes its commit index and then asks a majority, in a round of heartbeats that began after the read
//! arrived, whether it still leads; reads that arrive meanwhile share the next round. No clock is trusted.

use super::{PendingRead, Replica, Role, Round, Sender};
use crate::message::{Body, ReadId};
use crate::mutation::broken;
use crate::ready::ReadState;
use crate::types::{Index, Refusal};

impl Replica {
    /// Begins a linearizable read. A follower asks the leader. The outcome comes in [`crate::Ready::reads`] or
    /// [`crate::Ready::reads_failed`].
    pub fn read(&mut self) -> Result<ReadId, Refusal> {
        if self.hard.recovering {
            return Err(Refusal::Recovering);
        }
        // Random, so that an answer meant for an earlier run of this process is not taken for an answer to this read.
        let id = ReadId(self.random.next());
        if matches!(self.role, Role::Leader(_)) {
            self.take_read(PendingRead { id, from: None })?;
            return Ok(id);
        }
        let Some(leader) = self.leader else {
            return Err(Refusal::NotLeader { leader: None });
        };
        if self.forwarded.len() >= self.settings.reads_max {
            return Err(Refusal::Busy);
        }
        self.forwarded.insert(id, 0);
        let life = self.newest_life(leader);
        self.post(leader, life, Body::Read { id });
        Ok(id)
    }

    fn take_read(&mut self, read: PendingRead) -> Result<(), Refusal> {
        let Role::Leader(lead) = &mut self.role else {
            return Err(Refusal::NotLeader { leader: self.leader });
        };
        if lead.reads_waiting.len() >= self.settings.reads_max {
            return Err(Refusal::Busy);
        }
        lead.reads_waiting.push(read);
        Ok(())
    }

    pub(super) fn take_forwarded_read(&mut self, sender: Sender, id: ReadId) {
        let read = PendingRead {
            id,
            from: Some((sender.node, sender.incarnation)),
        };
        // A read that is refused is asked for again by the one who waits for it.
        drop(self.take_read(read));
    }

    pub(super) fn finish_forwarded_read(&mut self, id: ReadId, index: Index) {
        if self.forwarded.remove(&id).is_some() {
            self.outbox.reads.push(ReadState { id, index });
        }
    }

    pub(super) fn expire_forwarded_reads(&mut self) {
        let limit = self.settings.election_ticks;
        let failed = &mut self.outbox.reads_failed;
        self.forwarded.retain(|id, age| {
            *age += 1;
            if *age > limit {
                failed.push(*id);
            }
            *age <= limit
        });
    }

    /// Begins a round for all reads that wait, unless one is on its way. A new leader first commits an entry of its own: before, it
    /// does not know what its predecessors committed.
    pub(super) fn start_round(&mut self) {
        let settled = self.is_settled() || broken!(self.settings, ReadsUnsettled);
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let joins = broken!(self.settings, ReadsJoinRound) && !lead.rounds.is_empty();
        if lead.reads_waiting.is_empty() || !settled || (!lead.rounds.is_empty() && !joins) {
            return;
        }
        let reads = std::mem::take(&mut lead.reads_waiting);
        if !joins {
            lead.round += 1;
        }
        lead.rounds.push_back(Round {
            number: lead.round,
            index: self.hard.commit,
            reads,
        });
        if !joins {
            self.send_heartbeats();
        }
        self.finish_rounds();
    }

    pub(super) fn count_heartbeat(&mut self, sender: Sender, round: u64) {
        let counts = self.answer_counts(sender);
        let last = self.log.last();
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(peer) = lead.peers.get_mut(&sender.node) else {
            return;
        };
        peer.answered_heartbeat(counts, last);
        peer.active |= counts || !sender.recovering;
        if counts {
            peer.round = peer.round.max(round);
            self.finish_rounds();
        }
    }

    fn finish_rounds(&mut self) {
        let own = Sender {
            node: self.settings.node,
            incarnation: self.hard.incarnation,
            recovering: self.hard.recovering,
        };
        let own_counts = self.answer_counts(own);
        let Role::Leader(lead) = &self.role else { return };
        let mut answered: Vec<u64> = self
            .configuration()
            .voters()
            .map(|(node, life)| match lead.peers.get(&node) {
                Some(peer) if peer.incarnation == life => peer.round,
                None if node == own.node && own_counts => lead.round,
                Some(_) | None => 0,
            })
            .collect();
        answered.sort_unstable_by(|a, b| b.cmp(a));
        let mut confirmed = answered
            .get(self.configuration().quorum() - 1)
            .copied()
            .unwrap_or(0);
        if broken!(self.settings, ReadsWithoutRound) {
            confirmed = u64::MAX;
        }
        loop {
            let Role::Leader(lead) = &mut self.role else {
                return;
            };
            if lead.rounds.front().is_none_or(|round| round.number > confirmed) {
                return;
            }
            let Some(Round { index, reads, .. }) = lead.rounds.pop_front() else {
                return;
            };
            for read in reads {
                match read.from {
                    None => self.outbox.reads.push(ReadState { id: read.id, index }),
                    Some((node, life)) => self.post(node, life, Body::ReadAnswer { id: read.id, index }),
                }
            }
        }
    }
}
