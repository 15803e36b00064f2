//! What the settings must be beyond their types. Everything that is wrong is told at once.
//!
//! A check is not made on a value that is wrong already: its default stands in for it.

use std::net::SocketAddr;

use service::logs;
use service::settings::{Error, Loaded, Loader};

use super::{AutoCompactionMode, Config};

/// Loads and checks.
pub(super) fn checked(loader: Loader<Config>) -> Result<Loaded<Config>, Error> {
    let (loaded, wrong) = loader.load_all();
    let Some(loaded) = loaded else {
        return Err(Error::of_all(wrong).expect("settings that cannot be made have a mistake"));
    };
    let mut findings = Findings {
        loaded: &loaded,
        wrong,
    };
    let config = &loaded.value;
    identity(config, &mut findings);
    network(config, &mut findings);
    storage(config, &mut findings);
    raft(config, &mut findings);
    limits(config, &mut findings);
    match Error::of_all(findings.wrong) {
        Some(error) => Err(error),
        None => Ok(loaded),
    }
}

struct Findings<'a> {
    loaded: &'a Loaded<Config>,
    wrong: Vec<Error>,
}

impl Findings<'_> {
    /// Notes that `key` is not what is expected, unless it holds or the key is wrong already.
    fn want(&mut self, key: &str, holds: bool, expected: impl Into<String>) {
        if !holds && !self.is_wrong(key) {
            let refusal = self.loaded.refuse(key, expected);
            self.wrong.push(refusal);
        }
    }

    /// Whether the key, something in it, or a section around it is wrong already.
    fn is_wrong(&self, key: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.wrong
            .iter()
            .filter_map(Error::key)
            .any(|wrong| within(wrong, key) || within(key, wrong))
    }
}

fn identity(config: &Config, findings: &mut Findings<'_>) {
    findings.want(
        "node.id",
        config.node.id != 0,
        "a number from 1 up, unique in the cluster",
    );
    findings.want(
        "node.name",
        !config.node.name.trim().is_empty(),
        "a name, for example chainfire-node-1",
    );
    findings.want("cluster.id", config.cluster.id != 0, "a number from 1 up");
    let key = "cluster.initial_members";
    let members = &config.cluster.initial_members;
    findings.want(
        key,
        members
            .iter()
            .all(|member| member.id != 0 && is_host_port(&member.peer_url)),
        "entries such as { id = 1, peer_url = \"node1:2380\" } or \"1=node1:2380\"",
    );
    let id = config.node.id;
    if findings.is_wrong("node.id") {
        return;
    }
    findings.want(
        key,
        !config.cluster.bootstrap || members.is_empty() || members.iter().any(|member| member.id == id),
        "a list that has this node's own id, since bootstrap is true",
    );
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ids.dedup();
    findings.want(key, ids.len() == members.len(), "every id once");
    let mut addresses: Vec<&str> = members.iter().map(|member| member.peer_url.as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    findings.want(key, addresses.len() == members.len(), "every address once");
    let listens = match config.network.advertise_raft_addr.as_str() {
        "" => &config.network.raft_addr,
        advertised => advertised,
    };
    // Names may stand for anything; two different addresses are two places.
    let is_elsewhere = members
        .iter()
        .find(|member| member.id == id)
        .is_some_and(|member| {
            match (
                member.peer_url.parse::<SocketAddr>(),
                listens.parse::<SocketAddr>(),
            ) {
                (Ok(named), Ok(own)) => !own.ip().is_unspecified() && named != own,
                _ => false,
            }
        });
    findings.want(
        key,
        !is_elsewhere,
        format!("this node's own address under its id, which is {listens}"),
    );
}

fn network(config: &Config, findings: &mut Findings<'_>) {
    let network = &config.network;
    if let Some(tls) = &network.tls {
        for (key, path, example) in [
            ("network.tls.cert_file", &tls.cert_file, "chainfire-node-1.crt"),
            ("network.tls.key_file", &tls.key_file, "chainfire-node-1.key"),
        ] {
            let example = format!("a file, for example /etc/centra-cloud/certs/{example}");
            findings.want(key, !path.as_os_str().is_empty(), example);
        }
        findings.want(
            "network.tls.ca_file",
            !tls.require_client_cert || !tls.ca_file.as_os_str().is_empty(),
            "the file of the CA that signs clients' certificates, since network.tls.require_client_cert is true",
        );
    }
    let addresses = [
        ("network.api_addr", &network.api_addr, 2379),
        ("network.raft_addr", &network.raft_addr, 2380),
        ("network.gossip_addr", &network.gossip_addr, 2381),
    ];
    for (n, (key, address, port)) in addresses.into_iter().enumerate() {
        findings.want(
            key,
            is_host_port(address),
            format!("host:port, for example 0.0.0.0:{port}"),
        );
        for (other_key, other, _) in &addresses[..n] {
            if !findings.is_wrong(other_key) {
                findings.want(
                    key,
                    !meet(address, other),
                    format!("another port than {other_key} has, which is {other}"),
                );
            }
        }
    }
    let url = network.advertise_api_url.as_str();
    let bare = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    findings.want(
        "network.advertise_api_url",
        url.is_empty() || bare.is_some_and(is_host_port),
        "http://HOST:PORT, or nothing",
    );
    findings.want(
        "network.advertise_api_url",
        network.tls.is_none() || !url.starts_with("http://"),
        "https://HOST:PORT, or nothing, since there is a section [network.tls]",
    );
    findings.want(
        "network.advertise_raft_addr",
        network.advertise_raft_addr.is_empty() || is_host_port(&network.advertise_raft_addr),
        "HOST:PORT, or nothing",
    );
    findings.want(
        "gossip.seeds",
        config.gossip.seeds.iter().all(|seed| is_host_port(seed)),
        "a list of host:port, for example [\"node1:2381\"]",
    );
}

fn storage(config: &Config, findings: &mut Findings<'_>) {
    let storage = &config.storage;
    findings.want(
        "storage.data_dir",
        !storage.data_dir.as_os_str().is_empty(),
        "a directory, for example /var/lib/chainfire",
    );
    findings.want(
        "storage.write_buffer_size",
        storage.write_buffer_size.bytes() >= 64 << 10,
        "64KiB or more",
    );
    findings.want(
        "storage.max_write_buffer_number",
        storage.max_write_buffer_number >= 2,
        "2 or more",
    );
    for (key, value) in [
        (
            "level0_file_num_compaction_trigger",
            storage.level0_file_num_compaction_trigger,
        ),
        ("max_open_files", storage.max_open_files),
        ("max_background_compactions", storage.max_background_compactions),
        ("max_background_flushes", storage.max_background_flushes),
    ] {
        findings.want(&format!("storage.{key}"), value >= 1, "1 or more");
    }
    let retention = match storage.auto_compaction_mode {
        AutoCompactionMode::Periodic => "a time such as \"5m\" or \"12h\", a number of hours, or \"0\"",
        AutoCompactionMode::Revision => "a number of revisions, or \"0\"",
    };
    findings.want(
        "storage.auto_compaction_retention",
        storage.retention().is_some(),
        retention,
    );
}

fn raft(config: &Config, findings: &mut Findings<'_>) {
    let raft = &config.raft;
    findings.want(
        "raft.tick_interval_ms",
        (10..=1000).contains(&raft.tick_interval_ms),
        "10 to 1000",
    );
    findings.want("raft.heartbeat_ticks", raft.heartbeat_ticks >= 1, "1 or more");
    if !findings.is_wrong("raft.heartbeat_ticks") {
        findings.want(
            "raft.election_ticks",
            raft.election_ticks > raft.heartbeat_ticks,
            format!(
                "more than raft.heartbeat_ticks, which is {}",
                raft.heartbeat_ticks
            ),
        );
    }
    findings.want("raft.snapshot_entries", raft.snapshot_entries >= 1, "1 or more");
}

fn limits(config: &Config, findings: &mut Findings<'_>) {
    let limits = &config.limits;
    findings.want(
        "limits.max_request_bytes",
        (1024..=1 << 30).contains(&limits.max_request_bytes.bytes()),
        "1KiB to 1GiB",
    );
    findings.want("limits.max_txn_ops", limits.max_txn_ops >= 1, "1 or more");
    findings.want(
        "limits.request_timeout_ms",
        limits.request_timeout_ms >= 1,
        "1 or more",
    );
    findings.want(
        "limits.watch_progress_interval_ms",
        limits.watch_progress_interval_ms >= 100,
        "100 or more",
    );
    findings.want(
        "limits.lease_checkpoint_interval_ms",
        limits.lease_checkpoint_interval_ms >= 1000,
        "1000 or more",
    );
    for (key, version) in [
        ("compat.etcd_server_version", &config.compat.etcd_server_version),
        ("compat.etcd_cluster_version", &config.compat.etcd_cluster_version),
    ] {
        findings.want(key, is_version(version), "a version such as 3.5.0");
    }
    findings.want(
        "log.level",
        logs::check_level(&config.log.level).is_ok(),
        "error, warn, info, debug or trace",
    );
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether two listeners cannot have both addresses. Port 0 stands for any that is free.
fn meet(one: &str, other: &str) -> bool {
    let (Some((host, port)), Some((other_host, other_port))) = (one.rsplit_once(':'), other.rsplit_once(':'))
    else {
        return false;
    };
    let everywhere = |host: &str| matches!(host, "0.0.0.0" | "[::]");
    let port: Option<u16> = port.parse().ok();
    port == other_port.parse().ok()
        && port != Some(0)
        && (host == other_host || everywhere(host) || everywhere(other_host))
}

/// Three numbers, and whatever a pre-release adds.
fn is_version(text: &str) -> bool {
    let numbers = text.split('-').next().unwrap_or_default();
    numbers.split('.').count() == 3 && numbers.split('.').all(|part| part.parse::<u32>().is_ok())
}
