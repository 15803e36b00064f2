//! From a data directory to a node that serves.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BufMut};
use consensus::{Configuration, GroupId, HardState, Incarnation, Kind, NodeId, Replica, Restored, Term};
use prost::Message as _;
use service::SharedClock;
use service::clock::Stopwatch;
use store::{Batch, Durability, Store};
use tokio::sync::Notify;

use super::aftermath::Aftermath;
use super::together::Together;
use super::{Node, Peers, VERSION, founding, restore};
use crate::auth::{self, TokenProvider};
use crate::config::Config;
use crate::error::Error;
use crate::log::{self, Log};
use crate::metrics::Metrics;
use crate::mvcc::family;
use crate::raft::{EXIT_CORRUPT, Fatal, Parts, Raft, Retain, UNAPPLIED_BYTES_MAX, finish_interrupted};
use crate::state_machine::{Committed, Outcome, StateMachine};
use crate::watch::Hub;
use crate::wire::logpb::Command;

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
            StartError::NotOurs { .. } | StartError::Auth(_) => EXIT_REFUSED,
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
    /// Opens the data directory, replays what the state lacks of the log, and takes up this node's part in the group. `fail`
    /// is called once if the node later cannot go on. Nobody is talked to before [`Node::connect`].
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
        let entropy = auth::system_entropy();
        let tokens = Arc::new(TokenProvider::new(&config.auth, entropy.clone())?);
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
        let unreadable = |error| match error {
            log::Error::Store(error) => StartError::Store(error),
            corrupted => {
                tracing::error!(target: "chainfire_storage", "{corrupted}");
                corrupt(corrupted.to_string())
            }
        };
        finish_interrupted(&store).map_err(unreadable)?;
        super::peers::remove_staged(&store, &[]);
        let machine = StateMachine::load(store.clone()).map_err(|error| corrupt(error.to_string()))?;
        let mut log = Log::open(store.clone(), machine.mvcc.applied_index()).map_err(unreadable)?;
        let node = NodeId(config.node.id);
        let has_group = founding::Group::load(&store).map_err(unreadable)?.is_some();
        let hard_state = match log.hard_state().map_err(unreadable)? {
            None if log.last() > 0 => return Err(corrupt("the hard state is missing".to_owned())),
            None => begin(&store, &mut log, &config, &clock, &entropy)?,
            // Started before, with other settings, and never met anybody.
            Some(hard_state) if log.last() == 0 && hard_state.term == Term(0) && !has_group => {
                if restore::is_marked(&dir) {
                    begin(&store, &mut log, &config, &clock, &entropy)?
                } else {
                    begin_with(&store, &mut log, &config, hard_state.incarnation)?
                }
            }
            Some(hard_state) => {
                let restored =
                    restore::is_marked(&dir) && !founding::is_sole(&log, node).map_err(unreadable)?;
                if restored {
                    let life = founding::draw_life(&clock, &entropy).map_err(failed)?;
                    let hard_state = hard_state.restored(life);
                    log.write(&[], Some(&hard_state)).map_err(unreadable)?;
                    hard_state
                } else {
                    hard_state
                }
            }
        };
        let known = hard_state.commit.min(log.last());
        replay(&machine, &log, known).map_err(|error| match error {
            ReplayError::Log(error) => unreadable(error),
            ReplayError::Apply(error @ Error::Damaged(_)) => corrupt(format!("replay the log: {error}")),
            ReplayError::Apply(error) => StartError::Failed(format!("replay the log: {error}")),
        })?;
        restore::first_start(&dir, machine.mvcc.revision())?;

        let mut entries = Vec::new();
        log.scan(log.first(), &mut |entry| {
            entries.push(entry);
            Ok(())
        })
        .map_err(unreadable)?;
        let mut seed = [0; 8];
        entropy(&mut seed).map_err(failed)?;
        let restored = Restored {
            hard_state,
            base: log.base().clone(),
            applied: machine.mvcc.applied_index(),
            entries,
        };
        let settings = consensus_settings(&config, u64::from_be_bytes(seed));
        let replica = Replica::new(settings, restored).map_err(|error| corrupt(error.to_string()))?;

        let machine = Arc::new(machine);
        let hub = Arc::new(Hub::new(machine.mvcc.revision()));
        let metrics = Arc::new(Metrics::new(VERSION));
        let aftermath = Arc::new(Aftermath::new(tokens.clone(), clock.clone()));
        let publish = {
            let hub = hub.clone();
            Box::new(move |events, revision| hub.publish(events, revision))
        };
        let replaced = {
            let (hub, aftermath) = (hub.clone(), aftermath.clone());
            Box::new(move |revision| {
                hub.leap(revision);
                aftermath.see_to_everything();
            })
        };
        let role_changed = {
            let (machine, aftermath, clock) = (machine.clone(), aftermath.clone(), clock.clone());
            Box::new(move |leads| {
                // Leases run out by the leader's clock and by no other.
                let mut lessor = machine.lessor.lock();
                if leads {
                    lessor.lead(clock.now().millis());
                } else {
                    lessor.follow();
                }
                drop(lessor);
                aftermath.see_to_everything();
            })
        };
        let applied = {
            let aftermath = aftermath.clone();
            Box::new(move |outcome: &Outcome| aftermath.see_to(outcome))
        };
        let group = founding::Group::load(&store).map_err(unreadable)?;
        let together = Together::load(&store).map_err(unreadable)?;
        let peers = Arc::new(Peers::new(&config, store.clone(), group, together));
        let raft = Raft::start(Parts {
            replica,
            log,
            node,
            machine: machine.clone(),
            store: store.clone(),
            staged: peers.staged.clone(),
            network: peers.clone(),
            publish,
            applied,
            role_changed,
            replaced,
            clock: clock.clone(),
            tick: Duration::from_millis(config.raft.tick_interval_ms),
            metrics: metrics.clone(),
            retain: Retain {
                every: config.raft.snapshot_entries,
                keep: config.raft.snapshot_catchup_entries,
            },
            unapplied_bytes_max: UNAPPLIED_BYTES_MAX,
            fail,
        })
        .map_err(unreadable)?;
        Ok(Arc::new(Node {
            machine,
            hub,
            raft: Arc::new(raft),
            peers,
            gossip: OnceLock::new(),
            aftermath,
            tokens,
            entropy,
            clock,
            metrics,
            store,
            disk_full: AtomicBool::new(false),
            swept: Notify::new(),
            config,
        }))
    }
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Failed(error.to_string())
}

/// The first start in a new directory.
fn begin(
    store: &Store,
    log: &mut Log,
    config: &Config,
    clock: &SharedClock,
    entropy: &auth::Entropy,
) -> Result<HardState, StartError> {
    let life = founding::draw_life(clock, entropy).map_err(failed)?;
    begin_with(store, log, config, life)
}

fn begin_with(
    store: &Store,
    log: &mut Log,
    config: &Config,
    life: Incarnation,
) -> Result<HardState, StartError> {
    if founding::begins_alone(config) {
        let context = founding::own_context(
            config,
            &super::peer_address(config),
            &super::client_url(config),
            false,
        );
        let first = Configuration::of_voters([(NodeId(config.node.id), life, context)]);
        return founding::found(store, log, first, life).map_err(failed);
    }
    let hard_state = HardState::new(life, true);
    log.write(&[], Some(&hard_state)).map_err(failed)?;
    Ok(hard_state)
}

/// The group that holds the keys. A process may take part in many; this one is the only one here.
const GROUP: GroupId = GroupId(1);

/// Bytes of entries kept in memory after they are applied, for members that lag a little.
const CACHE_BYTES: usize = 16 << 20;

fn consensus_settings(config: &Config, seed: u64) -> consensus::Settings {
    let raft = &config.raft;
    consensus::Settings {
        heartbeat_ticks: raft.heartbeat_ticks,
        election_ticks: raft.election_ticks,
        election_spread_ticks: raft.election_ticks,
        inflight_bytes_max: usize::try_from(raft.max_inflight_bytes.bytes()).unwrap_or(usize::MAX),
        cache_bytes_max: CACHE_BYTES,
        ..consensus::Settings::new(GROUP, NodeId(config.node.id), seed)
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

/// Applies what the log has and the state lacks, up to `until`.
pub(super) fn replay(machine: &StateMachine, log: &Log, until: u64) -> Result<(), ReplayError> {
    let applied = machine.mvcc.applied_index();
    let lacking = until.saturating_sub(applied);
    if lacking == 0 {
        return Ok(());
    }
    let watch = Stopwatch::start();
    let mut group = Vec::with_capacity(REPLAY_ENTRIES);
    let mut outcome = Ok(());
    log.scan(applied + 1, &mut |entry| {
        if entry.index > until {
            return Ok(());
        }
        let index = entry.index;
        let command = match entry.kind {
            Kind::Command => Command::decode(entry.payload).map_err(|_| log::Error::Corrupt {
                index,
                reason: "payload",
            })?,
            Kind::Blank | Kind::Configuration => Command::default(),
        };
        group.push(Committed {
            index,
            term: entry.term.0,
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
