//! How entries get from the leader's log into the others, and when they are committed.

use bytes::Bytes;

use super::{Replica, Role, Sender};
use crate::entry::{Entry, Kind};
use crate::log::{Log, Snapshot};
use crate::message::Body;
use crate::mutation::broken;
use crate::progress::{Flow, Plan};
use crate::ready::{Event, Fetch, Rebirth};
use crate::types::{Index, NodeId, Position, Refusal};

/// The leader's side.
impl Replica {
    pub(super) fn propose_entry(&mut self, kind: Kind, payload: Bytes) -> Result<Position, Refusal> {
        let leader = self.leader;
        let Role::Leader(lead) = &self.role else {
            return Err(Refusal::NotLeader { leader });
        };
        if let Some(transfer) = lead.transfer {
            return Err(Refusal::Transferring { to: transfer.to });
        }
        if lead.uncommitted_bytes > self.settings.uncommitted_bytes_max {
            return Err(Refusal::Busy);
        }
        Ok(self.append_own(kind, payload))
    }

    pub(super) fn append_own(&mut self, kind: Kind, payload: Bytes) -> Position {
        let entry = Entry {
            index: self.log.last() + 1,
            term: self.hard.term,
            kind,
            payload,
        };
        let position = entry.position();
        if let Role::Leader(lead) = &mut self.role {
            lead.uncommitted.push_back((entry.index, entry.size()));
            lead.uncommitted_bytes += entry.size();
        }
        self.log.append(entry).expect("an own configuration can be read");
        if kind == Kind::Configuration {
            self.meet_members();
        }
        self.advance_commit();
        position
    }

    /// Sends each member what it is due. Called once for all that happened since the last [`crate::Ready`].
    pub(super) fn flush(&mut self) {
        let Role::Leader(lead) = &self.role else { return };
        for node in lead.peers.keys().copied().collect::<Vec<_>>() {
            self.flush_to(node);
        }
        self.hand_over_if_caught_up();
    }

    fn flush_to(&mut self, node: NodeId) {
        loop {
            let Role::Leader(lead) = &mut self.role else {
                return;
            };
            let Some(peer) = lead.peers.get_mut(&node) else {
                return;
            };
            let plan = peer.plan(&self.log, self.hard.commit, &self.settings);
            let done = matches!(plan, Plan::Nothing | Plan::Fetch { .. } | Plan::Snapshot);
            self.carry_out(node, plan);
            if done {
                return;
            }
        }
    }

    fn carry_out(&mut self, node: NodeId, plan: Plan) {
        let Role::Leader(lead) = &self.role else { return };
        let Some(life) = lead.peers.get(&node).map(|peer| peer.incarnation) else {
            return;
        };
        match plan {
            Plan::Nothing => {}
            Plan::Append { previous, entries } => {
                let body = Body::Append {
                    previous,
                    entries,
                    commit: self.hard.commit,
                };
                self.post(node, life, body);
            }
            Plan::Fetch { from, until } => self.outbox.fetches.push(Fetch {
                to: node,
                from,
                until,
                bytes_max: self.settings.message_bytes_max,
            }),
            Plan::Snapshot => self.outbox.snapshots_wanted.push(node),
        }
    }

    /// Entries that a [`Fetch`] asked for. Entries that are no longer in the log, or not wanted any more, are ignored.
    pub fn fetched(&mut self, to: NodeId, entries: Vec<Entry>) {
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(peer) = lead.peers.get_mut(&to) else {
            return;
        };
        let plan = peer.plan_fetched(&self.log, self.hard.commit, entries);
        self.carry_out(to, plan);
    }

    /// A snapshot for a member that needs one: the message that goes with its content leaves with the next [`crate::Ready`].
    pub fn offer_snapshot(&mut self, to: NodeId, snapshot: Snapshot) {
        let base = self.log.base().index;
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(peer) = lead.peers.get_mut(&to) else {
            return;
        };
        if !matches!(peer.flow, Flow::Snapshot { .. }) {
            return;
        }
        if snapshot.position.index < base {
            // The log moved on while the snapshot was made.
            if peer.leaving.is_none() {
                self.outbox.snapshots_wanted.push(to);
            }
            return;
        }
        peer.snapshot_sent(snapshot.position.index);
        let life = peer.incarnation;
        self.post(to, life, Body::InstallSnapshot { snapshot });
    }

    /// The snapshot could not be made or sent, or nothing was heard of it: start over with that member.
    pub fn snapshot_failed(&mut self, to: NodeId) {
        if let Role::Leader(lead) = &mut self.role
            && let Some(peer) = lead.peers.get_mut(&to)
            && matches!(peer.flow, Flow::Snapshot { .. })
        {
            peer.probe();
        }
    }

    pub(super) fn count_append(&mut self, sender: Sender, matched: Index) {
        let mut counts = self.answer_counts(sender);
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(peer) = lead.peers.get_mut(&sender.node) else {
            return;
        };
        if matched > self.log.last() {
            return;
        }
        peer.active |= counts || !sender.recovering;
        if sender.recovering && !broken!(self.settings, FlaggedAcksCount) {
            counts &= matched >= lead.first;
        }
        peer.acknowledge(matched, counts, self.log.base().index);
        self.advance_commit();
    }

    pub(super) fn resume_at(&mut self, sender: Sender, at: Index, hint: Position, committed: bool) {
        let counts = self.answer_counts(sender);
        let Role::Leader(lead) = &mut self.role else {
            return;
        };
        let Some(peer) = lead.peers.get_mut(&sender.node) else {
            return;
        };
        peer.active |= counts || !sender.recovering;
        let contradicts = match self.log.term(hint.index) {
            Some(term) => term != hint.term,
            None => hint.index > self.log.last(),
        };
        if committed && contradicts {
            peer.probe();
            self.post(sender.node, sender.incarnation, Body::Contradiction { at: hint });
            return;
        }
        let shared = self.log.shared_at_most(hint).index;
        if peer.refuse(at, shared, committed && self.log.holds(hint)) {
            self.outbox.events.push(Event::Forgot(sender.node, shared));
        }
    }

    /// Commits what a majority has acknowledged, if it is of this term: an entry of an earlier one may still be replaced until an
    /// own entry is committed above it.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(lead) = &self.role else { return };
        let own = Sender {
            node: self.settings.node,
            incarnation: self.hard.incarnation,
            recovering: self.hard.recovering,
        };
        let held = if broken!(self.settings, LeaderCountsUnsynced) {
            self.log.last()
        } else {
            self.storage.stable()
        };
        let any_life = broken!(self.settings, AnyIncarnationCounts | NormalAfterContact);
        let acknowledged = |(node, life)| {
            if node == own.node {
                return if self.answer_counts(own) { held } else { 0 };
            }
            let peer = lead
                .peers
                .get(&node)
                .filter(|peer| any_life || peer.incarnation == life);
            peer.map_or(0, |peer| peer.counted)
        };
        let mut acknowledged: Vec<Index> = self.configuration().voters().map(acknowledged).collect();
        acknowledged.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&index) = acknowledged.get(self.configuration().quorum() - 1) else {
            return;
        };
        let of_this_term =
            self.log.term(index) == Some(self.hard.term) || broken!(self.settings, CommitsOlderTerms);
        if index > self.hard.commit && of_this_term {
            self.commit_to(index);
        }
    }
}

/// The follower's side.
impl Replica {
    pub(super) fn take_append(
        &mut self,
        sender: Sender,
        previous: Position,
        entries: Vec<Entry>,
        commit: Index,
    ) {
        let end = previous.index + entries.len() as u64;
        let refused = |log: &Log, at: Index, hint: Position, committed| {
            let hint = log.shared_at_most(hint);
            Body::AppendRefused { at, hint, committed }
        };
        let base = self.log.base();
        // What lies below the base is compared at the base, where the message reaches that far.
        let (start, skipped) = if previous.index < base.index {
            let skipped = usize::try_from(base.index - previous.index).expect("messages fit into memory");
            let Some(at_base) = entries.get(skipped - 1) else {
                let body = refused(&self.log, previous.index, base, true);
                return self.post(sender.node, sender.incarnation, body);
            };
            (at_base.position(), skipped)
        } else {
            (previous, 0)
        };
        let ignores = broken!(self.settings, AppendIgnoresPrevious) && start.index <= self.log.last();
        if !self.log.holds(start) && !ignores {
            if start.index <= self.hard.commit {
                return self.discard();
            }
            let body = refused(&self.log, previous.index, start, false);
            return self.post(sender.node, sender.incarnation, body);
        }
        for entry in entries.into_iter().skip(skipped) {
            if self.log.holds(entry.position()) {
                continue;
            }
            if entry.index <= self.hard.commit && !broken!(self.settings, ContradictionIgnored) {
                return self.discard();
            }
            if entry.index <= self.log.last() {
                self.log.truncate(entry.index);
                self.storage.truncated(self.log.last_position());
            }
            if self.log.append(entry).is_err() {
                let event = Event::Impossible("a configuration that cannot be read");
                return self.outbox.events.push(event);
            }
        }
        self.look_at_own_life();
        self.commit_to(commit.min(end));
        let body = Body::AppendAnswer { matched: end };
        self.post(sender.node, sender.incarnation, body);
    }

    pub(super) fn take_snapshot(&mut self, sender: Sender, snapshot: Snapshot) {
        let position = snapshot.position;
        let base = self.log.base();
        if position.index < base.index || (position.index <= self.hard.commit && position.index != base.index)
        {
            if position.index >= base.index && !self.log.holds(position) {
                return self.discard();
            }
            // Older than what is here; the leader finds out where to go on.
            let body = Body::AppendRefused {
                at: position.index,
                hint: base.max(self.log.position(self.hard.commit).unwrap_or_default()),
                committed: true,
            };
            return self.post(sender.node, sender.incarnation, body);
        }
        if self.log.holds(position) {
            self.commit_to(position.index);
        } else if position.index <= self.hard.commit {
            return self.discard();
        } else {
            self.install(snapshot);
        }
        let body = Body::AppendAnswer {
            matched: position.index,
        };
        self.post(sender.node, sender.incarnation, body);
    }

    /// The log is replaced, and with it every configuration that was not committed.
    fn install(&mut self, snapshot: Snapshot) {
        let position = snapshot.position;
        let kept = self.configuration().clone();
        self.log = Log::new(if broken!(self.settings, SnapshotKeepsConfiguration) {
            Snapshot {
                configuration: kept,
                ..snapshot.clone()
            }
        } else {
            snapshot.clone()
        });
        self.storage.installed(position.index);
        self.applied = position.index;
        self.outbox.snapshot = Some(snapshot);
        self.commit_to(position.index);
        self.look_at_own_life();
    }

    /// What was applied here is not what the group agreed on: start over as another life. Possible only after a recovery election
    /// that lost entries.
    pub(super) fn discard(&mut self) {
        if broken!(self.settings, ContradictionIgnored) {
            return;
        }
        self.log = Log::new(Snapshot::default());
        self.storage.discarded();
        self.applied = 0;
        self.hard.commit = 0;
        self.outbox.discard = true;
        self.outbox.snapshot = None;
        self.be_reborn(self.hard.incarnation, Rebirth::Contradicted);
    }

    pub(super) fn commit_to(&mut self, commit: Index) {
        if commit <= self.hard.commit {
            return;
        }
        let before = self.hard.commit;
        self.hard.commit = commit;
        self.storage.commit_changed();
        if let Role::Leader(lead) = &mut self.role {
            while let Some((_, bytes)) = lead.uncommitted.front().filter(|(index, _)| *index <= commit) {
                lead.uncommitted_bytes -= bytes;
                lead.uncommitted.pop_front();
            }
        }
        self.look_at_own_life();
        let (index, configuration) = self.log.configuration_at(commit);
        if index > before {
            let configuration = configuration.clone();
            let (_, earlier) = self.log.configuration_at(before);
            let removed = configuration.member(self.settings.node).is_none()
                && (earlier.member(self.settings.node).is_some() || matches!(self.role, Role::Leader(_)));
            let event = Event::Configuration(index, configuration);
            self.outbox.events.push(event);
            if removed {
                self.outbox.events.push(Event::Removed);
            }
        }
    }
}
