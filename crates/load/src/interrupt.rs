//! Nothing is left behind: servers that were started are killed and their directories removed when the user interrupts.
//!
//! On return and on panic the owners do that when they are dropped. Here is the third way out, SIGINT, SIGTERM and SIGHUP: a thread
//! waits for them, cleans up from a register and ends the program. (The fourth, `kill -9` of this program, is answered by the kernel:
//! see `--pdeathsig` in the `server` module.)

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

static REGISTER: Mutex<Register> = Mutex::new(Register {
    processes: Vec::new(),
    directories: Vec::new(),
});

struct Register {
    processes: Vec<u32>,
    directories: Vec<PathBuf>,
}

fn register() -> MutexGuard<'static, Register> {
    // The register is a pair of lists: a panic elsewhere cannot leave it half changed.
    REGISTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the waiting thread. To be called before any other thread exists, since threads inherit the blocked signals.
pub(crate) fn install() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("block signals")?;
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || {
            let Ok(signal) = signals.wait() else { return };
            // Held until the end, so that no server is started meanwhile.
            let register = register();
            for &process in &register.processes {
                // A process that has just ended by itself is as good.
                let _ = kill(Pid::from_raw(process as i32), Signal::SIGKILL);
            }
            for directory in &register.directories {
                // Best effort on the way out: what is left is named below.
                if let Err(error) = std::fs::remove_dir_all(directory) {
                    eprintln!("load: remove {}: {error}", directory.display());
                }
            }
            eprintln!("load: interrupted by {signal}");
            std::process::exit(128 + signal as i32);
        })
        .context("start the thread that waits for signals")?;
    Ok(())
}

/// Runs `start` and registers the process it started, so that no signal falls between the two.
pub(crate) fn started<T>(start: impl FnOnce() -> Result<(u32, T)>) -> Result<T> {
    let mut register = register();
    let (process, value) = start()?;
    register.processes.push(process);
    Ok(value)
}

/// Takes a process off the register; to be called before it is waited for, because after that its id may be another's.
pub(crate) fn ended(process: u32) {
    register().processes.retain(|&known| known != process);
}

/// Registers a directory for removal.
pub(crate) fn created(directory: &Path) {
    register().directories.push(directory.to_path_buf());
}

/// Takes a directory off the register.
pub(crate) fn removed(directory: &Path) {
    register().directories.retain(|known| known != directory);
}
