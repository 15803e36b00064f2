//! Settings of the server, as `chainfire.toml` spells them.
//!
//! Order, lowest first: defaults, environment (`CHAINFIRE__SECTION__KEY`), file, command line. Names and defaults are
//! interfaces; the comments of the fields are their documentation, which [`reference`] makes a page of. The shipped sample
//! `config/chainfire.toml` explains those that are changed most.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::logs::LogSettings;
use service::settings::{ByteSize, Error, Loaded, Loader};

use crate::auth::AuthSettings;

mod checks;
pub mod reference;

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
    /// Number of this node: unique in the cluster, not 0, and never changed, for the data directory remembers it.
    pub id: u64,
    /// Its name, as people and clients see it.
    pub name: String,
    /// A free label that other nodes see: `control_plane` or `worker`.
    pub role: String,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Number of the cluster, not 0. Nodes of another one are refused; the data directory remembers it.
    pub id: u64,
    /// Whether this node may start a new cluster. Must be false on a node that joins an existing one.
    pub bootstrap: bool,
    /// All first members of a new cluster, this node included, as `{ id = 1, peer_url = "node1:2380" }` or `"1=node1:2380"`. Empty
    /// for a single node.
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
    /// Where clients are served: gRPC, HTTP/JSON and metrics on one port.
    pub api_addr: String,
    /// Where other members are served, over TCP. Without `[network.tls]` whoever reaches it can do what a member can.
    pub raft_addr: String,
    /// Where gossip of other nodes is taken, over TCP, and over UDP too unless `gossip.tcp_only` is true or there is TLS.
    pub gossip_addr: String,
    /// Where clients are told to come, `http://HOST:PORT`, or `https://` with TLS. Empty: worked out from `api_addr`.
    pub advertise_api_url: String,
    /// Where members are told to come, `HOST:PORT`. Empty: worked out from `raft_addr`.
    pub advertise_raft_addr: String,
    /// Certificates, for TLS to clients. Absent: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// `[network.tls]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM certificate of this node, followed by intermediate ones if there are any. Files that change are read again without a
    /// restart; if the new ones are not good, the old ones stay in use.
    pub cert_file: PathBuf,
    /// PEM key of that certificate.
    pub key_file: PathBuf,
    /// PEM certificates of the authorities to trust. May be left out where clients show no certificates.
    pub ca_file: PathBuf,
    /// Whether clients must show a certificate that one of these authorities has signed. Its common name is the user of a request
    /// that has no token.
    pub require_client_cert: bool,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The directory of the data; the database lies directly in it.
    pub data_dir: PathBuf,
    /// Memory for writes before they go to disk. 64KiB or more.
    pub write_buffer_size: ByteSize,
    /// How many such buffers there may be. 2 or more.
    pub max_write_buffer_number: u32,
    /// Memory for data read from disk.
    pub block_cache_size: ByteSize,
    /// Files in level 0 that start a compaction.
    pub level0_file_num_compaction_trigger: u32,
    /// 10 makes reads of absent keys cheaper; 0 is off.
    pub bloom_filter_bits_per_key: u32,
    /// Files of the database kept open.
    pub max_open_files: u32,
    /// Whether the database writes past the page cache. For a disk of its own.
    pub use_direct_io_for_flush_and_compaction: bool,
    /// Compactions of files at a time.
    pub max_background_compactions: u32,
    /// Writes of full buffers at a time.
    pub max_background_flushes: u32,
    /// Bytes in use at which only reads, deletes and compactions are taken until space is freed; 0 is no limit.
    pub quota_backend_bytes: ByteSize,
    /// What `auto_compaction_retention` counts: `periodic` (time) or `revision`.
    pub auto_compaction_mode: AutoCompactionMode,
    /// Old revisions beyond this are dropped: an age such as `"5m"` (a bare number is hours), or a number of revisions; `"0"` keeps
    /// all.
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
    /// What this node asks for when it joins: `voter` or `learner`.
    pub role: RaftRole,
    /// Milliseconds of a tick, 10 to 1000. Slower ticks forgive a slow network; an absent leader is noticed later.
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
    /// Longest request, 1KiB to 1GiB.
    pub max_request_bytes: ByteSize,
    /// Operations in any list of a transaction.
    pub max_txn_ops: u32,
    /// Watches at a time; 0 is no limit.
    pub max_watchers: u64,
    /// Milliseconds that a request waits for its answer.
    pub request_timeout_ms: u64,
    /// Learners in the cluster at a time.
    pub max_learners: u32,
    /// Milliseconds between progress notices of a quiet watch, 100 or more. The default is etcd's 10 minutes.
    pub watch_progress_interval_ms: u64,
    /// Milliseconds after which the leader notes what is left of a lease that nobody renews, 1000 or more, so that the next leader
    /// does not start it anew. The default is etcd's 5 minutes.
    pub lease_checkpoint_interval_ms: u64,
}

/// `[compat]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compat {
    /// The version of etcd that `/version` and Status name to clients.
    pub etcd_server_version: String,
    /// The version that they name for the cluster.
    pub etcd_cluster_version: String,
}

/// `[gossip]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gossip {
    /// More `host:port` to greet; members are greeted anyway.
    pub seeds: Vec<String>,
    /// Whether gossip keeps off UDP. TCP alone is enough.
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
            lease_checkpoint_interval_ms: crate::lease::CHECKPOINT_EVERY_MS,
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
        Ok(Config::read(file)?.value)
    }

    /// The same, with the places where the settings were written.
    pub fn read(file: &Path) -> Result<Loaded<Config>, Error> {
        checks::checked(Config::loader().env("CHAINFIRE")?.file(file)?)
    }

    /// The same from a text, for tests and fuzzing; `name` stands for the file in messages.
    pub fn parse(name: &Path, text: &str) -> Result<Config, Error> {
        Ok(checks::checked(Config::loader().file_content(name, text)?)?.value)
    }

    fn loader() -> Loader<Config> {
        Loader::new().example(&Config::example())
    }

    /// Every key there is.
    fn example() -> Config {
        let mut example = Config::default();
        example.network.tls = Some(Tls::default());
        example.cluster.initial_members = vec![Member {
            id: 1,
            peer_url: String::new(),
        }];
        example
    }
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
    fn all_mistakes_are_told_at_once() {
        let text = "[node]\nid = 0\n[storage]\ndata_dir = \"\"\nmax_open_fils = 3\n[raft]\ntick_interval_ms = \"fast\"\n\
                    election_ticks = 0\n[network]\nraft_addr = \"0.0.0.0:2379\"\ngossip_addr = \"here\"\n";
        let error = Config::parse(Path::new("c.toml"), text).unwrap_err();
        let lines: Vec<String> = error.each().iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                r#"bad value 0 for "node.id" in c.toml line 2: expected a number from 1 up, unique in the cluster"#,
                r#"bad value "" for "storage.data_dir" in c.toml line 4: expected a directory, for example /var/lib/chainfire"#,
                r#"unknown key "storage.max_open_fils" in c.toml line 5: did you mean "max_open_files"?"#,
                r#"bad value "fast" for "raft.tick_interval_ms" in c.toml line 7: expected a whole number, not negative"#,
                r#"bad value 0 for "raft.election_ticks" in c.toml line 8: expected more than raft.heartbeat_ticks, which is 1"#,
                r#"bad value "0.0.0.0:2379" for "network.raft_addr" in c.toml line 10: expected another port than network.api_addr has, which is 0.0.0.0:2379"#,
                r#"bad value "here" for "network.gossip_addr" in c.toml line 11: expected host:port, for example 0.0.0.0:2381"#,
            ]
        );
    }

    #[test]
    fn ports_clash_only_where_addresses_meet() {
        let parsed = |api: &str, raft: &str| {
            parse(&format!(
                "[network]\napi_addr = \"{api}\"\nraft_addr = \"{raft}\"\n"
            ))
        };
        for (api, raft) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("127.0.0.1:1", "[::]:1"),
        ] {
            let error = parsed(api, raft).unwrap_err();
            assert!(
                error.contains("network.raft_addr") && error.contains("another port"),
                "{error}"
            );
        }
        for (api, raft) in [
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:1", "127.0.0.1:2"),
        ] {
            parsed(api, raft).unwrap();
        }
    }

    #[test]
    fn values_that_nothing_can_work_with_are_refused() {
        for (section, key, value) in [
            ("node", "name", "\"\""),
            ("network", "advertise_api_url", "\"node1:2379\""),
            ("network", "advertise_raft_addr", "\"node1\""),
            ("storage", "level0_file_num_compaction_trigger", "0"),
            ("storage", "max_background_compactions", "0"),
            ("storage", "max_background_flushes", "0"),
            ("storage", "max_open_files", "0"),
            ("storage", "auto_compaction_retention", "\"-5m\""),
            ("compat", "etcd_server_version", "\"new\""),
            ("compat", "etcd_cluster_version", "\"\""),
            ("gossip", "seeds", "[\"node1\"]"),
        ] {
            let error = parse(&format!("[{section}]\n{key} = {value}\n")).expect_err(key);
            assert!(
                error.contains(&format!("{section}.{key}")) && error.contains("expected"),
                "{error}"
            );
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
