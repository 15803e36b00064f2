//! One server process with its directory: start, wait until it serves, stop, kill, and no way to leave it behind.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::interrupt;
use crate::procfs;
use crate::system::System;

/// How long a server may take until it serves, or to end after SIGTERM. A million keys take seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// Between two looks at a server that is starting or stopping; the resolution of restart times.
const POLL: Duration = Duration::from_millis(2);

/// Lines of a failed server's log that are shown.
const LOG_LINES_SHOWN: usize = 15;

/// The loopback ports of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) peer: u16,
    pub(crate) gossip: u16,
}

impl Ports {
    /// Ports of so many servers that were free a moment ago: neither system can be handed open sockets.
    pub(crate) fn free(servers: usize) -> std::io::Result<Vec<Self>> {
        let listeners = (0..servers * 3)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<Vec<_>>>()?;
        let ports = listeners
            .iter()
            .map(|open| Ok(open.local_addr()?.port()))
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(ports
            .chunks_exact(3)
            .map(|three| Self {
                api: three[0],
                peer: three[1],
                gossip: three[2],
            })
            .collect())
    }
}

/// The place of one server: an empty directory at first, and ports. Outlives the process, so the server can be started again on what
/// it wrote. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) system: System,
    command: Vec<String>,
    ports: Ports,
    ready: &'static str,
    dir: TempDir,
}

impl Site {
    /// Places of the members of one cluster, each with a directory of its own below `parent`; a single server is a cluster of one.
    pub(crate) fn create(
        system: System,
        members: usize,
        mainstay: &Path,
        parent: &Path,
    ) -> Result<Vec<Self>> {
        let ports = Ports::free(members).context("find free ports on 127.0.0.1")?;
        (0..members)
            .map(|member| Self::create_one(system, mainstay, parent, member, &ports))
            .collect()
    }

    fn create_one(
        system: System,
        mainstay: &Path,
        parent: &Path,
        member: usize,
        ports: &[Ports],
    ) -> Result<Self> {
        Self::with(system, parent, ports[member], system.ready_path(), |dir| {
            system.command(mainstay, dir, member, ports)
        })
    }

    /// A place for a server whose command is made for its directory, and which answers 200 at `ready` once it serves.
    pub(crate) fn with(
        system: System,
        parent: &Path,
        ports: Ports,
        ready: &'static str,
        command: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}-", system.name()))
            .tempdir_in(parent)
            .with_context(|| format!("make a directory in {}", parent.display()))?;
        interrupt::created(dir.path());
        let command = command(dir.path())?;
        Ok(Self {
            system,
            command,
            ports,
            ready,
            dir,
        })
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its ports.
    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Where its server answers clients.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.api))
    }

    /// Starts the server without waiting for it.
    pub(crate) fn start(&self) -> Result<Server> {
        let log_path = self.dir.path().join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("open {}", log_path.display()))?;
        let errors = log.try_clone().context("open the log a second time")?;
        // setpriv becomes the server and asks the kernel to kill it if this thread dies, however that happens.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(&self.command)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        // Settings of the user's own servers must not reach these.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["ETCD_", "CHAINFIRE__", "QUPTIME_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        let child = interrupt::started(|| {
            let child = command
                .spawn()
                .with_context(|| format!("start \"setpriv ... {}\"", self.command[0]))?;
            Ok((child.id(), child))
        })?;
        Ok(Server {
            system: self.system,
            ready: self.ready,
            child: Some(child),
            address: self.address(),
            log: log_path,
        })
    }

    /// Starts the server and waits until it says that it is ready.
    pub(crate) fn start_ready(&self) -> Result<Server> {
        let mut server = self.start()?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Bytes on the disk, as allocated, of everything the server wrote but its log lines.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        let data = self.dir.path().join("data");
        allocated(&data).with_context(|| format!("measure the size of {}", data.display()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        interrupt::removed(self.dir.path());
    }
}

fn allocated(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => allocated(&entry.path())?,
            // st_blocks counts 512 bytes each, see stat(2).
            Ok(metadata) => metadata.blocks() * 512,
            // A compaction may remove a file while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    system: System,
    ready: &'static str,
    /// Present until the process was waited for.
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// The process.
    pub(crate) fn process(&self) -> u32 {
        self.child
            .as_ref()
            .expect("the process is there until stop or kill consumes the server")
            .id()
    }

    /// CPU time of the process so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        procfs::cpu_time(self.process())
    }

    /// Memory of the process now.
    pub(crate) fn memory(&self) -> Result<procfs::Memory> {
        procfs::memory(self.process())
    }

    /// Waits until the process is nearly idle (below 5 % of a core for half a second), at most `patience`.
    pub(crate) fn wait_idle(&self, patience: Duration) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(500);
        let started = Instant::now();
        let mut before = self.cpu_time()?;
        while started.elapsed() < patience {
            std::thread::sleep(LOOK);
            let now = self.cpu_time()?;
            if now.saturating_sub(before) < LOOK / 20 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Fails if the process has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        let child = self
            .child
            .as_mut()
            .expect("the process is there until stop or kill consumes the server");
        if let Some(status) = child.try_wait().context("look at the server process")? {
            interrupt::ended(child.id());
            self.child = None;
            bail!(
                "start {}: the server ended with {status}; its last lines:\n{}",
                self.system.name(),
                self.last_lines()
            );
        }
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.answers_ready() {
            self.check_alive()?;
            if started.elapsed() > PATIENCE {
                bail!(
                    "start {}: not ready at http://{}{} after {} s; its last lines:\n{}",
                    self.system.name(),
                    self.address,
                    self.ready,
                    PATIENCE.as_secs(),
                    self.last_lines()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// One `GET` of the readiness path; anything but a 200 means no.
    fn answers_ready(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let path = self.ready;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.address
            )?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok(status.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    /// SIGTERM, and the time until the process had ended.
    pub(crate) fn stop(mut self) -> Result<Duration> {
        let started = Instant::now();
        self.signal(Signal::SIGTERM)?;
        interrupt::ended(self.process());
        let child = self
            .child
            .as_mut()
            .expect("the process is there until stop or kill consumes the server");
        while child.try_wait().context("wait for the server")?.is_none() {
            if started.elapsed() > PATIENCE {
                bail!(
                    "stop {}: still running {} s after SIGTERM",
                    self.system.name(),
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(started.elapsed())
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.end();
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.process() as i32), signal)
            .with_context(|| format!("send {signal} to {}", self.system.name()))
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            interrupt::ended(child.id());
            // Both fail only if the process was waited for already, which is what they are to reach.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(&self.log).map_or_else(
            |error| error.to_string(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        );
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
