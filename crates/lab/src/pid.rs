//! Processes by number *and* start time, so that a number which the kernel has given to somebody else is never
//! signalled.
//!
//! The start time is field 22 of `/proc/PID/stat`, in clock ticks since boot (proc(5)). It does not change during
//! the life of a process, and no two processes of the same number share it: numbers are not reused within a tick.
//! A zombie counts as dead: it runs nothing and holds no port. While other threads of it are still ending, which the kernel
//! shows as a zombie too, it is none yet: they hold its ports and locks until the last of them is gone.

use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait;

/// A particular process, dead or alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process number.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessRef {
    /// The process that has this number now, if any.
    pub fn of(pid: u32) -> Option<Self> {
        let start_time = Stat::of(pid)?.start_time;
        Some(Self { pid, start_time })
    }

    /// This very process.
    pub fn own() -> Self {
        Self::of(std::process::id()).expect("a running process has an entry in /proc")
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.start_time == self.start_time && stat.runs())
    }

    /// Sends a signal if the process still runs; false when it is gone.
    pub fn signal(self, signal: Signal) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match signal::kill(Pid::from_raw(self.pid as i32), signal) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(errno) => bail!("cannot send {signal} to process {}: {errno}", self.pid),
        }
    }

    /// Waits for its end; false when it still runs after `limit`.
    pub fn ends_within(self, limit: Duration) -> bool {
        wait::happens(limit, || !self.is_alive())
    }

    /// SIGTERM, wait for `grace`, then SIGKILL. Returns whether SIGKILL was needed.
    pub fn stop(self, grace: Duration) -> Result<bool> {
        self.signal(Signal::SIGTERM)?;
        if self.ends_within(grace) {
            return Ok(false);
        }
        self.kill()?;
        Ok(true)
    }

    /// SIGKILL, and waits until the kernel has taken the process down, so that its ports and locks are free.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        // Only a process stuck in the kernel (a dead disk, say) survives SIGKILL for long.
        if !self.ends_within(Duration::from_secs(20)) {
            bail!("process {} still runs 20 s after SIGKILL", self.pid);
        }
        Ok(())
    }
}

/// What `/proc/PID/stat` tells of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// State letter of its first thread.
    state: u8,
    threads: u32,
    start_time: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name (field 2) may hold spaces and parentheses, so fields are counted from the last `)`.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text
            .get(text.rfind(')')? + 1..)?
            .split_ascii_whitespace()
            .collect();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            threads: fields.get(17)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether anything of it runs. A zombie that is only waited for counts itself as its one thread.
    fn runs(&self) -> bool {
        match self.state {
            b'X' => false,
            b'Z' => self.threads > 1,
            _ => true,
        }
    }
}

/// Kills a process when *we* die, however that happens.
///
/// A small shell holds the reading end of a pipe whose only writing end is ours. When this program is killed, the
/// pipe closes and the shell kills the process, after checking its start time. (The kernel's parent-death signal
/// is no substitute: it fires when the *thread* that started the process ends.) Dropping the guard stands it down.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Watches over `process` from now on.
    pub fn new(process: ProcessRef) -> Result<Self> {
        const SCRIPT: &str = r#"read -r word && exit 0
            stat=$(cat "/proc/$0/stat" 2>/dev/null) || exit 0
            set -- "$1" ${stat##*)}
            [ "${21}" = "$1" ] && kill -9 "$0""#;
        let mut command = Command::new("sh");
        command.args([
            "-c",
            SCRIPT,
            &process.pid.to_string(),
            &process.start_time.to_string(),
        ]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Its own group: a Ctrl-C meant for us must not end the guard before us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut shell = command
            .spawn()
            .context("cannot start the shell that guards a process")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // A shell that is already gone needs no word.
            let _ = std::io::Write::write_all(&mut pipe, b"done\n");
        }
        // It exits at once after the word; waiting only collects it.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn a_recycled_number_is_not_signalled() {
        let mut child = sleeper();
        let real = ProcessRef::of(child.id()).unwrap();
        let stale = ProcessRef {
            start_time: real.start_time - 1,
            ..real
        };
        assert!(!stale.is_alive());
        assert!(!stale.signal(Signal::SIGKILL).unwrap());
        assert!(real.is_alive());
        real.kill().unwrap();
        assert!(!real.is_alive(), "a zombie counts as dead");
        child.wait().unwrap();
    }

    #[test]
    fn a_zombie_with_threads_that_still_end_is_not_dead_yet() {
        let line = |state: char, threads: u32| {
            format!("7 (a) (b) {state} 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0\n")
        };
        let runs = |state, threads| Stat::parse(&line(state, threads)).unwrap().runs();
        assert!(runs('S', 1) && runs('R', 9) && runs('D', 2) && runs('T', 2));
        assert!(runs('Z', 2));
        assert!(!runs('Z', 1) && !runs('Z', 0) && !runs('X', 1));
        assert_eq!(Stat::parse(&line('S', 1)).unwrap().start_time, 4711);
    }

    #[test]
    fn stop_is_gentle_first() {
        let mut child = sleeper();
        let killed = ProcessRef::of(child.id())
            .unwrap()
            .stop(Duration::from_secs(10))
            .unwrap();
        assert!(!killed);
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
            Some(15)
        );
    }

    #[test]
    fn guard_kills_when_the_pipe_breaks_and_not_when_it_is_dropped() {
        let mut child = sleeper();
        let process = ProcessRef::of(child.id()).unwrap();
        drop(Guard::new(process).unwrap());
        assert!(process.is_alive());

        let mut guard = Guard::new(process).unwrap();
        drop(guard.pipe.take());
        assert!(process.ends_within(Duration::from_secs(10)));
        child.wait().unwrap();
    }
}
