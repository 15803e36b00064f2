//! One process at a time uses a directory: the daemon for as long as it runs, `init` and `enroll join` while they write.
//!
//! Two daemons on one directory would both append to one log, and tell everything twice. The directory itself is locked, not a file in it: there is
//! nothing to write, so a full disk is no obstacle, and nothing that a backup copies or that somebody removes because it looks stale.
//! The system gives the lock back when the process ends, however it ends. Programs that are started do not inherit it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use service::SystemClock;

use super::files::io_error;
use super::{Home, HomeError};

/// How long a process that was killed may take to end.
const DYING_MAX: Duration = Duration::from_secs(3);
/// How long it may take until a kill shows.
const KILLED_MAX: Duration = Duration::from_millis(200);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// `PF_EXITING` of the kernel.
const FLAG_EXITING: u64 = 4;
/// `SIGKILL` in a set of signals.
const SIGKILL_BIT: u64 = 1 << 8;

/// The directory is this process's as long as this lives.
#[derive(Debug)]
#[must_use = "the directory is free again when this is dropped"]
pub struct HomeLock {
    _dir: File,
}

impl Home {
    /// Takes the directory, which must be there, for this process alone.
    ///
    /// # Errors
    /// Another process has it, or the system.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let dir = File::open(self.dir()).map_err(io_error("open", self.dir()))?;
        match lock_unless_held(&dir) {
            Ok(()) => Ok(HomeLock { _dir: dir }),
            Err(TryLockError::WouldBlock) => Err(HomeError::InUse {
                path: self.dir().to_owned(),
                holder: holder(&dir),
            }),
            // Some network file systems have no locks. Refusing to run there would help nobody.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                terminal::note(&format!(
                    "{} cannot be locked ({error}); take care that one daemon alone uses it",
                    self.dir().display()
                ));
                Ok(HomeLock { _dir: dir })
            }
            Err(TryLockError::Error(error)) => Err(io_error("lock", self.dir())(error)),
        }
    }

    /// Whether the directory is that of a node whose daemon runs; makes no use of it.
    ///
    /// # Errors
    /// It is.
    pub fn refuse_running(&self) -> Result<(), HomeError> {
        match self.node_file().exists().then(|| self.lock()) {
            Some(Err(HomeError::InUse { path, holder })) => Err(HomeError::Runs { path, holder }),
            // Whatever else is wrong is told by whoever goes on.
            _ => Ok(()),
        }
    }
}

/// Takes the lock. A process that was killed keeps it until its memory is given back, which can take a while, and is waited for; one that
/// runs is not.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when a lock that is not waited for is free"
)]
fn lock_unless_held(dir: &File) -> Result<(), TryLockError> {
    let clock = SystemClock::shared();
    let begun = clock.now();
    loop {
        match dir.try_lock() {
            Err(TryLockError::WouldBlock) if clock.now().since(begun) < DYING_MAX => {}
            other => return other,
        }
        // Being killed shows a moment after it was done.
        let lives = holder(dir).is_some_and(|pid| !is_dying(pid));
        if lives && clock.now().since(begun) >= KILLED_MAX {
            return Err(TryLockError::WouldBlock);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether this process is killed, ending or gone.
fn is_dying(pid: u32) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    match (read("stat"), read("status")) {
        (Ok(stat), Ok(status)) => is_ending(&stat, &status),
        _ => true,
    }
}

/// As `/proc/PID/stat` and `/proc/PID/status` have it: a zombie, or with the flag of processes that end, or with SIGKILL on its way.
fn is_ending(stat: &str, status: &str) -> bool {
    // The name in brackets may have anything in it.
    let mut words = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let is_dead = matches!(words.next(), Some("Z" | "X"));
    let flags: u64 = words.nth(5).and_then(|word| word.parse().ok()).unwrap_or(0);
    let pending = status.lines().filter_map(|line| {
        let set = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let is_killed = pending.into_iter().any(|set| set & SIGKILL_BIT != 0);
    is_dead || flags & FLAG_EXITING != 0 || is_killed
}

/// The process that has the lock, as far as this one may see it: in another container it has no number here.
fn holder(dir: &File) -> Option<u32> {
    let inode = dir.metadata().ok()?.ino();
    holder_in(&fs::read_to_string(Path::new("/proc/locks")).ok()?, inode)
}

/// The holder of a whole-file lock as `/proc/locks` lists it: `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`. The device is not compared: some
/// file systems show another one there than to `stat`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let inode = inode.to_string();
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Whoever waits for a lock has an arrow before the kind.
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words[..] else {
            return None;
        };
        (place.rsplit(':').next() == Some(&inode)).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let held = home.lock().unwrap();
        let error = home.lock().unwrap_err().to_string();
        let expected = format!(
            "{} is in use by another qu process (pid {}); stop that first (the service: systemctl stop quptime), or set QUPTIME_DIR to a directory of its own",
            dir.path().display(),
            std::process::id()
        );
        assert_eq!(error, expected);
        drop(held);
        drop(home.lock().unwrap());
    }

    #[test]
    fn who_was_killed_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        // The child keeps the lock for a second longer than its parent, as the kernel does with much memory.
        let mut killed = std::process::Command::new("flock")
            .arg(dir.path())
            .args(["sh", "-c", "echo; exec sleep 1"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(killed.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        killed.kill().unwrap();
        let clock = SystemClock::shared();
        let begun = clock.now();
        drop(home.lock().unwrap());
        assert!(clock.now().since(begun) >= KILLED_MAX, "it was held");
        killed.wait().unwrap();
    }

    #[test]
    fn processes_that_end_are_known() {
        let stat = |state: &str, flags: u32| format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 0 0");
        let status = |own: u64, shared: u64| {
            format!("Name:\tqu\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t0\n")
        };
        assert!(!is_ending(&stat("S", 0x40_0100), &status(0, 0x4000)));
        assert!(is_ending(&stat("Z", 0x40_0100), &status(0, 0)));
        assert!(is_ending(&stat("R", 0x40_010c), &status(0, 0)));
        assert!(is_ending(&stat("D", 0x40_0100), &status(0x100, 0)));
        assert!(is_ending(&stat("S", 0x40_0100), &status(0, 0x100)));
    }

    #[test]
    fn the_holder_is_who_has_the_lock_and_not_who_waits() {
        let locks = "1: POSIX  ADVISORY  WRITE 3 fe:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4 fe:01:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 5 fe:01:78 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4711 fe:01:77 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(4711));
        assert_eq!(holder_in(locks, 7), None);
    }
}
