//! Nodes, their log, what they watch and whom they tell.

mod log;

use std::collections::{BTreeMap, BTreeSet};

use sim::{Queue, Rng};

use super::ledger::Ledger;
use crate::document::schema::OnUncertain;
use crate::document::{Alert, AlertKind, Check, CheckKind, Document, Peer};
use crate::duration::Span;
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::command::Command;
use crate::machine::mastery::{Action, Answer, Failure, Look, Mastery, Member, Report, Ticket};
use crate::machine::rounds::{Finding, SECOND_OPINION_MS};
use crate::machine::state::{Delivery, State};
use crate::target::definition;

/// A morning: windows of announced work are written as times of day.
const MORNING: Millis = 1_778_853_600_000;
const INTERVAL_MS: Millis = 15_000;
const TIMEOUT_MS: Millis = 3000;

#[derive(Debug)]
pub(super) enum Event {
    /// A node turns, or hears of the group.
    Turn(usize, u64),
    Sync(usize, u64),
    /// The leader gets on, or another one is elected.
    Commit,
    /// A node makes a check, once or as always.
    Probe(usize, u64, String, bool),
    Arrive(usize, usize, Box<Report>, Millis),
    Answered(usize, u64, u64, Ticket, Answer),
    Attempted(usize, u64, u64, String, Result<(), Failure>),
    Trouble,
    Flip(String),
    Detach(String),
    Start(usize),
    Die(usize, u64),
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) up: bool,
    pub(super) life: u64,
    pub(super) stands_still_until: Millis,
    pub(super) side: u64,
    pub(super) blind: bool,
    /// Its wall clock is so far ahead of the morning.
    pub(super) ahead: Millis,
    pub(super) begun: Millis,
    pub(super) mastery: Mastery,
    state: State,
    applied: usize,
    term: u64,
    leads: bool,
    follows: Option<usize>,
    heard: BTreeMap<usize, Millis>,
    outstanding: Vec<(u64, Ticket)>,
    contact: Millis,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Target {
    pub(super) down: bool,
    /// It does not refuse but says nothing.
    pub(super) silent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Takes,
    Refuses,
    /// Says nothing, and has taken it or not.
    Silent(bool),
}

struct Proposal {
    life: u64,
    ticket: Option<Ticket>,
    command: Command,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) queue: Queue<Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) leader: Option<usize>,
    term: u64,
    contact: Millis,
    log: Vec<Command>,
    pub(super) truth: State,
    pending: Vec<Proposal>,
    pub(super) targets: BTreeMap<String, Target>,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) ledger: Ledger,
    pub(super) fair: bool,
    pub(super) traced: bool,
    pub(super) fault: Option<String>,
}

fn node_id(number: usize) -> NodeId {
    let text = format!("{:08}-0c1d-4e2f-8a3b-4c5d6e7f8091", number + 1);
    text.parse().expect("a node id")
}

pub(super) fn check(id: &str, depends_on: &[&str]) -> Check {
    Check {
        id: id.to_owned(),
        interval: Span::from_millis(INTERVAL_MS),
        timeout: Span::from_millis(TIMEOUT_MS),
        depends_on: depends_on.iter().map(|&text| text.to_owned()).collect(),
        remind_every: (id == "db").then_some(Span::from_secs(400)),
        ..Check::new(id, CheckKind::Tcp, "h:1")
    }
}

fn document(nodes: usize) -> Document {
    let peer = |number| Peer {
        node_id: node_id(number),
        advertise: format!("{number}:9901"),
        fingerprint: String::new(),
        cert_pem: String::new(),
        location: None,
    };
    let alert = |id: &str| Alert {
        id: id.to_owned(),
        default: true,
        ..Alert::new(id, AlertKind::Discord)
    };
    Document {
        version: 1,
        peers: (0..nodes).map(peer).collect(),
        checks: vec![
            check("gateway", &[]),
            check("web", &["gateway"]),
            check("db", &[]),
        ],
        alerts: vec![
            alert("chat"),
            Alert {
                after: Some(Span::from_secs(300)),
                ..alert("boss")
            },
            Alert {
                on_uncertain: Some(OnUncertain::Drop),
                ..alert("once")
            },
        ],
        ..Document::default()
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let count = *rng.pick(&[3, 3, 3, 5, 1]);
        let truth = State::begun(document(count), "cluster".to_owned(), None);
        let nodes = (0..count).map(|number| Node {
            id: node_id(number),
            up: true,
            life: 0,
            stands_still_until: 0,
            side: 0,
            blind: false,
            ahead: if rng.chance(300) {
                rng.below(7_200_000)
            } else {
                rng.below(500)
            },
            begun: 0,
            mastery: Mastery::new(node_id(number), rng.next()),
            state: truth.clone(),
            applied: 0,
            term: 0,
            leads: false,
            follows: None,
            heard: BTreeMap::new(),
            outstanding: Vec::new(),
            contact: 0,
        });
        let mut world = World {
            nodes: nodes.collect(),
            rng,
            queue: Queue::default(),
            leader: None,
            term: 0,
            contact: 0,
            log: Vec::new(),
            truth,
            pending: Vec::new(),
            targets: ["gateway", "web", "db"]
                .map(|id| (id.to_owned(), Target::default()))
                .into(),
            channels: ["chat", "boss", "once"]
                .map(|id| (id.to_owned(), Channel::Takes))
                .into(),
            ledger: Ledger::default(),
            fair: false,
            traced: sim::seeds::is_traced(),
            fault: None,
        };
        for node in 0..count {
            world.start(node);
        }
        world.queue.after(10, Event::Commit);
        world
    }

    pub(super) fn now(&self) -> Millis {
        self.queue.now()
    }

    pub(super) fn wall(&self, node: usize) -> Millis {
        MORNING + self.now() + self.nodes[node].ahead
    }

    pub(super) fn trace(&self, text: impl FnOnce() -> String) {
        if self.traced {
            println!("{:>9} {}", self.now(), text());
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        let (now, seed) = (self.now(), self.rng.next());
        if self.leader == Some(at) {
            // It does not know that it led, and what it had proposed is lost.
            self.leader = None;
        }
        let node = &mut self.nodes[at];
        (node.up, node.begun) = (true, now);
        node.mastery = Mastery::new(node.id, seed);
        let life = node.life;
        let first = self.rng.below(200);
        self.queue.after(first, Event::Turn(at, life));
        self.queue.after(first, Event::Sync(at, life));
        for check in ["gateway", "web", "db"] {
            let first = self.rng.below(INTERVAL_MS);
            self.queue
                .after(first, Event::Probe(at, life, check.to_owned(), true));
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.trace(|| format!("node {at} dies"));
        let node = &mut self.nodes[at];
        (node.up, node.leads, node.follows) = (false, false, None);
        node.life += 1;
        node.heard.clear();
        node.outstanding.clear();
    }

    fn is_awake(&self, at: usize) -> bool {
        self.nodes[at].up && self.nodes[at].stands_still_until <= self.now()
    }

    pub(super) fn reaches(&self, one: usize, other: usize) -> bool {
        self.is_awake(one) && self.is_awake(other) && self.nodes[one].side == self.nodes[other].side
    }

    pub(super) fn has_majority(&self, at: usize) -> bool {
        let count = (0..self.nodes.len())
            .filter(|other| self.reaches(at, *other))
            .count();
        count > self.nodes.len() / 2
    }

    fn pause(&mut self) -> Millis {
        if self.fair {
            2500
        } else {
            self.rng.between(150, 450)
        }
    }

    /// Plays until this moment.
    pub(super) fn play(&mut self, until: Millis) -> Result<u64, String> {
        let mut steps = 0;
        while self.now() < until {
            let Some(event) = self.queue.next() else { break };
            steps += 1;
            self.happen(event);
            if let Some(fault) = self.fault.take() {
                return Err(format!("at {}: {fault}", self.now()));
            }
        }
        Ok(steps)
    }

    fn happen(&mut self, event: Event) {
        let (at, life) = match &event {
            Event::Turn(at, life)
            | Event::Sync(at, life)
            | Event::Probe(at, life, ..)
            | Event::Answered(at, life, ..)
            | Event::Attempted(at, life, ..)
            | Event::Die(at, life) => (*at, *life),
            Event::Commit => return self.commit(),
            Event::Trouble => return self.trouble(),
            Event::Flip(check) => return self.flip(check),
            Event::Detach(check) => return self.detach(check),
            Event::Start(at) if self.nodes[*at].up => return,
            Event::Start(at) => return self.start(*at),
            Event::Arrive(from, to, report, sent) => {
                if self.reaches(*from, *to) {
                    let age = self.now() - sent;
                    let report = Report {
                        age,
                        ..(**report).clone()
                    };
                    let (now, from) = (self.now() - self.nodes[*to].begun, self.nodes[*from].id);
                    self.nodes[*to].mastery.report(now, from, vec![report]);
                }
                return;
            }
        };
        let node = &self.nodes[at];
        if !node.up || node.life != life {
            return;
        }
        if node.stands_still_until > self.now() {
            // It goes on where it stood.
            let wait = node.stands_still_until - self.now();
            return self.queue.after(wait, event);
        }
        match event {
            Event::Turn(..) => {
                self.act(at, Mastery::turn);
                let pause = self.pause();
                self.queue.after(pause, Event::Turn(at, life));
            }
            Event::Sync(..) => {
                self.sync(at);
                let pause = self.pause();
                self.queue.after(pause, Event::Sync(at, life));
            }
            Event::Die(..) => self.crash(at),
            Event::Probe(_, _, check, always) => self.probe(at, life, check, always),
            Event::Answered(_, _, term, ticket, answer) => {
                self.act(at, |mastery, look| mastery.answered(look, term, &ticket, answer));
            }
            Event::Attempted(_, _, term, delivery, result) => {
                self.act(at, |mastery, look| {
                    mastery.attempted(look, term, &delivery, result)
                });
            }
            Event::Commit
            | Event::Trouble
            | Event::Flip(_)
            | Event::Detach(_)
            | Event::Start(_)
            | Event::Arrive(..) => {}
        }
    }

    /// Lets the machine of a node act and carries out what it wants.
    fn act(&mut self, at: usize, act: impl FnOnce(&mut Mastery, &Look<'_>) -> Vec<Action>) {
        let (now, wall) = (self.now(), self.wall(at));
        let members: BTreeMap<_, _> = (0..self.nodes.len())
            .map(|other| {
                let (voter, ready) = (true, self.reaches(at, other));
                (self.nodes[other].id.number(), Member { voter, ready })
            })
            .collect();
        for other in 0..self.nodes.len() {
            if self.reaches(at, other) {
                self.nodes[at].heard.entry(other).or_insert(now);
            } else {
                self.nodes[at].heard.remove(&other);
            }
        }
        let master = self.nodes[at].follows.map(|leader| self.nodes[leader].id);
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let node = &mut self.nodes[at];
        let live = node
            .heard
            .iter()
            .map(|(other, since)| (ids[*other], since.saturating_sub(node.begun)));
        let live = live.collect();
        let look = Look {
            now: now - node.begun,
            wall,
            term: node.term,
            master,
            leads: node.leads,
            state: &node.state,
            members: &members,
            live: &live,
        };
        let actions = act(&mut node.mastery, &look);
        for action in actions {
            self.carry_out(at, action);
        }
    }

    fn carry_out(&mut self, at: usize, action: Action) {
        let life = self.nodes[at].life;
        match action {
            Action::Propose {
                term,
                ticket,
                command,
            } => {
                let node = &mut self.nodes[at];
                let leads = node.leads && node.term == term;
                if !leads || (!self.fair && self.rng.chance(5)) {
                    let lost = Event::Answered(at, life, term, ticket, Answer::Lost);
                    return self.queue.after(10, lost);
                }
                if self.leader == Some(at) && self.term == term {
                    // Sometimes the answer alone is lost.
                    let ticket = if !self.fair && self.rng.chance(5) {
                        self.queue
                            .after(50, Event::Answered(at, life, term, ticket, Answer::Lost));
                        None
                    } else {
                        Some(ticket)
                    };
                    let command = *command;
                    self.pending.push(Proposal {
                        life,
                        ticket,
                        command,
                    });
                } else {
                    node.outstanding.push((term, ticket));
                }
            }
            Action::Send { term, delivery, .. } => {
                let sent = Ledger::sends(&self.truth, self.nodes[at].id, term, &delivery);
                self.note(sent);
                self.attempt(at, life, term, &delivery);
            }
            Action::LookAgain(checks) => {
                for other in 0..self.nodes.len() {
                    if self.reaches(at, other) {
                        for check in &checks {
                            let wait = SECOND_OPINION_MS + self.rng.below(100);
                            let life = self.nodes[other].life;
                            self.queue
                                .after(wait, Event::Probe(other, life, check.clone(), false));
                        }
                    }
                }
            }
            Action::Transfer { to } => {
                let to = self.nodes.iter().position(|node| node.id == to);
                if let Some(to) = to.filter(|to| self.leader == Some(at) && self.has_majority(*to)) {
                    self.commit_pending(self.pending.len());
                    self.lead(to);
                }
            }
            Action::HandsOver { .. }
            | Action::ChangeMembers { .. }
            | Action::TellAgain { .. }
            | Action::RoleChanged(_) => {}
        }
    }

    pub(super) fn note(&mut self, judged: Result<(), String>) {
        if let Err(fault) = judged {
            self.fault.get_or_insert(fault);
        }
    }

    fn attempt(&mut self, at: usize, life: u64, term: u64, delivery: &Delivery) {
        let channel = self.channels[&delivery.alert];
        let mark = if delivery.uncertain {
            " (may be a repeat)"
        } else {
            ""
        };
        self.trace(|| {
            format!(
                "node {at} sends {} {:?}{mark}: {channel:?}",
                delivery.id, delivery.verb
            )
        });
        if matches!(channel, Channel::Takes | Channel::Silent(true)) {
            let taken = self.ledger.takes(delivery);
            self.note(taken);
        }
        let failure = |text: &str, uncertain, asked| Failure {
            text: text.to_owned(),
            permanent: false,
            uncertain,
            held: false,
            asked,
        };
        let (wait, result) = match channel {
            Channel::Takes => (self.rng.between(1, 2000), Ok(())),
            Channel::Refuses => {
                let asked = self.rng.chance(200).then_some(30_000);
                (self.rng.between(1, 200), Err(failure("refused", false, asked)))
            }
            Channel::Silent(_) => (10_000, Err(failure("no answer", true, None))),
        };
        let end = Event::Attempted(at, life, term, delivery.id.clone(), result);
        self.queue.after(wait, end);
    }

    fn probe(&mut self, at: usize, life: u64, id: String, always: bool) {
        if always {
            self.queue
                .after(INTERVAL_MS, Event::Probe(at, life, id.clone(), true));
        }
        let (now, node) = (self.now(), &self.nodes[at]);
        let document = &node.state.document;
        let Some(check) = document.check(&id).filter(|check| !check.disabled) else {
            return;
        };
        let parents = check.depends_on.iter().chain([&id]);
        let cause = parents.map(|id| self.targets[id]).find(|target| target.down);
        let (took, finding) = match (cause, node.blind) {
            (None, false) => (20, Finding::Good),
            (None, true) => (20, Finding::Bad("no route".to_owned())),
            (Some(target), _) if target.silent => (TIMEOUT_MS, Finding::Bad("timeout".to_owned())),
            (Some(_), _) => (20, Finding::Bad("refused".to_owned())),
        };
        let report = Report {
            definition: definition(check, document),
            check: id,
            age: 0,
            took,
            finding,
        };
        if let Some(master) = node.follows {
            let wait = took + self.rng.between(1, 300);
            self.queue
                .after(wait, Event::Arrive(at, master, Box::new(report), now + took));
        }
    }

    pub(super) fn states_are_equal(&self) -> Result<(), String> {
        let differs = self.nodes.iter().find(|node| node.state != self.truth);
        differs.map_or(Ok(()), |node| Err(format!("the state of {} differs", node.id)))
    }

    pub(super) fn busy_nodes(&self) -> BTreeSet<usize> {
        (0..self.nodes.len()).filter(|at| !self.is_awake(*at)).collect()
    }
}
