//! `up`: start, show where things are, stay until told to stop.
//!
//! In the foreground the command watches its services and says when one ends that nobody stopped. Ctrl-C, SIGTERM
//! and a closed terminal all stop the lab in order.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use super::{UpArgs, display};
use crate::address::AddressBlock;
use crate::lab::{Lab, Options, Ownership};
use crate::services::chainfire;
use crate::state::{self, LabState, StateLock};
use crate::topology::Topology;

/// Time between two looks at the services of a lab in the foreground.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn up(args: UpArgs) -> Result<ExitCode> {
    let dir = args.place.dir()?;
    let topology = match &args.topology {
        Some(file) => read_topology(file)?,
        None => chainfire::one_node(),
    };
    if args.fresh {
        wipe(&dir, args.yes)?;
    }
    let signals = Signals::listen()?;
    let ownership = if args.detach {
        Ownership::Detached
    } else {
        Ownership::Foreground
    };
    let lab = Lab::up(
        topology,
        Options {
            dir,
            form: args.form,
            ownership,
            addresses: AddressBlock::numbered(args.block),
            progress: Box::new(display::say),
            interrupted: Arc::clone(&signals.arrived),
        },
    )?;
    let default_dir = state::default_dir().is_ok_and(|dir| dir == lab.dir());
    display::welcome(&lab.state()?, lab.dir(), default_dir, args.detach);
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let told = watch(&lab, &signals.channel);
    display::say("stopping");
    lab.down()?;
    display::say("stopped");
    told
}

/// Returns when told to stop, or with an error when nothing is left to watch.
fn watch(lab: &Lab, signals: &Receiver<()>) -> Result<ExitCode> {
    let mut reported = BTreeSet::new();
    loop {
        match signals.recv_timeout(LOOK) {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                bail!("cannot wait for signals: the thread that does has ended")
            }
        }
        let Some(state) = LabState::read(lab.dir())? else {
            bail!("the lab was stopped by another program")
        };
        let mut alive = false;
        for host in &state.hosts {
            alive |= host.machine.is_some_and(crate::pid::ProcessRef::is_alive);
            for service in &host.services {
                // A service without a process was stopped on purpose.
                let Some(process) = service.process() else {
                    alive = true;
                    continue;
                };
                if process.is_alive() {
                    alive = true;
                } else if reported.insert(process.pid) {
                    display::say(&format!(
                        "{} on {} has ended; the end of {}:\n{}",
                        service.name,
                        host.name,
                        service.log,
                        crate::process::tail(&service.log)
                    ));
                }
            }
        }
        ensure!(alive, "every service of the lab has ended");
    }
}

/// SIGINT, SIGTERM and SIGHUP as messages. The handlers are tokio's, because installing one by hand needs unsafe code.
struct Signals {
    arrived: Arc<AtomicBool>,
    channel: Receiver<()>,
}

impl Signals {
    fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start the thread that waits for signals")?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _context = runtime.enter();
            let listen = |kind| signal(kind).context("cannot listen for signals");
            (
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            )
        };
        let arrived = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&arrived);
        let (sender, channel) = channel();
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    flag.store(true, Ordering::Relaxed);
                    if sender.send(()).is_err() {
                        return;
                    }
                }
            });
        });
        Ok(Self { arrived, channel })
    }
}

fn read_topology(file: &Path) -> Result<Topology> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let topology: Topology = if file.extension().is_some_and(|ending| ending == "json") {
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?
    } else {
        toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?
    };
    topology.check()?;
    Ok(topology)
}

/// Deletes what earlier runs have left in the lab's directory.
fn wipe(dir: &Path, yes: bool) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if let Some(state) = LabState::read(dir)? {
        ensure!(
            !state.is_wanted(),
            "cannot delete the data of lab {}: it runs; stop it with `mainstay down`",
            state.name
        );
        // What a crash has left must not write into the new directory, nor keep a machine's disk mounted in it.
        crate::lab::stop_from_outside(dir)?;
    }
    let _lock = StateLock::take(dir)?;
    // Only what a lab has written is deleted, so that `--dir ~` costs nobody a home directory.
    let Some(topology) = state::read_json::<Topology>(&dir.join(state::TOPOLOGY_FILE))? else {
        return Ok(());
    };
    let folders: Vec<_> = topology
        .hosts
        .iter()
        .map(|host| dir.join(&host.name))
        .filter(|path| path.exists())
        .collect();
    if folders.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = folders.iter().map(|path| path.display().to_string()).collect();
    ensure!(yes, "--fresh deletes {}: confirm with --yes", names.join(", "));
    for folder in folders {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot delete {}", folder.display()))?;
        display::say(&format!("deleted {}", folder.display()));
    }
    Ok(())
}
