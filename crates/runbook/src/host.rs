//! Where a step's command runs, and the one way to run it: `bash -euo pipefail -c COMMAND` in a process group of its own.
//!
//! [`LocalHost`] starts the command on this machine; the lab's hosts are local ones with an address, a search path and an
//! environment of their own, or with a prefix that enters a container. [`ssh`](crate::ssh) reaches other machines.
//!
//! Invariants: nothing a step started in its process group outlives the step, whether it ended, timed out or was stopped;
//! at most [`OUTPUT_BYTES_MAX`] of each stream are kept, the rest is read and dropped so that the command never blocks.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Width told to programs such as `top`, which would cut names to fit the 80 columns that they take a pipe for. It is the
/// widest that `top` takes.
pub(crate) const UNCUT_COLUMNS: &str = "512";

/// Bytes kept of each of stdout and stderr.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Between the polite and the certain end of a step.
const GRACE: Duration = Duration::from_secs(2);

/// How long output may still arrive after the process group is gone: only a process that left the group holds the pipe.
const DRAIN: Duration = Duration::from_millis(500);

/// A boxed future, so that hosts can be kept in one list.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What to run.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// Shell text.
    pub command: &'a str,
    /// Variables on top of the host's own.
    pub env: &'a BTreeMap<String, String>,
    /// The command is ended after this long.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exit(u8),
    /// By a signal nobody here sent.
    Signal(i32),
    /// It ran longer than its timeout.
    TimedOut,
    /// The operator stopped the run.
    Stopped,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// Standard output, bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Some output was dropped.
    pub truncated: bool,
    /// From start to end.
    pub duration: Duration,
}

/// A place where commands run. The lab implements it for its hosts; [`LocalHost`] and [`Ssh`](crate::ssh::Ssh) are ours.
pub trait Host: Send + Sync {
    /// Address by which other hosts reach this one.
    fn address(&self) -> &str;

    /// Runs the command to its end, its timeout, or until `stop` fires. An error means it could not be started.
    fn run<'a>(&'a self, task: &'a Task<'a>, stop: &'a Stop) -> BoxFuture<'a, io::Result<Output>>;
}

/// Tells a running step to stop; any number of clones see it.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// The other end of [`Stop`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stop {
    /// A stop and the end that fires it.
    pub fn pair() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Self(receiver))
    }

    /// Whether it was fired.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is fired; for ever if the other end went away without firing.
    pub async fn stopped(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|fired| *fired).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stopper {
    /// Fires.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// A host whose commands are processes of this machine.
#[derive(Debug, Clone, Default)]
pub struct LocalHost {
    /// Its address, for `HOST_ADDR` and `@name` parameters.
    pub address: String,
    /// Folders in front of `PATH`.
    pub path: Vec<PathBuf>,
    /// Variables on top of those this process has.
    pub env: BTreeMap<String, String>,
    /// Working folder; this process's own if absent.
    pub folder: Option<PathBuf>,
    /// Program and arguments put before `bash`, such as `nsenter -t 42 -a`; empty for none.
    pub enter: Vec<String>,
}

impl Host for LocalHost {
    fn address(&self) -> &str {
        &self.address
    }

    fn run<'a>(&'a self, task: &'a Task<'a>, stop: &'a Stop) -> BoxFuture<'a, io::Result<Output>> {
        let mut words: Vec<&str> = self.enter.iter().map(String::as_str).collect();
        words.extend(["bash", "-euo", "pipefail", "-c", task.command]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).envs(&self.env).envs(task.env);
        // Messages of tools are matched by output fences, so they must not depend on the operator's language.
        command
            .env("LC_ALL", "C.UTF-8")
            .env("COLUMNS", UNCUT_COLUMNS)
            .env_remove("BASH_ENV")
            .env_remove("ENV");
        if !self.path.is_empty() {
            let inherited = std::env::var_os("PATH").unwrap_or_default();
            let folders = self.path.iter().cloned().chain(std::env::split_paths(&inherited));
            match std::env::join_paths(folders) {
                Ok(path) => command.env("PATH", path),
                Err(error) => return Box::pin(async move { Err(io::Error::other(error)) }),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        Box::pin(supervise(command, task.timeout, stop))
    }
}

/// Runs a prepared command in a process group of its own, with the module's promises.
pub async fn supervise(mut command: Command, limit: Duration, stop: &Stop) -> io::Result<Output> {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn()?;
    let group = Group::of(&child);
    let stdout = Capture::start(child.stdout.take());
    let stderr = Capture::start(child.stderr.take());
    let ended = tokio::select! {
        biased;
        status = child.wait() => exit_of(status?),
        () = stop.stopped() => Ended::Stopped,
        () = tokio::time::sleep(limit) => Ended::TimedOut,
    };
    if matches!(ended, Ended::Stopped | Ended::TimedOut) {
        group.signal(Signal::SIGTERM);
        // Whether it went by itself does not matter: the group is killed next in any case.
        let _ = timeout(GRACE, child.wait()).await;
    }
    group.signal(Signal::SIGKILL);
    child.wait().await?;
    let duration = started.elapsed();
    let (stdout, stdout_cut) = stdout.finish().await;
    let (stderr, stderr_cut) = stderr.finish().await;
    Ok(Output {
        ended,
        stdout,
        stderr,
        truncated: stdout_cut || stderr_cut,
        duration,
    })
}

fn exit_of(status: std::process::ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exit(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// The process group a command leads. Dropping it kills the group, so a cancelled run leaves nothing behind.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .map(Pid::from_raw),
        )
    }

    /// Signals every process of the group. After the leader is reaped the number stays taken as long as a member lives;
    /// with no member left the call fails, which is what we want.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = killpg(group, signal); // nobody left to signal is not an error
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// A stream being read in the background.
struct Capture {
    kept: Arc<Mutex<Kept>>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Capture {
    fn start(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let into = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut chunk = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                let mut kept = into.lock().expect("no holder of the lock panics");
                let room = OUTPUT_BYTES_MAX - kept.bytes.len();
                kept.bytes.extend_from_slice(&chunk[..count.min(room)]);
                kept.truncated |= count > room;
            }
        });
        Self { kept, reader }
    }

    async fn finish(mut self) -> (String, bool) {
        if timeout(DRAIN, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let kept = self.kept.lock().expect("no holder of the lock panics");
        (String::from_utf8_lossy(&kept.bytes).into_owned(), kept.truncated)
    }
}

#[cfg(test)]
mod tests;
