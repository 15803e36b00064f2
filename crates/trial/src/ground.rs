//! What every run stands on: a seed, a program, an empty folder, and the way it ends.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use terminal::note;

use crate::findings::Findings;

/// The seed that was asked for, or one from the time.
pub(crate) fn seed(wanted: Option<u64>) -> u64 {
    wanted.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default().as_millis() as u64
    })
}

/// Plays a run to its end and tells what came of it; false if something was found. The folder stays if it did, or if it shall.
pub(crate) fn conduct(
    name: &str,
    seed: u64,
    dir: &Path,
    keep: bool,
    findings: &Findings,
    play: impl Future<Output = Result<String>>,
) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start a runtime")?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = play => outcome,
            () = interrupted() => bail!("interrupted"),
        }
    });
    runtime.shutdown_background();
    let passed = outcome.map(|summary| {
        println!("{summary}");
        findings.none()
    });
    if matches!(passed, Ok(true)) && !keep {
        std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    } else {
        note(&format!("kept: {}", dir.display()));
    }
    for (kind, count) in findings.counts() {
        println!("FOUND  {kind}: {count}");
    }
    if let Ok(passed) = passed {
        let word = if passed { "PASS" } else { "FAIL" };
        println!("{word}  {name} seed {seed}");
    }
    passed
}

/// Ends on SIGINT or SIGTERM. As process 1 of its namespace the program gets only signals that it asks for.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn own_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the path of this program")?;
    Ok(own.parent().unwrap_or(Path::new(".")).to_owned())
}

/// The program to try: the one that is named, or the one beside this program.
pub(crate) fn program(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => own_dir()?.join("mainstay"),
    };
    path.canonicalize().with_context(|| {
        format!(
            "find the program {}; `cargo build -p mainstay` makes it, --mainstay names another",
            path.display()
        )
    })
}

/// An empty folder for a run, below the one that is named or beside the folder of this program.
pub(crate) fn folder(named: Option<&Path>, name: &str, seed: u64) -> Result<PathBuf> {
    let parent = match named {
        Some(dir) => dir.to_owned(),
        None => own_dir()?.join("../trial"),
    };
    let make = |path: &Path| {
        std::fs::create_dir_all(path).with_context(|| format!("make the directory {}", path.display()))
    };
    make(&parent)?;
    // Members run in their own directories, so their paths must not depend on ours.
    let parent = parent
        .canonicalize()
        .with_context(|| format!("find the directory {}", parent.display()))?;
    let dir = parent.join(format!("{name}-{seed}"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| {
            format!(
                "remove what an earlier run with this seed left in {}",
                dir.display()
            )
        })?;
    }
    make(&dir)?;
    Ok(dir)
}
