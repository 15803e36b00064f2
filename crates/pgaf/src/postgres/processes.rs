//! Every process of a data directory, and their end.
//!
//! PostgreSQL makes each of its processes the leader of a session of its own, so no process group holds them all; and when its first process
//! dies, the others go on until they notice, which one that is busy does late: it may even acknowledge a commit. But all of them, and
//! nothing else of that program, have the data directory as their working directory.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Between two looks whether they have gone.
const LOOK: Duration = Duration::from_millis(5);

/// Processes that are there or not yet reaped, except those that have ended and only wait for that.
pub(super) fn of(pgdata: &Path) -> Vec<Pid> {
    let Ok(data) = fs::metadata(pgdata) else {
        return Vec::new();
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            // Neither can be read of another user's process, or of one that has ended.
            let folder = fs::metadata(entry.path().join("cwd")).ok()?;
            if (folder.dev(), folder.ino()) != (data.dev(), data.ino()) {
                return None;
            }
            let program = fs::read_link(entry.path().join("exe")).ok()?;
            let name = program.file_name().and_then(OsStr::to_str)?;
            // After an upgrade of the package the file is another one: `postgres (deleted)`.
            name.starts_with("postgres").then(|| Pid::from_raw(pid))
        })
        .collect()
}

/// Kills all of them. Returns when none is left; one that the kernel does not let go (a disk that does not answer) is waited for.
pub(super) async fn kill_all(pgdata: &Path) {
    while kill_once(pgdata) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Kills those there are; whether there were any. Whoever could start others is stopped first.
pub(super) fn kill_once(pgdata: &Path) -> bool {
    let processes = of(pgdata);
    for process in &processes {
        let _ = kill(*process, Signal::SIGSTOP);
    }
    for process in of(pgdata) {
        // With programs that it has started, to archive a segment for one; if it leads no group there is none.
        let _ = killpg(process, Signal::SIGKILL);
        let _ = kill(process, Signal::SIGKILL);
    }
    !processes.is_empty()
}
