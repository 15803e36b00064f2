//! Every metric of the server, under our names and those that etcd dashboards use.
//!
//! One value per server, so that two servers in one process do not share counters. Figures that others keep (sizes,
//! revisions, watches) are read when metrics are asked for, in [`Metrics::refresh`]'s caller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gossip::State;
use prometheus_client::encoding::EncodeLabelSet;
use service::metrics::{
    Counter, DISK_SECONDS, Family, FloatCounter, Gauge, Histogram, HistogramFamily, LATENCY_SECONDS,
};

/// `role` of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RoleLabel {
    /// leader, follower, learner or candidate.
    pub role: &'static str,
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NodeLabel {
    /// Its id.
    pub node_id: u64,
}

/// How it stands with nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// `alive`, `suspect` or `down`.
    pub state: &'static str,
}

/// Another member, as etcd labels it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ToLabel {
    /// Its id in hexadecimal.
    pub to: String,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// What went wrong, of a small set.
    pub reason: &'static str,
}

/// A file of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FileLabel {
    /// Its path.
    pub file: String,
}

/// Which call, as etcd's gRPC metrics name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// unary or bidi_stream and so on.
    pub grpc_type: &'static str,
    /// For example `etcdserverpb.KV`.
    pub grpc_service: String,
    /// For example `Put`.
    pub grpc_method: String,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandledLabels {
    /// As in [`CallLabels`].
    pub grpc_service: String,
    /// As in [`CallLabels`].
    pub grpc_method: String,
    /// The status code's name, `OK` for success.
    pub grpc_code: &'static str,
}

/// Handles of all metrics.
#[derive(Debug)]
pub struct Metrics {
    /// For encoding.
    pub registry: service::metrics::Metrics,
    /// From taking a write to its answer.
    pub write_duration: Histogram,
    fsync: Histogram,
    etcd_fsync: Histogram,
    apply: Histogram,
    etcd_commit: Histogram,
    entries_per_sync: Histogram,
    /// Index of the last log entry; exactly one role at a time.
    pub raft_index: Family<RoleLabel, Gauge>,
    raft_last: AtomicU64,
    replication_lag: Family<NodeLabel, Gauge>,
    peer_connected: Family<NodeLabel, Gauge>,
    gossip_nodes: Family<StateLabel, Gauge>,
    round_trip: HistogramFamily<ToLabel>,
    /// Term.
    pub raft_term: Gauge,
    /// 1 if there is a leader.
    pub has_leader: Gauge,
    etcd_has_leader: Gauge,
    /// Changes of leader seen.
    pub leader_changes: Counter,
    etcd_leader_changes: Counter,
    /// Commands on their way.
    pub proposals_pending: Gauge,
    etcd_pending: Gauge,
    proposals_committed: Gauge,
    etcd_committed: Gauge,
    etcd_applied: Gauge,
    /// Commands that got no answer.
    pub proposals_failed: Counter,
    etcd_failed: Counter,
    db_size: Gauge,
    etcd_db_size: Gauge,
    db_in_use: Gauge,
    etcd_db_in_use: Gauge,
    quota: Gauge,
    etcd_quota: Gauge,
    revision: Gauge,
    compacted: Gauge,
    watchers: Gauge,
    /// Watches that have to read from the store.
    slow_watchers: Gauge,
    leases: Gauge,
    stalls: FloatCounter,
    /// Started calls.
    pub grpc_started: Family<CallLabels, Counter>,
    /// Ended calls.
    pub grpc_handled: Family<HandledLabels, Counter>,
    /// How long calls took.
    pub grpc_seconds: HistogramFamily<CallLabels>,
    /// Connections that did not speak a protocol we know.
    pub bad_connections: Counter,
    /// Handshakes of TLS that came to nothing.
    pub tls_failures: Family<ReasonLabel, Counter>,
    /// When the certificate in use ends, in seconds since 1970. No series without TLS.
    pub certificate_not_after: Family<FileLabel, Gauge>,
}

/// What others keep and metrics show.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Index of the last log entry.
    pub raft_index: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Term.
    pub term: u64,
    /// Bytes on disk and in buffers.
    pub db_size: u64,
    /// Bytes of what can still be read.
    pub db_in_use: u64,
    /// 0 for none.
    pub quota: u64,
    /// Newest revision.
    pub revision: i64,
    /// Compaction point.
    pub compacted: i64,
    /// Live watches.
    pub watchers: usize,
    /// Watches that read from the store.
    pub slow_watchers: usize,
    /// Leases.
    pub leases: usize,
    /// Seconds that writers were held back.
    pub stall_seconds: f64,
}

impl Metrics {
    /// Registers everything.
    pub fn new(version: &str) -> Metrics {
        let registry = service::metrics::Metrics::new();
        registry.register_process();
        registry.register_build_info("chainfire_build_info", version);
        let m = &registry;
        let etcd = "As the metric of etcd with this name";
        let etcd_total = "As the metric of etcd with this name, a gauge there too in spite of its ending";
        Metrics {
            write_duration: m.register_histogram(
                "chainfire_write_duration_seconds",
                "Time from taking a write to its answer",
                LATENCY_SECONDS,
            ),
            fsync: m.register_histogram(
                "chainfire_wal_fsync_duration_seconds",
                "Time to write and sync one batch of the log",
                DISK_SECONDS,
            ),
            etcd_fsync: m.register_histogram("etcd_disk_wal_fsync_duration_seconds", etcd, DISK_SECONDS),
            apply: m.register_histogram(
                "chainfire_apply_duration_seconds",
                "Time to apply one batch of the log",
                DISK_SECONDS,
            ),
            etcd_commit: m.register_histogram(
                "etcd_disk_backend_commit_duration_seconds",
                etcd,
                DISK_SECONDS,
            ),
            entries_per_sync: m.register_histogram(
                "chainfire_log_entries_per_sync",
                "Commands that shared one sync",
                service::metrics::Buckets(&[
                    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
                ]),
            ),
            raft_index: m.register_gauges("chainfire_raft_index", "Index of the last log entry, by role"),
            raft_last: AtomicU64::new(0),
            replication_lag: m.register_gauges(
                "chainfire_raft_replication_lag",
                "Entries that a member is behind the leader, on the leader",
            ),
            peer_connected: m.register_gauges(
                "chainfire_peer_connected",
                "1 if there is a connection to the member",
            ),
            gossip_nodes: m.register_gauges(
                "chainfire_gossip_nodes",
                "Nodes that gossip knows, this one too, by state",
            ),
            round_trip: m.register_histograms(
                "etcd_network_peer_round_trip_time_seconds",
                etcd,
                LATENCY_SECONDS,
            ),
            raft_term: m.register_gauge("chainfire_raft_term", "Term"),
            has_leader: m.register_gauge("chainfire_has_leader", "1 if there is a leader"),
            etcd_has_leader: m.register_gauge("etcd_server_has_leader", etcd),
            leader_changes: m.register_counter("chainfire_leader_changes_total", "Changes of leader seen"),
            etcd_leader_changes: m.register_counter("etcd_server_leader_changes_seen_total", etcd),
            proposals_pending: m.register_gauge(
                "chainfire_proposals_pending",
                "Commands waiting for their outcome",
            ),
            etcd_pending: m.register_gauge("etcd_server_proposals_pending", etcd),
            proposals_committed: m
                .register_gauge("chainfire_proposals_committed", "Commands in the log so far"),
            // Totals that start where the log stands, so gauges by type. Dashboards know etcd's names and types, so promtool's
            // remark about the ending is answered here rather than followed.
            etcd_committed: m.register_gauge("etcd_server_proposals_committed_total", etcd_total),
            etcd_applied: m.register_gauge("etcd_server_proposals_applied_total", etcd_total),
            proposals_failed: m
                .register_counter("chainfire_proposals_failed_total", "Commands without outcome"),
            etcd_failed: m.register_counter("etcd_server_proposals_failed_total", etcd),
            db_size: m.register_gauge("chainfire_db_size_bytes", "Bytes on disk and in memory buffers"),
            etcd_db_size: m.register_gauge("etcd_mvcc_db_total_size_in_bytes", etcd),
            db_in_use: m.register_gauge(
                "chainfire_db_in_use_bytes",
                "Bytes of data that can still be read",
            ),
            etcd_db_in_use: m.register_gauge("etcd_mvcc_db_total_size_in_use_in_bytes", etcd),
            quota: m.register_gauge("chainfire_quota_bytes", "Bytes in use allowed; 0 is no limit"),
            etcd_quota: m.register_gauge("etcd_server_quota_backend_bytes", etcd),
            revision: m.register_gauge("chainfire_revision", "Newest revision"),
            compacted: m.register_gauge("chainfire_compacted_revision", "Compaction point"),
            watchers: m.register_gauge(
                "chainfire_watchers",
                "Watches that get their events as they happen",
            ),
            slow_watchers: m.register_gauge(
                "chainfire_slow_watchers",
                "Watches that read from the store to catch up",
            ),
            leases: m.register_gauge("chainfire_leases", "Leases"),
            stalls: m.register_float_counter(
                "chainfire_rocksdb_stall_seconds_total",
                "Seconds that writers waited for flush or compaction",
            ),
            grpc_started: m.register_counters("grpc_server_started_total", "Calls started"),
            grpc_handled: m.register_counters("grpc_server_handled_total", "Calls ended, by status code"),
            grpc_seconds: m.register_histograms(
                "grpc_server_handling_seconds",
                "How long calls took",
                LATENCY_SECONDS,
            ),
            bad_connections: m.register_counter(
                "chainfire_bad_connections_total",
                "Connections closed because what came in is no protocol served here",
            ),
            tls_failures: m.register_counters(
                "chainfire_tls_failures_total",
                "Handshakes of TLS that came to nothing, by reason",
            ),
            certificate_not_after: m.register_gauges(
                "chainfire_certificate_not_after_seconds",
                "When the certificate in use ends, in seconds since 1970",
            ),
            registry,
        }
    }

    /// One batch of the log is on disk.
    pub fn synced(&self, took: Duration, entries: usize) {
        self.fsync.observe(took.as_secs_f64());
        self.etcd_fsync.observe(took.as_secs_f64());
        self.entries_per_sync.observe(entries as f64);
    }

    /// One batch is applied.
    pub fn applied(&self, took: Duration, _entries: usize) {
        self.apply.observe(took.as_secs_f64());
        self.etcd_commit.observe(took.as_secs_f64());
    }

    /// A leader was seen that was not there before.
    pub fn leader_changed(&self) {
        self.leader_changes.inc();
        self.etcd_leader_changes.inc();
    }

    /// A command got no outcome.
    pub fn proposal_failed(&self) {
        self.proposals_failed.inc();
        self.etcd_failed.inc();
    }

    /// Takes over who is around.
    pub fn refresh_gossip(&self, around: &[gossip::Seen]) {
        for state in [State::Alive, State::Suspect, State::Down] {
            let nodes = around.iter().filter(|seen| seen.state == state).count();
            let label = StateLabel { state: state.name() };
            self.gossip_nodes
                .get_or_create(&label)
                .set(i64::try_from(nodes).unwrap_or(i64::MAX));
        }
    }

    /// Takes over how it stands with the other members.
    pub fn refresh_peers(&self, peers: &[peer::PeerStatus], view: &crate::raft::View) {
        self.replication_lag.clear();
        if view.leads() {
            let last = self.raft_last.load(Ordering::Relaxed);
            for (node, peer) in &view.peers {
                let lag = last.saturating_sub(peer.matched);
                let label = NodeLabel { node_id: node.0 };
                self.replication_lag
                    .get_or_create(&label)
                    .set(i64::try_from(lag).unwrap_or(i64::MAX));
            }
        }
        self.peer_connected.clear();
        for peer in peers {
            let label = NodeLabel { node_id: peer.node.0 };
            self.peer_connected
                .get_or_create(&label)
                .set(i64::from(peer.connected));
            if let Some(round_trip) = peer.round_trip {
                let label = ToLabel {
                    to: format!("{:x}", peer.node.0),
                };
                self.round_trip
                    .get_or_create(&label)
                    .observe(round_trip.as_secs_f64());
            }
        }
    }

    /// Takes over what others keep. `role` is this node's.
    pub fn refresh(&self, now: &Snapshot, role: &'static str, has_leader: bool) {
        let set = |gauges: &[&Gauge], value: u64| {
            for gauge in gauges {
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        };
        self.raft_index.clear();
        self.raft_last.store(now.raft_index, Ordering::Relaxed);
        set(
            &[&self.raft_index.get_or_create(&RoleLabel { role })],
            now.raft_index,
        );
        set(&[&self.raft_term], now.term);
        set(&[&self.has_leader, &self.etcd_has_leader], u64::from(has_leader));
        set(&[&self.proposals_committed, &self.etcd_committed], now.raft_index);
        set(&[&self.etcd_applied], now.applied_index);
        let pending = u64::try_from(self.proposals_pending.get()).unwrap_or(0);
        set(&[&self.etcd_pending], pending);
        set(&[&self.db_size, &self.etcd_db_size], now.db_size);
        set(&[&self.db_in_use, &self.etcd_db_in_use], now.db_in_use);
        set(&[&self.quota, &self.etcd_quota], now.quota);
        self.revision.set(now.revision);
        self.compacted.set(now.compacted);
        set(&[&self.watchers], now.watchers as u64);
        set(&[&self.slow_watchers], now.slow_watchers as u64);
        set(&[&self.leases], now.leases as u64);
        // Counted elsewhere since the start; here it is only shown.
        self.stalls
            .inner()
            .store(now.stall_seconds.to_bits(), Ordering::Relaxed);
    }
}
