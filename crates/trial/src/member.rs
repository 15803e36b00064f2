//! One member's process: started, killed, paused, started again on what it wrote.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::{End, Network};
use crate::system::{Launch, Programs, System};

/// Lines of the log that are shown when a member has ended by itself.
const LOG_LINES_SHOWN: usize = 15;

/// What Chainfire logs when a member that lost its disk counts again.
const ADMITTED: &str = "Node admitted";

/// A member; killed when dropped.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) number: usize,
    pub(crate) address: SocketAddr,
    prefix: Vec<String>,
    launch: Launch,
    dir: PathBuf,
    child: Option<Child>,
    paused: bool,
    /// The length of the log when its data was wiped, until the others have taken it in again.
    wiped: Option<usize>,
}

impl Member {
    /// A member that has a place and was not started yet.
    pub(crate) fn new(
        system: System,
        programs: &Programs,
        parent: &Path,
        number: usize,
        members: usize,
        network: &Network,
    ) -> Result<Self> {
        let dir = parent.join(format!("member-{}", number + 1));
        std::fs::create_dir_all(&dir).with_context(|| format!("make the directory {}", dir.display()))?;
        Ok(Self {
            number,
            address: (network.address(End::Member(number))?, 2379).into(),
            prefix: network.prefix(number),
            launch: system.launch(programs, &dir, number, members, network)?,
            dir,
            child: None,
            paused: false,
            wiped: None,
        })
    }

    /// Starts it if it does not run. To be called from the main thread: the process ends with the thread that started it.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let path = self.log();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let errors = log.try_clone().context("open the log a second time")?;
        // Each of these becomes the next one, so the child is the member itself in the end.
        let mut words = self.prefix.clone();
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words.extend(self.launch.words.clone());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(self.launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = command
            .spawn()
            .with_context(|| format!("start \"{}\"", words.join(" ")))?;
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    /// `kill -9`, and waits for the end. Nothing if it does not run.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("kill a member")?;
            child.wait().context("wait for a member that was killed")?;
        }
        self.paused = false;
        Ok(())
    }

    /// `kill -9`, and all that it had on disk is gone.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.kill()?;
        let data = self.dir.join("data");
        std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        self.wiped = Some(self.log_text().len());
        Ok(())
    }

    /// Whether its data was wiped and the others have not taken it in again, as far as its log says.
    pub(crate) fn is_wiped(&mut self) -> bool {
        if let Some(length) = self.wiped
            && self
                .log_text()
                .get(length..)
                .is_some_and(|new| new.contains(ADMITTED))
        {
            self.wiped = None;
        }
        self.wiped.is_some()
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        self.paused = self.child.is_some();
        Ok(())
    }

    /// SIGCONT if it was paused.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if self.paused {
            self.signal(Signal::SIGCONT)?;
            self.paused = false;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match &self.child {
            Some(child) => kill(Pid::from_raw(child.id() as i32), signal)
                .with_context(|| format!("send {signal} to member {}", self.number + 1)),
            None => Ok(()),
        }
    }

    /// Whether the wall clock can be stepped.
    pub(crate) fn has_clock(&self) -> bool {
        self.launch.clock.is_some()
    }

    /// From now on the member's wall clock is so many seconds ahead.
    pub(crate) fn set_clock(&self, ahead_s: i64) -> Result<()> {
        match &self.launch.clock {
            Some(clock) => clock.set(ahead_s),
            None => bail!("member {} has no clock that can be stepped", self.number + 1),
        }
    }

    /// If it has ended although nobody ended it: how, and its last lines.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let Some(status) = child.try_wait().context("look at a member")? else {
            return Ok(None);
        };
        self.child = None;
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        Ok(Some(format!(
            "member {} ended by itself with {status}; its last lines:\n{}",
            self.number + 1,
            lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
        )))
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn log_text(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}
