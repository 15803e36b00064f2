//! Several Chainfire servers that form a cluster, each a process of its own on its own loopback address.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::wait;

use crate::chainfire::Chainfire;

/// How long anything may take that a cluster does by itself.
const LIMIT: Duration = Duration::from_mins(1);

/// Chainfire servers, numbered from 1.
#[derive(Debug)]
pub struct ChainfireCluster {
    /// The servers, in the order of their numbers.
    pub nodes: Vec<Chainfire>,
}

impl ChainfireCluster {
    /// Writes the configurations of a new cluster and starts nothing. `config` is laid over each.
    ///
    /// # Errors
    /// If a server cannot be prepared.
    pub fn build(size: u64, config: &str) -> Result<Self> {
        let nodes = (1..=size)
            .map(|id| Chainfire::builder().node(id).config(config).build())
            .collect::<Result<Vec<_>>>()?;
        let members: Vec<String> = nodes
            .iter()
            .zip(1..)
            .map(|(node, id)| format!("\"{id}={}\"", node.peer_address()))
            .collect();
        for node in &nodes {
            node.configure(&format!("[cluster]\ninitial_members = [{}]", members.join(", ")))?;
        }
        Ok(Self { nodes })
    }

    /// A new cluster, with a leader.
    ///
    /// # Errors
    /// If a server does not start or none is elected.
    pub fn start(size: u64, config: &str) -> Result<Self> {
        let mut cluster = Self::build(size, config)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Starts all that do not run, and waits until they serve.
    ///
    /// # Errors
    /// If one does not.
    pub fn start_all(&mut self) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
            node.spawn()?;
        }
        for node in &mut self.nodes {
            node.wait_ready()?;
        }
        Ok(())
    }

    /// The server with this number.
    pub fn node(&mut self, id: u64) -> &mut Chainfire {
        &mut self.nodes[usize::try_from(id).expect("small") - 1]
    }

    /// All endpoints, for `--endpoint`.
    pub fn endpoints(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| node.endpoint()).collect();
        all.join(",")
    }

    /// Who leads, as the first running node says that knows; waits for it.
    ///
    /// # Errors
    /// If nobody leads within the limit of every wait.
    pub fn leader(&self) -> Result<u64> {
        wait::until(LIMIT, "a leader of the cluster", || Ok(self.leader_now()))
    }

    fn leader_now(&self) -> Option<u64> {
        let mut running = self.nodes.iter().filter(|node| node.is_running());
        running.find_map(|node| {
            let output = node.client(&["status"]).ok()?;
            let leads = output.stdout.lines().any(|line| line == "role: leader");
            let leader = output
                .stdout
                .lines()
                .find_map(|line| line.strip_prefix("leader: "))?;
            leads.then(|| leader.parse().ok()).flatten()
        })
    }

    /// Waits until `probe` says yes.
    ///
    /// # Errors
    /// If it does not within the limit of every wait.
    pub fn wait(&self, what: &str, mut probe: impl FnMut(&Self) -> bool) -> Result<()> {
        wait::until(LIMIT, what, || Ok(probe(self).then_some(()))).context("wait for the cluster")
    }
}
