//! One running node: its state, its part in the group, and the chores that go on beside requests.

mod aftermath;
mod chores;
pub(crate) mod founding;
mod gossip;
mod leader;
mod peers;
pub(crate) mod restore;
mod start;
mod status;
mod together;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use consensus::Term;
use service::SharedClock;
use service::clock::Stopwatch;
use store::Store;
use tokio::sync::Notify;
use tokio::time::error::Elapsed;

use self::aftermath::Aftermath;
use crate::auth::{Entropy, Identity, TokenProvider};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::metrics::{Metrics, Snapshot};
use crate::mvcc::{Limits, Revision};
use crate::raft::Raft;
use crate::state_machine::{Outcome, Reply, StateMachine};
use crate::watch::{Hub, SessionSettings};
use crate::wire::etcdserverpb::{AlarmType, ResponseHeader};
use crate::wire::logpb::Command;
use crate::wire::logpb::command::Request;

pub use gossip::Port as GossipPort;
pub use peers::Peers;
pub use start::StartError;
pub(crate) use start::{CHECKPOINT_PREFIX, IDENTITY, identity};
pub use status::{is_learner, role_name};

/// A node. Servers and chores share one.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Node {
    /// Settings as read.
    pub config: Config,
    /// What the log has done.
    pub machine: Arc<StateMachine>,
    /// Who watches.
    pub hub: Arc<Hub>,
    /// This node's part in the group: the way of a write.
    pub raft: Arc<Raft>,
    /// The other members.
    pub peers: Arc<Peers>,
    /// Who else is around, once it has begun.
    gossip: OnceLock<::gossip::Gossip>,
    /// Who clients say they are.
    pub tokens: Arc<TokenProvider>,
    /// Random bytes.
    pub entropy: Entropy,
    /// Time.
    pub clock: SharedClock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The database, for sizes, checkpoints and manual compaction.
    pub store: Arc<Store>,
    /// Too little room on the file system to take writes.
    disk_full: AtomicBool,
    /// What applied commands change beside the database.
    aftermath: Arc<Aftermath>,
    /// The sweep has reached the compaction point.
    swept: Notify,
}

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Node {
    /// Id of this node.
    pub fn id(&self) -> u64 {
        self.config.node.id
    }

    /// The group's term, as this node knows it.
    pub fn term(&self) -> u64 {
        self.raft.term()
    }

    /// The header of a reply that shows `revision`.
    pub fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.config.cluster.id,
            member_id: self.id(),
            revision,
            raft_term: self.term(),
        }
    }

    /// What requests may ask for.
    pub fn limits(&self) -> Limits {
        Limits {
            request_bytes: self.config.limits.max_request_bytes.bytes() as usize,
            txn_ops: self.config.limits.max_txn_ops as usize,
        }
    }

    /// What watch sessions need to know.
    pub fn session_settings(&self) -> SessionSettings {
        SessionSettings {
            header: self.header(0),
            fragment_bytes: self.config.limits.max_request_bytes.bytes() as usize,
            progress_interval_ms: self.config.limits.watch_progress_interval_ms,
        }
    }

    /// Milliseconds on this node's own clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now().millis()
    }

    /// Where clients reach this node.
    pub fn client_url(&self) -> String {
        client_url(&self.config)
    }

    /// Where members reach this node, `host:port`.
    pub fn peer_address(&self) -> String {
        peer_address(&self.config)
    }

    /// Returns when everything acknowledged before the call can be read on this node.
    pub async fn read_barrier(&self) -> Result<()> {
        if self.raft.is_alone() {
            return Ok(());
        }
        self.settled_read().await
    }

    /// Sends a command through the log and waits for its outcome.
    pub async fn propose(&self, request: Request, identity: &Identity) -> Result<(Reply, Revision)> {
        self.send(request, identity.clone(), false).await
    }

    /// The same for a command of the store itself, which no permission governs.
    pub async fn propose_internal(&self, request: Request) -> Result<(Reply, Revision)> {
        self.send(request, Identity::nobody(), true).await
    }

    /// Sends what this node decided as the leader of `term` through the log. Unlike everything else it is never passed on: when
    /// somebody else leads, the decision is theirs, and what was right here may be wrong there.
    async fn decide(&self, term: Term, request: Request) -> Result<()> {
        let command = self.command(request, Identity::nobody(), true);
        let pending = Pending::count(&self.metrics);
        let decided = async {
            let outcome = self.raft.propose_in(Some(term), command)?;
            outcome.await.map_err(|_| Error::Stopped)
        };
        let outcome = tokio::time::timeout(self.request_limit(), decided).await;
        self.finish(outcome, &pending).map(drop)
    }

    async fn send(&self, request: Request, identity: Identity, internal: bool) -> Result<(Reply, Revision)> {
        let command = self.command(request, identity, internal);
        let pending = Pending::count(&self.metrics);
        let outcome = tokio::time::timeout(self.request_limit(), self.carry_out(command)).await;
        self.finish(outcome, &pending)
    }

    /// How long a request may take.
    fn request_limit(&self) -> Duration {
        Duration::from_millis(self.config.limits.request_timeout_ms)
    }

    fn command(&self, request: Request, identity: Identity, internal: bool) -> Command {
        Command {
            time_ms: self.clock.unix_ms(),
            user: identity.user,
            auth_revision: identity.auth_revision,
            internal,
            request: Some(request),
            ..Command::default()
        }
    }

    /// What a command has come to, if it has in time.
    fn finish(
        &self,
        outcome: std::result::Result<Result<Outcome>, Elapsed>,
        pending: &Pending<'_>,
    ) -> Result<(Reply, Revision)> {
        let Outcome { reply, revision, .. } = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                if error == Error::Stopped {
                    self.metrics.proposal_failed();
                }
                return Err(error);
            }
            Err(_) => {
                self.metrics.proposal_failed();
                return Err(self.timed_out());
            }
        };
        self.metrics
            .write_duration
            .observe(pending.since.elapsed_seconds());
        Ok((reply?, revision))
    }

    /// Gets a command into the log, through whoever leads, and waits for what it does here.
    async fn carry_out(&self, command: Command) -> Result<Outcome> {
        if self.raft.is_alone() {
            return self.raft.propose(command)?.await.map_err(|_| Error::Stopped);
        }
        self.through_leader(command).await
    }

    /// Why nothing was heard in time, in etcd's words.
    fn timed_out(&self) -> Error {
        if self.raft.view().leader.is_none() {
            return Error::NoLeader;
        }
        Error::Timeout
    }

    /// Refuses what takes space when there is none: over the quota, or on a full disk. Going over the quota raises the alarm.
    pub async fn check_space(&self, bytes: u64) -> Result<()> {
        if self.disk_full.load(Ordering::Acquire) || self.machine.has_alarm(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        let quota = self.config.storage.quota_backend_bytes.bytes();
        if quota > 0 && self.machine.mvcc.bytes_in_use().saturating_add(bytes) > quota {
            self.raise_alarm(AlarmType::Nospace).await?;
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// True if writes are refused for want of room on the file system, whether or not an alarm says so: below the reserve, or
    /// when the store met a full disk and has to be opened anew.
    pub fn refuses_writes(&self) -> bool {
        self.disk_full.load(Ordering::Acquire) || self.raft.is_halted()
    }

    /// A random number that names something for a while.
    pub fn entropy_id(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        (self.entropy)(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Waits until the sweep has reached the compaction point.
    pub async fn swept(&self) {
        loop {
            let swept = self.swept.notified();
            if self.machine.mvcc.is_swept() {
                return;
            }
            swept.await;
        }
    }

    /// Figures for metrics and status.
    pub fn snapshot(&self) -> Snapshot {
        let mvcc = &self.machine.mvcc;
        Snapshot {
            raft_index: self.raft.appended(),
            applied_index: self.raft.applied(),
            term: self.term(),
            db_size: self.store.sizes().total,
            db_in_use: mvcc.bytes_in_use(),
            quota: self.config.storage.quota_backend_bytes.bytes(),
            revision: mvcc.revision(),
            compacted: mvcc.compacted(),
            watchers: self.hub.len(),
            slow_watchers: self.hub.behind(),
            leases: self.machine.lessor.lock().len(),
            stall_seconds: self.store.write_stalls().total_micros as f64 / 1e6,
        }
    }

    /// Stops taking commands, finishes those under way, and writes everything to disk so that the next start is short.
    pub fn stop(&self) -> Result<()> {
        self.raft.stop();
        self.store.flush()?;
        self.store.stop_background_work();
        Ok(())
    }
}

/// A command on its way, counted as such also if its client does not wait for the end.
struct Pending<'a> {
    metrics: &'a Metrics,
    since: Stopwatch,
}

impl<'a> Pending<'a> {
    fn count(metrics: &'a Metrics) -> Pending<'a> {
        metrics.proposals_pending.inc();
        Pending {
            metrics,
            since: Stopwatch::start(),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.metrics.proposals_pending.dec();
    }
}

/// Where clients reach a node with these settings.
fn client_url(config: &Config) -> String {
    match config.network.advertise_api_url.as_str() {
        "" => {
            let scheme = if config.network.tls.is_some() {
                "https"
            } else {
                "http"
            };
            format!("{scheme}://{}", reachable(&config.network.api_addr))
        }
        url => url.to_owned(),
    }
}

/// Where members reach a node with these settings, `host:port`.
fn peer_address(config: &Config) -> String {
    match config.network.advertise_raft_addr.as_str() {
        "" => reachable(&config.network.raft_addr),
        address => address.to_owned(),
    }
}

/// An address others can use: the wildcard stands for this machine's name.
fn reachable(address: &str) -> String {
    let Some((host, port)) = address.rsplit_once(':') else {
        return address.to_owned();
    };
    if matches!(host, "0.0.0.0" | "[::]" | "") {
        let name = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok());
        return format!("{}:{port}", name.unwrap_or_else(|| "localhost".to_owned()));
    }
    address.to_owned()
}
