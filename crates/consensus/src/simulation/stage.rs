//! A small play: members whose every message, write and loss is under the control of a test.
//!
//! Time passes only for whom the test says. Nobody begins an election unless told to. Disks are as in the schedules, and are synced at
//! once, so that the messages on their way are all there is to decide about. The ledger judges after every step; the first failure
//! is kept.

use std::collections::{BTreeMap, BTreeSet};

use sim::Rng;

use super::ledger::Ledger;
use super::node::{Command, Empty, Machine, Node};
use crate::{
    Body, Change, Configuration, Event, GroupId, Incarnation, Message, Mutation, NodeId, Position, ReadId,
    Refusal, RoleName, Settings, Status,
};

pub(super) struct Stage {
    nodes: BTreeMap<NodeId, Node>,
    ledger: Ledger,
    /// On their way, oldest first.
    pub(super) messages: Vec<Message>,
    contents: BTreeMap<Position, Machine>,
    mutation: Mutation,
    lives: u64,
    backups: BTreeMap<NodeId, sim::Disk>,
    pub(super) reads: Vec<(ReadId, u64)>,
    failure: Option<String>,
    values: u64,
}

const ELECTION_TICKS: u32 = 10;

impl Stage {
    /// A group of `members` voters, numbered from 1, that has a leader, member 1, and is idle.
    pub(super) fn with_leader(members: u64, mutation: Mutation) -> Stage {
        let mut stage = Stage::empty(members, mutation);
        stage.elect(1);
        stage.settle();
        stage
    }

    /// A group of `members` voters that all hold its configuration and nothing else.
    pub(super) fn empty(members: u64, mutation: Mutation) -> Stage {
        let mut stage = Stage {
            nodes: BTreeMap::new(),
            ledger: Ledger::default(),
            messages: Vec::new(),
            contents: BTreeMap::new(),
            mutation,
            lives: 0,
            backups: BTreeMap::new(),
            reads: Vec::new(),
            failure: None,
            values: 0,
        };
        let voters = (1..=members).map(|id| (NodeId(id), Incarnation(id), bytes::Bytes::new()));
        let configuration = Configuration::of_voters(voters);
        stage.lives = members;
        for id in 1..=members {
            stage.nodes.insert(NodeId(id), Node::new(NodeId(id)));
            stage.boot(id, Incarnation(id), Empty::Bootstrap(Some(configuration.clone())));
        }
        stage
    }

    /// A node that is not a member and holds nothing.
    pub(super) fn add_node(&mut self, id: u64) {
        self.nodes.insert(NodeId(id), Node::new(NodeId(id)));
        let life = self.next_life();
        self.boot(id, life, Empty::Unknown);
    }

    fn next_life(&mut self) -> Incarnation {
        self.lives += 100_000;
        Incarnation(self.lives)
    }

    fn boot(&mut self, id: u64, life: Incarnation, empty: Empty) {
        let settings = Settings {
            election_ticks: ELECTION_TICKS,
            election_spread_ticks: 0,
            election_bias_ticks: 1_000_000,
            mutation: self.mutation,
            ..Settings::new(GroupId(1), NodeId(id), id)
        };
        self.node(id).start(settings, life, empty).expect("there is room");
        self.pump(id);
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&NodeId(id)).expect("a node")
    }

    pub(super) fn status(&self, id: u64) -> Status {
        let replica = self.nodes[&NodeId(id)].replica.as_ref();
        replica.expect("running").status()
    }

    pub(super) fn leads(&self, id: u64) -> bool {
        self.status(id).role == RoleName::Leader
    }

    /// The outcome: the first thing that should not have happened.
    pub(super) fn verdict(self) -> Result<(), String> {
        self.failure.map_or(Ok(()), Err)
    }

    /// Registers of a member.
    pub(super) fn registers(&self, id: u64) -> &BTreeMap<u64, u64> {
        &self.nodes[&NodeId(id)].machine.registers
    }

    fn blame(&mut self, judgement: Result<(), String>) {
        if let Err(failure) = judgement {
            self.failure.get_or_insert(failure);
        }
    }

    /// Carries out what the member wants done; what it says is then on its way.
    fn pump(&mut self, id: u64) {
        let node = NodeId(id);
        while let Some(mut ready) = self
            .nodes
            .get_mut(&node)
            .and_then(|node| node.replica.as_mut()?.ready())
        {
            let this = &self.nodes[&node];
            let mut previous = ready.snapshot.as_ref().map(|snapshot| snapshot.position);
            for entry in &ready.entries {
                let before = previous
                    .or_else(|| this.position(entry.index - 1))
                    .unwrap_or_default();
                let judgement = self.ledger.append(before, entry);
                if let Err(failure) = judgement {
                    self.failure.get_or_insert(failure);
                }
                previous = Some(entry.position());
            }
            self.messages.append(&mut ready.messages);
            let contents = self.contents.clone();
            let this = self.nodes.get_mut(&node).expect("a node");
            this.staged = contents;
            this.write(&mut ready).expect("there is room");
            this.disk.synced(this.disk.pending());
            for waiting in std::mem::take(&mut this.waiting) {
                this.replica.as_mut().expect("running").persisted(waiting.number);
                self.messages.extend(waiting.messages);
            }
            for event in &ready.events {
                if let Event::RecoveryElection(term) = event {
                    let candidate = self.nodes[&node].replica.as_ref().expect("running");
                    self.ledger.begin_recovery(*term, candidate);
                }
            }
            let this = &self.nodes[&node];
            let replica = this.replica.as_ref().expect("running");
            let won = ready
                .events
                .iter()
                .any(|event| matches!(event, Event::Role(RoleName::Leader, _)));
            let elected = if won {
                self.ledger.elect(this, replica, &self.nodes)
            } else {
                Ok(())
            };
            let committed = self.ledger.commit(this, replica, this.told);
            let commit = replica.status().commit;
            self.blame(elected.and(committed));
            self.node(id).told = commit;
            for entry in &ready.committed {
                let this = self.node(id);
                this.machine.apply(entry);
                let (index, digest) = (this.machine.applied, this.machine.digest);
                let judgement = self.ledger.apply(node, index, digest);
                self.blame(judgement);
            }
            self.reads
                .extend(ready.reads.iter().map(|read| (read.id, read.index)));
            let this = self.nodes.get_mut(&node).expect("a node");
            let replica = this.replica.as_mut().expect("running");
            replica.applied(this.machine.applied);
            for to in ready.snapshots_wanted {
                let snapshot = replica.describe_snapshot(this.machine.applied).expect("applied");
                self.contents.insert(snapshot.position, this.machine.clone());
                replica.offer_snapshot(to, snapshot);
            }
        }
    }

    pub(super) fn tick(&mut self, id: u64, ticks: u32) {
        for _ in 0..ticks {
            if let Some(replica) = &mut self.node(id).replica {
                replica.tick();
            }
            self.pump(id);
        }
    }

    /// An election timeout passes for everybody: nobody protects a leader any more. Leaders look for their quorum.
    pub(super) fn let_time_pass(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().map(|node| node.0).collect();
        for id in ids {
            self.tick(id, ELECTION_TICKS);
        }
    }

    /// The member's patience ends: it asks whether it could lead, and looks around.
    pub(super) fn campaign(&mut self, id: u64) {
        if let Some(replica) = &mut self.node(id).replica {
            replica.run_out_of_patience();
        }
        self.tick(id, 1);
    }

    /// Elects a member; messages to and from `absent` are lost.
    pub(super) fn elect_without(&mut self, id: u64, absent: &[u64]) {
        self.messages.clear();
        self.let_time_pass();
        self.messages.clear();
        self.campaign(id);
        for _ in 0..8 {
            self.lose(|message| {
                let away = |node: NodeId| absent.contains(&node.0);
                let elects = matches!(
                    message.body,
                    Body::PreVote { .. }
                        | Body::PreVoteAnswer { .. }
                        | Body::Vote { .. }
                        | Body::VoteAnswer { .. }
                );
                away(message.from) || away(message.to) || !elects
            });
            if self.leads(id) {
                return;
            }
            if self.deliver(|_| true) == 0 && self.status(id).role == RoleName::Follower {
                // It learnt of a later term, and tries again.
                self.campaign(id);
            }
        }
    }

    pub(super) fn elect(&mut self, id: u64) {
        self.elect_without(id, &[]);
        // What the new leader says first was lost with the rest; it says it again.
        self.tick(id, 1);
    }

    /// Holds a recovery election on `id`, after the operator declared `replaced`. Those who are `absent` hear nothing.
    pub(super) fn recover(&mut self, id: u64, replaced: &[u64], absent: &[u64]) {
        self.messages.clear();
        self.let_time_pass();
        self.let_time_pass();
        self.messages.clear();
        self.campaign(id);
        for node in replaced {
            if let Some(replica) = &mut self.node(id).replica {
                // Refused where a broken clause made a leader.
                drop(replica.note_replaced(NodeId(*node)));
            }
        }
        self.pump(id);
        for round in 0..10 {
            self.lose(|message| absent.contains(&message.from.0) || absent.contains(&message.to.0));
            self.deliver(|message| !matches!(message.body, Body::Append { .. } | Body::Heartbeat { .. }));
            if round == 4 {
                self.tick(id, ELECTION_TICKS / 2);
            }
            if self.leads(id) {
                return;
            }
        }
    }

    /// Delivers what is on its way and fits; what is said in answer waits.
    pub(super) fn deliver(&mut self, fits: impl Fn(&Message) -> bool) -> usize {
        let (now, later) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|message| fits(message));
        self.messages = later;
        let now: Vec<Message> = now;
        let count = now.len();
        for message in now {
            self.hand_over(message);
        }
        count
    }

    pub(super) fn hand_over(&mut self, message: Message) {
        let to = message.to;
        if let Some(replica) = self.nodes.get_mut(&to).and_then(|node| node.replica.as_mut()) {
            replica.step(message);
            self.pump(to.0);
        }
    }

    /// Takes messages off the network.
    pub(super) fn lose(&mut self, fits: impl Fn(&Message) -> bool) {
        self.messages.retain(|message| !fits(message));
    }

    /// Takes messages off the network, for later.
    pub(super) fn intercept(&mut self, fits: impl Fn(&Message) -> bool) -> Vec<Message> {
        let (taken, left) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|message| fits(message));
        self.messages = left;
        taken
    }

    /// Delivers everything between `nodes` until nothing more is said, with a few heartbeats; all else is lost.
    pub(super) fn settle_among(&mut self, nodes: &[u64]) {
        for _ in 0..6 {
            for id in nodes {
                self.tick(*id, 1);
            }
            for _ in 0..50 {
                self.lose(|message| !nodes.contains(&message.from.0) || !nodes.contains(&message.to.0));
                if self.deliver(|_| true) == 0 {
                    break;
                }
            }
        }
    }

    pub(super) fn settle(&mut self) {
        let nodes: Vec<u64> = self.nodes.keys().map(|node| node.0).collect();
        self.settle_among(&nodes);
    }

    /// Proposes a new value for register 1.
    pub(super) fn put(&mut self, id: u64) -> u64 {
        self.values += 1;
        let value = self.values;
        let command = Command::Put { key: 1, value }.encode();
        if let Some(replica) = &mut self.node(id).replica {
            // Refused when the scenario took a turn that a broken clause does not allow.
            drop(replica.propose(command));
        }
        self.pump(id);
        value
    }

    pub(super) fn change(&mut self, id: u64, change: Change) -> Result<Position, Refusal> {
        let outcome = self.node(id).replica.as_mut().expect("running").change(change);
        self.pump(id);
        outcome
    }

    pub(super) fn read(&mut self, id: u64) -> Result<ReadId, Refusal> {
        let outcome = self.node(id).replica.as_mut().expect("running").read();
        self.pump(id);
        outcome
    }

    pub(super) fn transfer(&mut self, id: u64, to: u64) {
        let outcome = self
            .node(id)
            .replica
            .as_mut()
            .expect("running")
            .transfer(Some(NodeId(to)));
        assert_eq!(outcome, Ok(NodeId(to)));
        self.pump(id);
    }

    pub(super) fn note_replaced(&mut self, id: u64, replaced: u64) -> Result<(), Refusal> {
        let outcome = self
            .node(id)
            .replica
            .as_mut()
            .expect("running")
            .note_replaced(NodeId(replaced));
        self.pump(id);
        outcome
    }

    /// Somebody put an old copy of the disk back, without the marker: exactly what must never be done.
    pub(super) fn put_back(&mut self, id: u64) {
        let copy = self.backups[&NodeId(id)].clone();
        let node = self.node(id);
        node.crash(&mut Rng::new(0));
        node.wipe();
        node.disk = copy;
        self.boot(id, Incarnation::UNKNOWN, Empty::Unknown);
    }

    pub(super) fn set_bystanders(&mut self, id: u64, nodes: &[u64]) {
        let nodes = nodes.iter().copied().map(NodeId).collect();
        self.node(id)
            .replica
            .as_mut()
            .expect("running")
            .set_bystanders(nodes);
    }

    pub(super) fn read_refused(&mut self, id: u64) -> bool {
        self.read(id) == Err(Refusal::Recovering)
    }

    pub(super) fn replaced(&self, id: u64) -> BTreeSet<NodeId> {
        let replica = self.nodes[&NodeId(id)].replica.as_ref();
        replica.expect("running").replaced().clone()
    }

    pub(super) fn cut_log(&mut self, id: u64) {
        let node = self.node(id);
        node.checkpoint(0).expect("there is room");
        node.disk.synced(node.disk.pending());
        for waiting in std::mem::take(&mut node.waiting) {
            let replica = node.replica.as_mut().expect("running");
            replica.compact(waiting.cut.unwrap_or(0));
        }
        self.pump(id);
    }

    /// The process dies and starts again.
    pub(super) fn restart(&mut self, id: u64) {
        self.node(id).crash(&mut Rng::new(0));
        self.boot(id, Incarnation::UNKNOWN, Empty::Unknown);
    }

    /// The disk is lost; the process starts on an empty one.
    pub(super) fn wipe(&mut self, id: u64) {
        self.node(id).crash(&mut Rng::new(0));
        self.node(id).wipe();
        let life = self.next_life();
        self.boot(id, life, Empty::Unknown);
    }

    pub(super) fn back_up(&mut self, id: u64) {
        let disk = self.node(id).disk.clone();
        self.backups.insert(NodeId(id), disk);
    }

    /// The disk is replaced by its copy, which carries the marker.
    pub(super) fn restore(&mut self, id: u64) {
        let copy = self.backups[&NodeId(id)].clone();
        let node = self.node(id);
        node.crash(&mut Rng::new(0));
        node.wipe();
        node.disk = copy;
        node.restored = true;
        let life = self.next_life();
        self.boot(id, life, Empty::Unknown);
    }
}
