//! Our qu, started from the built binary: one node, or several that form a cluster.

use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Readiness, wait};

use crate::server::{Output, Server};

/// The port between nodes.
const PORT: u16 = 9901;
/// Where pages and metrics are served.
const WEB_PORT: u16 = 9902;
/// How long anything may take that a cluster does by itself.
const LIMIT: Duration = Duration::from_mins(1);
/// What all nodes of a [`QuCluster`] know.
pub const QU_SECRET: &str = "a secret of tests";

/// A node of qu, with files and addresses of its own.
#[derive(Debug)]
pub struct Qu {
    server: Server,
    binary: PathBuf,
}

impl Qu {
    /// A node that has a place but no files yet.
    ///
    /// # Errors
    /// If there is no program, directory or address.
    pub fn bare() -> Result<Self> {
        let binary = crate::mainstay_binary()?;
        let mut server = Server::new("qu", binary.clone(), Readiness::Tcp { port: WEB_PORT })?;
        server.set_args(["qu", "serve"]);
        let (dir, socket) = (server.dir().join("etc"), server.dir().join("qu.sock"));
        server.set_env("QUPTIME_DIR", &dir.display().to_string());
        server.set_env("QUPTIME_SOCKET", &socket.display().to_string());
        Ok(Self { server, binary })
    }

    /// A node with files made by `qu init`, whose id begins with `number`: in a cluster the smallest is preferred as master.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn init(number: u64, secret: &str) -> Result<Self> {
        let node = Self::bare()?;
        let address = node.address().to_string();
        let mut command = node.command(&["init", "--bind", &address, "--advertise", &node.peer_address()]);
        command
            .args(["--secret", secret])
            .env("QUPTIME_NODE_ID", node_id(number));
        let made = Output::of(&mut command)?;
        ensure!(made.code == 0, "qu init failed: {made:?}");
        node.listen_for_pages()?;
        Ok(node)
    }

    /// Says in `node.yaml` that pages are served on the node's own address; [`Server::wait_ready`] asks there.
    ///
    /// # Errors
    /// If there is no `node.yaml`.
    pub fn listen_for_pages(&self) -> Result<()> {
        let path = self.config_dir().join("node.yaml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = format!("{text}web_listen: {}:{WEB_PORT}\n", self.address());
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// `$QUPTIME_DIR`.
    pub fn config_dir(&self) -> PathBuf {
        self.dir().join("etc")
    }

    /// Its `cluster.yaml`.
    pub fn cluster_file(&self) -> PathBuf {
        self.config_dir().join("cluster.yaml")
    }

    /// Where other nodes reach it, `ADDRESS:PORT`.
    pub fn peer_address(&self) -> String {
        format!("{}:{PORT}", self.address())
    }

    /// Its id, as `node.yaml` has it.
    ///
    /// # Panics
    /// If it has none.
    pub fn id(&self) -> String {
        let text = std::fs::read_to_string(self.config_dir().join("node.yaml")).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("node_id: "));
        id.expect("a node that was made with init").to_owned()
    }

    /// `qu ARGS` in this node's environment, to be run as the caller likes.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUPTIME_") {
                command.env_remove(name);
            }
        }
        command
            .arg("qu")
            .args(args)
            .env("QUPTIME_DIR", self.config_dir())
            .env("QUPTIME_SOCKET", self.dir().join("qu.sock"));
        command
    }

    /// `qu ARGS` on this node, without input.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        Output::of(&mut self.command(args))
    }

    /// `qu ARGS` on this node, which reads `input`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run_with(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run qu")?;
        // A command that does not want its input closes it.
        let written = child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().context("cannot wait for qu")?;
        drop(written);
        let status = output.status;
        Ok(Output {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The value behind a label of `qu status`, such as `master`; none if the daemon does not answer. Does not wait for elections.
    pub fn field(&self, label: &str) -> Option<String> {
        let output = self.run(&["status", "--no-wait"]).ok()?;
        let lines = &mut output.stdout.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("{label:<11}")))?;
        Some(value.to_owned())
    }

    /// The version of the configuration that it has applied; 0 if it does not answer.
    pub fn version(&self) -> u64 {
        let version = self.field("config ver");
        version.and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The row of a check in `qu status`, its columns separated by single blanks; none if there is no such check.
    pub fn check(&self, name: &str) -> Option<String> {
        let output = self.run(&["status", "--no-wait"]).ok()?;
        let (_, table) = output.stdout.split_once("\nCHECKS\n")?;
        table.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(1) == Some(&name)).then(|| words.join(" "))
        })
    }

    /// Whether it knows a master.
    pub fn has_quorum(&self) -> bool {
        self.field("quorum")
            .is_some_and(|value| value.starts_with("true"))
    }

    /// Its `cluster.yaml`; empty if it cannot be read.
    pub fn cluster_text(&self) -> String {
        std::fs::read_to_string(self.cluster_file()).unwrap_or_default()
    }
}

/// The id of the node with this number in tests.
fn node_id(number: u64) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

impl Deref for Qu {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Qu {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Nodes that form a cluster, numbered from 1; the first is preferred as master.
#[derive(Debug)]
pub struct QuCluster {
    /// In the order of their numbers.
    pub nodes: Vec<Qu>,
}

impl QuCluster {
    /// A cluster in which all know each other and a master.
    ///
    /// # Errors
    /// If a node does not start or join.
    pub fn start(size: u64) -> Result<Self> {
        let nodes = (1..=size)
            .map(|number| Qu::init(number, QU_SECRET))
            .collect::<Result<Vec<_>>>()?;
        Self::of(nodes)
    }

    /// The same of nodes with files that were not started yet, numbered from 1 and all with [`QU_SECRET`].
    ///
    /// # Errors
    /// If a node does not start or join.
    pub fn of(nodes: Vec<Qu>) -> Result<Self> {
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        for node in &mut cluster.nodes {
            node.wait_ready()?;
        }
        cluster.join().with_context(|| cluster.logs())?;
        Ok(cluster)
    }

    fn join(&self) -> Result<()> {
        for node in &self.nodes[1..] {
            let added = self.nodes[0].run(&["node", "add", "-y", &node.peer_address()])?;
            ensure!(added.code == 0, "qu node add failed: {added:?}");
        }
        // Nodes are members at once and voters when they have caught up, and everybody is heard once a second.
        wait::until(LIMIT, "all nodes to be voters and heard", || {
            let voters = 1 + self.nodes[0].log().matches("change=Promote").count();
            let heard = self.nodes.iter().all(|node| {
                let list = node.run(&["node", "list"]).map(|output| output.stdout);
                list.is_ok_and(|list| list.matches(" true  ").count() == self.nodes.len())
            });
            Ok((heard && voters == self.nodes.len()).then_some(()))
        })?;
        self.settled()
    }

    fn logs(&self) -> String {
        let one = |node: &Qu| format!("log of node {}:\n{}", node.id(), node.log());
        self.nodes.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    /// Waits until all running nodes know a master and have one version.
    ///
    /// # Errors
    /// If they do not within the limit of every wait.
    pub fn settled(&self) -> Result<()> {
        wait::until(
            LIMIT,
            "all running nodes to know one master and one version",
            || {
                let running = self.nodes.iter().filter(|node| node.is_running());
                let known: Vec<_> = running
                    .map(|node| (node.has_quorum(), node.field("master"), node.version()))
                    .collect();
                let same = known.iter().all(|one| one.0 && *one == known[0]);
                Ok((same && !known.is_empty()).then_some(()))
            },
        )
    }

    /// Position of the master among [`QuCluster::nodes`], as the first running node says; waits for it.
    ///
    /// # Errors
    /// If there is none within the limit of every wait.
    pub fn master(&self) -> Result<usize> {
        let ids: Vec<String> = self.nodes.iter().map(Qu::id).collect();
        wait::until(LIMIT, "a master", || {
            let running = &mut self.nodes.iter().filter(|node| node.is_running());
            let master = running.find_map(|node| node.field("master"));
            Ok(master.and_then(|master| ids.iter().position(|id| *id == master)))
        })
    }
}
