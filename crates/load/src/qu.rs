//! Nodes of qu as processes of this machine: made with `qu init`, joined with `qu node add`, asked and changed with its commands.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::bench::Bench;
use crate::server::{Ports, Server, Site};
use crate::system::{System, text};

/// How long joining, an election, or a return may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// What `qu status --json` says, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) master: Option<String>,
    pub(crate) quorum: bool,
    pub(crate) config_version: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) checks: Vec<Check>,
}

/// A node in it.
#[derive(Debug, Deserialize)]
pub(crate) struct Peer {
    pub(crate) live: bool,
}

/// A check in it.
#[derive(Debug, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) total: usize,
}

/// Nodes of one cluster; dropping them kills them and removes what they wrote.
#[derive(Debug)]
pub(crate) struct Nodes {
    // Before the sites: no process may be alive when its directory is removed.
    servers: Vec<Option<Server>>,
    sites: Vec<Site>,
    mainstay: std::path::PathBuf,
}

/// The id of the node at this position; the first is preferred as master.
pub(crate) fn id(node: usize) -> String {
    format!("{:08x}-0000-4000-8000-000000000000", node + 1)
}

fn command(mainstay: &Path, dir: &Path) -> Command {
    let mut command = Command::new(mainstay);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUPTIME_") {
            command.env_remove(&name);
        }
    }
    command
        .arg("qu")
        .env("QUPTIME_DIR", dir.join("etc"))
        .env("QUPTIME_SOCKET", dir.join("qu.sock"))
        .stdin(Stdio::null());
    command
}

/// Makes the files of a node and yields the command of its daemon. `checks` is a list in YAML for `cluster.yaml`.
fn prepare(
    mainstay: &Path,
    dir: &Path,
    node: usize,
    ports: Ports,
    checks: Option<&str>,
) -> Result<Vec<String>> {
    let mut init = command(mainstay, dir);
    init.env("QUPTIME_NODE_ID", id(node));
    init.args(["init", "--bind", "127.0.0.1", "--secret", "of the benchmark"]);
    init.args(["--port", &ports.peer.to_string()]);
    init.args(["--advertise", &format!("127.0.0.1:{}", ports.peer)]);
    run(&mut init)?;
    let file = dir.join("etc/node.yaml");
    let mut own = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    own = format!("{own}web_listen: 127.0.0.1:{}\n", ports.api);
    std::fs::write(&file, own).with_context(|| format!("write {}", file.display()))?;
    if let Some(checks) = checks {
        let file = dir.join("etc/cluster.yaml");
        let known = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let (none, some) = ("checks: []\n", format!("checks:\n{checks}"));
        ensure!(known.contains(none), "{} has checks already", file.display());
        std::fs::write(&file, known.replace(none, &some))
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(vec![
        "env".to_owned(),
        format!("QUPTIME_DIR={}", text(&dir.join("etc"))?),
        format!("QUPTIME_SOCKET={}", text(&dir.join("qu.sock"))?),
        text(mainstay)?,
        "qu".to_owned(),
        "serve".to_owned(),
    ])
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("run qu")?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ({}): {}", words.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Nodes {
    /// Starts nodes and makes them one cluster. The first begins with these checks, a list in YAML.
    pub(crate) fn start(bench: &Bench, count: usize, checks: Option<&str>) -> Result<Self> {
        nix::unistd::sync();
        let ports = Ports::free(count).context("find free ports on 127.0.0.1")?;
        let mut nodes = Self {
            servers: Vec::new(),
            sites: Vec::new(),
            mainstay: bench.mainstay.clone(),
        };
        for (node, ports) in ports.into_iter().enumerate() {
            let checks = checks.filter(|_| node == 0);
            let site = Site::with(System::Qu, &bench.dir, ports, System::Qu.ready_path(), |dir| {
                prepare(&bench.mainstay, dir, node, ports, checks)
            })?;
            // A new node is a cluster of its own first.
            nodes.servers.push(Some(site.start_ready()?));
            nodes.sites.push(site);
        }
        for node in 1..count {
            let address = format!("127.0.0.1:{}", nodes.sites[node].ports().peer);
            nodes.run(0, &["node", "add", "--yes", &address])?;
        }
        nodes.settle()?;
        Ok(nodes)
    }

    /// `qu ARGUMENTS` on a node; what it prints.
    pub(crate) fn run(&self, node: usize, arguments: &[&str]) -> Result<String> {
        run(command(&self.mainstay, self.sites[node].dir()).args(arguments))
    }

    /// How a node sees it, without waiting for an election.
    pub(crate) fn status(&self, node: usize) -> Result<Status> {
        let mut command = command(&self.mainstay, self.sites[node].dir());
        // It exits 3 without quorum and prints all the same.
        let output = command
            .args(["status", "--json", "--no-wait"])
            .output()
            .context("run qu status")?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "understand qu status: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })
    }

    /// Waits until a node's status is as wanted.
    pub(crate) fn until(&self, node: usize, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Duration> {
        let started = Instant::now();
        loop {
            match self.status(node) {
                Ok(status) if is_so(&status) => return Ok(started.elapsed()),
                last if started.elapsed() > PATIENCE => {
                    bail!("waited {} s for {what}: {last:?}", PATIENCE.as_secs());
                }
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// Waits until all nodes that run know one master and one version, and hear each other.
    pub(crate) fn settle(&self) -> Result<()> {
        let running: Vec<usize> = (0..self.servers.len())
            .filter(|node| self.servers[*node].is_some())
            .collect();
        let started = Instant::now();
        loop {
            let known: Result<Vec<Status>> = running.iter().map(|node| self.status(*node)).collect();
            if let Ok(known) = &known {
                let same = known.iter().all(|status| {
                    let live = status.peers.iter().filter(|peer| peer.live).count();
                    status.quorum
                        && live == running.len()
                        && status.master == known[0].master
                        && status.config_version == known[0].config_version
                });
                if same {
                    return Ok(());
                }
            }
            if started.elapsed() > PATIENCE {
                bail!("the nodes do not agree after {} s: {known:?}", PATIENCE.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Which node is master, as the first that runs says.
    pub(crate) fn master(&self) -> Result<usize> {
        let node = (0..self.servers.len()).find(|node| self.servers[*node].is_some());
        let status = self.status(node.context("no node runs")?)?;
        let master = status.master.context("there is no master")?;
        let found = (0..self.servers.len()).find(|node| id(*node) == master);
        found.with_context(|| format!("the master {master} is no node of ours"))
    }

    /// The process of a node.
    pub(crate) fn server(&self, node: usize) -> Result<&Server> {
        self.servers[node]
            .as_ref()
            .with_context(|| format!("node {} does not run", node + 1))
    }

    /// `kill -9`; the moment before the signal.
    pub(crate) fn kill(&mut self, node: usize) -> Result<Instant> {
        let server = self.servers[node].take();
        let server = server.with_context(|| format!("node {} does not run", node + 1))?;
        let killed = Instant::now();
        server.kill()?;
        Ok(killed)
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self, node: usize) -> Result<()> {
        let server = self.servers[node].take();
        let server = server.with_context(|| format!("node {} does not run", node + 1))?;
        server.stop().map(drop)
    }

    /// Starts a node that was ended, without waiting for it.
    pub(crate) fn start_again(&mut self, node: usize) -> Result<()> {
        self.servers[node] = Some(self.sites[node].start()?);
        Ok(())
    }
}
