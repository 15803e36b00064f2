//! What a keeper asks of its PostgreSQL.
//!
//! The keeper knows lock, record, goal and promise, and nothing of processes, files and SQL; whoever implements [`Database`] knows these and
//! nothing of the store. So the keeper is tested against a database that is a few fields, and the real one against a real server.
//!
//! All methods take `&self`: while one of them takes its time, a base backup for one, another task of the keeper may find that its time as
//! primary is over, and calls [`Database::stop`]. A stop has to get through at once whatever else goes on; what it interrupts fails.
//!
//! Whatever answers `Ok` is done and durable. After an error the keeper asks again at its next turn, so every method can be repeated.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Names, NodeId, Position};

/// What a PostgreSQL of ours is made of; it does not change while the keeper runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The data directory.
    pub pgdata: PathBuf,
    /// The folder that holds `postgres`, `initdb`, `pg_rewind` and the others.
    pub bindir: PathBuf,
    /// Where the Unix socket is.
    pub socket_dir: PathBuf,
    /// `listen_addresses`.
    pub listen: String,
    /// TCP port, also of the socket's name.
    pub port: u16,
    /// Under which other nodes reach this one.
    pub hostname: String,
    /// What `pg_hba.conf` is to demand of other nodes; nothing to leave that file alone.
    pub auth: Option<String>,
    /// `sslmode` of connections between nodes.
    pub sslmode: String,
    /// The application's role, made with the first node of a group.
    pub username: Option<String>,
    /// The application's database, made with the first node of a group.
    pub dbname: Option<String>,
    /// `pg_basebackup --max-rate`.
    pub maximum_backup_rate: Option<String>,
    /// `wal_sender_timeout` and `wal_receiver_timeout`.
    pub wal_timeout: Duration,
}

/// Another node's PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its number.
    pub node: NodeId,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: u16,
}

/// What PostgreSQL does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Running {
    /// No process of it is there.
    Not,
    /// In recovery.
    Standby {
        /// A process receives from an upstream at this moment.
        receiving: bool,
    },
    /// Takes writes, or will as soon as its crash recovery is over.
    Primary,
}

/// One look at PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub running: Running,
    /// Where its log ends: flushed on a primary, received and flushed (or replayed, if that is more) on a standby, the end of the last record
    /// when it is stopped. Nothing in an empty directory, or if it is not known at the moment.
    pub position: Option<Position>,
    /// Of its cluster; nothing in an empty directory.
    pub system_identifier: Option<u64>,
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// `fast`, with time for a checkpoint and for standbys to receive it.
    Clean,
    /// `fast` for so long, then every process is killed. Answers when none is left.
    Within(Duration),
    /// Every process is killed at once.
    Kill,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not work; another try may.
    #[error("{what}: {reason}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why it did not work, in one line.
        reason: String,
    },
    /// This directory is of another cluster than the group's.
    #[error("{pgdata} has the system identifier {here}; the group's is {there}")]
    OtherCluster {
        /// The directory.
        pgdata: String,
        /// What it holds.
        here: u64,
        /// What the upstream has.
        there: u64,
    },
}

impl Error {
    /// A failure, with its reason in one line.
    pub fn failed(what: &'static str, reason: impl fmt::Display) -> Error {
        let reason = reason.to_string();
        Error::Failed {
            what,
            reason: reason.trim().replace('\n', "; "),
        }
    }
}

/// PostgreSQL, as its keeper sees it.
pub trait Database: Send + Sync + 'static {
    /// What it does and where its log ends. Bounded to a few seconds; called every `keeper_interval`.
    fn status(&self) -> impl Future<Output = Result<Status, Error>> + Send;

    /// Answers when a PostgreSQL that was to run has ended by itself.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// Makes a cluster in an empty directory, with our settings, or puts our settings into the one there is. It does not run afterwards.
    fn create(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Names that are in the file: those that PostgreSQL has or would start with.
    fn names(&self) -> impl Future<Output = Result<Names, Error>> + Send;

    /// Starts it read-write with the names in its file, and answers when it takes writes. Nothing happens if it does already. The keeper
    /// calls this only while it holds the lock.
    fn serve(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Gives other nodes what they need to follow: entries in `pg_hba.conf`, a role, a slot for each; takes away slots of others.
    fn let_in(&self, others: &[Peer]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Puts names into the file, durably, reloads, and answers when no backend can acknowledge by other ones any more. If it does not run,
    /// the file is all there is to do.
    fn set_names(&self, names: &Names) -> impl Future<Output = Result<(), Error>> + Send;

    /// Where its log has been inserted up to now, on a primary: what [`Database::flushed`] is then asked for.
    fn inserted(&self) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Standbys that have flushed up to there, on a primary.
    fn flushed(&self, lsn: u64) -> impl Future<Output = Result<BTreeSet<NodeId>, Error>> + Send;

    /// Becomes or stays standby `me` of `upstream`, by whatever takes least: nothing, another upstream, `pg_rewind`, a base backup. Answers
    /// when it runs and follows. A cluster with another system identifier is refused.
    fn follow(&self, me: NodeId, upstream: &Peer) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes its upstream away, durably, sees that nothing receives any more, and answers where its log ends. It runs as a standby
    /// afterwards, if it can.
    fn cut(&self) -> impl Future<Output = Result<Position, Error>> + Send;

    /// Fetches the log up to there from another node that has been cut off, and is cut off again afterwards.
    fn fetch(
        &self,
        me: NodeId,
        from: &Peer,
        until: Position,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Answers when all that it has received has been replayed.
    fn replay(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends recovery and answers when it takes writes. Nothing happens if it does already. The keeper calls this only while it holds the lock.
    fn promote(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Answers when no process of it is left. After [`Stop::Clean`] it answers with where the log ends, if it did end cleanly; standbys that
    /// have everything are at that very position.
    fn stop(&self, how: Stop) -> impl Future<Output = Result<Option<Position>, Error>> + Send;
}
