//! The server's first process, a child of ours.
//!
//! Nothing is daemonised: a thread of its own starts the process and waits for it, so its end is known at once. The kernel sends it SIGQUIT if
//! that thread, and so the keeper, is no more (`prctl(2)`, `PR_SET_PDEATHSIG`, which goes by thread: one of a pool would not do), upon which it
//! ends its children within five seconds. `setpriv` sets that, and a shell checks that the keeper has not died before it was set; both then
//! become the server.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::database::{Error, Options};

use super::session::{Failure, Login, Session};
use super::{conf, processes};

/// Where it writes what it has to say, in the data directory.
pub(super) const LOG: &str = "startup.log";

/// A log that is larger when the server starts is set aside.
const LOG_LIMIT: u64 = 16 << 20;

/// What of the log is told when it does not start.
const LOG_TOLD: u64 = 2048;

/// A setting without meaning by which our servers are known in the list of processes.
const MARK: &str = "pg_autoctl.keeper";

/// Becomes the server unless the keeper has gone. `$0` is the keeper.
const BECOME: &str = r#"test "$PPID" = "$0" && exec "$@""#;

/// How long one attempt at a login may take while it starts.
const LOGIN: Duration = Duration::from_secs(5);

/// Between two attempts.
const LOOK: Duration = Duration::from_millis(20);

/// A server that was started. Dropping it ends it at once.
#[derive(Debug)]
pub(super) struct Postmaster {
    pgdata: PathBuf,
    pid: Pid,
    /// It was started as a standby.
    standby: bool,
    /// Its number may be another process's by now.
    reaped: Arc<Mutex<bool>>,
    /// Somebody wants it to end.
    asked: AtomicBool,
    /// Its end was told to whoever waits for such news.
    told: AtomicBool,
    /// How it ended, once it has, with all its children.
    exit: watch::Receiver<Option<String>>,
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.asked.store(true, Ordering::Relaxed);
        self.signal(Signal::SIGQUIT);
    }
}

impl Postmaster {
    /// Starts it and does not wait until it is ready.
    pub(super) fn spawn(options: &Options) -> Result<Postmaster, Error> {
        const WHAT: &str = "start PostgreSQL";
        let failed = |error: std::io::Error| Error::failed(WHAT, error);
        let path = options.pgdata.join(LOG);
        if fs::metadata(&path).is_ok_and(|found| found.len() > LOG_LIMIT) {
            fs::rename(&path, options.pgdata.join(format!("{LOG}.1"))).map_err(failed)?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::failed(WHAT, format!("{}: {error}", path.display())))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT", "--", "sh", "-c", BECOME]);
        command.arg(std::process::id().to_string());
        command.arg(options.bindir.join("postgres"));
        command.arg("-D").arg(&options.pgdata);
        let socket_dir = options.socket_dir.display();
        for setting in [
            format!("port={}", options.port),
            format!("listen_addresses={}", options.listen),
            format!("unix_socket_directories={socket_dir}"),
            format!("{MARK}={}", std::process::id()),
        ] {
            command.arg("-c").arg(setting);
        }
        command.process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);

        let standby = conf::is_standby(&options.pgdata);
        let (started, start) = std::sync::mpsc::channel();
        let (ended, exit) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let thread = Waiter {
            pgdata: options.pgdata.clone(),
            reaped: reaped.clone(),
            ended,
        };
        std::thread::Builder::new()
            .name("postmaster".to_owned())
            .spawn(move || thread.run(command, &started))
            .map_err(failed)?;
        let pid = start
            .recv()
            .map_err(|error| Error::failed(WHAT, error))?
            .map_err(|error| Error::failed(WHAT, format!("setpriv: {error}")))?;
        Ok(Postmaster {
            pgdata: options.pgdata.clone(),
            pid,
            standby,
            reaped,
            asked: AtomicBool::new(false),
            told: AtomicBool::new(false),
            exit,
        })
    }

    /// Its number.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it was started as a standby.
    pub(super) fn standby(&self) -> bool {
        self.standby
    }

    /// Whether its end was asked for.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether its end has still to be told; once.
    pub(super) fn tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<String> {
        self.exit.borrow().clone()
    }

    /// Answers when it has ended, with how. None of its children is left then.
    pub(super) async fn ended(&self) -> String {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(text) => text.clone().unwrap_or_default(),
            Err(_) => "nobody waits for it".to_owned(),
        }
    }

    /// Has it read its configuration again.
    pub(super) fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Asks it to end, rolling back what is under way.
    pub(super) fn ask_to_stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.signal(Signal::SIGINT);
    }

    /// Kills all of it. Answers when nothing is left.
    pub(super) async fn kill(&self) {
        self.asked.store(true, Ordering::Relaxed);
        processes::kill_all(&self.pgdata).await;
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }

    fn signal(&self, signal: Signal) {
        let reaped = self.reaped.lock();
        if !*reaped {
            let _ = kill(self.pid, signal);
        }
    }

    /// Answers with a login as soon as it lets one in.
    pub(super) async fn ready(&self, login: &Login, limit: Duration) -> Result<Session, Error> {
        const WHAT: &str = "start PostgreSQL";
        let deadline = Instant::now() + limit;
        loop {
            if let Some(exit) = self.exit() {
                let log = self.log_tail();
                return Err(Error::failed(WHAT, format!("it ended ({exit}); its log: {log}")));
            }
            let failure = match login.try_open(LOGIN).await {
                Ok(session) => return Ok(session),
                Err(failure) => failure,
            };
            if refuses(&failure) || Instant::now() >= deadline {
                return Err(failure.error(WHAT));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The last of what it has said.
    pub(super) fn log_tail(&self) -> String {
        let tail = || -> std::io::Result<String> {
            let mut file = fs::File::open(self.pgdata.join(LOG))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TOLD)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = tail().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(6)..].join("; ")
    }
}

/// It says no, and would again.
fn refuses(failure: &Failure) -> bool {
    use tokio_postgres::error::SqlState;
    let Failure::Sql(error) = failure else {
        return false;
    };
    match error.code() {
        Some(code) => {
            !failure.starting()
                && *code != SqlState::TOO_MANY_CONNECTIONS
                && *code != SqlState::ADMIN_SHUTDOWN
        }
        // No socket yet, or one that was closed.
        None => false,
    }
}

/// The thread that is its parent.
struct Waiter {
    pgdata: PathBuf,
    reaped: Arc<Mutex<bool>>,
    ended: watch::Sender<Option<String>>,
}

impl Waiter {
    fn run(self, mut command: Command, started: &std::sync::mpsc::Sender<std::io::Result<Pid>>) {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let pid = Pid::from_raw(child.id().cast_signed());
        let _ = started.send(Ok(pid));
        // Until it is reaped, its number is nobody else's.
        let quietly = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), quietly) == Err(nix::errno::Errno::EINTR) {}
        let mut reaped = self.reaped.lock();
        *reaped = true;
        let status = child.wait();
        drop(reaped);
        // After a clean end nobody is left. After another one its children notice when they come to it.
        while processes::kill_once(&self.pgdata) {
            std::thread::park_timeout(LOOK);
        }
        let text = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        self.ended.send_replace(Some(text));
    }
}

/// Makes sure that nothing runs in a directory before a keeper begins: what a keeper of ours has left is ended, anybody else's server is not
/// ours to end.
pub(super) async fn take_over(pgdata: &Path) -> Result<(), Error> {
    for process in processes::of(pgdata) {
        let Ok(arguments) = fs::read(format!("/proc/{process}/cmdline")) else {
            continue;
        };
        let arguments = String::from_utf8_lossy(&arguments);
        let child = arguments.starts_with("postgres: ");
        if !child && !arguments.contains(MARK) {
            let reason = format!(
                "a PostgreSQL that pg_autoctl did not start runs there, with pid {process}: stop it (pg_ctl stop -D {}), then try again",
                pgdata.display()
            );
            return Err(Error::failed("use the data directory", reason));
        }
    }
    processes::kill_all(pgdata).await;
    // Its number may be somebody else's by now, whom PostgreSQL would take for itself.
    super::directory::remove(&pgdata.join("postmaster.pid"))
}
