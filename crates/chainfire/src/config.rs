//! Settings of the server, as `chainfire.toml` spells them.
//!
//! Order, lowest first: defaults, environment (`CHAINFIRE__SECTION__KEY`), file, command line. Names and defaults are
//! interfaces; the shipped sample `config/chainfire.toml` explains each.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::logs::{self, LogSettings};
use service::settings::{ByteSize, Error, Loaded, Loader};

use crate::auth::AuthSettings;

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Which cluster it belongs to.
    pub cluster: Cluster,
    /// Where it listens.
    pub network: Network,
    /// Where and how it stores.
    pub storage: Storage,
    /// How it agrees with others.
    pub raft: Raft,
    /// What clients may ask for.
    pub limits: Limits,
    /// What it tells etcd clients it is.
    pub compat: Compat,
    /// How it finds others.
    pub gossip: Gossip,
    /// Which tokens it gives.
    pub auth: AuthSettings,
    /// What it logs.
    pub log: LogSettings,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Unique in the cluster, not 0, never changed.
    pub id: u64,
    /// Shown to people and clients.
    pub name: String,
    /// A free label.
    pub role: String,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Peers with another id are refused.
    pub id: u64,
    /// May this node start a cluster?
    pub bootstrap: bool,
    /// The first members of a cluster of several nodes.
    pub initial_members: Vec<Member>,
}

/// One of `cluster.initial_members`: a table, or `"1=node1:2380"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "MemberForm")]
pub struct Member {
    /// Node id; 0 if what was written is not of the form `id=host:port`.
    pub id: u64,
    /// `host:port` of its Raft listener.
    pub peer_url: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MemberForm {
    Table { id: u64, peer_url: String },
    Text(String),
}

impl From<MemberForm> for Member {
    fn from(form: MemberForm) -> Member {
        match form {
            MemberForm::Table { id, peer_url } => Member { id, peer_url },
            MemberForm::Text(text) => {
                let (id, peer_url) = text.split_once('=').unwrap_or(("", &text));
                Member {
                    id: id.trim().parse().unwrap_or(0),
                    peer_url: peer_url.trim().to_owned(),
                }
            }
        }
    }
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Clients: gRPC, HTTP/JSON, metrics.
    pub api_addr: String,
    /// Other members.
    pub raft_addr: String,
    /// Other nodes.
    pub gossip_addr: String,
    /// What clients are told; empty: worked out from `api_addr`.
    pub advertise_api_url: String,
    /// What members are told; empty: worked out from `raft_addr`.
    pub advertise_raft_addr: String,
    /// Absent: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// `[network.tls]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM certificate of this node.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Whom to trust.
    pub ca_file: PathBuf,
    /// Must clients show a certificate?
    pub require_client_cert: bool,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The database lies directly in it.
    pub data_dir: PathBuf,
    /// One memory buffer.
    pub write_buffer_size: ByteSize,
    /// Memory buffers.
    pub max_write_buffer_number: u32,
    /// Cache of blocks read.
    pub block_cache_size: ByteSize,
    /// Level-0 files that start a compaction.
    pub level0_file_num_compaction_trigger: u32,
    /// 0 is off.
    pub bloom_filter_bits_per_key: u32,
    /// Files kept open.
    pub max_open_files: u32,
    /// Past the page cache.
    pub use_direct_io_for_flush_and_compaction: bool,
    /// At a time.
    pub max_background_compactions: u32,
    /// At a time.
    pub max_background_flushes: u32,
    /// Bytes in use at which only what frees space is taken; 0 is no limit.
    pub quota_backend_bytes: ByteSize,
    /// `periodic` or `revision`.
    pub auto_compaction_mode: AutoCompactionMode,
    /// An age such as `5m`, or a number of revisions; `0` keeps all.
    pub auto_compaction_retention: String,
}

/// What `auto_compaction_retention` counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoCompactionMode {
    /// Time.
    #[default]
    Periodic,
    /// Revisions.
    Revision,
}

/// `[raft]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raft {
    /// What this node asks for when it joins.
    pub role: RaftRole,
    /// Milliseconds of a tick.
    pub tick_interval_ms: u64,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader before an election, doubled at random.
    pub election_ticks: u32,
    /// Applied entries between two looks at what of the log can go.
    pub snapshot_entries: u64,
    /// Entries kept behind that for members that lag.
    pub snapshot_catchup_entries: u64,
    /// Bytes on the way to one member.
    pub max_inflight_bytes: ByteSize,
}

/// Voter or learner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftRole {
    /// Its vote counts.
    #[default]
    Voter,
    /// It only receives.
    Learner,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Of one request.
    pub max_request_bytes: ByteSize,
    /// In any list of a transaction.
    pub max_txn_ops: u32,
    /// 0 is no limit.
    pub max_watchers: u64,
    /// How long a request waits for its answer.
    pub request_timeout_ms: u64,
    /// In the cluster.
    pub max_learners: u32,
    /// Milliseconds between progress notices of a quiet watch; etcd's 10 minutes unless changed.
    pub watch_progress_interval_ms: u64,
}

/// `[compat]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compat {
    /// What `/version` and Status call the server.
    pub etcd_server_version: String,
    /// What they call the cluster.
    pub etcd_cluster_version: String,
}

/// `[gossip]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gossip {
    /// Extra `host:port` to try.
    pub seeds: Vec<String>,
    /// Never use UDP.
    pub tcp_only: bool,
}

impl Default for Node {
    fn default() -> Self {
        Node {
            id: 1,
            name: "chainfire-node-1".to_owned(),
            role: "control_plane".to_owned(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            id: 1,
            bootstrap: true,
            initial_members: Vec::new(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Network {
            api_addr: "0.0.0.0:2379".to_owned(),
            raft_addr: "0.0.0.0:2380".to_owned(),
            gossip_addr: "0.0.0.0:2381".to_owned(),
            advertise_api_url: String::new(),
            advertise_raft_addr: String::new(),
            tls: None,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        let store = store::Options::default();
        Storage {
            data_dir: PathBuf::from("/var/lib/chainfire"),
            write_buffer_size: ByteSize(store.write_buffer_size),
            max_write_buffer_number: store.max_write_buffer_number,
            block_cache_size: ByteSize(store.block_cache_size),
            level0_file_num_compaction_trigger: store.level0_file_num_compaction_trigger,
            bloom_filter_bits_per_key: store.bloom_filter_bits_per_key,
            max_open_files: store.max_open_files,
            use_direct_io_for_flush_and_compaction: store.use_direct_io_for_flush_and_compaction,
            max_background_compactions: store.max_background_compactions,
            max_background_flushes: store.max_background_flushes,
            quota_backend_bytes: ByteSize(8 << 30),
            auto_compaction_mode: AutoCompactionMode::Periodic,
            auto_compaction_retention: "0".to_owned(),
        }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Raft {
            role: RaftRole::Voter,
            tick_interval_ms: 100,
            heartbeat_ticks: 1,
            election_ticks: 10,
            snapshot_entries: 10_000,
            snapshot_catchup_entries: 5000,
            max_inflight_bytes: ByteSize(16 << 20),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_request_bytes: ByteSize(1_572_864),
            max_txn_ops: 128,
            max_watchers: 0,
            request_timeout_ms: 7000,
            max_learners: 1,
            watch_progress_interval_ms: 600_000,
        }
    }
}

impl Default for Compat {
    fn default() -> Self {
        Compat {
            etcd_server_version: "3.5.21".to_owned(),
            etcd_cluster_version: "3.5.0".to_owned(),
        }
    }
}

/// When old revisions are dropped without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Never.
    Keep,
    /// After this many milliseconds.
    Age(u64),
    /// Beyond this many revisions.
    Revisions(i64),
}

impl Storage {
    /// What the database is opened with.
    pub fn store_options(&self) -> store::Options {
        store::Options {
            write_buffer_size: self.write_buffer_size.bytes(),
            max_write_buffer_number: self.max_write_buffer_number,
            block_cache_size: self.block_cache_size.bytes(),
            level0_file_num_compaction_trigger: self.level0_file_num_compaction_trigger,
            bloom_filter_bits_per_key: self.bloom_filter_bits_per_key,
            max_open_files: self.max_open_files,
            use_direct_io_for_flush_and_compaction: self.use_direct_io_for_flush_and_compaction,
            max_background_compactions: self.max_background_compactions,
            max_background_flushes: self.max_background_flushes,
        }
    }

    /// The two auto-compaction keys together; `None` if the text is neither a number nor a duration that fits the mode.
    pub fn retention(&self) -> Option<Retention> {
        let text = self.auto_compaction_retention.trim();
        if text.is_empty() || text == "0" {
            return Some(Retention::Keep);
        }
        match self.auto_compaction_mode {
            AutoCompactionMode::Revision => text
                .parse()
                .ok()
                .filter(|count| *count > 0)
                .map(Retention::Revisions),
            // etcd reads a bare number as hours.
            AutoCompactionMode::Periodic => {
                if let Ok(hours) = text.parse::<u64>() {
                    return Some(Retention::Age(hours.checked_mul(3_600_000)?));
                }
                let age: service::settings::Millis = text.parse().ok()?;
                Some(Retention::Age(u64::try_from(age.duration().as_millis()).ok()?))
            }
        }
    }
}

impl Config {
    /// Reads `file` and the environment and checks everything that can be checked without touching anything.
    pub fn load(file: &Path) -> Result<Config, Error> {
        Config::checked(Config::loader().env("CHAINFIRE")?.file(file)?.load()?)
    }

    /// The same from a text, for tests and fuzzing; `name` stands for the file in messages.
    pub fn parse(name: &Path, text: &str) -> Result<Config, Error> {
        Config::checked(Config::loader().file_content(name, text)?.load()?)
    }

    fn loader() -> Loader<Config> {
        let mut example = Config::default();
        example.network.tls = Some(Tls::default());
        example.cluster.initial_members = vec![Member {
            id: 1,
            peer_url: String::new(),
        }];
        Loader::new().example(&example)
    }

    fn checked(loaded: Loaded<Config>) -> Result<Config, Error> {
        let config = &loaded.value;
        let refuse = |key: &str, expected: &str| Err(loaded.refuse(key, expected));
        if config.node.id == 0 {
            return refuse("node.id", "a number from 1 up, unique in the cluster");
        }
        if config.cluster.id == 0 {
            return refuse("cluster.id", "a number from 1 up");
        }
        let members = &config.cluster.initial_members;
        if members
            .iter()
            .any(|member| member.id == 0 || !is_host_port(&member.peer_url))
        {
            return refuse(
                "cluster.initial_members",
                "entries such as { id = 1, peer_url = \"node1:2380\" } or \"1=node1:2380\"",
            );
        }
        if config.cluster.bootstrap
            && !members.is_empty()
            && !members.iter().any(|member| member.id == config.node.id)
        {
            return refuse(
                "cluster.initial_members",
                "a list that has this node's own id, since bootstrap is true",
            );
        }
        if members.iter().any(|member| member.id != config.node.id) {
            return refuse(
                "cluster.initial_members",
                "this node alone: clusters of several nodes are not in this release",
            );
        }
        if config.network.tls.is_some() {
            return refuse("network.tls", "no such section: TLS is not in this release");
        }
        for (key, address) in [
            ("network.api_addr", &config.network.api_addr),
            ("network.raft_addr", &config.network.raft_addr),
            ("network.gossip_addr", &config.network.gossip_addr),
        ] {
            if !is_host_port(address) {
                return refuse(key, "host:port, for example 0.0.0.0:2379");
            }
        }
        if !(10..=1000).contains(&config.raft.tick_interval_ms) {
            return refuse("raft.tick_interval_ms", "10 to 1000");
        }
        if config.raft.heartbeat_ticks == 0 {
            return refuse("raft.heartbeat_ticks", "1 or more");
        }
        if config.raft.election_ticks <= config.raft.heartbeat_ticks {
            return refuse("raft.election_ticks", "more than raft.heartbeat_ticks");
        }
        if config.raft.snapshot_entries == 0 {
            return refuse("raft.snapshot_entries", "1 or more");
        }
        if config.limits.max_txn_ops == 0 {
            return refuse("limits.max_txn_ops", "1 or more");
        }
        if !(1024..=1 << 30).contains(&config.limits.max_request_bytes.bytes()) {
            return refuse("limits.max_request_bytes", "1KiB to 1GiB");
        }
        if config.limits.request_timeout_ms == 0 {
            return refuse("limits.request_timeout_ms", "1 or more");
        }
        if config.limits.watch_progress_interval_ms < 100 {
            return refuse("limits.watch_progress_interval_ms", "100 or more");
        }
        if config.storage.write_buffer_size.bytes() < 64 << 10 {
            return refuse("storage.write_buffer_size", "64KiB or more");
        }
        if config.storage.max_write_buffer_number < 2 {
            return refuse("storage.max_write_buffer_number", "2 or more");
        }
        if config.storage.retention().is_none() {
            let expected = match config.storage.auto_compaction_mode {
                AutoCompactionMode::Periodic => {
                    "a time such as \"5m\" or \"12h\", a number of hours, or \"0\""
                }
                AutoCompactionMode::Revision => "a number of revisions, or \"0\"",
            };
            return refuse("storage.auto_compaction_retention", expected);
        }
        if logs::check_level(&config.log.level).is_err() {
            return refuse("log.level", "error, warn, info, debug or trace");
        }
        Ok(loaded.value)
    }
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::AutoCompactionMode::{Periodic, Revision};
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("chainfire.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_sample_is_the_default_on_loopback() {
        let sample = include_str!("../../../config/chainfire.toml");
        let mut expected = Config::default();
        expected.network.api_addr = "127.0.0.1:2379".to_owned();
        expected.network.raft_addr = "127.0.0.1:2380".to_owned();
        expected.network.gossip_addr = "127.0.0.1:2381".to_owned();
        assert_eq!(parse(sample), Ok(expected.clone()));
        // Every line that shows a default must show the real one.
        let shown: String = sample
            .lines()
            .filter(|line| {
                !line.contains("tls]") && !line.contains("_file =") && !line.contains("require_client")
            })
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if setting.chars().next().is_some_and(char::is_alphabetic) => {
                    setting.to_owned() + "\n"
                }
                _ => line.to_owned() + "\n",
            })
            .collect();
        assert_eq!(parse(&shown), Ok(expected));
    }

    #[test]
    fn refusals_name_the_key_and_what_would_be_right() {
        for (text, parts) in [
            (
                "[storage]\nwrite_bufer_size = 1",
                ["storage.write_bufer_size", "write_buffer_size"],
            ),
            (
                "[raft]\ntick_interval_ms = 5",
                ["raft.tick_interval_ms", "10 to 1000"],
            ),
            ("[node]\nid = 0", ["node.id", "from 1 up"]),
            (
                "[network]\napi_addr = \"here\"",
                ["network.api_addr", "host:port"],
            ),
            (
                "[storage]\nauto_compaction_retention = \"soon\"",
                ["auto_compaction_retention", "5m"],
            ),
            (
                "[cluster]\ninitial_members = [\"2=node2:2380\"]",
                ["cluster.initial_members", "own id"],
            ),
            ("[log]\nlevel = \"loud\"", ["log.level", "error, warn, info"]),
        ] {
            let error = parse(text).expect_err(text);
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn retention_reads_hours_times_and_revisions() {
        let storage = |mode, text: &str| Storage {
            auto_compaction_mode: mode,
            auto_compaction_retention: text.to_owned(),
            ..Storage::default()
        };
        assert_eq!(storage(Periodic, "0").retention(), Some(Retention::Keep));
        assert_eq!(
            storage(Periodic, "2").retention(),
            Some(Retention::Age(7_200_000))
        );
        assert_eq!(storage(Periodic, "5m").retention(), Some(Retention::Age(300_000)));
        assert_eq!(
            storage(Revision, "1000").retention(),
            Some(Retention::Revisions(1000))
        );
        assert_eq!(storage(Revision, "5m").retention(), None);
    }
}
