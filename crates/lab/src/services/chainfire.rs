//! Chainfire as a service of the lab: its configuration file, ports and readiness.

use std::collections::BTreeMap;

use crate::topology::{ConfigFile, HostSpec, Program, Readiness, ServiceSpec, Topology};

/// Client API: gRPC, HTTP and metrics.
pub const API_PORT: u16 = 2379;
/// Raft between members.
pub const RAFT_PORT: u16 = 2380;
/// Gossip between nodes.
pub const GOSSIP_PORT: u16 = 2381;

/// One Chainfire server with this node number, forming a cluster of its own.
///
/// All three ports are the default ones on the host's address, so every command printed in a runbook works with
/// the address alone changed.
pub fn service(node_id: u64) -> ServiceSpec {
    ServiceSpec {
        name: "chainfire".into(),
        program: Program::Applet("chainfire".into()),
        args: vec!["--config".into(), "{config_dir}/chainfire.toml".into()],
        env: BTreeMap::new(),
        config: Some(ConfigFile {
            name: "chainfire.toml".into(),
            contents: config(node_id),
        }),
        ready: Readiness::Http {
            port: API_PORT,
            path: "/readyz".into(),
        },
        host_env: [
            ("CHAINFIRE_ENDPOINT", format!("http://{{address}}:{API_PORT}")),
            ("ETCDCTL_API", "3".to_owned()),
            ("ETCDCTL_ENDPOINTS", format!("http://{{address}}:{API_PORT}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        machine_config_dir: "/etc/centra-cloud".into(),
        machine_data_dir: "/var/lib/chainfire".into(),
    }
}

fn config(node_id: u64) -> String {
    format!(
        r#"# Written by the lab at every start; changes made here last until then.

[node]
id = {node_id}
name = "chainfire-node-{node_id}"

[cluster]
id = 1
bootstrap = true

[network]
api_addr = "{{address}}:{API_PORT}"
raft_addr = "{{address}}:{RAFT_PORT}"
gossip_addr = "{{address}}:{GOSSIP_PORT}"
advertise_api_url = "http://{{address}}:{API_PORT}"
advertise_raft_addr = "{{address}}:{RAFT_PORT}"

[storage]
data_dir = "{{data_dir}}"
"#
    )
}

/// The lab that `mainstay up` starts: one host, one Chainfire.
pub fn one_node() -> Topology {
    Topology {
        name: "mainstay".into(),
        hosts: vec![HostSpec {
            name: "node1".into(),
            services: vec![service(1)],
            packages: vec![],
        }],
    }
}
