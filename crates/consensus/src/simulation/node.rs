//! One member: a replica, the disk below it and the state machine above it.
//!
//! The journal is one file of records, one per write, each with its length and checksum; a crash may tear the last one, and starting drops a
//! torn end. The state machine is a handful of registers; it lives in memory, is written at checkpoints, and is otherwise rebuilt from
//! the log, as in a real server.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes};
use sim::{Disk, Full, Rng};

use crate::{
    Configuration, Entry, HardState, Incarnation, Index, Kind, Message, NodeId, Position, ReadId, Ready,
    Replica, Restored, Settings, Snapshot, Term,
};

const JOURNAL: &str = "journal";

/// Registers, and how they came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) registers: BTreeMap<u64, u64>,
    pub(super) applied: Index,
    pub(super) digest: u64,
}

/// What clients ask for. `Swap` stores `new` where `old` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Put { key: u64, value: u64 },
    Swap { key: u64, old: Option<u64>, new: u64 },
}

impl Command {
    pub(super) fn encode(self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Command::Put { key, value } => {
                out.put_u8(0);
                out.put_u64(key);
                out.put_u64(value);
            }
            Command::Swap { key, old, new } => {
                out.put_u8(1 + u8::from(old.is_some()));
                out.put_u64(key);
                out.put_u64(new);
                out.put_u64(old.unwrap_or(0));
            }
        }
        out.into()
    }

    fn decode(mut bytes: &[u8]) -> Command {
        let kind = bytes.get_u8();
        let (key, value) = (bytes.get_u64(), bytes.get_u64());
        match kind {
            0 => Command::Put { key, value },
            kind => Command::Swap {
                key,
                old: (kind == 2).then(|| bytes.get_u64()),
                new: value,
            },
        }
    }
}

impl Machine {
    /// Applies the next entry; true unless it was a swap that found something else.
    pub(super) fn apply(&mut self, entry: &Entry) -> bool {
        assert_eq!(
            entry.index,
            self.applied + 1,
            "entries are applied in order, each once"
        );
        self.applied = entry.index;
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        self.digest = self.digest.rotate_left(7) ^ u64::from(crc32c::crc32c(&bytes));
        if entry.kind != Kind::Command {
            return true;
        }
        match Command::decode(&entry.payload) {
            Command::Put { key, value } => {
                self.registers.insert(key, value);
                true
            }
            Command::Swap { key, old, new } => {
                let fits = self.registers.get(&key).copied() == old;
                if fits {
                    self.registers.insert(key, new);
                }
                fits
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.applied);
        out.put_u64(self.digest);
        out.put_u32(u32::try_from(self.registers.len()).unwrap());
        for (key, value) in &self.registers {
            out.put_u64(*key);
            out.put_u64(*value);
        }
    }

    fn decode(bytes: &mut Bytes) -> Machine {
        let (applied, digest) = (bytes.get_u64(), bytes.get_u64());
        let count = bytes.get_u32();
        Machine {
            registers: (0..count).map(|_| (bytes.get_u64(), bytes.get_u64())).collect(),
            applied,
            digest,
        }
    }
}

/// What a disk holds, as read from the journal.
#[derive(Debug, Default)]
struct Contents {
    hard: Option<HardState>,
    base: Snapshot,
    machine: Machine,
    entries: VecDeque<Entry>,
}

fn put_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot, machine: &Machine) {
    out.put_u64(snapshot.position.term.0);
    out.put_u64(snapshot.position.index);
    let configuration = snapshot.configuration.encode();
    out.put_u32(u32::try_from(configuration.len()).unwrap());
    out.put_slice(&configuration);
    machine.encode(out);
}

fn get_snapshot(bytes: &mut Bytes) -> (Snapshot, Machine) {
    let position = Position {
        term: Term(bytes.get_u64()),
        index: bytes.get_u64(),
    };
    let length = bytes.get_u32() as usize;
    let configuration = Configuration::decode(bytes.split_to(length)).expect("as written");
    let snapshot = Snapshot {
        position,
        configuration,
    };
    (snapshot, Machine::decode(bytes))
}

const DISCARD: u8 = 1;
const SNAPSHOT: u8 = 2;
const CUT: u8 = 4;

impl Contents {
    /// Reads a journal; returns how much of it is whole.
    fn read(journal: &[u8]) -> (Contents, usize) {
        let mut contents = Contents::default();
        let mut rest = journal;
        while rest.len() >= 8 {
            let (mut head, body) = rest.split_at(8);
            let (length, checksum) = (head.get_u32() as usize, head.get_u32());
            if body.len() < length || crc32c::crc32c(&body[..length]) != checksum {
                break;
            }
            contents.replay(Bytes::copy_from_slice(&body[..length]));
            rest = &body[length..];
        }
        (contents, journal.len() - rest.len())
    }

    fn replay(&mut self, mut record: Bytes) {
        let flags = record.get_u8();
        if flags & DISCARD != 0 {
            (self.base, self.machine) = (Snapshot::default(), Machine::default());
            self.entries.clear();
        }
        if flags & SNAPSHOT != 0 {
            (self.base, self.machine) = get_snapshot(&mut record);
            self.entries.clear();
        }
        if flags & CUT != 0 {
            (self.base, self.machine) = get_snapshot(&mut record);
            let cut = self.base.position.index;
            self.entries.retain(|entry| entry.index > cut);
        }
        for _ in 0..record.get_u32() {
            let index = (&record[..8]).get_u64();
            let entry = Entry::decode(index, &mut record).expect("the record is whole");
            self.write(entry);
        }
        let length = record.get_u32() as usize;
        if length > 0 {
            self.hard = Some(HardState::decode(&record.split_to(length)).expect("as written"));
        }
    }

    fn write(&mut self, entry: Entry) {
        while self.entries.back().is_some_and(|last| last.index >= entry.index) {
            self.entries.pop_back();
        }
        self.entries.push_back(entry);
    }
}

/// A write that waits for the disk, and what may be said after it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) messages: Vec<Message>,
    pub(super) sync: bool,
    /// The log may be cut off here once the checkpoint is written.
    pub(super) cut: Option<Index>,
}

/// Somebody who waits for an answer.
pub(super) type Ticket = u64;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) disk: Disk,
    pub(super) replica: Option<Replica>,
    /// How often it was started: events of an earlier run do not concern this one.
    pub(super) run: u64,
    pub(super) machine: Machine,
    /// What was written, as of now: the base, and entries after it.
    base: Snapshot,
    log: VecDeque<Entry>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) syncing: bool,
    /// Contents of snapshots that came with a message, or leave with one.
    pub(super) staged: BTreeMap<Position, Machine>,
    pub(super) writes: BTreeMap<Index, (Term, Ticket)>,
    pub(super) reads: BTreeMap<ReadId, Ticket>,
    pub(super) reads_ready: Vec<(Index, Ticket)>,
    /// The disk was put back from a copy and says so.
    pub(super) restored: bool,
    /// What the ledger was told to be committed here.
    pub(super) told: Index,
    pub(super) frozen_until: u64,
}

/// How an empty disk is to be taken.
#[derive(Debug, Clone)]
pub(super) enum Empty {
    /// The group is being formed; the lowest id writes the configuration.
    Bootstrap(Option<Configuration>),
    /// Nothing is known: recovering.
    Unknown,
}

impl Node {
    pub(super) fn new(id: NodeId) -> Node {
        Node {
            id,
            disk: Disk::default(),
            replica: None,
            run: 0,
            machine: Machine::default(),
            base: Snapshot::default(),
            log: VecDeque::new(),
            waiting: VecDeque::new(),
            syncing: false,
            staged: BTreeMap::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_ready: Vec::new(),
            restored: false,
            told: 0,
            frozen_until: 0,
        }
    }

    /// Starts from the disk. `life` is used if a new one is needed.
    pub(super) fn start(&mut self, settings: Settings, life: Incarnation, empty: Empty) -> Result<(), Full> {
        let journal = self.disk.read(JOURNAL);
        let (mut contents, whole) = Contents::read(&journal);
        if whole < journal.len() {
            self.disk.replace(JOURNAL, journal[..whole].to_vec())?;
        }
        let hard = match contents.hard.take() {
            Some(hard) if !self.restored => hard,
            found => {
                let (hard, entries) = match (found, empty) {
                    (Some(hard), _) => (hard.restored(life), Vec::new()),
                    (None, Empty::Unknown) => (HardState::new(life, true), Vec::new()),
                    (None, Empty::Bootstrap(None)) => (HardState::new(life, false), Vec::new()),
                    (None, Empty::Bootstrap(Some(configuration))) => {
                        let mut hard = HardState::new(life, false);
                        hard.term = Term(1);
                        let first = Entry {
                            index: 1,
                            term: Term(1),
                            kind: Kind::Configuration,
                            payload: configuration.encode(),
                        };
                        (hard, vec![first])
                    }
                };
                self.write_record(0, None, &entries, Some(&hard))?;
                contents.entries.extend(entries);
                self.restored = false;
                hard
            }
        };
        self.disk.synced(self.disk.pending());
        let replica = Replica::new(
            settings,
            Restored {
                hard_state: hard,
                base: contents.base.clone(),
                applied: contents.machine.applied,
                entries: contents.entries.iter().cloned(),
            },
        )
        .expect("what was written can be read");
        self.run += 1;
        self.told = replica.status().commit;
        self.replica = Some(replica);
        self.machine = contents.machine;
        self.base = contents.base;
        self.log = contents.entries;
        Ok(())
    }

    /// Power is lost.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.disk.crash(rng);
        self.replica = None;
        self.run += 1;
        self.waiting.clear();
        self.syncing = false;
        self.staged.clear();
        self.writes.clear();
        self.reads.clear();
        self.reads_ready.clear();
        self.frozen_until = 0;
    }

    /// All is lost.
    pub(super) fn wipe(&mut self) {
        self.disk.wipe();
        self.restored = false;
        self.log.clear();
        self.base = Snapshot::default();
        self.machine = Machine::default();
    }

    fn write_record(
        &mut self,
        flags: u8,
        snapshot: Option<(&Snapshot, &Machine)>,
        entries: &[Entry],
        hard: Option<&HardState>,
    ) -> Result<(), Full> {
        let mut body = vec![flags];
        if let Some((snapshot, machine)) = snapshot {
            put_snapshot(&mut body, snapshot, machine);
        }
        body.put_u32(u32::try_from(entries.len()).unwrap());
        for entry in entries {
            entry.encode(&mut body);
        }
        let hard = hard.map(HardState::encode).unwrap_or_default();
        body.put_u32(u32::try_from(hard.len()).unwrap());
        body.put_slice(&hard);
        let mut record = Vec::with_capacity(body.len() + 8);
        record.put_u32(u32::try_from(body.len()).unwrap());
        record.put_u32(crc32c::crc32c(&body));
        record.put_slice(&body);
        self.disk.append(JOURNAL, record)
    }

    /// Writes what must be written; what may be said after it waits.
    pub(super) fn write(&mut self, ready: &mut Ready) -> Result<(), Full> {
        if ready.must_write() {
            let installed = ready.snapshot.clone().map(|snapshot| {
                let content = self.staged.get(&snapshot.position).cloned();
                let content = content.expect("the content came with the message");
                (snapshot, content)
            });
            let flags =
                if ready.discard { DISCARD } else { 0 } | if installed.is_some() { SNAPSHOT } else { 0 };
            let snapshot = installed.as_ref().map(|(snapshot, content)| (snapshot, content));
            self.write_record(flags, snapshot, &ready.entries, ready.hard_state.as_ref())?;
            if ready.discard {
                self.log.clear();
                (self.base, self.machine) = (Snapshot::default(), Machine::default());
                self.told = 0;
                self.writes.clear();
                self.reads.clear();
                self.reads_ready.clear();
            }
            if let Some((snapshot, content)) = installed {
                self.log.clear();
                (self.base, self.machine) = (snapshot, content);
            }
            for entry in &ready.entries {
                while self.log.back().is_some_and(|last| last.index >= entry.index) {
                    self.log.pop_back();
                }
                self.log.push_back(entry.clone());
            }
        }
        self.waiting.push_back(Waiting {
            number: ready.number,
            messages: std::mem::take(&mut ready.messages_after),
            sync: ready.must_sync(),
            cut: None,
        });
        Ok(())
    }

    /// Writes the state as it is, so that the log can be cut off `keep` entries below it.
    pub(super) fn checkpoint(&mut self, keep: u64) -> Result<(), Full> {
        let cut = self.machine.applied.saturating_sub(keep);
        let described = self
            .replica
            .as_ref()
            .and_then(|replica| replica.describe_snapshot(cut));
        let Some(snapshot) = described.filter(|_| cut > self.base.position.index) else {
            return Ok(());
        };
        let machine = self.machine.clone();
        self.write_record(CUT, Some((&snapshot, &machine)), &[], None)?;
        let number = self.waiting.back().map_or(0, |waiting| waiting.number);
        self.waiting.push_back(Waiting {
            number,
            messages: Vec::new(),
            sync: true,
            cut: Some(cut),
        });
        self.base = snapshot;
        self.log.retain(|entry| entry.index > cut);
        Ok(())
    }

    /// The entry's position, as far as the log on disk goes.
    pub(super) fn position(&self, index: Index) -> Option<Position> {
        if index == self.base.position.index {
            return Some(self.base.position);
        }
        let at = index.checked_sub(self.base.position.index + 1)?;
        let entry = self.log.get(usize::try_from(at).ok()?)?;
        assert_eq!(entry.index, index, "the log has no holes");
        Some(entry.position())
    }

    /// Whether the log holds this position; what a checkpoint covers was committed here and is looked at elsewhere.
    pub(super) fn holds(&self, position: Position) -> bool {
        position.index < self.base.position.index || self.position(position.index) == Some(position)
    }

    /// Whether there is no entry, neither here nor on its way to the disk.
    pub(super) fn holds_nothing(&self) -> bool {
        self.base.position.index == 0 && self.log.is_empty()
    }

    pub(super) fn life(&self) -> Option<Incarnation> {
        self.replica.as_ref().map(|replica| replica.status().incarnation)
    }

    pub(super) fn entries(&self, from: Index, until: Index) -> Vec<Entry> {
        let wanted = self
            .log
            .iter()
            .filter(|entry| (from..=until).contains(&entry.index));
        wanted.cloned().collect()
    }
}
