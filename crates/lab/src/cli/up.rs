//! `up`: start, show where things are, stay until told to stop.
//!
//! In the foreground the command watches its services and says when one ends that nobody stopped. Ctrl-C, SIGTERM
//! and a closed terminal all stop the lab in order.

use std::collections::BTreeMap;
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
use crate::pid::ProcessRef;
use crate::services::{chainfire, quptime};
use crate::state::{self, HostState, LabState, ServiceState, StateLock};
use crate::topology::{Form, Topology};

/// Time between two looks at the services of a lab in the foreground.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn up(args: UpArgs) -> Result<ExitCode> {
    let dir = args.place.dir()?;
    let topology = if let Some(file) = &args.topology {
        read_topology(file)?
    } else {
        let mut topology = chainfire::nodes(args.nodes);
        // In machines it is a package's service, which an operator sets up.
        if args.nodes >= quptime::NODES_MIN && args.form == Form::Process {
            quptime::watch(&mut topology);
        }
        topology
    };
    if args.fresh {
        wipe(&dir, args.yes)?;
    }
    let addresses = AddressBlock::numbered(args.block);
    // A machine's disk is new at every start.
    if args.form == Form::Process && args.topology.is_none() {
        refuse_another_clusters_data(&dir, &topology, &addresses)?;
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
            addresses,
            progress: Box::new(display::say),
            interrupted: Arc::clone(&signals.arrived),
        },
    )?;
    if let Err(error) = quptime::set_up(&lab) {
        lab.down()?;
        return Err(error);
    }
    let default_dir = state::default_dir().is_ok_and(|dir| dir == lab.dir());
    let state = lab.state()?;
    display::welcome(&state, lab.dir(), default_dir, args.detach);
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let told = watch(&lab, &state, &signals.channel);
    display::say("stopping");
    lab.down()?;
    display::say("stopped");
    told
}

/// Returns when told to stop, or with an error when nothing is left to watch.
fn watch(lab: &Lab, started: &LabState, signals: &Receiver<()>) -> Result<ExitCode> {
    let mut seen = Seen::of(started);
    loop {
        match signals.recv_timeout(LOOK) {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                bail!("cannot wait for signals: the thread that does has ended")
            }
        }
        let Some(mut state) = LabState::read(lab.dir())? else {
            bail!("the lab was stopped by another program")
        };
        if state
            .services()
            .any(|(_, service)| service.process().is_some_and(|process| !process.is_alive()))
        {
            // A `lab stop` or `lab kill` beside us notes what it ends only after the end, under the lock: what is dead
            // once nobody holds that has ended by itself.
            let _lock = StateLock::take(lab.dir())?;
            let Some(now) = LabState::read(lab.dir())? else {
                bail!("the lab was stopped by another program")
            };
            state = now;
        }
        for line in seen.look(&state, |process| lab.ending(process)) {
            display::say(&line);
        }
        ensure!(seen.alive, "every service of the lab has ended");
    }
}

/// What the watch has told already.
#[derive(Debug)]
struct Seen {
    /// Process of each service at the last look, and whether its end was told.
    services: BTreeMap<(String, String), (Option<ProcessRef>, bool)>,
    /// Whether anything runs, or was stopped on purpose and may be started again.
    alive: bool,
}

impl Seen {
    /// Everything runs as it was started.
    fn of(state: &LabState) -> Self {
        let note = |(host, service): (&HostState, &ServiceState)| {
            (
                (host.name.clone(), service.name.clone()),
                (service.process(), false),
            )
        };
        Self {
            services: state.services().map(note).collect(),
            alive: true,
        }
    }

    /// A line for each service that has ended by itself, was stopped by another command, or was started again.
    fn look(&mut self, state: &LabState, ending: impl Fn(ProcessRef) -> String) -> Vec<String> {
        let mut lines = vec![];
        self.alive = state
            .hosts
            .iter()
            .any(|host| host.machine.is_some_and(ProcessRef::is_alive));
        for (host, service) in state.services() {
            let process = service.process();
            let what = format!("{} on {}", service.name, host.name);
            let key = (host.name.clone(), service.name.clone());
            let last = self.services.entry(key).or_insert((process, false));
            if last.0 != process {
                lines.push(match process {
                    Some(process) => format!("{what} runs again as process {}", process.pid),
                    None => format!("{what} was stopped by another command"),
                });
                *last = (process, false);
            }
            // A service without a process was stopped on purpose.
            let Some(dead) = process.filter(|process| !process.is_alive()) else {
                self.alive = true;
                continue;
            };
            if !last.1 {
                last.1 = true;
                lines.push(format!(
                    "{what} has ended{} (process {}); its log is {}",
                    ending(dead),
                    dead.pid,
                    service.log
                ));
            }
        }
        lines
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

/// Refuses to start on data of a cluster with other members: they would wait for ever for members that are not there.
fn refuse_another_clusters_data(dir: &Path, topology: &Topology, addresses: &AddressBlock) -> Result<()> {
    let Some(before) = state::read_json::<Topology>(&dir.join(state::TOPOLOGY_FILE))? else {
        return Ok(());
    };
    let mut now = topology.clone();
    now.resolve(|index| addresses.host(index))?;
    let kept = before
        .hosts
        .iter()
        .any(|host| dir.join(&host.name).join("data").exists());
    ensure!(
        !kept || chainfire::members_line(&before) == chainfire::members_line(&now),
        "the data in {} are of a cluster with other members ({} of them, or at other addresses): start with the same --nodes and \
         --block, delete the data with --fresh --yes, or choose another --dir",
        dir.display(),
        before.hosts.len()
    );
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state(process: Option<ProcessRef>) -> LabState {
        let value = serde_json::json!({
            "name": "l", "form": Form::Process, "owner": null, "hosts": [{
                "name": "node1", "address": "127.0.0.11", "dir": "/l", "path": [], "env": {}, "config_dir": "/l/etc",
                "services": [{
                    "name": "etcd", "pid": process.map(|p| p.pid), "start_time": process.map(|p| p.start_time),
                    "log": "/l/etcd.log", "ready": "tcp://127.0.0.11:1"
                }]
            }]
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_change_of_a_service_is_told_once_in_one_line() {
        let runs = ProcessRef::own();
        let ended = ProcessRef {
            start_time: runs.start_time + 1,
            ..runs
        };
        let mut seen = Seen::of(&state(Some(runs)));
        let mut look = |process| {
            let lines = seen.look(&state(process), |_| ": signal 9".to_owned());
            (lines, seen.alive)
        };
        assert_eq!(look(Some(runs)), (vec![], true));
        assert_eq!(
            look(None),
            (
                vec!["etcd on node1 was stopped by another command".to_owned()],
                true
            )
        );
        assert_eq!(look(None), (vec![], true));
        let pid = runs.pid;
        assert_eq!(
            look(Some(runs)),
            (vec![format!("etcd on node1 runs again as process {pid}")], true)
        );
        let mut seen = Seen::of(&state(Some(ended)));
        let line = format!("etcd on node1 has ended: signal 9 (process {pid}); its log is /l/etcd.log");
        assert_eq!(
            seen.look(&state(Some(ended)), |_| ": signal 9".to_owned()),
            [line]
        );
        assert!(!seen.alive);
        assert_eq!(
            seen.look(&state(Some(ended)), |_| String::new()),
            Vec::<String>::new()
        );
    }
}
