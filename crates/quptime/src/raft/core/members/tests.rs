//! Groups from seeds: messages are lost and late, nodes die and come back, and a member is removed, which may be dead or the leader. Nothing
//! that was proposed after the removal was answered may reach it.

use std::collections::BTreeSet;

use consensus::{Body, Configuration, Event, HardState, Incarnation, Message, Position, Snapshot, Term};
use parking_lot::Mutex;
use service::SystemClock;
use sim::Rng;
use sim::seeds::{Campaign, first_failure};
use tokio::sync::oneshot;

use super::super::*;
use crate::document::{Alert, AlertKind, Change as Edit, Document, Entry as Item, Peer};
use crate::machine::command::Configure;
use crate::machine::mutation::{BROKEN, Mutation};

/// Part of everything that is proposed after the removal.
const SECRET: &str = "a-secret";

fn node(number: u64) -> crate::identity::NodeId {
    let text = format!("{number:08}-0c1d-4e2f-8a3b-4c5d6e7f8091");
    text.parse().expect("a node id")
}

fn peer(number: u64) -> Peer {
    Peer {
        node_id: node(number),
        advertise: format!("{number}:9901"),
        fingerprint: String::new(),
        cert_pem: String::new(),
        location: None,
    }
}

fn configure(changes: Vec<Edit>) -> Command {
    Command::Configure(Configure {
        changes,
        by: node(1),
        uid: None,
        what: String::new(),
        at: String::new(),
        schema: 1,
        closes: None,
        leaves: None,
        bytes_max: None,
        insists: false,
    })
}

/// What is on its way.
enum Sent {
    Message(Message),
    Snapshot(NodeId, NodeId, Snapshot, Vec<u8>),
}

#[derive(Default)]
struct Wire(Mutex<Vec<Sent>>);

struct Mouth(NodeId, Arc<Wire>);

impl Network for Mouth {
    fn send(&self, message: Message) {
        self.1.0.lock().push(Sent::Message(message));
    }

    fn send_snapshot(&self, to: NodeId, snapshot: Snapshot, content: Vec<u8>) {
        self.1
            .0
            .lock()
            .push(Sent::Snapshot(self.0, to, snapshot, content));
    }

    fn tell(&self, _: &Event) {}
}

struct World {
    rng: Rng,
    _parent: tempfile::TempDir,
    dirs: Vec<std::path::PathBuf>,
    workers: Vec<Option<Worker>>,
    wire: Arc<Wire>,
    doomed: BTreeSet<u64>,
    removal: Option<oneshot::Receiver<Result<Applied, ProposeError>>>,
    /// Whoever removes it has been told that it is so.
    answered: bool,
    secrets: u64,
    fair: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let size = rng.between(2, 5);
        let parent = tempfile::tempdir().unwrap();
        let numbers = 1..=size;
        let life = |number| Incarnation(100 + number);
        let base = Snapshot {
            position: Position {
                term: Term(1),
                index: 1,
            },
            configuration: Configuration::of_voters(
                numbers
                    .clone()
                    .map(|number| (node(number).number(), life(number), Bytes::new())),
            ),
        };
        let document = Document {
            version: 1,
            peers: numbers.clone().map(peer).collect(),
            ..Document::default()
        };
        let state = State::begun(document, "cluster".to_owned(), None);
        let dirs: Vec<_> = numbers
            .clone()
            .map(|number| parent.path().join(number.to_string()))
            .collect();
        for (number, dir) in numbers.zip(&dirs) {
            let mut hard = HardState::new(life(number), false);
            (hard.term, hard.commit) = (Term(1), 1);
            Disk::create(dir, (1, 7), &base, &state, &hard).unwrap();
        }
        let mut doomed = BTreeSet::from([rng.between(1, size)]);
        if size == 5 && rng.chance(400) {
            doomed.insert(rng.between(1, size));
        }
        let mut world = World {
            workers: dirs.iter().map(|_| None).collect(),
            rng,
            _parent: parent,
            dirs,
            wire: Arc::default(),
            doomed,
            removal: None,
            answered: false,
            secrets: 0,
            fair: false,
        };
        for number in 1..=size {
            world.start(number);
        }
        world
    }

    fn start(&mut self, number: u64) {
        let seed = self.rng.next();
        let (worker, _) = Worker::new(Start {
            loaded: Disk::open(&self.dirs[number as usize - 1]).unwrap().unwrap(),
            node: node(number).number(),
            rank: number as u32 - 1,
            seed,
            clock: SystemClock::shared(),
            network: Arc::new(Mouth(node(number).number(), self.wire.clone())),
            failed: Box::new(drop),
        })
        .unwrap();
        self.workers[number as usize - 1] = Some(worker);
    }

    fn number_of(&self, node_number: NodeId) -> u64 {
        let mut all = 1..=self.dirs.len() as u64;
        all.find(|number| node(*number).number() == node_number).unwrap()
    }

    /// One turn of a worker with this input; nothing if it is down.
    fn turn(&mut self, number: u64, input: Option<Input>) -> Result<(), String> {
        let Some(worker) = &mut self.workers[number as usize - 1] else {
            return Ok(());
        };
        match input {
            Some(input) => {
                worker.take(input);
            }
            None => worker.tick(),
        }
        worker.carry_out().map_err(|error| error.to_string())?;
        worker.forget_overtaken();
        let has_secret = |entry: &Entry| String::from_utf8_lossy(&entry.payload).contains(SECRET);
        if self.doomed.contains(&number) && worker.disk.entries().any(has_secret) {
            return Err(format!(
                "node {number} was removed and has a secret in its log that was set afterwards"
            ));
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), String> {
        let sent = {
            let mut wire = self.wire.0.lock();
            if wire.is_empty() {
                return Ok(());
            }
            let at = self.rng.below(wire.len() as u64) as usize;
            wire.swap_remove(at)
        };
        if !self.fair && self.rng.chance(50) {
            return Ok(());
        }
        match sent {
            Sent::Message(message) => {
                let to = self.number_of(message.to);
                if let Body::Append { entries, .. } = &message.body
                    && self.doomed.contains(&to)
                    && entries
                        .iter()
                        .any(|entry| String::from_utf8_lossy(&entry.payload).contains(SECRET))
                {
                    return Err(format!("node {to} was removed and is sent a secret"));
                }
                self.turn(to, Some(Input::Messages(vec![message])))
            }
            Sent::Snapshot(from, to, snapshot, content) => {
                let (from, to_number) = (self.number_of(from), self.number_of(to));
                let state = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
                self.turn(
                    to_number,
                    Some(Input::Content(snapshot.position, Arc::new(state))),
                )?;
                self.turn(from, Some(Input::SnapshotArrived(to, snapshot)))
            }
        }
    }

    /// Somebody asks a node, whichever it is.
    fn propose(
        &mut self,
        number: u64,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Applied, ProposeError>>, String> {
        let (reply, answer) = oneshot::channel();
        let term = None;
        self.turn(number, Some(Input::Propose { command, term, reply }))?;
        Ok(answer)
    }

    fn set_secret(&mut self, number: u64) -> Result<(), String> {
        self.secrets += 1;
        let alert = Alert {
            id: format!("{}", self.secrets),
            ..Alert::new(format!("{SECRET}-{}", self.secrets), AlertKind::Discord)
        };
        let command = configure(vec![Edit::add(Item::Alert(Box::new(alert)))]);
        // It counts where it ends, not whether it succeeds.
        self.propose(number, command).map(drop)
    }

    fn remove(&mut self) -> Result<(), String> {
        if let Some(answer) = &mut self.removal {
            match answer.try_recv() {
                Ok(Ok(applied)) => {
                    self.answered = matches!(applied.outcome, Outcome::Done(_) | Outcome::Conflict(_));
                    self.removal = None;
                }
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => self.removal = None,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            return Ok(());
        }
        let number = self.rng.between(1, self.dirs.len() as u64);
        let changes = self
            .doomed
            .iter()
            .map(|gone| Edit::remove(Item::Peer(peer(*gone))));
        let command = configure(changes.collect());
        self.removal = Some(self.propose(number, command)?);
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let number = self.rng.between(1, self.dirs.len() as u64);
        match self.rng.below(1000) {
            0..=599 => self.deliver(),
            600..=949 => self.turn(number, None),
            950..=989 if self.answered => self.set_secret(number),
            950..=989 => self.remove(),
            _ if self.fair => Ok(()),
            _ => {
                if self.workers[number as usize - 1].take().is_none() {
                    self.start(number);
                }
                Ok(())
            }
        }
    }

    /// Whether all that remain have a secret.
    fn is_done(&self) -> bool {
        let numbers = 1..=self.dirs.len() as u64;
        let remaining = numbers.filter(|number| !self.doomed.contains(number));
        let mut workers = remaining.map(|number| self.workers[number as usize - 1].as_ref());
        self.answered
            && workers.all(|worker| {
                worker.is_some_and(|worker| {
                    let alerts = &worker.state.document.alerts;
                    alerts.iter().any(|alert| alert.name.starts_with(SECRET))
                })
            })
    }
}

fn play(seed: u64) -> Result<u64, String> {
    let mut world = World::new(seed);
    let unsteady = world.rng.between(200, 1500);
    for _ in 0..unsteady {
        world.step()?;
    }
    world.fair = true;
    for number in 1..=world.dirs.len() as u64 {
        if world.workers[number as usize - 1].is_none() {
            world.start(number);
        }
    }
    for step in 0..60_000 {
        world.step()?;
        if world.is_done() {
            return Ok(unsteady + step);
        }
    }
    Err(format!(
        "those that remain do not get on; removed {:?} of {}, answered: {}",
        world.doomed,
        world.dirs.len(),
        world.answered
    ))
}

#[test]
fn a_removed_member_gets_nothing_that_was_proposed_afterwards() {
    let campaign = Campaign {
        package: "quptime",
        folder: env!("CARGO_MANIFEST_DIR"),
        name: "a_removed_member_gets_nothing_that_was_proposed_afterwards",
        schedules: 30,
    };
    println!("{:?}", campaign.run(play));
}

/// Without this clause one of these schedules fails.
#[track_caller]
fn is_noticed(mutation: Mutation) {
    BROKEN.set(mutation);
    let found = first_failure(0..300, play);
    BROKEN.set(Mutation::None);
    let (seed, text) = found.unwrap_or_else(|| panic!("{mutation:?} is not noticed"));
    println!("{mutation:?}: seed {seed}: {text}");
    assert!(
        text.contains("was removed and"),
        "{mutation:?}: seed {seed}: {text}"
    );
}

#[test]
fn commands_while_somebody_leaves_are_noticed() {
    is_noticed(Mutation::CommandsWhileSomebodyLeaves);
}

#[test]
fn commands_of_a_leader_that_has_committed_nothing_are_noticed() {
    is_noticed(Mutation::CommandsUnsettled);
}
