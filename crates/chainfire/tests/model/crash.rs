//! A node that crashes between any two steps has everything it acknowledged, at its revision, once.
//!
//! A crash is the data directory as it is at one instant, copied while the node lives and goes on: what the node has only in
//! memory is lost. (Dropping a node would not do: closing the database writes its memory to disk.) Writes that were under way
//! may be there or not, but only in their order and without gaps.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use chainfire::auth::Identity;
use chainfire::config::Config;
use chainfire::error::Error;
use chainfire::mvcc::family;
use chainfire::node::Node;
use chainfire::raft::Fatal;
use chainfire::wire::logpb::Command;
use chainfire::wire::logpb::command::Request;
use proptest::prelude::*;
use service::clock::ManualClock;
use service::settings::ByteSize;

use crate::agreement::{Checked, agree, agree_when_swept, unexpected};
use crate::generate::{self, resolve};
use crate::reference::{Reference, is_internal};

/// Room for the large values that fill memory buffers.
const REQUEST_BYTES: usize = 100 << 10;

const TXN_OPS: usize = 5;

/// Usual number of cases, enough for every kind of crash to be among them.
const CASES: u32 = 100;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Proposed at once, acknowledged before the next step.
    Write(Vec<Request>),
    Flush,
    /// So many steps of so many changes.
    Sweep {
        changes: usize,
        steps: usize,
    },
    /// With writes under way.
    Crash(Vec<Request>),
    /// An orderly stop and start.
    Restart,
}

/// Settings that decide when what is on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) write_buffer_size: u64,
    pub(crate) snapshot_entries: u64,
    pub(crate) snapshot_catchup_entries: u64,
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        5 => generate::value(),
        1 => (any::<u8>(), 10_000..60_000usize).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = (Settings, Vec<Step>)> {
    let commands = |most| prop::collection::vec(generate::command(value()), 0..most);
    let step = prop_oneof![
        12 => commands(6).prop_map(Step::Write),
        2 => Just(Step::Flush),
        2 => (1..5usize, 1..4usize).prop_map(|(changes, steps)| Step::Sweep { changes, steps }),
        5 => commands(4).prop_map(Step::Crash),
        1 => Just(Step::Restart),
    ];
    let settings = (
        prop_oneof![Just(64u64 << 10), Just(64u64 << 20)],
        1..6u64,
        0..4u64,
    )
        .prop_map(
            |(write_buffer_size, snapshot_entries, snapshot_catchup_entries)| Settings {
                write_buffer_size,
                snapshot_entries,
                snapshot_catchup_entries,
            },
        );
    (settings, prop::collection::vec(step, 1..16))
}

/// What crashes of a run met, so that a run that meets too little fails rather than proves nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    /// The log had to rebuild all or some of the state.
    replayed: u32,
    /// Some of the state was on disk.
    flushed: u32,
    /// The log no longer began at its first entry.
    shortened: u32,
    /// Of the writes under way some were there and some were not.
    parted: u32,
}

impl Met {
    fn note(&mut self, running: &Running) -> Checked {
        let store = &running.node.store;
        let flushed = running.node.machine.mvcc.flushed_index().map_err(unexpected)?;
        let mut log = store.cursor(family::LOG, None, None);
        log.seek_to_first();
        let first = log
            .entry()
            .and_then(|(key, _)| key.try_into().ok())
            .map(u64::from_be_bytes);
        // The entry with which a node begins to lead does not count.
        self.replayed += u32::from(flushed + 1 < running.node.machine.mvcc.applied_index());
        self.flushed += u32::from(flushed > 0);
        self.shortened += u32::from(first.is_some_and(|first| first > 1));
        Ok(())
    }
}

/// A running node in a directory of its own.
struct Running {
    node: Arc<Node>,
    directory: PathBuf,
    failed: Arc<parking_lot::Mutex<Option<Fatal>>>,
}

impl Running {
    fn start(directory: PathBuf, settings: Settings) -> Result<Running, TestCaseError> {
        let mut config = Config::default();
        config.storage.data_dir.clone_from(&directory);
        config.storage.write_buffer_size = ByteSize(settings.write_buffer_size);
        config.storage.block_cache_size = ByteSize(8 << 20);
        config.raft.snapshot_entries = settings.snapshot_entries;
        config.raft.snapshot_catchup_entries = settings.snapshot_catchup_entries;
        let failed = Arc::new(parking_lot::Mutex::new(None));
        let note = failed.clone();
        let fail = Arc::new(move |fatal| *note.lock() = Some(fatal));
        let node = Node::start(config, Arc::new(ManualClock::at(1_000_000)), fail).map_err(unexpected)?;
        Ok(Running {
            node,
            directory,
            failed,
        })
    }
}

type Listing = BTreeMap<PathBuf, (u64, SystemTime)>;

/// What is on disk now.
fn list(directory: &Path) -> std::io::Result<Listing> {
    let mut listing = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            listing.insert(entry.path(), (about.len(), about.modified()?));
        }
    }
    Ok(listing)
}

/// Copies a directory as of one instant: RocksDB's files only grow or stay, so if none did meanwhile the copy is of one
/// instant, and otherwise it is made again.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for _ in 0..1000 {
        let attempt = || -> std::io::Result<bool> {
            std::fs::create_dir(to)?;
            let before = list(from)?;
            for path in before.keys() {
                std::fs::copy(path, to.join(path.file_name().expect("a listed file has a name")))?;
            }
            Ok(list(from)? == before)
        };
        match attempt() {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // A file went away while it was copied.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        std::fs::remove_dir_all(to)?;
        std::thread::yield_now();
    }
    Err(std::io::Error::other("the directory never stood still"))
}

/// Makes requests what they mean now, dropping those that would never enter the log.
fn resolved(model: &Reference, requests: &[Request]) -> Vec<Request> {
    let mut resolved = Vec::new();
    for request in requests {
        let mut request = request.clone();
        resolve(&mut request, model.revision);
        if Reference::check(&request, TXN_OPS, REQUEST_BYTES).is_ok() {
            resolved.push(request);
        }
    }
    resolved
}

async fn write(running: &Running, model: &mut Reference, requests: &[Request]) -> Checked {
    let requests = resolved(model, requests);
    let nobody = Identity::nobody();
    // Proposed in this order, so applied in this order, some of them together.
    let replies = requests.iter().map(|request| async {
        if is_internal(request) {
            running.node.propose_internal(request.clone()).await
        } else {
            running.node.propose(request.clone(), &nobody).await
        }
    });
    let replies = futures::future::join_all(replies).await;
    for (request, reply) in requests.iter().zip(replies) {
        let wanted = model.apply(request).map(|reply| (reply, model.revision));
        prop_assert_eq!(reply, wanted, "{:?}", request);
    }
    Ok(())
}

/// Copies the directory while `requests` are under way. What may be in the copy: the model with the first so many of them.
fn crash(
    running: &Running,
    model: &Reference,
    requests: &[Request],
    to: &Path,
) -> Result<Vec<Reference>, TestCaseError> {
    let requests = resolved(model, requests);
    let mut under_way = Vec::new();
    for request in &requests {
        let command = Command {
            internal: is_internal(request),
            request: Some(request.clone()),
            ..Default::default()
        };
        under_way.push(running.node.raft.propose(command).map_err(unexpected)?);
    }
    let acknowledged = under_way
        .iter_mut()
        .filter_map(|reply| reply.try_recv().ok())
        .count();
    copy(&running.directory, to).map_err(unexpected)?;
    let mut possible = vec![model.clone()];
    for request in &requests {
        let mut next = possible.last().expect("the first is there").clone();
        drop(next.apply(request));
        possible.push(next);
    }
    possible.drain(..acknowledged);
    Ok(possible)
}

/// Plays `steps` on a node in `directory`.
pub(crate) fn run(directory: &Path, settings: Settings, steps: &[Step], met: &mut Met) -> Checked {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut model = Reference::default();
    let mut running = Running::start(directory.join("0"), settings)?;
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Write(requests) => runtime.block_on(write(&running, &mut model, requests))?,
            Step::Flush => running.node.store.flush().map_err(unexpected)?,
            Step::Sweep { changes, steps } => {
                let mut left = *steps;
                let mut pause = || {
                    left -= 1;
                    if left == 0 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                };
                let mvcc = &running.node.machine.mvcc;
                mvcc.sweep_in_steps(*changes, &mut pause).map_err(unexpected)?;
            }
            Step::Crash(requests) => {
                let to = directory.join((number + 1).to_string());
                let possible = crash(&running, &model, requests, &to)?;
                let from = std::mem::replace(&mut running, Running::start(to, settings)?);
                drop(from.node);
                std::fs::remove_dir_all(&from.directory).map_err(unexpected)?;
                met.note(&running)?;
                let node = &running.node;
                let mut disagreement = None;
                let most = possible.len() - 1;
                for (done, candidate) in possible.into_iter().enumerate() {
                    match agree(&node.machine, &node.store, &candidate) {
                        Ok(()) => {
                            disagreement = None;
                            met.parted += u32::from(done > 0 && done < most);
                            model = candidate;
                            break;
                        }
                        // That of the state without writes under way tells most.
                        Err(failure) => disagreement = disagreement.or(Some(failure)),
                    }
                }
                if let Some(failure) = disagreement {
                    return Err(failure);
                }
            }
            Step::Restart => {
                running.node.stop().map_err(unexpected)?;
                let Running { node, directory, .. } = running;
                drop(node);
                running = Running::start(directory, settings)?;
                agree(&running.node.machine, &running.node.store, &model)?;
            }
        }
        let failed = running.failed.lock().clone();
        prop_assert_eq!(failed, None, "after {:?}", step);
    }
    let node = &running.node;
    prop_assert_eq!(node.store.path(), running.directory.as_path());
    agree(&node.machine, &node.store, &model)?;
    agree_when_swept(&node.machine, &node.store, &model)?;
    prop_assert!(matches!(node.stop(), Ok(())));
    prop_assert_eq!(
        node.raft.propose(Command::default()).map(drop),
        Err(Error::Stopped),
        "a stopped node takes nothing"
    );
    Ok(())
}

#[test]
fn acknowledged_writes_survive_crashes_once() -> Result<(), String> {
    let met = std::cell::Cell::new(Met::default());
    crate::check(CASES, &steps(), |(settings, steps)| {
        let directory = tempfile::tempdir().map_err(unexpected)?;
        let mut so_far = met.get();
        let outcome = run(directory.path(), settings, &steps, &mut so_far);
        met.set(so_far);
        outcome
    })?;
    let met = met.get();
    println!("{met:?}");
    let enough = met.replayed > 0 && met.flushed > 0 && met.shortened > 0;
    if crate::cases(CASES).cases >= CASES && !enough {
        return Err(format!("the crashes met too little: {met:?}"));
    }
    Ok(())
}
