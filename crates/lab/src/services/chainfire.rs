//! Chainfire as a service of the lab: its configuration file, ports and readiness, and the labs made of it.

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
    member(node_id, &[])
}

/// One member of the cluster that these hosts form, of which the first is node 1; none for a cluster of its own.
fn member(node_id: u64, hosts: &[String]) -> ServiceSpec {
    let endpoints: Vec<String> = if hosts.is_empty() {
        vec![format!("http://{{address}}:{API_PORT}")]
    } else {
        hosts
            .iter()
            .map(|host| format!("http://{{address:{host}}}:{API_PORT}"))
            .collect()
    };
    ServiceSpec {
        name: "chainfire".into(),
        program: Program::Applet("chainfire".into()),
        args: vec!["--config".into(), "{config_dir}/chainfire.toml".into()],
        env: BTreeMap::new(),
        config: Some(ConfigFile {
            name: "chainfire.toml".into(),
            contents: config(node_id, hosts),
        }),
        ready: Readiness::Http {
            port: API_PORT,
            path: "/readyz".into(),
        },
        host_env: [
            ("CHAINFIRE_ENDPOINT", format!("http://{{address}}:{API_PORT}")),
            ("ETCDCTL_API", "3".to_owned()),
            ("ETCDCTL_ENDPOINTS", endpoints.join(",")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        machine_config_dir: "/etc/centra-cloud".into(),
        machine_data_dir: "/var/lib/chainfire".into(),
    }
}

fn config(node_id: u64, hosts: &[String]) -> String {
    let members: Vec<String> = (1..)
        .zip(hosts)
        .map(|(id, host)| format!("\"{id}={{address:{host}}}:{RAFT_PORT}\""))
        .collect();
    let members = if members.is_empty() {
        String::new()
    } else {
        format!("{MEMBERS_KEY} = [{}]\n", members.join(", "))
    };
    format!(
        r#"# Written by the lab at every start; changes made here last until then.

[node]
id = {node_id}
name = "chainfire-node-{node_id}"

[cluster]
id = 1
bootstrap = true
{members}
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

/// Most hosts that [`nodes`] takes: more voters make a cluster slower and hardly safer.
pub const NODES_MAX: u32 = 7;

/// The key of the configuration that names the first members.
const MEMBERS_KEY: &str = "initial_members";

/// The lab that `mainstay up` starts: this many hosts `node1` and on, each with a Chainfire, which form one cluster.
pub fn nodes(count: u32) -> Topology {
    let names: Vec<String> = (1..=count).map(|number| format!("node{number}")).collect();
    let members: &[String] = if count == 1 { &[] } else { &names };
    let hosts = names.iter().zip(1..).map(|(name, id)| HostSpec {
        name: name.clone(),
        services: vec![member(id, members)],
        packages: vec![],
    });
    Topology {
        name: "mainstay".into(),
        hosts: hosts.collect(),
    }
}

/// The line of a topology's settings that names the first members of its cluster, or nothing. Data of a cluster serve no other one.
pub fn members_line(topology: &Topology) -> &str {
    let configs = topology
        .hosts
        .iter()
        .flat_map(|host| &host.services)
        .filter_map(|service| service.config.as_ref());
    configs
        .flat_map(|file| file.contents.lines())
        .find(|line| line.starts_with(MEMBERS_KEY))
        .unwrap_or_default()
}
