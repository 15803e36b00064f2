//! A process of a member: started, killed, paused, started again in the same place.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines of the log that are shown when a process has ended by itself.
const LOG_LINES_SHOWN: usize = 15;

/// A process that comes and goes; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    words: Vec<String>,
    env: Vec<(String, String)>,
    dir: PathBuf,
    child: Option<Child>,
    paused: bool,
}

impl Process {
    /// A process that was not started yet. `prefix` leads to its place; its log is the file `log` in `dir`, where it runs.
    pub(crate) fn new(
        name: String,
        prefix: Vec<String>,
        words: &[String],
        env: Vec<(String, String)>,
        dir: PathBuf,
    ) -> Self {
        // Each of these becomes the next one, so the child is the program itself in the end.
        let mut all = prefix;
        all.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        all.extend(words.iter().cloned());
        Self {
            name,
            words: all,
            env,
            dir,
            child: None,
            paused: false,
        }
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
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = command
            .spawn()
            .with_context(|| format!("start \"{}\"", self.words.join(" ")))?;
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    /// `kill -9`, and waits for the end. Nothing if it does not run.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().with_context(|| format!("kill {}", self.name))?;
            child
                .wait()
                .with_context(|| format!("wait for {}, which was killed", self.name))?;
        }
        self.paused = false;
        Ok(())
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

    /// Sends a signal if it runs.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match &self.child {
            Some(child) => kill(Pid::from_raw(child.id() as i32), signal)
                .with_context(|| format!("send {signal} to {}", self.name)),
            None => Ok(()),
        }
    }

    /// Whether it was started and not killed; it may have ended by itself.
    pub(crate) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it is stopped by SIGSTOP.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// How it has ended, if it has; from then on it counts as not started.
    pub(crate) fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child
            .try_wait()
            .with_context(|| format!("look at {}", self.name))?;
        if status.is_some() {
            self.child = None;
            self.paused = false;
        }
        Ok(status)
    }

    /// If it has ended although nobody ended it: how, and its last lines.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        let Some(status) = self.exit_status()? else {
            return Ok(None);
        };
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        Ok(Some(format!(
            "{} ended by itself with {status}; its last lines:\n{}",
            self.name,
            lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
        )))
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// All that it has logged so far, in all its lives.
    pub(crate) fn log_text(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}
