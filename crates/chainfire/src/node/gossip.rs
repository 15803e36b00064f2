//! Who is around, as nodes tell each other on port 2381; the protocol is crate `gossip`.
//!
//! It shows operators nodes and their state, also those that belong to no cluster yet or cannot be reached over port 2380, and what their
//! names are. It decides nothing, with one exception on the safe side: before a recovery election the nodes it knows of are asked
//! too, so that one with a longer log is not overlooked because it joined when this node was away.
//!
//! Nobody has to be named for it: members tell each other their gossip addresses when they connect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::gossip::{Gossip, Seen, Settings, State};
use consensus::NodeId;
use service::Shutdown;
use tokio::net::{TcpListener, UdpSocket};

use super::{Node, VERSION, client_url, peer_address, reachable};
use crate::config::Config;

/// Sockets and certificates that gossip is given.
#[derive(Debug)]
pub struct Port {
    /// Where nodes come in.
    pub listener: TcpListener,
    /// On the same port, unless gossip keeps off UDP.
    pub udp: Option<UdpSocket>,
    /// As between members.
    pub tls: Option<::gossip::Tls>,
}

/// Nodes that are no members and are asked all the same. Without certificates anybody may gossip anything.
const BYSTANDERS_MAX: usize = 16;

/// How often it is looked whether there is somebody else to greet or to ask.
const LOOK: Duration = Duration::from_secs(1);

/// Where others reach this node's gossip: beside its members' port, unless the settings name an address.
pub(super) fn own_address(config: &Config) -> String {
    let address = &config.network.gossip_addr;
    let (Some((host, port)), peers) = (address.rsplit_once(':'), peer_address(config)) else {
        return address.clone();
    };
    match peers.rsplit_once(':') {
        Some((name, _)) if matches!(host, "0.0.0.0" | "[::]" | "") => format!("{name}:{port}"),
        _ => reachable(address),
    }
}

fn describe(config: &Config) -> ::gossip::Node {
    ::gossip::Node {
        id: config.node.id,
        name: config.node.name.clone(),
        role: config.node.role.clone(),
        version: VERSION.to_owned(),
        gossip_address: own_address(config),
        api_address: client_url(config),
        raft_address: peer_address(config),
    }
}

impl Node {
    /// Begins to gossip. A node that cannot be published goes without: nothing depends on it.
    pub fn begin_gossip(self: &Arc<Node>, port: Port, shutdown: &Shutdown) {
        let mut settings = Settings::new(self.config.cluster.id, port.listener);
        settings.udp = port.udp;
        settings.tls = port.tls;
        settings.clock = self.clock.clone();
        settings.seeds.clone_from(&self.config.gossip.seeds);
        match Gossip::start(settings, describe(&self.config)) {
            Ok(gossip) => assert!(self.gossip.set(gossip).is_ok(), "gossip begins once"),
            Err(error) => {
                tracing::warn!(target: "chainfire_gossip", error = %error, "No gossip from this node");
                return;
            }
        }
        let (node, shutdown) = (self.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.wait() => {}
                () = node.keep_acquainted() => {}
            }
        });
    }

    /// Greets members wherever they say they are, and looks for others.
    async fn keep_acquainted(&self) {
        let Some(gossip) = self.gossip.get() else { return };
        let mut greeted = self.config.gossip.seeds.clone();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let mut seeds = self.config.gossip.seeds.clone();
            for address in self.peers.gossip_addresses() {
                if !seeds.contains(&address) {
                    seeds.push(address);
                }
            }
            if seeds != greeted {
                greeted.clone_from(&seeds);
                gossip.set_seeds(seeds);
            }
            self.look_around();
        }
    }

    /// Tells the group whom else to ask before a recovery election: nodes that are no members as far as this node knows.
    pub fn look_around(&self) {
        if let Some(others) = self.peers.set_bystanders(self.bystanders()) {
            self.raft.set_bystanders(others);
        }
    }

    /// All nodes that gossip knows, this one too, by id.
    pub fn around(&self) -> Vec<Seen> {
        self.gossip.get().map(Gossip::nodes).unwrap_or_default()
    }

    /// Nodes that are no members, as far as this node knows, but may know more than it: of interest only while nobody leads.
    fn bystanders(&self) -> BTreeMap<NodeId, String> {
        let view = self.raft.view();
        if view.leader.is_some() || view.configuration.members().next().is_none() {
            return BTreeMap::new();
        }
        let around = self.around();
        let gossiping = around
            .iter()
            .filter(|seen| seen.state != State::Down && !seen.node.raft_address.is_empty())
            .map(|seen| (NodeId(seen.node.id), seen.node.raft_address.clone()));
        let mut others = self.peers.first_members().clone();
        others.extend(gossiping);
        others.retain(|node, _| node.0 != self.id() && view.configuration.member(*node).is_none());
        others.into_iter().take(BYSTANDERS_MAX).collect()
    }

    /// Says goodbye.
    pub(super) async fn end_gossip(&self) {
        if let Some(gossip) = self.gossip.get() {
            gossip.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gossip_is_reached_where_members_are() {
        let mut config = Config::default();
        config.network.advertise_raft_addr = "node2.example:2380".to_owned();
        config.network.gossip_addr = "0.0.0.0:2381".to_owned();
        assert_eq!(own_address(&config), "node2.example:2381");
        config.network.gossip_addr = "192.0.2.2:7000".to_owned();
        assert_eq!(own_address(&config), "192.0.2.2:7000");
    }
}
