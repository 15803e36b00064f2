//! [`Server`]: a real program that serves on an address, as a value of a test.

use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lab::pid::{Guard, ProcessRef};
use lab::{AddressBlock, Readiness, ready, wait};
use nix::sys::signal::Signal;

use crate::dir::TestDir;

/// Time a server gets to become ready, or to end after SIGTERM.
const LIMIT: Duration = Duration::from_mins(1);

/// A server process with its directory, address and log.
///
/// Dropping it kills the process. While it lives, it also dies with the test's own process.
#[derive(Debug)]
pub struct Server {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    ready: Readiness,
    address: Ipv4Addr,
    running: Option<Running>,
    /// Bytes that its log had before the last start.
    log_start: usize,
    dir: TestDir,
    _addresses: AddressBlock,
}

#[derive(Debug)]
struct Running {
    child: Child,
    process: ProcessRef,
    _guard: Guard,
}

/// What a program printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal number for one killed by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command without input and collects its output.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
        Ok(Self {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "command failed: {self:?}");
        self.stdout
    }
}

impl Server {
    /// A server that has an address and a directory but has not been started.
    pub fn new(name: &str, program: PathBuf, ready: Readiness) -> Result<Self> {
        let addresses = AddressBlock::free()?;
        Ok(Self {
            name: name.to_owned(),
            program,
            args: vec![],
            env: vec![],
            ready,
            address: addresses.host(0)?,
            running: None,
            log_start: 0,
            dir: TestDir::new(name)?,
            _addresses: addresses,
        })
    }

    /// Replaces the arguments of the next start.
    pub fn set_args<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.args = args.into_iter().map(Into::into).collect();
    }

    /// Replaces the program and its arguments for the next start: the same program inside another one that gives it
    /// surroundings and becomes it (`nsenter`, `prlimit`).
    pub fn set_command<S: Into<String>>(&mut self, program: PathBuf, args: impl IntoIterator<Item = S>) {
        self.program = program;
        self.set_args(args);
    }

    /// Sets a variable of the environment of the next start, which is otherwise empty but for `PATH`, `HOME` and
    /// Rust's debugging variables.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends early or is not ready in a minute; with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts it and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.name);
        self.running = None;
        let path = self.log_path();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        self.log_start = std::fs::metadata(&path)
            .ok()
            .and_then(|metadata| usize::try_from(metadata.len()).ok())
            .unwrap_or_default();
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(self.dir.path()).env_clear();
        for name in ["PATH", "HOME", "RUST_BACKTRACE", "RUST_LOG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().context("cannot share a log file")?)
            .stdout(log);
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let process = ProcessRef::of(child.id()).context("a started process has vanished")?;
        let guard = Guard::new(process)?;
        self.running = Some(Running {
            child,
            process,
            _guard: guard,
        });
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        wait::until(LIMIT, &what, || {
            if let Some(status) = self.exit_status()? {
                return Err(anyhow!("{} ended early ({status})", self.name));
            }
            Ok(ready::is_ready(IpAddr::V4(self.address), &self.ready).then_some(()))
        })
        .map_err(|error| anyhow!("{error:#}; the end of its log:\n{}", self.log_tail()))
    }

    /// Waits for its end by itself, for a minute.
    pub fn wait_exit(&mut self) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::until(LIMIT, &what, || self.exit_status())
    }

    /// How it has ended; none while it runs.
    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        let running = self
            .running
            .as_mut()
            .with_context(|| format!("{} was not started", self.name))?;
        running
            .child
            .try_wait()
            .with_context(|| format!("cannot look after {}", self.name))
    }

    /// SIGKILL: it gets no chance to finish anything. Returns when it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_exit()?;
        self.running = None;
        Ok(())
    }

    /// SIGTERM, and how it ended.
    pub fn sigterm(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait_exit()?;
        self.running = None;
        Ok(status)
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process()?;
        ensure!(process.signal(signal)?, "{} has ended before {signal}", self.name);
        Ok(())
    }

    /// SIGTERM if it runs, then a start with the same directory and address.
    pub fn restart(&mut self) -> Result<()> {
        if self.is_running() {
            self.sigterm()?;
        }
        self.start()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.process.is_alive())
    }

    /// The process.
    pub fn process(&self) -> Result<ProcessRef> {
        Ok(self
            .running
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?
            .process)
    }

    /// The process's id, for what `/proc` says about it.
    pub fn pid(&self) -> Result<u32> {
        let running = self.running.as_ref();
        Ok(running
            .with_context(|| format!("{} does not run", self.name))?
            .child
            .id())
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The address and port that say whether it is ready.
    pub fn socket(&self) -> SocketAddr {
        (self.address, self.ready.port()).into()
    }

    /// `http://ADDRESS:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.socket())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything it has logged, over all starts.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until a line that it has logged since its last start contains `text`.
    ///
    /// # Errors
    /// If none does within the limit of every wait.
    pub fn wait_log(&self, text: &str) -> Result<()> {
        wait::until(LIMIT, &format!("{text:?} in the log of {}", self.name), || {
            let log = std::fs::read(self.log_path()).unwrap_or_default();
            let since = log.get(self.log_start..).unwrap_or_default();
            Ok(String::from_utf8_lossy(since).contains(text).then_some(()))
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    fn log_tail(&self) -> String {
        lab::tail(&self.log_path().display().to_string())
    }

    /// `GET` on its port over plain HTTP.
    pub fn get(&self, path: &str) -> Result<ready::Answer> {
        ready::get(self.socket(), path).with_context(|| format!("cannot get {path} from {}", self.socket()))
    }

    /// `etcdctl` (API version 3) with this endpoint.
    pub fn etcdctl(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(crate::require("etcdctl")?);
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoint()))
            .args(args);
        Output::of(&mut command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            note(&format!(
                "the end of the log of {}:\n{}",
                self.name,
                self.log_tail()
            ));
        }
        if let Some(mut running) = self.running.take() {
            // It may have ended by itself.
            let _ = running.process.kill();
            let _ = running.child.wait();
        }
    }
}

#[allow(clippy::print_stderr, reason = "shows the log to whoever reads a failed test")]
fn note(text: &str) {
    eprintln!("{text}");
}
