//! Members, network, clients and faults, driven by one queue of events.

use std::collections::BTreeMap;

use sim::history::{History, Operation, Record};
use sim::{Faults, Network, Queue, Rng};

use super::ledger::Ledger;
use super::node::{Command, Empty, Machine, Node, Ticket};
use crate::{
    Body, Change, Configuration, Event as Said, Fetch, GroupId, Incarnation, Message, Missing, Mutation,
    NodeId, ReadState, Ready, Refusal, RoleName, Settings,
};

/// What kind of schedule it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    pub(super) members: u64,
    /// Nodes that are not members at the beginning.
    pub(super) spares: u64,
    pub(super) crashes: bool,
    pub(super) partitions: bool,
    pub(super) changes: bool,
    /// Disks are lost or put back from copies.
    pub(super) losses: bool,
    /// The operator allows recovery elections.
    pub(super) operator: bool,
    pub(super) bad_network: bool,
    /// Microseconds of trouble, after which everything is repaired.
    pub(super) trouble: u64,
}

/// What a schedule was made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Played {
    pub(super) steps: u64,
    pub(super) elections: u64,
    /// Of these, by recovery elections.
    pub(super) recovered: u64,
    /// Committed entries that were lost with every disk that held them.
    pub(super) lost: u64,
    /// Operations of clients, finished or not.
    pub(super) operations: u64,
}

#[derive(Debug)]
enum Happening {
    Tick(NodeId, u64),
    Deliver(Box<Message>, Option<Machine>),
    Synced {
        node: NodeId,
        run: u64,
        writes: usize,
        readies: usize,
    },
    Fetched(NodeId, u64, Fetch),
    SnapshotLost(NodeId, u64, NodeId),
    Client(usize),
    GiveUp(Ticket),
    Fault,
    Restart(NodeId),
    Repair,
    Operator,
}

/// One operation of a client.
#[derive(Debug, Clone, Copy)]
struct Asked {
    client: usize,
    key: u64,
    operation: Operation,
    called: u64,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) ledger: Ledger,
    queue: Queue<Happening>,
    network: Network,
    rng: Rng,
    profile: Profile,
    mutation: Mutation,
    asked: BTreeMap<Ticket, Asked>,
    tickets: u64,
    values: u64,
    pub(super) history: History,
    /// Copies of disks, to be put back.
    backups: BTreeMap<NodeId, sim::Disk>,
    repaired: bool,
    steps: u64,
    trace: bool,
    election_ticks: u32,
    tick: u64,
    sync: (u64, u64),
    cache_bytes: usize,
    failure: Option<String>,
}

const KEYS: u64 = 4;
const CLIENTS: usize = 4;
const SECOND: u64 = 1_000_000;
const PATIENCE: u64 = 3 * SECOND;

impl Cluster {
    pub(super) fn new(seed: u64, profile: Profile, mutation: Mutation) -> Cluster {
        let mut rng = Rng::new(seed);
        let bad = Faults {
            lost: rng.below(100),
            repeated: rng.below(100),
            delay: (100, 200 + rng.below(20_000)),
            late: rng.below(100),
            lateness: 1 + rng.below(3 * SECOND),
        };
        let faults = if profile.bad_network { bad } else { Faults::NONE };
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            ledger: Ledger::default(),
            queue: Queue::default(),
            network: Network::new(faults),
            profile,
            mutation,
            asked: BTreeMap::new(),
            tickets: 0,
            values: 0,
            history: History::default(),
            backups: BTreeMap::new(),
            repaired: false,
            steps: 0,
            trace: std::env::var_os("SIM_SEED").is_some(),
            election_ticks: u32::try_from(rng.between(5, 10)).unwrap(),
            tick: 50_000,
            sync: (100, 300 + rng.below(30_000)),
            cache_bytes: usize::try_from(rng.below(3) * 400).unwrap(),
            failure: None,
            rng,
        };
        cluster.form();
        cluster
    }

    fn form(&mut self) {
        let members: Vec<NodeId> = (1..=self.profile.members).map(NodeId).collect();
        let lives: Vec<Incarnation> = members.iter().map(|_| self.draw_life()).collect();
        let voters = members
            .iter()
            .zip(&lives)
            .map(|(node, life)| (*node, *life, bytes::Bytes::new()));
        let configuration = Configuration::of_voters(voters);
        for (node, life) in members.iter().zip(lives) {
            let first = (*node == NodeId(1)).then(|| configuration.clone());
            self.nodes.insert(*node, Node::new(*node));
            self.boot(*node, life, Empty::Bootstrap(first));
        }
        for spare in 1..=self.profile.spares {
            let node = NodeId(self.profile.members + spare);
            self.nodes.insert(node, Node::new(node));
            let life = self.draw_life();
            self.boot(node, life, Empty::Unknown);
        }
        for client in 0..CLIENTS {
            self.queue.after(self.tick * 10, Happening::Client(client));
        }
        self.queue.after(SECOND, Happening::Fault);
        self.queue.after(self.profile.trouble, Happening::Repair);
        if self.profile.operator {
            self.queue.after(SECOND, Happening::Operator);
        }
    }

    /// Usually from the clock; now and then the clock of a new machine is wrong.
    fn draw_life(&mut self) -> Incarnation {
        let ms = if self.rng.chance(50) {
            self.rng.below(100)
        } else {
            1000 + self.queue.now() / 1000
        };
        Incarnation::draw(ms, u16::try_from(self.rng.below(1 << 16)).unwrap())
    }

    fn settings(&mut self, node: NodeId) -> Settings {
        Settings {
            election_ticks: self.election_ticks,
            election_spread_ticks: self.election_ticks,
            message_bytes_max: 200,
            inflight_bytes_max: 600,
            cache_bytes_max: self.cache_bytes,
            apply_bytes_max: 300,
            mutation: self.mutation,
            ..Settings::new(GroupId(1), node, self.rng.next())
        }
    }

    fn boot(&mut self, node: NodeId, life: Incarnation, empty: Empty) {
        let settings = self.settings(node);
        let (tick, skew) = (self.tick, self.rng.below(self.tick / 5));
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.start(settings, life, empty).is_err() {
            return self.queue.after(SECOND, Happening::Restart(node));
        }
        let run = this.run;
        self.say(node, "starts");
        self.queue.after(tick + skew, Happening::Tick(node, run));
        self.pump(node);
    }

    fn say(&self, node: NodeId, what: &str) {
        if self.trace {
            let status = self.nodes[&node].replica.as_ref().map(crate::Replica::status);
            let status = status.map(|s| (s.role, s.term, s.last, s.commit, s.recovering));
            println!("{:>9} {node}: {what}   {status:?}", self.queue.now());
        }
    }

    /// Plays until all trouble is over and repaired, and somewhat longer; then judges.
    pub(super) fn play(mut self) -> Result<Played, String> {
        let end = self.profile.trouble + 20 * SECOND;
        while self.queue.now() < end {
            let Some(happening) = self.queue.next() else { break };
            self.steps += 1;
            self.happen(happening);
            if let Some(failure) = self.failure.take() {
                return Err(format!(
                    "after {} steps, at {} us: {failure}",
                    self.steps,
                    self.queue.now()
                ));
            }
        }
        self.judge()?;
        Ok(Played {
            steps: self.steps,
            elections: self.ledger.elections,
            recovered: self.ledger.recovered,
            lost: self.ledger.lost,
            operations: self.history.len() as u64,
        })
    }

    /// The history, and that the group works again.
    fn judge(&mut self) -> Result<(), String> {
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.note(asked, None);
        }
        if self.ledger.lost == 0 {
            self.history.check().map_err(|violation| violation.to_string())?;
        }
        let Some(leader) = self.nodes.values().find(|node| is_leader(node)) else {
            return if self.may_stand_still() {
                Ok(())
            } else {
                Err(format!(
                    "liveness: no leader after all was repaired: {:#?}",
                    self.nodes
                        .values()
                        .map(|node| node.replica.as_ref().map(crate::Replica::status))
                        .collect::<Vec<_>>()
                ))
            };
        };
        let status = leader.replica.as_ref().expect("a leader").status();
        let behind = status.configuration.members().find_map(|(node, _)| {
            let other = self.nodes.get(&node)?;
            let behind = leader.machine.applied.saturating_sub(other.machine.applied) > 20;
            let recovering = other
                .replica
                .as_ref()
                .is_some_and(|replica| replica.status().recovering);
            let voter = status.configuration.is_voter(node);
            (behind || (voter && recovering)).then_some((node, other.machine.applied, recovering))
        });
        match behind {
            Some(found) if !self.may_stand_still() => Err(format!(
                "liveness: member {} is at {} (recovering: {}), the leader at {}: {:?} {:?}",
                found.0,
                found.1,
                found.2,
                leader.machine.applied,
                self.nodes[&found.0].replica.as_ref().map(crate::Replica::status),
                leader
                    .replica
                    .as_ref()
                    .map(|leader| leader.describe_peer(found.0)),
            )),
            _ => Ok(()),
        }
    }

    /// Without the operator, a group in which too many forgot stops, and rightly so. So does one of which nobody holds
    /// anything.
    fn may_stand_still(&self) -> bool {
        let holds_nothing = |node: &Node| {
            let status = node.replica.as_ref().map(crate::Replica::status);
            status.is_none_or(|status| status.missing == [Missing::NotEligible])
        };
        if self.profile.losses && self.nodes.values().all(holds_nothing) {
            return true;
        }
        if !self.profile.losses || self.profile.operator {
            return false;
        }
        let statuses = self
            .nodes
            .values()
            .filter_map(|node| node.replica.as_ref())
            .map(crate::Replica::status);
        let statuses: BTreeMap<NodeId, _> = self.nodes.keys().copied().zip(statuses).collect();
        statuses.values().any(|status| {
            let voters = status.configuration.voters();
            let whole = voters.filter(|(node, _)| statuses.get(node).is_some_and(|other| !other.recovering));
            whole.count() < status.configuration.quorum()
        })
    }

    fn happen(&mut self, happening: Happening) {
        if let Happening::Tick(node, _)
        | Happening::Synced { node, .. }
        | Happening::Fetched(node, ..)
        | Happening::SnapshotLost(node, ..) = &happening
        {
            let frozen_until = self.nodes[node].frozen_until;
            if frozen_until > self.queue.now() {
                return self.queue.after(frozen_until - self.queue.now(), happening);
            }
        }
        match happening {
            Happening::Tick(node, run) => self.tick(node, run),
            Happening::Deliver(message, content) => self.deliver(*message, content),
            Happening::Synced {
                node,
                run,
                writes,
                readies,
            } => self.synced(node, run, writes, readies),
            Happening::Fetched(node, run, fetch) => {
                let this = self.nodes.get_mut(&node).expect("a node");
                if this.run == run {
                    let entries = this.entries(fetch.from, fetch.until.min(fetch.from + 1));
                    this.replica.as_mut().expect("running").fetched(fetch.to, entries);
                    self.pump(node);
                }
            }
            Happening::SnapshotLost(node, run, to) => {
                let this = self.nodes.get_mut(&node).expect("a node");
                if this.run == run {
                    this.replica.as_mut().expect("running").snapshot_failed(to);
                    self.pump(node);
                }
            }
            Happening::Client(client) => self.ask(client),
            Happening::GiveUp(ticket) => {
                if let Some(asked) = self.asked.remove(&ticket) {
                    self.note(asked, None);
                    self.queue.after(1000, Happening::Client(asked.client));
                }
            }
            Happening::Fault => self.fault(),
            Happening::Restart(node) => self.restart(node),
            Happening::Repair => self.repair(),
            Happening::Operator => self.operate(),
        }
    }

    fn tick(&mut self, node: NodeId, run: u64) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.run != run {
            return;
        }
        this.replica.as_mut().expect("running").tick();
        let skew = self.rng.below(self.tick / 5);
        self.queue.after(self.tick + skew, Happening::Tick(node, run));
        self.pump(node);
    }

    fn deliver(&mut self, message: Message, content: Option<Machine>) {
        let node = message.to;
        let now = self.queue.now();
        let Some(this) = self.nodes.get_mut(&node).filter(|this| this.replica.is_some()) else {
            return;
        };
        if this.frozen_until > now {
            // The kernel keeps it until the process goes on.
            return self.queue.after(
                this.frozen_until - now,
                Happening::Deliver(Box::new(message), content),
            );
        }
        if let (Body::InstallSnapshot { snapshot }, Some(content)) = (&message.body, content) {
            this.staged.insert(snapshot.position, content);
        }
        if let Some(replica) = &mut this.replica {
            replica.step(message);
        }
        self.pump(node);
    }

    /// Carries out whatever the replica wants done, until it wants nothing.
    fn pump(&mut self, node: NodeId) {
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

    fn check_before(&mut self, node: NodeId, ready: &Ready) -> Result<(), String> {
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

    fn carry_out(&mut self, node: NodeId, ready: Ready) {
        for event in &ready.events {
            self.say(node, &format!("{event:?}"));
            if let Said::RecoveryElection(term) = event {
                self.ledger.begin_recovery(*term, node);
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

    fn apply(&mut self, node: NodeId, entry: &crate::Entry) {
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

    fn answer(&mut self, ticket: Ticket, outcome: impl Fn(Operation) -> Operation) {
        if let Some(mut asked) = self.asked.remove(&ticket) {
            asked.operation = outcome(asked.operation);
            self.note(asked, Some(self.queue.now()));
            let pause = self.rng.below(400_000);
            self.queue.after(1 + pause, Happening::Client(asked.client));
        }
    }

    fn note(&mut self, asked: Asked, returned: Option<u64>) {
        if returned.is_some() || !matches!(asked.operation, Operation::Read(_)) {
            let record = Record {
                called: asked.called,
                returned,
                operation: asked.operation,
            };
            self.history.record(asked.key, record);
        }
    }

    fn answer_reads(&mut self, node: NodeId) {
        let Some(this) = self.nodes.get_mut(&node) else {
            return;
        };
        let applied = this.machine.applied;
        let (done, waiting) = this
            .reads_ready
            .drain(..)
            .partition(|(index, _)| *index <= applied);
        this.reads_ready = waiting;
        let done: Vec<(u64, Ticket)> = done;
        for (_, ticket) in done {
            let Some(asked) = self.asked.get(&ticket) else {
                continue;
            };
            let value = self.nodes[&node].machine.registers.get(&asked.key).copied();
            self.answer(ticket, |_| Operation::Read(value));
        }
    }

    fn begin_sync(&mut self, node: NodeId) {
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

    fn synced(&mut self, node: NodeId, run: u64, writes: usize, readies: usize) {
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

    fn send(&mut self, messages: Vec<Message>) {
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

    /// A client asks for something, of whoever it likes.
    fn ask(&mut self, client: usize) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let leader = self
            .nodes
            .values()
            .find(|node| is_leader(node))
            .map(|node| node.id);
        let node = match leader {
            Some(leader) if self.rng.chance(600) => leader,
            _ => *self.rng.pick(&ids),
        };
        let key = self.rng.below(KEYS);
        let what = self.rng.below(10);
        self.tickets += 1;
        let ticket = self.tickets;
        let this = self.nodes.get_mut(&node).expect("a node");
        let known = this.machine.registers.get(&key).copied();
        let now = self.queue.now();
        let taken = match this.replica.as_mut().filter(|_| this.frozen_until <= now) {
            None => Err(Refusal::NotLeader { leader: None }),
            Some(replica) if what < 5 => {
                let read = replica.read();
                read.map(|id| {
                    this.reads.insert(id, ticket);
                    Operation::Read(None)
                })
            }
            Some(replica) => {
                self.values += 1;
                let new = self.values;
                let (command, operation) = if what < 8 {
                    (Command::Put { key, value: new }, Operation::Write(new))
                } else {
                    let operation = Operation::Swap {
                        old: known,
                        new,
                        swapped: None,
                    };
                    (Command::Swap { key, old: known, new }, operation)
                };
                let proposed = replica.propose(command.encode());
                proposed.map(|position| {
                    this.writes.insert(position.index, (position.term, ticket));
                    operation
                })
            }
        };
        if let Ok(operation) = taken {
            let asked = Asked {
                client,
                key,
                operation,
                called: now,
            };
            self.asked.insert(ticket, asked);
            self.queue.after(PATIENCE, Happening::GiveUp(ticket));
            self.pump(node);
        } else {
            let pause = self.rng.below(100_000);
            self.queue.after(1 + pause, Happening::Client(client));
        }
    }
}

/// Faults and repairs.
impl Cluster {
    fn fault(&mut self) {
        if self.repaired {
            return;
        }
        let next = self.rng.between(SECOND / 5, 3 * SECOND);
        self.queue.after(next, Happening::Fault);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        // Leaders are where it hurts.
        let leader = self
            .nodes
            .values()
            .find(|node| is_leader(node))
            .map(|node| node.id);
        let node = leader
            .filter(|_| self.rng.chance(350))
            .unwrap_or(*self.rng.pick(&ids));
        let delay = self.rng.below(5 * SECOND);
        match self.rng.below(14) {
            0 | 1 if self.profile.crashes => self.crash(node, delay),
            2 if self.profile.crashes => {
                for node in ids {
                    self.crash(node, delay);
                }
            }
            3 | 4 if self.profile.partitions && ids.len() > 1 => self.partition(&ids),
            5 if self.profile.partitions && self.rng.chance(500) => {
                self.network
                    .isolate(node.0, ids.iter().map(|id| id.0).filter(|other| *other != node.0));
            }
            5 if self.profile.partitions => self.network.heal(),
            6 => {
                self.say(node, "is frozen");
                let until = self.queue.now() + delay;
                let this = self.nodes.get_mut(&node).expect("a node");
                this.frozen_until = until;
            }
            7 => {
                let keep = self.rng.below(5);
                self.checkpoint(node, keep);
            }
            8 if self.rng.chance(300) => {
                self.say(node, "has a full disk");
                self.nodes.get_mut(&node).expect("a node").disk.set_full(true);
            }
            8 => self.nodes.values_mut().for_each(|node| node.disk.set_full(false)),
            9 => self.with_leader(|_, replica| {
                // Refused when nobody can take over, which is fine.
                drop(replica.transfer(None));
            }),
            10 | 11 if self.profile.changes => self.change(node),
            12 if self.profile.operator && self.rng.chance(600) => {
                // Too many at once for the rest to go on, sometimes all but one, rarely all.
                let mut ids = ids;
                self.rng.shuffle(&mut ids);
                let most = if self.rng.chance(50) {
                    ids.len()
                } else {
                    ids.len() - 1
                };
                let count = usize::try_from(self.rng.between(ids.len() as u64 / 2, most as u64)).unwrap();
                for node in &ids[..count] {
                    self.lose(*node, delay);
                }
            }
            12 if self.profile.losses => self.lose(node, delay),
            13 if self.profile.losses => {
                let disk = self.nodes[&node].disk.clone();
                self.backups.insert(node, disk);
            }
            _ => {}
        }
    }

    fn partition(&mut self, ids: &[NodeId]) {
        self.network.heal();
        let mut ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        self.rng.shuffle(&mut ids);
        match self.rng.below(3) {
            0 => {
                let at = usize::try_from(self.rng.between(1, ids.len() as u64 - 1)).unwrap();
                let (one, other) = ids.split_at(at);
                self.network.split(one, other);
            }
            1 => self.network.isolate(ids[0], ids[1..].iter().copied()),
            _ => {
                // One direction only.
                let cuts = self.rng.between(1, 4);
                for _ in 0..cuts {
                    let (from, to) = (*self.rng.pick(&ids), *self.rng.pick(&ids));
                    self.network.cut(from, to);
                }
            }
        }
    }

    fn crash(&mut self, node: NodeId, delay: u64) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.replica.is_none() {
            return;
        }
        this.crash(&mut self.rng);
        self.say(node, "crashes");
        self.queue.after(1 + delay, Happening::Restart(node));
    }

    fn restart(&mut self, node: NodeId) {
        let this = &self.nodes[&node];
        if this.replica.is_some() {
            return;
        }
        let life = self.draw_life();
        self.boot(node, life, Empty::Unknown);
    }

    /// A disk is lost, or an old copy of it is put back, marked as such.
    fn lose(&mut self, node: NodeId, delay: u64) {
        self.crash(node, delay);
        let backup = self.backups.get(&node).cloned().filter(|_| self.rng.chance(400));
        let this = self.nodes.get_mut(&node).expect("a node");
        this.wipe();
        if let Some(mut backup) = backup {
            backup.set_full(false);
            this.disk = backup;
            this.restored = true;
        }
        let restored = this.restored;
        self.say(
            node,
            if restored {
                "is restored from a copy"
            } else {
                "is wiped"
            },
        );
    }

    fn checkpoint(&mut self, node: NodeId, keep: u64) {
        let this = self.nodes.get_mut(&node).expect("a node");
        if this.replica.is_some() && this.frozen_until <= self.queue.now() {
            // A full disk has no room for a checkpoint; the next one may.
            let _: Result<(), sim::Full> = this.checkpoint(keep);
            self.pump(node);
        }
    }

    fn with_leader(&mut self, what: impl FnOnce(&mut Rng, &mut crate::Replica)) {
        let now = self.queue.now();
        let leader = self
            .nodes
            .values_mut()
            .find(|node| is_leader(node) && node.frozen_until <= now);
        let Some(node) = leader.map(|leader| {
            what(&mut self.rng, leader.replica.as_mut().expect("a leader"));
            leader.id
        }) else {
            return;
        };
        self.pump(node);
    }

    fn change(&mut self, node: NodeId) {
        let now = self.queue.now();
        let leaders: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| is_leader(node))
            .map(|node| node.id)
            .collect();
        let Some(leader) = leaders.first() else { return };
        let leader = *self.rng.pick(if leaders.len() > 1 {
            &leaders
        } else {
            std::slice::from_ref(leader)
        });
        let remove = self.rng.chance(500);
        let this = self.nodes.get_mut(&leader).expect("a node");
        let Some(replica) = this.replica.as_mut().filter(|_| this.frozen_until <= now) else {
            return;
        };
        let configuration = replica.status().configuration;
        let change = match configuration.member(node) {
            None => Change::AddLearner {
                node,
                context: bytes::Bytes::new(),
            },
            Some(member) if !member.voter => Change::Promote { node },
            Some(_) if remove && configuration.voters().count() > 2 => Change::Remove { node },
            Some(_) => return,
        };
        let outcome = replica.change(change.clone());
        self.say(leader, &format!("{change:?}: {outcome:?}"));
        self.pump(leader);
        // As the operator is told to: a removed member comes back empty.
        if outcome.is_ok() && matches!(change, Change::Remove { .. }) && self.profile.losses {
            self.lose(node, SECOND);
        }
    }

    /// Without a leader, the operator declares whatever a node says is missing.
    fn operate(&mut self) {
        self.queue.after(SECOND, Happening::Operator);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let this = self.nodes.get_mut(&node).expect("a node");
            let Some(replica) = this
                .replica
                .as_mut()
                .filter(|_| this.frozen_until <= self.queue.now())
            else {
                continue;
            };
            let missing = replica.status().missing;
            let declarations = missing.into_iter().find_map(|missing| match missing {
                Missing::Declarations(nodes) => Some(nodes),
                _ => None,
            });
            for replaced in declarations.unwrap_or_default() {
                // Refused when a leader has appeared meanwhile.
                drop(replica.note_replaced(replaced));
            }
            self.pump(node);
        }
    }

    /// All trouble ends.
    fn repair(&mut self) {
        self.repaired = true;
        self.network.heal();
        self.network.faults = Faults::NONE;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let this = self.nodes.get_mut(&node).expect("a node");
            this.disk.set_full(false);
            this.frozen_until = 0;
            self.restart(node);
        }
    }
}

fn is_leader(node: &Node) -> bool {
    let status = node.replica.as_ref().map(crate::Replica::status);
    status.is_some_and(|status| status.role == RoleName::Leader)
}
