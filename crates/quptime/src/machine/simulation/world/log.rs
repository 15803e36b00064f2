//! The replicated log, played rather than run: one leader in a term, commits by a majority, and leaders that do not know that they are none.

use super::super::ledger::Ledger;
use super::{Event, Proposal, World};
use crate::machine::Millis;
use crate::machine::command::Command;
use crate::machine::mastery::Answer;
use crate::machine::state::Outcome;

/// Silence after which voters elect another leader, at least.
const ELECTION_MS: Millis = 1200;

impl World {
    /// The leader commits what it can; if there is none for long, another one leads.
    pub(super) fn commit(&mut self) {
        let pause = if self.pending.is_empty() {
            self.pause()
        } else {
            self.rng.between(10, 120)
        };
        self.queue.after(pause, Event::Commit);
        let now = self.now();
        if let Some(leader) = self.leader.filter(|leader| self.has_majority(*leader)) {
            self.contact = now;
            self.nodes[leader].contact = now;
            let count = self.pending.len();
            // A busy disk: nothing is committed for a while.
            if self.fair || !self.rng.chance(100) {
                self.commit_pending(count);
            }
            return;
        }
        if now - self.contact < ELECTION_MS + self.rng.below(1500) {
            return;
        }
        let candidates: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.has_majority(*at))
            .collect();
        if !candidates.is_empty() {
            let kept = usize::try_from(self.rng.below(self.pending.len() as u64 + 1)).expect("a count");
            // What the old leader proposed is kept or lost; it learns neither.
            for proposal in &mut self.pending {
                if let (Some(ticket), Some(leader)) = (proposal.ticket.take(), self.leader) {
                    self.nodes[leader].outstanding.push((self.term, ticket));
                }
            }
            self.commit_pending(kept);
            let next = *self.rng.pick(&candidates);
            self.lead(next);
        }
    }

    pub(super) fn lead(&mut self, next: usize) {
        self.pending.clear();
        self.term += 1;
        self.leader = Some(next);
        self.contact = self.now();
        self.trace(|| format!("node {next} leads"));
        self.catch_up(next);
        let (term, now) = (self.term, self.now());
        let node = &mut self.nodes[next];
        (node.term, node.leads, node.follows, node.contact) = (term, true, Some(next), now);
    }

    pub(super) fn commit_pending(&mut self, count: usize) {
        let Some(leader) = self.leader else { return };
        let proposals: Vec<Proposal> = self.pending.drain(..count).collect();
        for Proposal {
            life,
            ticket,
            command,
        } in proposals
        {
            let judged = self.ledger.commits(self.queue.now(), &self.truth, &command);
            self.note(judged);
            let open = Ledger::open_outages(&self.truth);
            let outcome = self.truth.apply(&command);
            let judged = Ledger::remembers(&open, &self.truth, &command);
            self.note(judged);
            self.log.push(command);
            let Some(ticket) = ticket else { continue };
            let answer = match outcome {
                Outcome::Done(_) => Answer::Done,
                Outcome::Outdated | Outcome::Conflict(_) | Outcome::Invalid(_) => Answer::Outdated,
            };
            let wait = if self.rng.chance(20) {
                self.rng.below(3000)
            } else {
                self.rng.below(20)
            };
            self.queue
                .after(wait, Event::Answered(leader, life, self.term, ticket, answer));
        }
        if self.nodes[leader].up {
            self.catch_up(leader);
        }
    }

    /// A command that somebody types; it is the leader's to commit.
    pub(in crate::machine::simulation) fn typed(&mut self, command: Command) {
        if self.leader.is_some_and(|leader| self.has_majority(leader)) {
            self.pending.push(Proposal {
                life: 0,
                ticket: None,
                command,
            });
        }
    }

    fn catch_up(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        for command in &self.log[node.applied..] {
            node.state.apply(command);
        }
        node.applied = self.log.len();
    }

    /// A node hears of the group, or that it hears nothing.
    pub(super) fn sync(&mut self, at: usize) {
        let now = self.now();
        let leader = self.leader.filter(|leader| self.reaches(at, *leader));
        let node = &self.nodes[at];
        let overtaken = node.leads
            && (node.term < self.term && leader.is_some() || self.leader != Some(at) && leader.is_some());
        let alone = node.leads && !self.has_majority(at) && now - node.contact > 2 * ELECTION_MS;
        if overtaken || alone {
            let node = &mut self.nodes[at];
            node.leads = false;
            let life = node.life;
            for (term, ticket) in std::mem::take(&mut node.outstanding) {
                self.queue
                    .after(1, Event::Answered(at, life, term, ticket, Answer::Lost));
            }
        }
        if alone && self.leader == Some(at) {
            // Whatever it proposed may still be kept by the next one; it gives up waiting.
            self.leader = None;
            let (life, term) = (self.nodes[at].life, self.term);
            for proposal in &mut self.pending {
                if let Some(ticket) = proposal.ticket.take() {
                    self.queue
                        .after(1, Event::Answered(at, life, term, ticket, Answer::Lost));
                }
            }
        }
        match leader {
            Some(leader) => {
                self.catch_up(at);
                let term = self.term;
                let node = &mut self.nodes[at];
                (node.term, node.follows) = (term, Some(leader));
            }
            None if !self.nodes[at].leads => self.nodes[at].follows = None,
            None => {}
        }
    }
}
