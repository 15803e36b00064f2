//! Whole clusters of machines in one thread, in a time and over a network that the test makes.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gossip::machine::{Machine, Outgoing};
use gossip::{Node, State, Timing};
use service::clock::Moment;

const EPOCH_MS: u64 = 1_700_000_000_000;

fn node(id: u64) -> Node {
    Node {
        id,
        name: format!("node{id}"),
        role: "worker".to_owned(),
        version: "0.1.0".to_owned(),
        gossip_address: format!("node{id}:2381"),
        api_address: format!("http://node{id}:2379"),
        raft_address: format!("node{id}:2380"),
    }
}

/// A network that carries everything in a millisecond, except between those that are apart.
struct World {
    now: Moment,
    machines: BTreeMap<u64, Machine>,
    /// In the order of arrival.
    on_the_way: BTreeMap<(Moment, u64), (u64, Outgoing)>,
    apart: BTreeSet<(u64, u64)>,
    sent: u64,
    /// There are more nodes than may be known, so messages are refused.
    is_crowded: bool,
}

impl World {
    fn new() -> World {
        World {
            now: Moment::from_millis(1000),
            machines: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            apart: BTreeSet::new(),
            sent: 0,
            is_crowded: false,
        }
    }

    fn unix_ms(&self) -> u64 {
        EPOCH_MS + self.now.millis()
    }

    fn start(&mut self, id: u64, seeds: &[u64]) {
        self.start_at(id, seeds, self.unix_ms());
    }

    /// With a wall clock of its own.
    fn start_at(&mut self, id: u64, seeds: &[u64], unix_ms: u64) {
        let mut machine = Machine::new(node(id), Timing::default(), 100, id, self.now, unix_ms);
        let seeds = seeds.iter().map(|seed| format!("node{seed}:2381")).collect();
        machine.set_seeds(seeds, self.now);
        self.machines.insert(id, machine);
    }

    fn step(&mut self) {
        let tick = self.machines.values().map(Machine::next_tick).min();
        let arrival = self.on_the_way.first_key_value().map(|((at, _), _)| *at);
        let next = tick.into_iter().chain(arrival).min().unwrap();
        self.now = self.now.max(next);
        let unix_ms = self.unix_ms();
        while let Some(entry) = self.on_the_way.first_entry()
            && entry.key().0 <= self.now
        {
            let (from, message) = entry.remove();
            let to = message.address["node".len()..]
                .split(':')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            if self.apart.contains(&(from.min(to), from.max(to))) {
                continue;
            }
            if let Some(machine) = self.machines.get_mut(&to) {
                let is_good = machine.receive(&message.payload, self.now, unix_ms);
                assert!(is_good || self.is_crowded);
            }
        }
        for (from, machine) in &mut self.machines {
            machine.tick(self.now, unix_ms);
            for message in machine.take_outgoing() {
                self.sent += 1;
                let arrival = self.now + Duration::from_millis(1);
                self.on_the_way.insert((arrival, self.sent), (*from, message));
            }
        }
    }

    /// Until everybody that runs sees these states, or too long.
    fn until(&mut self, limit: Duration, what: &str, states: &[(u64, State)]) -> Duration {
        let start = self.now;
        while !self.machines.keys().all(|id| self.sees(*id, states)) {
            assert!(
                self.now.since(start) < limit,
                "{what}: {:#?}",
                self.machines.values().map(Machine::nodes).collect::<Vec<_>>()
            );
            self.step();
        }
        self.now.since(start)
    }

    fn sees(&self, id: u64, states: &[(u64, State)]) -> bool {
        let seen: Vec<(u64, State)> = self.machines[&id]
            .nodes()
            .into_iter()
            .map(|seen| (seen.node.id, seen.state))
            .collect();
        seen == states
    }
}

fn alive(ids: std::ops::RangeInclusive<u64>) -> Vec<(u64, State)> {
    ids.map(|id| (id, State::Alive)).collect()
}

fn five() -> World {
    let mut world = World::new();
    (1..=5).for_each(|id| world.start(id, &[1]));
    world.until(Duration::from_secs(20), "all know all", &alive(1..=5));
    world
}

#[test]
fn everybody_learns_of_everybody_from_one_seed() {
    let mut world = five();
    let seen = world.machines[&5].nodes();
    assert_eq!(seen[2].node, node(3));
    let sent = world.sent;
    let start = world.now;
    while world.now.since(start) < Duration::from_mins(10) {
        world.step();
        assert!(world.machines.keys().all(|id| world.sees(*id, &alive(1..=5))));
    }
    // A probe and its answer each second by each, and greetings.
    assert!(world.sent - sent < 600 * 5 * 4, "{}", world.sent - sent);
}

#[test]
fn a_killed_node_is_down_and_alive_again_when_it_comes_back() {
    let mut world = five();
    world.machines.remove(&4);
    let mut states = alive(1..=5);
    states[3].1 = State::Down;
    let took = world.until(Duration::from_secs(30), "the killed one is down", &states);
    assert!(took > Duration::from_secs(5), "not without a suspicion: {took:?}");
    let since = world.machines[&1].nodes()[3].since_unix_ms;
    assert!(since > EPOCH_MS + 5000 && since <= world.unix_ms());
    world.start(4, &[1]);
    world.until(Duration::from_secs(30), "it is alive again", &alive(1..=5));
}

#[test]
fn a_node_that_says_goodbye_is_down_at_once() {
    let mut world = five();
    let (now, unix_ms) = (world.now, world.unix_ms());
    let leaving = world.machines.get_mut(&2).unwrap();
    leaving.leave(now, unix_ms);
    for message in leaving.take_outgoing() {
        world.sent += 1;
        world.on_the_way.insert((now, world.sent), (2, message));
    }
    world.machines.remove(&2);
    let mut states = alive(1..=5);
    states[1].1 = State::Down;
    let took = world.until(Duration::from_secs(4), "it is down", &states);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_separation_heals_by_itself() {
    let mut world = five();
    for here in 1..=2 {
        for there in 3..=5 {
            world.apart.insert((here, there));
        }
    }
    let start = world.now;
    while world.now.since(start) < Duration::from_mins(1) {
        world.step();
    }
    let down = |id: u64| {
        world.machines[&id]
            .nodes()
            .into_iter()
            .filter(|seen| seen.state == State::Down)
            .count()
    };
    assert_eq!((down(1), down(3)), (3, 2));
    world.apart.clear();
    world.until(Duration::from_mins(1), "all are alive", &alive(1..=5));
}

#[test]
fn two_nodes_find_each_other_again() {
    let mut world = World::new();
    world.start(1, &[]);
    world.start(2, &[1]);
    world.until(Duration::from_secs(10), "both", &alive(1..=2));
    world.apart.insert((1, 2));
    let start = world.now;
    while world.now.since(start) < Duration::from_secs(30) {
        world.step();
    }
    assert_eq!(world.machines[&1].nodes()[1].state, State::Down);
    world.apart.clear();
    world.until(Duration::from_secs(30), "both again", &alive(1..=2));
}

#[test]
fn a_node_whose_clock_went_back_comes_back_too() {
    let mut world = five();
    world.machines.remove(&4);
    let mut states = alive(1..=5);
    states[3].1 = State::Down;
    world.until(Duration::from_secs(30), "the killed one is down", &states);
    world.start_at(4, &[1], EPOCH_MS - 10 * 86_400_000);
    world.until(Duration::from_mins(2), "it is alive again", &alive(1..=5));
}

#[test]
fn a_new_description_reaches_everybody() {
    let mut world = five();
    let next = Node {
        role: "control_plane".to_owned(),
        ..node(3)
    };
    let (now, unix_ms) = (world.now, world.unix_ms());
    world
        .machines
        .get_mut(&3)
        .unwrap()
        .update(next.clone(), now, unix_ms);
    let start = world.now;
    while !world.machines.values().all(|machine| {
        let seen = &machine.nodes()[2];
        (seen.state, &seen.node) == (State::Alive, &next)
    }) {
        assert!(world.now.since(start) < Duration::from_secs(30));
        world.step();
    }
}

#[test]
fn no_more_nodes_are_known_than_there_may_be() {
    let mut world = World::new();
    world.is_crowded = true;
    (1..=120).for_each(|id| world.start(id, &[1]));
    let start = world.now;
    while world.now.since(start) < Duration::from_secs(20) {
        world.step();
        assert!(
            world
                .machines
                .values()
                .all(|machine| machine.nodes().len() <= 100)
        );
    }
}
