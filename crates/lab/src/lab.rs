//! [`Lab`] and [`Host`]: one API for both forms.
//!
//! Everything that is known about a running lab is in its state file (see [`crate::state`]), read and replaced under
//! a lock by each operation. A `Lab` value holds no copy, so several programs can work on one lab: the `up` in the
//! foreground, a `lab kill` typed beside it, and a runbook.
//!
//! A lab ends in one of three ways, chosen by [`Ownership`]; in each, its data and logs stay in its directory except
//! for a [`Ownership::Scoped`] lab whose test has passed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::address::AddressBlock;
use crate::applets;
use crate::pid::ProcessRef;
use crate::process::ProcessForm;
use crate::state::{self, HostState, LabState, STATE_FILE, ServiceState, StateLock, TOPOLOGY_FILE};
use crate::topology::{Form, Program, ServiceSpec, Topology};

/// Time a service gets to end after SIGTERM. Chainfire hands over leadership in at most 5 s.
const GRACE: Duration = Duration::from_secs(10);

/// Time a service gets to become ready.
const READY: Duration = Duration::from_mins(1);

/// Who ends the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The program that starts it; dropping the `Lab` stops everything. Leftovers of a crash are cleaned up by the
    /// next start in the same directory.
    Foreground,
    /// Nobody: it runs until [`Lab::down`] is called by whoever opens it later.
    Detached,
    /// A test: as `Foreground`, but everything dies with the test even when it is killed, and the directory is
    /// removed when the test has passed.
    Scoped,
}

/// How to start a lab.
pub struct Options {
    /// Directory of the lab.
    pub dir: PathBuf,
    /// Which form.
    pub form: Form,
    /// Who ends it.
    pub ownership: Ownership,
    /// Addresses for the process form.
    pub addresses: AddressBlock,
    /// Told what is being done, one line without a full stop.
    pub progress: Box<dyn Fn(&str) + Send + Sync>,
    /// When this turns true the start is given up and undone.
    pub interrupted: Arc<AtomicBool>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("dir", &self.dir)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    topology: Topology,
    form: ProcessForm,
    /// Stops the lab when dropped, in the way of this ownership; none for a lab that was only opened.
    ownership: Option<Ownership>,
    interrupted: Arc<AtomicBool>,
    /// Kept so that nobody else gets the addresses.
    _addresses: Option<AddressBlock>,
}

/// What a command on a host printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal number for a command killed by a signal, as in the shell.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Lab {
    /// Starts every service of every host and waits until each is ready.
    ///
    /// # Errors
    /// When a lab is already up in the directory, a port is taken (naming the holder), a program is missing, or a
    /// service ends early or does not become ready (with the end of its log). Whatever was started is stopped again.
    pub fn up(topology: Topology, options: Options) -> Result<Self> {
        topology.check()?;
        ensure!(options.form == Form::Process, "form machine is not built yet");
        let Options {
            dir,
            form,
            ownership,
            addresses,
            progress,
            interrupted,
        } = options;
        let dir = std::path::absolute(&dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        let lock = StateLock::take(&dir)?;
        clear_leftovers(&dir, &*progress)?;
        link_programs(&dir, &topology)?;
        let mut hosts = vec![];
        for (index, host) in topology.hosts.iter().enumerate() {
            hosts.push(ProcessForm::prepare(&dir, &addresses, index, host)?);
        }
        let owner = (ownership != Ownership::Detached).then(ProcessRef::own);
        state::write_json(&dir.join(TOPOLOGY_FILE), &topology)?;
        LabState {
            name: topology.name.clone(),
            form,
            owner,
            network: None,
            hosts,
        }
        .write(&dir)?;
        drop(lock);

        let lab = Self {
            dir,
            topology,
            form: ProcessForm::new(ownership == Ownership::Scoped),
            ownership: Some(ownership),
            interrupted,
            _addresses: Some(addresses),
        };
        if let Err(error) = lab.start_all(&*progress) {
            // The first error is the one to tell; what could not be stopped is cleared by the next start.
            let _ = lab.down();
            let kept = format!("logs and data are kept in {}", lab.dir.display());
            let mut lab = lab;
            lab.ownership = None;
            return Err(error.context(kept));
        }
        Ok(lab)
    }

    /// Starts a lab for one test: in a directory and an address block of its own, gone when the test has passed.
    pub fn scoped(topology: Topology) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mainstay-lab-{}-{number}", std::process::id()));
        Self::up(
            topology,
            Options {
                dir,
                form: Form::Process,
                ownership: Ownership::Scoped,
                addresses: AddressBlock::free()?,
                progress: Box::new(|_| {}),
                interrupted: Arc::default(),
            },
        )
    }

    /// The lab that is up in a directory, started by any program.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        let up = LabState::read(&dir)?.is_some_and(|state| state.is_alive());
        ensure!(
            up,
            "no lab is up in {}: start one with `mainstay up`",
            dir.display()
        );
        let topology = state::read_json(&dir.join(TOPOLOGY_FILE))?.with_context(|| {
            format!(
                "no {TOPOLOGY_FILE} in {}: stop the lab and start it again",
                dir.display()
            )
        })?;
        Ok(Self {
            dir,
            topology,
            form: ProcessForm::new(false),
            ownership: None,
            interrupted: Arc::default(),
            _addresses: None,
        })
    }

    /// Directory of the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the state file says now.
    pub fn state(&self) -> Result<LabState> {
        LabState::read(&self.dir)?.with_context(|| format!("the lab in {} was stopped", self.dir.display()))
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<Host<'_>> {
        self.state()?.host(name)?;
        Ok(Host {
            lab: self,
            name: name.to_owned(),
        })
    }

    /// All hosts in the order of the topology.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'_>> {
        self.topology.hosts.iter().map(|host| Host {
            lab: self,
            name: host.name.clone(),
        })
    }

    /// Drops every packet from host `from` to host `to`; the other way stays open.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<()> {
        let state = self.state()?;
        let (from, to) = (state.host(from)?, state.host(to)?);
        bail!(
            "cannot cut {} from {}: hosts of form process share one loopback device: use --form machine",
            from.name,
            to.name
        )
    }

    /// Drops every packet between two hosts, both ways.
    pub fn cut(&self, a: &str, b: &str) -> Result<()> {
        self.cut_one_way(a, b)?;
        self.cut_one_way(b, a)
    }

    /// Undoes every cut.
    pub fn heal(&self) -> Result<()> {
        // Nothing can have been cut.
        self.state().map(drop)
    }

    /// Stops every service in the reverse order of their start, and removes the state file. Data and logs stay.
    pub fn down(&self) -> Result<()> {
        let _lock = StateLock::take(&self.dir)?;
        let Some(state) = LabState::read(&self.dir)? else {
            return Ok(());
        };
        let mut failure = None;
        for host in state.hosts.iter().rev() {
            for process in host.services.iter().rev().filter_map(ServiceState::process) {
                // One that cannot be stopped must not keep the others running.
                failure = self.form.stop(process, GRACE).err().or(failure);
            }
        }
        match failure {
            Some(error) => Err(error),
            None => remove_state(&self.dir),
        }
    }

    fn start_all(&self, progress: &dyn Fn(&str)) -> Result<()> {
        for host in self.hosts() {
            for service in &host.spec()?.services {
                ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
                progress(&format!("starting {} on {}", service.name, host.name));
                host.start(&service.name)?;
            }
        }
        Ok(())
    }

    /// Reads the state, lets `change` work on it, and writes it back, while nobody else does.
    fn change<T>(&self, change: impl FnOnce(&mut LabState) -> Result<T>) -> Result<T> {
        let _lock = StateLock::take(&self.dir)?;
        let mut state = self.state()?;
        let value = change(&mut state)?;
        state.write(&self.dir)?;
        Ok(value)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        match self.ownership {
            None | Some(Ownership::Detached) => {}
            Some(ownership) => {
                let stopped = self.down();
                if ownership == Ownership::Scoped && stopped.is_ok() && !std::thread::panicking() {
                    // A directory that cannot be removed is no reason to fail a passed test.
                    let _ = std::fs::remove_dir_all(&self.dir);
                } else if ownership == Ownership::Scoped {
                    note(&format!("lab: logs and data are kept in {}", self.dir.display()));
                }
            }
        }
    }
}

/// One host of a lab.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    lab: &'a Lab,
    name: String,
}

impl Host<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the state file says of it now.
    pub fn state(&self) -> Result<HostState> {
        Ok(self.lab.state()?.host(&self.name)?.clone())
    }

    /// Its address.
    pub fn address(&self) -> Result<std::net::Ipv4Addr> {
        Ok(self.state()?.address)
    }

    /// A command that runs on this host when it is spawned, with this program's own input and output.
    pub fn command(&self, program: &str, args: &[String]) -> Result<Command> {
        ProcessForm::command(&self.state()?, program, args)
    }

    /// Runs a shell command line on this host and collects what it prints.
    pub fn run(&self, line: &str) -> Result<Output> {
        let output = self
            .command("sh", &["-c".into(), line.into()])?
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run on {}: {line}", self.name))?;
        Ok(Output {
            code: exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts a service and waits until it is ready.
    pub fn start(&self, service: &str) -> Result<()> {
        let spec = self.service(service)?;
        let (host, process) = self.lab.change(|state| {
            let host = state.host_mut(&self.name)?;
            let process = self.lab.form.spawn(host, spec)?;
            host.service_mut(service)?.set_process(Some(process));
            Ok((host.clone(), process))
        })?;
        let interrupted = || self.lab.interrupted.load(Ordering::Relaxed);
        self.lab
            .form
            .wait_ready(&host, spec, process, READY, &interrupted)
    }

    /// SIGTERM, then SIGKILL after a grace period.
    pub fn stop(&self, service: &str) -> Result<()> {
        self.end(service, |process| self.lab.form.stop(process, GRACE))
    }

    /// SIGKILL: the service gets no chance to finish anything.
    pub fn kill(&self, service: &str) -> Result<()> {
        self.end(service, |process| self.lab.form.kill(process))
    }

    fn end(&self, service: &str, end: impl FnOnce(ProcessRef) -> Result<()>) -> Result<()> {
        self.lab.change(|state| {
            let service = state.host_mut(&self.name)?.service_mut(service)?;
            let process = service
                .process()
                .filter(|process| process.is_alive())
                .with_context(|| format!("{} does not run on {}", service.name, self.name))?;
            end(process)?;
            service.set_process(None);
            Ok(())
        })
    }

    /// SIGKILL to everything on the host at once, as a power cut would.
    pub fn kill_power(&self) -> Result<()> {
        self.lab.change(|state| {
            for service in &mut state.host_mut(&self.name)?.services {
                if let Some(process) = service.process() {
                    self.lab.form.kill(process)?;
                    service.set_process(None);
                }
            }
            Ok(())
        })
    }

    /// The log of a service since the lab was started.
    pub fn logs(&self, service: &str) -> Result<String> {
        let state = self.state()?;
        let log = &state.service(service)?.log;
        let bytes = std::fs::read(log).with_context(|| format!("cannot read log {log}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A command that prints the log of a service, and goes on with new lines if `follow`.
    pub fn logs_command(&self, service: &str, follow: bool) -> Result<Command> {
        let state = self.state()?;
        let log = &state.service(service)?.log;
        let mut command = Command::new("tail");
        command.args(["-n", "+1"]);
        if follow {
            command.arg("-F");
        }
        command.arg("--").arg(log);
        Ok(command)
    }

    fn spec(&self) -> Result<&crate::topology::HostSpec> {
        self.lab
            .topology
            .host(&self.name)
            .with_context(|| format!("unknown host {:?}", self.name))
    }

    fn service(&self, name: &str) -> Result<&ServiceSpec> {
        let state = self.state()?;
        state.service(name)?;
        self.spec()?
            .services
            .iter()
            .find(|service| service.name == name)
            .with_context(|| format!("unknown service {name:?} on {}", self.name))
    }
}

/// Exit code as the shell gives it.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Kills what a crashed lab has left in this directory; refuses when the lab there is alive.
fn clear_leftovers(dir: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    let Some(state) = LabState::read(dir)? else {
        return Ok(());
    };
    let owner_alive = state.owner.is_some_and(ProcessRef::is_alive);
    let leftovers: Vec<ProcessRef> = state.leftovers().collect();
    if owner_alive || (state.owner.is_none() && !leftovers.is_empty()) {
        let how = match state.owner {
            Some(owner) => format!("held by process {}", owner.pid),
            None => "detached".into(),
        };
        let addresses: Vec<String> = state
            .hosts
            .iter()
            .map(|host| format!("{} at {}", host.name, host.address))
            .collect();
        bail!(
            "lab {} is already running in {} ({how}; {}): see `mainstay status`, stop it with `mainstay down`",
            state.name,
            dir.display(),
            addresses.join(", ")
        );
    }
    for process in leftovers {
        progress(&format!(
            "stopping process {}, left over from a lab that was killed",
            process.pid
        ));
        process.stop(GRACE)?;
    }
    remove_state(dir)
}

/// Ends a lab from outside: asks its owner to stop it, or stops it here when nobody owns it.
///
/// Returns the name of the lab.
pub fn stop_from_outside(dir: &Path) -> Result<String> {
    let state = LabState::read(dir)?
        .with_context(|| format!("no lab is up in {}: start one with `mainstay up`", dir.display()))?;
    if let Some(owner) = state.owner.filter(|owner| owner.is_alive()) {
        owner.signal(nix::sys::signal::Signal::SIGTERM)?;
        let services: usize = state.hosts.iter().map(|host| host.services.len()).sum();
        let limit = GRACE * (services as u32 + 1);
        ensure!(
            owner.ends_within(limit),
            "process {}, which holds the lab, did not end in {limit:?}",
            owner.pid
        );
    }
    // What the owner has stopped is gone from the state; what it could not stop is stopped here.
    let _lock = StateLock::take(dir)?;
    if let Some(state) = LabState::read(dir)? {
        for process in state.leftovers().collect::<Vec<_>>().into_iter().rev() {
            process.stop(GRACE)?;
        }
        remove_state(dir)?;
    }
    Ok(state.name)
}

fn remove_state(dir: &Path) -> Result<()> {
    let path = dir.join(STATE_FILE);
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Links the programs of the mainstay binary. A topology without any of them can do without the binary.
fn link_programs(dir: &Path, topology: &Topology) -> Result<()> {
    let needed = topology
        .hosts
        .iter()
        .flat_map(|host| &host.services)
        .any(|service| matches!(service.program, Program::Applet(_)));
    let linked = applets::mainstay_binary().and_then(|binary| applets::link_all(&binary, &dir.join("bin")));
    match linked {
        Err(error) if needed => Err(error),
        _ => Ok(()),
    }
}

/// A line on standard error, for destructors that can return nothing.
#[allow(
    clippy::print_stderr,
    reason = "a destructor has no other way to tell where the logs are"
)]
fn note(line: &str) {
    eprintln!("{line}");
}
