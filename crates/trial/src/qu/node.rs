//! One node of qu: its files, its process, and what it says when asked over its socket.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use quptime::api::{Answer, Request, Status};
use quptime::machine::state::State;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::network::{End, Network};
use crate::process::Process;

/// Between nodes.
const PORT: u16 = 9901;
/// What all nodes know.
const SECRET: &str = "a secret of trials";
/// How long a node may take to say how it stands.
const STATUS_MAX: Duration = Duration::from_secs(2);
/// How long it may take to say all that it knows.
const STATE_MAX: Duration = Duration::from_secs(20);
/// How long a change may take.
const CHANGE_MAX: Duration = Duration::from_secs(40);

/// A node; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    /// From 0; the smallest is preferred as master.
    pub(crate) number: usize,
    pub(crate) id: String,
    process: Process,
    program: PathBuf,
    env: Vec<(String, String)>,
    address: Ipv4Addr,
    socket: PathBuf,
}

impl Node {
    /// A node with files made by `qu init`, not started yet.
    pub(crate) fn init(program: &Path, parent: &Path, number: usize, network: &Network) -> Result<Self> {
        let dir = parent.join(format!("node-{}", number + 1));
        std::fs::create_dir_all(&dir).with_context(|| format!("make the directory {}", dir.display()))?;
        let id = format!("{:08x}-0000-4000-8000-000000000000", number + 1);
        let socket = dir.join("qu.sock");
        let set = |name: &str, value: String| (name.to_owned(), value);
        let env = vec![
            set("QUPTIME_DIR", dir.join("etc").display().to_string()),
            set("QUPTIME_SOCKET", socket.display().to_string()),
            set("QUPTIME_NODE_ID", id.clone()),
        ];
        let words = [&program.display().to_string(), "qu", "serve"].map(str::to_owned);
        let process = Process::new(
            format!("node {}", number + 1),
            network.prefix(number),
            &words,
            env.clone(),
            dir,
        );
        let address = network.address(End::Member(number))?;
        let node = Self {
            number,
            id,
            process,
            program: program.to_owned(),
            env,
            address,
            socket,
        };
        let advertise = node.peer_address();
        node.run(&[
            "init",
            "--bind",
            &address.to_string(),
            "--advertise",
            &advertise,
            "--secret",
            SECRET,
        ])?;
        Ok(node)
    }

    /// Where the others reach it.
    pub(crate) fn peer_address(&self) -> String {
        format!("{}:{PORT}", self.address)
    }

    /// `qu ARGUMENTS` on this node; what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .arg("qu")
            .args(arguments)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .output()
            .context("run qu")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("qu {}: {}", arguments[0], text.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asks the daemon, as commands do.
    pub(crate) async fn ask(&self, request: &Request, limit: Duration) -> Result<Answer> {
        let asked = async {
            let mut stream = UnixStream::connect(&self.socket).await.context("connect")?;
            let mut line = serde_json::to_vec(request).context("write the request")?;
            line.push(b'\n');
            stream.write_all(&line).await.context("ask")?;
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.context("listen")?;
            serde_json::from_slice(&said).context("understand")
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(Answer::Error { text, .. })) => bail!("node {}: {text}", self.number + 1),
            Ok(answer) => answer.with_context(|| format!("ask node {}", self.number + 1)),
            Err(_) => bail!("node {}: no answer within {limit:?}", self.number + 1),
        }
    }

    /// How it stands, as it sees it now; nothing if it does not answer.
    pub(crate) async fn status(&self) -> Option<Status> {
        match self.ask(&Request::Status { no_wait: true }, STATUS_MAX).await {
            Ok(Answer::Status(status)) => Some(*status),
            _ => None,
        }
    }

    /// All that it knows of what is replicated.
    pub(crate) async fn state(&self) -> Result<State> {
        match self.ask(&Request::State, STATE_MAX).await? {
            Answer::State(state) => Ok(*state),
            _ => bail!("node {}: answers something else", self.number + 1),
        }
    }

    /// Has the configuration changed.
    pub(crate) async fn configure(&self, changes: Vec<quptime::document::Change>) -> Result<()> {
        let request = Request::Configure {
            changes,
            what: "trial".to_owned(),
            force: false,
        };
        self.ask(&request, CHANGE_MAX).await.map(drop)
    }
}

impl Deref for Node {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
