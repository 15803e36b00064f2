//! From a data directory to a node that serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::{Buf, BufMut};
use prost::Message;
use service::SharedClock;
use service::clock::Stopwatch;
use store::{Batch, Durability, Store};
use tokio::sync::Notify;

use super::aftermath::Aftermath;
use super::{Node, VERSION, restore};
use crate::auth::{self, TokenProvider};
use crate::config::Config;
use crate::error::Error;
use crate::log::{self, HardState, Log};
use crate::metrics::Metrics;
use crate::mvcc::family;
use crate::pipeline::{EXIT_CORRUPT, Fatal, Parts, Pipeline, Retain};
use crate::state_machine::{Committed, StateMachine};
use crate::watch::Hub;
use crate::wire::logpb::command::Request;
use crate::wire::logpb::{Command, LeaderStarted};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory is another node's.
    #[error(
        "data directory belongs to node {node} of cluster {cluster}, config says node {config_node} of cluster {config_cluster}: {}",
        .path.display()
    )]
    NotOurs {
        /// The data directory.
        path: PathBuf,
        /// The node it belongs to.
        node: u64,
        /// That node's cluster.
        cluster: u64,
        /// What the settings say.
        config_node: u64,
        /// What the settings say.
        config_cluster: u64,
    },
    /// A joining node without data: there is nobody to join yet.
    #[error(
        "data directory {} is empty and cluster.bootstrap is false: joining a cluster is not in this release, set bootstrap = true to start a new one",
        .0.display()
    )]
    NothingToJoin(PathBuf),
    /// The data is not what was written.
    #[error("{reason}: the data is untouched; see `rocksdb_ldb --db={} repair`, which keeps what is readable, or restore a snapshot with `chainfire-client snapshot restore`", .path.display())]
    Corrupt {
        /// The data directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The settings of tokens cannot be used.
    #[error(transparent)]
    Auth(#[from] auth::SettingsError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Reading or replaying failed.
    #[error("start: {0}")]
    Failed(String),
}

impl StartError {
    /// Exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Corrupt { .. } => EXIT_CORRUPT,
            StartError::NotOurs { .. } | StartError::NothingToJoin(_) | StartError::Auth(_) => EXIT_REFUSED,
            // A full disk may have room again at the next start; a directory that is none, or another's, stays so.
            StartError::Store(error) if error.is_unusable() => EXIT_REFUSED,
            StartError::Store(_) | StartError::Failed(_) => 1,
        }
    }

    /// The settings to look at.
    pub fn keys(&self) -> Vec<&'static str> {
        match self {
            StartError::NotOurs {
                node,
                cluster,
                config_node,
                config_cluster,
                ..
            } => [
                ("node.id", node != config_node),
                ("cluster.id", cluster != config_cluster),
                ("storage.data_dir", true),
            ]
            .into_iter()
            .filter_map(|(key, wrong)| wrong.then_some(key))
            .collect(),
            StartError::NothingToJoin(_) => vec!["cluster.bootstrap", "storage.data_dir"],
            StartError::Store(_) => vec!["storage.data_dir"],
            StartError::Auth(error) => vec![error.key],
            StartError::Corrupt { .. } | StartError::Failed(_) => Vec::new(),
        }
    }
}

/// Exit code for settings or a directory that cannot be used.
const EXIT_REFUSED: u8 = service::exit::CONFIG;

/// Entries applied at a time when the log is replayed.
const REPLAY_ENTRIES: usize = 4096;

pub(crate) const IDENTITY: &[u8] = b"identity";

/// What the names of checkpoint directories in the data directory begin with.
pub(crate) const CHECKPOINT_PREFIX: &str = "checkpoint-";

impl Node {
    /// Opens the data directory, replays what the state lacks of the log, and starts the pipeline. `fail` is called once if
    /// the node later cannot go on.
    pub fn start(
        config: Config,
        clock: SharedClock,
        fail: Arc<dyn Fn(Fatal) + Send + Sync>,
    ) -> Result<Arc<Node>, StartError> {
        let path = config.storage.data_dir.clone();
        Node::open(config, clock, fail).map_err(|error| match error {
            StartError::Store(error) if error.is_corruption() => {
                tracing::error!(target: "chainfire_storage", "{error}");
                let reason = error.to_string();
                StartError::Corrupt { path, reason }
            }
            error => error,
        })
    }

    fn open(
        config: Config,
        clock: SharedClock,
        fail: Arc<dyn Fn(Fatal) + Send + Sync>,
    ) -> Result<Arc<Node>, StartError> {
        let dir = config.storage.data_dir.clone();
        let tokens = Arc::new(TokenProvider::new(&config.auth, auth::system_entropy())?);
        let store = Arc::new(Store::open(&dir, &config.storage.store_options(), family::ALL)?);
        for torn in store.torn_writes() {
            let (file, bytes) = (torn.file.as_str(), torn.bytes);
            tracing::warn!(target: "chainfire_storage", file, bytes, "Dropped a torn write at the end of the log, which nobody was told of");
        }
        claim(&store, &config, &dir)?;
        remove_checkpoints(&dir);

        let corrupt = |reason: String| StartError::Corrupt {
            path: dir.clone(),
            reason,
        };
        let machine = StateMachine::load(store.clone()).map_err(|error| corrupt(error.to_string()))?;
        let applied = machine.mvcc.applied_index();
        let unreadable = |error| match error {
            log::Error::Store(error) => StartError::Store(error),
            corrupted => {
                tracing::error!(target: "chainfire_storage", "{corrupted}");
                corrupt(corrupted.to_string())
            }
        };
        let mut log = Log::open(store.clone(), applied).map_err(unreadable)?;
        replay(&machine, &log, applied).map_err(|error| match error {
            ReplayError::Log(error) => unreadable(error),
            ReplayError::Apply(error @ Error::Damaged(_)) => corrupt(format!("replay the log: {error}")),
            ReplayError::Apply(error) => StartError::Failed(format!("replay the log: {error}")),
        })?;

        restore::first_start(&dir, machine.mvcc.revision())?;

        // Alone, a node wins its election by standing for it.
        let hard = log.hard_state();
        let term = hard.term + 1;
        log.set_hard_state(HardState {
            term,
            vote: config.node.id,
            commit: log.last(),
        })
        .map_err(|error| StartError::Failed(error.to_string()))?;

        let machine = Arc::new(machine);
        let hub = Arc::new(Hub::new(machine.mvcc.revision()));
        let metrics = Arc::new(Metrics::new(VERSION));
        machine.lessor.lock().lead(clock.now().millis());
        let publish = {
            let hub = hub.clone();
            Box::new(move |events, revision| hub.publish(events, revision))
        };
        let pipeline = Pipeline::start(Parts {
            log,
            term,
            machine: machine.clone(),
            publish,
            clock: clock.clone(),
            metrics: metrics.clone(),
            retain: Retain {
                every: config.raft.snapshot_entries,
                keep: config.raft.snapshot_catchup_entries,
            },
            fail,
        })
        .map_err(|error| StartError::Failed(format!("start threads: {error}")))?;
        tracing::info!(target: "chainfire_raft", term, "Leader elected");
        metrics.leader_changed();
        let started = Command {
            time_ms: clock.unix_ms(),
            internal: true,
            request: Some(Request::LeaderStarted(LeaderStarted {
                node_id: config.node.id,
            })),
            ..Command::default()
        };
        pipeline
            .propose(started)
            .map_err(|error| StartError::Failed(error.to_string()))?;
        Ok(Arc::new(Node {
            machine,
            hub,
            pipeline,
            aftermath: Arc::new(Aftermath::new(tokens.clone())),
            tokens,
            entropy: auth::system_entropy(),
            clock,
            metrics,
            store,
            term: AtomicU64::new(term),
            disk_full: AtomicBool::new(false),
            swept: Notify::new(),
            config,
        }))
    }
}

/// Checkpoints of snapshots that a crash cut short hold on to files that are no longer needed.
fn remove_checkpoints(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(CHECKPOINT_PREFIX)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(target: "chainfire_storage", error = %error, "Checkpoint not removed");
        }
    }
}

/// Checks that the directory is this node's, or makes it so if it is new.
fn claim(store: &Store, config: &Config, dir: &Path) -> Result<(), StartError> {
    let (node, cluster) = (config.node.id, config.cluster.id);
    if let Some(found) = identity(store, dir)? {
        if found != (node, cluster) {
            return Err(StartError::NotOurs {
                path: dir.to_owned(),
                node: found.0,
                cluster: found.1,
                config_node: node,
                config_cluster: cluster,
            });
        }
        if config.cluster.bootstrap {
            tracing::debug!(target: "chainfire_raft", "Data is there, so bootstrap is ignored");
        }
        return Ok(());
    }
    if !config.cluster.bootstrap {
        return Err(StartError::NothingToJoin(dir.to_owned()));
    }
    let mut batch = store.batch();
    set_identity(&mut batch, node, cluster);
    store.write(batch, Durability::Synced)?;
    Ok(())
}

/// Numbers of the node and the cluster that a directory belongs to; none if it is new.
pub(crate) fn identity(store: &Store, dir: &Path) -> Result<Option<(u64, u64)>, StartError> {
    let Some(bytes) = store.get(family::META, IDENTITY)? else {
        return Ok(None);
    };
    let mut bytes = bytes.as_ref();
    if bytes.len() != 16 {
        let reason = "read the node's identity: the database holds bytes that are none of ours".to_owned();
        return Err(StartError::Corrupt {
            path: dir.to_owned(),
            reason,
        });
    }
    Ok(Some((bytes.get_u64(), bytes.get_u64())))
}

pub(super) fn set_identity(batch: &mut Batch<'_>, node: u64, cluster: u64) {
    let mut identity = Vec::with_capacity(16);
    identity.put_u64(node);
    identity.put_u64(cluster);
    batch.put(family::META, IDENTITY, &identity);
}

/// Why the log could not be replayed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum ReplayError {
    Log(log::Error),
    Apply(Error),
}

/// Applies what the log has and the state lacks.
pub(super) fn replay(machine: &StateMachine, log: &Log, applied: u64) -> Result<(), ReplayError> {
    let lacking = log.last() - applied;
    if lacking == 0 {
        return Ok(());
    }
    let watch = Stopwatch::start();
    let mut group = Vec::with_capacity(REPLAY_ENTRIES);
    let mut outcome = Ok(());
    log.scan(applied + 1, &mut |entry| {
        let command = Command::decode(entry.payload).map_err(|_| log::Error::Corrupt {
            index: entry.index,
            reason: "payload",
        })?;
        group.push(Committed {
            index: entry.index,
            term: entry.term,
            command,
        });
        if group.len() >= REPLAY_ENTRIES && outcome.is_ok() {
            outcome = machine.apply(group.drain(..), 0, &mut drop).map(drop);
        }
        Ok(())
    })
    .map_err(ReplayError::Log)?;
    outcome.map_err(ReplayError::Apply)?;
    machine.apply(group, 0, &mut drop).map_err(ReplayError::Apply)?;
    tracing::info!(
        target: "chainfire_storage",
        entries = lacking,
        duration = format_args!("{}ms", watch.elapsed_ms()),
        "Log replayed"
    );
    Ok(())
}
