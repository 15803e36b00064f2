//! What a server does around its replica: carries out each [`Ready`], writes, sends, applies.

use sim::history::Operation;

use super::{Cluster, Happening, SECOND};
use crate::{Body, Event as Said, Message, NodeId, ReadState, Ready, RoleName};

impl Cluster {
    /// Carries out whatever the replica wants done, until it wants nothing.
    pub(super) fn pump(&mut self, node: NodeId) {
        while let Some(mut ready) = self
            .nodes
            .get_mut(&node)
            .and_then(|this| this.replica.as_mut()?.ready())
        {
            if let Err(failure) = self.check_before(node, &ready) {
                self.failure.get_or_insert(failure);
                return;
            }
            self.send(std::mem::take(&mut ready.messages));
            let this = self.nodes.get_mut(&node).expect("a node");
            if this.write(&mut ready).is_err() {
                // A full disk: the process ends, and starts again when there is room.
                return self.crash(node, SECOND);
            }
            self.carry_out(node, ready);
            if self.failure.is_some() {
                return;
            }
        }
        self.begin_sync(node);
        self.answer_reads(node);
    }

    pub(super) fn check_before(&mut self, node: NodeId, ready: &Ready) -> Result<(), String> {
        let this = &self.nodes[&node];
        let mut previous = ready.snapshot.as_ref().map(|snapshot| snapshot.position);
        for entry in &ready.entries {
            let before = match previous.filter(|previous| previous.index + 1 == entry.index) {
                Some(previous) => Some(previous),
                None if entry.index == 1 => Some(crate::Position::default()),
                None => this.position(entry.index - 1),
            };
            if let Some(before) = before {
                self.ledger.append(before, entry)?;
            }
            previous = Some(entry.position());
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, node: NodeId, ready: Ready) {
        for event in &ready.events {
            self.say(node, &format!("{event:?}"));
            if let Said::RecoveryElection(term) = event {
                let candidate = self.nodes[&node].replica.as_ref().expect("running");
                self.ledger.begin_recovery(*term, candidate);
            }
            if let Said::Impossible(what) = event {
                self.failure.get_or_insert(format!("member {node}: {what}"));
            }
        }
        let this = &self.nodes[&node];
        let replica = this.replica.as_ref().expect("running");
        let leads = ready
            .events
            .iter()
            .any(|event| matches!(event, Said::Role(RoleName::Leader, _)));
        if leads
            && replica.status().role == RoleName::Leader
            && let Err(failure) = self.ledger.elect(this, replica, &self.nodes)
        {
            self.failure.get_or_insert(failure);
        }
        if let Err(failure) = self.ledger.commit(this, replica, this.told) {
            self.failure.get_or_insert(failure);
        }
        let commit = replica.status().commit;
        self.nodes.get_mut(&node).expect("a node").told = commit;
        for entry in &ready.committed {
            self.apply(node, entry);
        }
        let this = self.nodes.get_mut(&node).expect("a node");
        let run = this.run;
        for ReadState { id, index } in ready.reads {
            if let Some(ticket) = this.reads.remove(&id) {
                this.reads_ready.push((index, ticket));
            }
        }
        for id in ready.reads_failed {
            if let Some(ticket) = this.reads.remove(&id) {
                self.queue.after(0, Happening::GiveUp(ticket));
            }
        }
        for fetch in ready.fetches {
            self.queue.after(500, Happening::Fetched(node, run, fetch));
        }
        for to in ready.snapshots_wanted {
            let replica = this.replica.as_mut().expect("running");
            if let Some(snapshot) = replica.describe_snapshot(this.machine.applied) {
                this.staged.insert(snapshot.position, this.machine.clone());
                replica.offer_snapshot(to, snapshot);
            } else {
                replica.snapshot_failed(to);
            }
            self.queue
                .after(2 * SECOND, Happening::SnapshotLost(node, run, to));
        }
        let applied = this.machine.applied;
        this.replica.as_mut().expect("running").applied(applied);
    }

    pub(super) fn apply(&mut self, node: NodeId, entry: &crate::Entry) {
        let this = self.nodes.get_mut(&node).expect("a node");
        let fits = this.machine.apply(entry);
        let (index, digest) = (this.machine.applied, this.machine.digest);
        let waits = this.writes.remove(&index);
        if let Err(failure) = self.ledger.apply(node, index, digest) {
            self.failure.get_or_insert(failure);
        }
        let Some((term, ticket)) = waits else { return };
        if term == entry.term {
            self.answer(ticket, |operation| match operation {
                Operation::Swap { old, new, .. } => Operation::Swap {
                    old,
                    new,
                    swapped: Some(fits),
                },
                other => other,
            });
        } else if let Some(asked) = self.asked.remove(&ticket) {
            // Another entry took its place: it will never be carried out.
            self.queue.after(1000, Happening::Client(asked.client));
        }
    }

    pub(super) fn begin_sync(&mut self, node: NodeId) {
        let (least, most) = self.sync;
        let latency = self.rng.between(least, most);
        let Some(this) = self.nodes.get_mut(&node) else {
            return;
        };
        if this.syncing || this.waiting.is_empty() || this.replica.is_none() {
            return;
        }
        this.syncing = true;
        let happening = Happening::Synced {
            node,
            run: this.run,
            writes: this.disk.pending(),
            readies: this.waiting.len(),
        };
        let sync = this.waiting.iter().any(|waiting| waiting.sync);
        self.queue.after(if sync { latency } else { 1 }, happening);
    }

    pub(super) fn synced(&mut self, node: NodeId, run: u64, writes: usize, readies: usize) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.run != run {
            return;
        }
        this.syncing = false;
        this.disk.synced(writes);
        let done: Vec<_> = this.waiting.drain(..readies).collect();
        for waiting in done {
            let replica = self.nodes.get_mut(&node).and_then(|this| this.replica.as_mut());
            let replica = replica.expect("running");
            replica.persisted(waiting.number);
            if let Some(cut) = waiting.cut {
                replica.compact(cut);
            }
            self.send(waiting.messages);
        }
        self.pump(node);
    }

    pub(super) fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let content = match &message.body {
                Body::InstallSnapshot { snapshot } => {
                    self.nodes[&message.from].staged.get(&snapshot.position).cloned()
                }
                _ => None,
            };
            for delay in self.network.delays(&mut self.rng, message.from.0, message.to.0) {
                let happening = Happening::Deliver(Box::new(message.clone()), content.clone());
                self.queue.after(delay, happening);
            }
        }
    }
}
