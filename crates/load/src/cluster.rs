//! The members of one cluster as processes of this machine: start all, find the leader, end one, and tell how far each one is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chainfire::wire::etcdserverpb::RangeRequest;
use tokio::runtime::Runtime;

use crate::bench::Bench;
use crate::closed_loop::Target;
use crate::connection::Connection;
use crate::server::{Server, Site};
use crate::system::System;

/// How long an election, or catching up after a short absence, may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long a member may take to answer a question.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Between two questions.
const POLL: Duration = Duration::from_millis(5);

/// A cluster; dropping it kills the members and removes what they wrote.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Before the sites: no process may be alive when its directory is removed.
    servers: Vec<Option<Server>>,
    sites: Vec<Site>,
    runtime: Runtime,
}

impl Cluster {
    /// Starts the members on empty directories and waits until all are ready and agree on a leader.
    pub(crate) fn start(bench: &Bench, system: System, members: usize) -> Result<Self> {
        let sites = bench.sites(system, members)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let mut servers = Vec::with_capacity(members);
        for site in &sites {
            servers.push(Some(site.start()?));
        }
        for server in servers.iter_mut().flatten() {
            server.wait_ready()?;
        }
        let cluster = Self {
            servers,
            sites,
            runtime,
        };
        let leader = cluster.leader()?;
        let revision = cluster.revision(leader)?;
        for member in 0..members {
            cluster.wait_for(member, revision, PATIENCE)?;
        }
        Ok(cluster)
    }

    /// Where the members answer, running or not.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sites.iter().map(Site::address).collect()
    }

    /// All members that run, to be loaded evenly.
    pub(crate) fn target(&self) -> Target {
        let running = self.servers.iter().flatten();
        Target {
            addresses: running.clone().map(|server| server.address).collect(),
            processes: running.map(Server::process).collect(),
        }
    }

    /// The member that all running members take for the leader.
    pub(crate) fn leader(&self) -> Result<usize> {
        let started = Instant::now();
        loop {
            if let Some(leader) = self.leader_now() {
                return Ok(leader);
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "{}: the members that run agree on no leader after {} s",
                    self.system().name(),
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    fn leader_now(&self) -> Option<usize> {
        let mut leaders = Vec::new();
        let mut found = None;
        for (member, server) in self.servers.iter().enumerate() {
            let Some(server) = server else { continue };
            let status = self.ask(async {
                let mut connection = Connection::open(server.address).await?;
                connection.status().await
            });
            let status = status.ok()?;
            if status.leader == status.header.unwrap_or_default().member_id {
                found = Some(member);
            }
            leaders.push(status.leader);
        }
        leaders.dedup();
        (leaders.len() == 1 && leaders[0] != 0).then_some(found).flatten()
    }

    /// The revision of what this member holds itself.
    pub(crate) fn revision(&self, member: usize) -> Result<i64> {
        let address = self.sites[member].address();
        let reply = self.ask(async {
            let request = RangeRequest {
                key: vec![0].into(),
                serializable: true,
                ..RangeRequest::default()
            };
            Connection::open(address).await?.range(&request).await
        })?;
        Ok(reply.header.unwrap_or_default().revision)
    }

    /// Waits until the member has this revision itself.
    pub(crate) fn wait_for(&self, member: usize, revision: i64, at_most: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let has = self.revision(member);
            if matches!(has, Ok(has) if has >= revision) {
                return Ok(());
            }
            if started.elapsed() > at_most {
                bail!(
                    "{}: member {} is not at revision {revision} after {} s: {}",
                    self.system().name(),
                    member + 1,
                    at_most.as_secs(),
                    has.map_or_else(|error| format!("{error:#}"), |has| format!("it is at {has}"))
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// `kill -9`; the moment before the signal.
    pub(crate) fn kill(&mut self, member: usize) -> Result<Instant> {
        let server = self.take(member)?;
        let killed = Instant::now();
        server.kill()?;
        Ok(killed)
    }

    /// SIGTERM, and the time until it had ended.
    pub(crate) fn stop(&mut self, member: usize) -> Result<Duration> {
        self.take(member)?.stop()
    }

    /// Starts a member that was ended, without waiting for it.
    pub(crate) fn start_member(&mut self, member: usize) -> Result<()> {
        self.servers[member] = Some(self.sites[member].start()?);
        Ok(())
    }

    /// Starts a member that was ended and waits until it is ready and has what the others had when it was started.
    pub(crate) fn rejoin(&mut self, member: usize) -> Result<()> {
        let other = (member + 1) % self.sites.len();
        let revision = self.revision(other)?;
        self.start_member(member)?;
        if let Some(server) = &mut self.servers[member] {
            server.wait_ready()?;
        }
        self.wait_for(member, revision, PATIENCE)
    }

    fn take(&mut self, member: usize) -> Result<Server> {
        self.servers[member]
            .take()
            .with_context(|| format!("member {} does not run", member + 1))
    }

    fn system(&self) -> System {
        self.sites[0].system
    }

    fn ask<T>(&self, question: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::time::timeout(ANSWER_MAX, question)
                .await
                .with_context(|| format!("no answer after {} s", ANSWER_MAX.as_secs()))?
        })
    }
}
