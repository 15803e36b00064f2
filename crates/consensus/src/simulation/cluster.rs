//! Members, network, clients and faults, driven by one queue of events.
//!
//! The parts: `driver` (what a server does around its replica), `clients`, `faults` (and their repair), `verdict` (the judgement at the
//! end). What must hold after every step is in `ledger`.

mod clients;
mod driver;
mod faults;
mod founding;
mod verdict;

use std::collections::BTreeMap;

use sim::history::{History, Operation};
use sim::{Faults, Network, Queue, Rng};

pub(super) use self::founding::Flaw;
use super::ledger::Ledger;
use super::node::{Empty, Machine, Node, Ticket};
use crate::{
    Body, Configuration, Fetch, GroupId, Incarnation, Message, Mutation, NodeId, RoleName, Settings,
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
    /// The members begin empty and have to find each other.
    pub(super) founding: bool,
    pub(super) flaw: Flaw,
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
    Form(NodeId, u64),
    Ask(Box<founding::Asking>),
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
    forming: BTreeMap<NodeId, founding::Forming>,
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
            forming: BTreeMap::new(),
            repaired: false,
            steps: 0,
            trace: sim::seeds::is_traced(),
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
            let empty = if self.profile.founding {
                Empty::Unknown
            } else {
                Empty::Bootstrap(first)
            };
            self.boot(*node, life, empty);
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
        let quiet = if self.profile.founding {
            self.rng.below(SECOND)
        } else {
            SECOND
        };
        self.queue.after(quiet, Happening::Fault);
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
        if self.profile.founding {
            self.begin_forming(node);
        }
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

    fn happen(&mut self, happening: Happening) {
        if let Happening::Tick(node, _)
        | Happening::Synced { node, .. }
        | Happening::Fetched(node, ..)
        | Happening::Form(node, _)
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
            Happening::Form(node, run) => self.form_round(node, run),
            Happening::Ask(asking) => self.ask_who(*asking),
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
        if self.profile.founding {
            // Members say which group they belong to before anything else.
            let Some(group) = self.group_of(message.from) else {
                return;
            };
            self.meet_group(node, &group);
        }
        let Some(this) = self.nodes.get_mut(&node).filter(|this| this.replica.is_some()) else {
            return;
        };
        if let (Body::InstallSnapshot { snapshot }, Some(content)) = (&message.body, content) {
            this.staged.insert(snapshot.position, content);
        }
        if let Some(replica) = &mut this.replica {
            replica.step(message);
        }
        self.pump(node);
    }
}

fn is_leader(node: &Node) -> bool {
    let status = node.replica.as_ref().map(crate::Replica::status);
    status.is_some_and(|status| status.role == RoleName::Leader)
}
