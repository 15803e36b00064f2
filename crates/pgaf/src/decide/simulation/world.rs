//! The group, the store, and what befalls them.

use std::collections::{BTreeMap, BTreeSet};

use sim::Rng;

use super::super::{Health, Node, Request, View, decide};
use super::Seen;
use crate::settings::{Profile, Settings};
use crate::state::NodeState;
use crate::{Change, Kind, Names, NodeId, Position, Promise, Record};

/// A tick, in milliseconds: the keepers' interval of the profile `fast`.
const TICK: u64 = 250;
/// The lock's life in that profile.
pub(super) const TTL: u64 = 2_000;

/// What kind of group, and how much trouble.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    nodes: u32,
    number_sync: u32,
    /// Per mille and tick.
    trouble: u64,
}

impl Plan {
    pub(super) fn from_seed(seed: u64) -> Plan {
        Plan {
            nodes: 2 + (seed % 3) as u32,
            number_sync: u32::from(seed % 5 < 2),
            trouble: [15, 40, 90][seed as usize / 3 % 3],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pg {
    Stopped,
    /// Of nobody if it is cut.
    Standby(Option<NodeId>),
    Serving,
}

/// What is really there.
#[derive(Debug, Clone)]
pub(super) struct Real {
    pub(super) up: bool,
    /// The whole host is gone, rather than the processes on it.
    host_gone: bool,
    /// Its keeper does not reach the store.
    pub(super) cut_off: bool,
    pub(super) pg: Pg,
    /// Rows, and timelines as negative numbers.
    pub(super) log: Vec<i64>,
    pub(super) confirmed: BTreeMap<NodeId, usize>,
    pub(super) file: Names,
    pub(super) effective: Vec<Names>,
    pub(super) change: Option<Change>,
    /// The position read for its barrier.
    pub(super) barrier: Option<usize>,
    pub(super) promise: Promise,
    pub(super) renewed: u64,
    /// What the record was when it last read it.
    pub(super) knows: Kind,
    /// Rows whose clients wait.
    pub(super) pending: BTreeSet<i64>,
}

impl Real {
    pub(super) fn position(&self) -> Position {
        let timeline = self
            .log
            .iter()
            .rev()
            .find(|entry| **entry < 0)
            .map_or(1, |entry| (-entry) as u32);
        Position {
            timeline,
            lsn: self.log.len() as u64,
        }
    }
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) seen: Seen,
    pub(super) ticks: u64,
    plan: Plan,
    settings: Settings,
    pub(super) now: u64,
    elected: u64,
    pub(super) number_sync: u32,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    real: BTreeMap<NodeId, Real>,
    pub(super) record: Option<Record>,
    pub(super) revision: u64,
    pub(super) lock: Option<NodeId>,
    pub(super) lock_until: u64,
    pub(super) wanted: Names,
    request: Option<Request>,
    links_down: BTreeSet<(NodeId, NodeId)>,
    rows: i64,
    pub(super) acknowledged: BTreeSet<i64>,
    /// Old primaries that may not know yet that they were forced over: nothing they say is safe.
    pub(super) forced_over: BTreeSet<NodeId>,
    trace: bool,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> World {
        let mut world = World {
            rng: Rng::new(seed),
            seen: Seen::default(),
            ticks: 0,
            plan,
            settings: Profile::Fast.settings(),
            now: 100_000,
            elected: 0,
            number_sync: plan.number_sync,
            nodes: BTreeMap::new(),
            real: BTreeMap::new(),
            record: None,
            revision: 0,
            lock: None,
            lock_until: 0,
            wanted: Names::nobody(),
            request: None,
            links_down: BTreeSet::new(),
            rows: 0,
            acknowledged: BTreeSet::new(),
            forced_over: BTreeSet::new(),
            trace: std::env::var_os("SIM_SEED").is_some(),
        };
        for id in 1..=plan.nodes {
            let priority = if id > 1 && world.rng.chance(200) { 80 } else { 50 };
            let node = Node {
                goal: NodeState::Init,
                since: world.now,
                reported: NodeState::Init,
                health: Health::Unknown,
                heard: world.now,
                dead: false,
                position: None,
                vote: None,
                priority,
                quorum: true,
            };
            let real = Real {
                up: true,
                host_gone: false,
                cut_off: false,
                pg: Pg::Stopped,
                log: Vec::new(),
                confirmed: BTreeMap::new(),
                file: Names::nobody(),
                effective: Vec::new(),
                change: None,
                barrier: None,
                promise: Promise::default(),
                renewed: 0,
                knows: Kind::Alone,
                pending: BTreeSet::new(),
            };
            world.nodes.insert(id, node);
            world.real.insert(id, real);
        }
        world
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the group")
    }

    pub(super) fn real(&mut self, id: NodeId) -> &mut Real {
        self.real.get_mut(&id).expect("a node of the group")
    }

    pub(super) fn link_down(&self, one: NodeId, other: NodeId) -> bool {
        self.links_down.contains(&(one.min(other), one.max(other)))
    }

    pub(super) fn store(&mut self, record: Record) {
        if record.kind == Kind::Alone && self.record.as_ref().is_some_and(|old| old.kind == Kind::Sync) {
            self.seen.alone += 1;
        }
        self.revision += 1;
        self.record = Some(record);
    }

    /// Until the group is whole for the first time.
    pub(super) fn found(&mut self) -> Result<(), String> {
        self.until_whole("at first")
    }

    pub(super) fn trouble(&mut self) -> Result<(), String> {
        for _ in 0..400 {
            self.befall();
            self.tick()?;
        }
        Ok(())
    }

    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.links_down.clear();
        for real in self.real.values_mut() {
            real.up = true;
            real.host_gone = false;
            real.cut_off = false;
        }
        self.until_whole("after everything was well again")?;
        self.seen.acknowledged = self.acknowledged.len();
        Ok(())
    }

    fn until_whole(&mut self, when: &str) -> Result<(), String> {
        // Twice the failover time, and a little for the steps themselves, which chance delays.
        let end = self.now + 2 * self.settings.pgaf_failover_timeout.0 + 15_000;
        while !self.whole() {
            if self.now > end {
                return Err(format!("not whole {when}: {}", self.shown()));
            }
            self.tick()?;
        }
        Ok(())
    }

    fn whole(&self) -> bool {
        let Some(record) = &self.record else { return false };
        let settled = self.nodes.values().all(|node| node.goal == node.reported);
        settled
            && self.nodes.iter().all(|(id, node)| {
                node.goal
                    == if *id == record.node {
                        NodeState::Primary
                    } else {
                        NodeState::Secondary
                    }
            })
            && record.members.len() + 1 == self.nodes.len()
            && self.real[&record.node].pg == Pg::Serving
    }

    fn shown(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|(id, node)| format!("{id}: {} -> {} {:?}", node.reported, node.goal, self.real[id].pg))
            .collect();
        format!(
            "{}; lock {:?}, record {:?}, wanted `{}`",
            nodes.join(", "),
            self.lock,
            self.record,
            self.wanted
        )
    }

    fn befall(&mut self) {
        if !self.rng.chance(self.plan.trouble) {
            return;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let id = *self.rng.pick(&ids);
        let other = *self.rng.pick(&ids);
        match self.rng.below(11) {
            0..=2 => {
                let host = self.rng.chance(500);
                let real = self.real(id);
                real.up = false;
                real.host_gone = host;
                real.change = None;
                real.pending.clear();
                if real.pg == Pg::Serving {
                    real.pg = Pg::Stopped;
                }
            }
            3..=5 => {
                for real in self.real.values_mut() {
                    real.up = true;
                    real.host_gone = false;
                }
            }
            6 => self.real(id).cut_off ^= true,
            7 => {
                let link = (id.min(other), id.max(other));
                if id != other && !self.links_down.remove(&link) {
                    self.links_down.insert(link);
                }
            }
            8 => self.elected = self.now,
            9 => {
                self.request = Some(Request::Forced {
                    node: other,
                    record: self.revision,
                    loss: None,
                });
            }
            _ => {
                self.request = Some(if self.rng.chance(500) {
                    Request::Failover
                } else {
                    Request::Promotion(other)
                });
            }
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.ticks += 1;
        self.now += TICK;
        if self.lock.is_some() && self.now > self.lock_until {
            self.lock = None;
        }
        self.write_rows();
        let mut ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.rng.shuffle(&mut ids);
        for id in ids {
            self.keep(id);
        }
        self.acknowledge();
        self.look();
        for _ in 0..3 {
            if !self.assign()? {
                break;
            }
        }
        self.judge()
    }

    fn write_rows(&mut self) {
        for real in self.real.values_mut() {
            if real.up && real.pg == Pg::Serving {
                self.rows += 1;
                real.log.push(self.rows);
                real.pending.insert(self.rows);
            }
        }
    }

    fn acknowledge(&mut self) {
        for (id, real) in &mut self.real {
            if !real.up || real.pg != Pg::Serving || self.forced_over.contains(id) {
                continue;
            }
            let Some(names) = real.effective.last().cloned() else {
                continue;
            };
            for row in real.pending.clone() {
                let at = real
                    .log
                    .iter()
                    .position(|entry| *entry == row)
                    .expect("its own row");
                let flushed = real
                    .confirmed
                    .iter()
                    .filter(|(_, have)| **have > at)
                    .map(|(id, _)| *id)
                    .collect();
                if names.acknowledge(&flushed) {
                    real.pending.remove(&row);
                    self.acknowledged.insert(row);
                }
            }
        }
    }

    /// The monitor's looks at every PostgreSQL.
    fn look(&mut self) {
        let now = self.now;
        for (id, node) in &mut self.nodes {
            let real = &self.real[id];
            let good = real.up && real.pg != Pg::Stopped;
            node.health = match node.health {
                _ if good => Health::Good,
                Health::Bad { since } => Health::Bad { since },
                _ => Health::Bad { since: now },
            };
            node.dead = !real.up && !real.host_gone;
        }
    }

    fn assign(&mut self) -> Result<bool, String> {
        let view = View {
            now: self.now,
            elected: self.elected,
            settings: &self.settings,
            number_sync: self.number_sync,
            nodes: &self.nodes,
            record: self.record.as_ref(),
            revision: self.revision,
            lock: self.lock,
            wanted: &self.wanted,
            request: self.request,
        };
        let Some(step) = decide(&view) else {
            return Ok(false);
        };
        if self.trace {
            println!("{:>8} {step:?}\n         {}", self.now, self.shown());
        }
        let now = self.now;
        for assignment in &step.goals {
            let node = self.node(assignment.node);
            if !node.goal.may_become(assignment.goal) {
                return Err(format!(
                    "{} is no way from {}: {assignment:?}",
                    assignment.goal, node.goal
                ));
            }
            node.goal = assignment.goal;
            node.since = now;
        }
        if let Some(record) = step.record {
            self.store(record);
        }
        if let Some(wanted) = step.wanted {
            self.wanted = wanted;
        }
        if step.request_done {
            self.request = None;
        }
        Ok(true)
    }

    /// Whoever the record names has every acknowledged row.
    fn judge(&self) -> Result<(), String> {
        let Some(record) = &self.record else { return Ok(()) };
        let primary = &self.real[&record.node];
        if let Some(row) = self.acknowledged.iter().find(|row| !primary.log.contains(row)) {
            return Err(format!(
                "row {row} was acknowledged and is not at node {}: {}",
                record.node,
                self.shown()
            ));
        }
        Ok(())
    }
}
