//! [`Lab`]: starting and stopping a topology, and the network between its hosts.
//!
//! Everything that is known about a running lab is in its state file (see [`crate::state`]), read and replaced under
//! a lock by each operation. A `Lab` value holds no copy, so several programs can work on one lab: the `up` in the
//! foreground, a `lab kill` typed beside it, and a runbook.
//!
//! A lab ends in one of three ways, chosen by [`Ownership`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::address::AddressBlock;
use crate::host::{GRACE, Host, POWER_OFF, network};
use crate::machine::{self, MachineForm};
use crate::pid::ProcessRef;
use crate::process::ProcessForm;
use crate::state::{self, LabState, STATE_FILE, ServiceState, StateLock, TOPOLOGY_FILE};
use crate::topology::{Form, Program, Topology};
use crate::{applets, registry, starting};

/// Who ends the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The program that starts it; dropping the `Lab` stops everything. Leftovers of a crash are cleaned up by the
    /// next start in the same directory.
    Foreground,
    /// Nobody: it runs until [`stop_from_outside`] is called.
    Detached,
    /// A test: as `Foreground`, but everything dies with the test even when that is killed, and the directory is
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

/// What carries out operations on hosts.
#[derive(Debug)]
pub(crate) enum Driver {
    Process(ProcessForm),
    Machine(MachineForm),
}

impl Driver {
    fn new(form: Form, guarded: bool) -> Self {
        match form {
            Form::Process => Self::Process(ProcessForm::new(guarded)),
            Form::Machine => Self::Machine(MachineForm::new(guarded)),
        }
    }
}

/// A lab that is up.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    topology: Topology,
    driver: Driver,
    /// Stops the lab when dropped, in the way of this ownership; none for a lab that was only opened.
    ownership: Option<Ownership>,
    interrupted: Arc<AtomicBool>,
    /// Kept so that nobody else gets the addresses.
    _addresses: Option<AddressBlock>,
}

impl Lab {
    /// Starts every service of every host and waits until each is ready.
    ///
    /// # Errors
    /// When a lab is already up in the directory, a port is taken (naming the holder), a program is missing, or a
    /// service ends early or does not become ready (with the end of its log). Whatever was started is stopped again.
    pub fn up(mut topology: Topology, options: Options) -> Result<Self> {
        topology.check()?;
        let Options {
            dir,
            form,
            ownership,
            addresses,
            progress,
            interrupted,
        } = options;
        topology.resolve(|index| match form {
            Form::Process => addresses.host(index),
            Form::Machine => machine::host_address(index),
        })?;
        let dir = std::path::absolute(&dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        let lock = StateLock::take(&dir)?;
        clear_crashed(&dir, &*progress)?;
        if ownership != Ownership::Scoped {
            registry::record(&dir)?;
        }
        state::write_json(&dir.join(TOPOLOGY_FILE), &topology)?;
        let (network, hosts) = match form {
            Form::Process => {
                link_programs(&dir, &topology)?;
                let hosts = topology.hosts.iter().enumerate();
                let hosts: Result<_> = hosts
                    .map(|(index, host)| ProcessForm::prepare(&dir, &addresses, index, host))
                    .collect();
                (None, hosts?)
            }
            Form::Machine => {
                let (network, hosts) = MachineForm::prepare(&dir, &topology, &*progress)?;
                (Some(network), hosts)
            }
        };
        let owner = (ownership != Ownership::Detached).then(ProcessRef::own);
        LabState {
            name: topology.name.clone(),
            form,
            owner,
            network,
            hosts,
        }
        .write(&dir)?;
        drop(lock);

        let mut lab = Self {
            dir,
            topology,
            driver: Driver::new(form, ownership == Ownership::Scoped),
            ownership: Some(ownership),
            interrupted,
            _addresses: Some(addresses),
        };
        match lab.start_all(&*progress) {
            Ok(()) => Ok(lab),
            Err(error) => {
                // The first error is the one to tell; what could not be stopped is cleared by the next start.
                let _ = lab.stop_all(true);
                lab.ownership = None;
                Err(error.context(format!("logs and data are kept in {}", lab.dir.display())))
            }
        }
    }

    /// Starts a lab for one test: in a directory and an address block of its own, gone when the test has passed.
    pub fn scoped(topology: Topology, form: Form) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let options = Options {
            dir: std::env::temp_dir().join(format!("mainstay-lab-{}-{number}", std::process::id())),
            form,
            ownership: Ownership::Scoped,
            addresses: AddressBlock::free()?,
            progress: Box::new(|_| {}),
            interrupted: Arc::default(),
        };
        Self::up(topology, options)
    }

    /// The lab that is up in a directory, started by any program.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        // A detached lab stays up while all its services are stopped: that may be what a runbook is about.
        let up = |state: &LabState| state.owner.is_none() || state.is_alive();
        let Some(state) = LabState::read(&dir)?.filter(up) else {
            bail!("no lab is up in {}: start one with `mainstay up`", dir.display());
        };
        let topology = state::read_json(&dir.join(TOPOLOGY_FILE))?.with_context(|| {
            format!(
                "no {TOPOLOGY_FILE} in {}: stop the lab and start it again",
                dir.display()
            )
        })?;
        Ok(Self {
            dir,
            topology,
            driver: Driver::new(state.form, false),
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
        Ok(Host::new(self, name))
    }

    /// All hosts in the order of the topology.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'_>> {
        self.topology.hosts.iter().map(|host| Host::new(self, &host.name))
    }

    /// Drops every packet from host `from` to host `to`; the other way stays open.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<()> {
        let state = self.state()?;
        let (from, to) = (state.host(from)?, state.host(to)?);
        match self.driver {
            Driver::Machine(_) => machine::cut(network(&state)?, from.address, to.address),
            Driver::Process(_) => bail!(
                "cannot cut {} from {}: hosts of form process share one loopback device: use --form machine",
                from.name,
                to.name
            ),
        }
    }

    /// Drops every packet between two hosts, both ways.
    pub fn cut(&self, a: &str, b: &str) -> Result<()> {
        self.cut_one_way(a, b)?;
        self.cut_one_way(b, a)
    }

    /// Undoes every cut.
    pub fn heal(&self) -> Result<()> {
        let state = self.state()?;
        match self.driver {
            Driver::Machine(_) => machine::heal(network(&state)?),
            // Nothing can have been cut.
            Driver::Process(_) => Ok(()),
        }
    }

    /// Stops everything in the reverse order of its start, and removes the state file. Data and logs of processes
    /// stay; the file systems of machines are deleted.
    pub fn down(&self) -> Result<()> {
        self.stop_all(false)
    }

    fn stop_all(&self, keep_files: bool) -> Result<()> {
        let _lock = StateLock::take(&self.dir)?;
        let Some(mut state) = LabState::read(&self.dir)? else {
            return Ok(());
        };
        stop_hosts(&self.driver, &mut state)?;
        finish(&self.dir, &state, keep_files)
    }

    fn start_all(&self, progress: &dyn Fn(&str)) -> Result<()> {
        if let Driver::Machine(form) = &self.driver {
            for host in self.hosts() {
                progress(&format!("booting {}", host.name()));
                self.change(|state| {
                    let network = network(state)?.to_owned();
                    let booted = form.boot(&network, state.host_mut(host.name())?, &|| self.is_interrupted());
                    // The state is written whether it has booted or not: what was started must be stopped.
                    Ok(booted)
                })??;
            }
        }
        starting::start_all(self, progress)
    }

    /// Reads the state, lets `change` work on it, and writes it back, while nobody else does.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut LabState) -> Result<T>) -> Result<T> {
        let _lock = StateLock::take(&self.dir)?;
        let mut state = self.state()?;
        let value = change(&mut state)?;
        state.write(&self.dir)?;
        Ok(value)
    }

    /// How a process of this lab has ended, as `: exit status 1`; empty where only another program can know.
    pub(crate) fn ending(&self, process: ProcessRef) -> String {
        match &self.driver {
            Driver::Process(form) => form
                .ending(process)
                .map(|ending| format!(": {ending}"))
                .unwrap_or_default(),
            Driver::Machine(_) => String::new(),
        }
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether the start is to be given up.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        match self.ownership {
            None | Some(Ownership::Detached) => {}
            Some(Ownership::Foreground) => {
                if let Err(error) = self.stop_all(false) {
                    note(&format!("lab: {error:#}"));
                }
            }
            Some(Ownership::Scoped) => {
                let failed = std::thread::panicking();
                match self.stop_all(failed) {
                    // A directory that cannot be removed is no reason to fail a passed test.
                    Ok(()) if !failed => drop(std::fs::remove_dir_all(&self.dir)),
                    Ok(()) => note(&format!("lab: logs and data are kept in {}", self.dir.display())),
                    Err(error) => note(&format!(
                        "lab: {error:#}; logs and data are kept in {}",
                        self.dir.display()
                    )),
                }
            }
        }
    }
}

/// Ends a lab from outside: asks its owner to stop it, or stops it here when nobody owns it.
///
/// Returns the name of the lab.
pub fn stop_from_outside(dir: &Path) -> Result<String> {
    let state = LabState::read(dir)?
        .with_context(|| format!("no lab is up in {}: start one with `mainstay up`", dir.display()))?;
    if let Some(owner) = state.owner.filter(|owner| owner.is_alive()) {
        owner.signal(Signal::SIGTERM)?;
        let things: usize = state.hosts.iter().map(|host| host.services.len() + 1).sum();
        let limit = POWER_OFF * things as u32;
        ensure!(
            owner.ends_within(limit),
            "process {}, which holds the lab, did not end in {limit:?}",
            owner.pid
        );
    }
    // What the owner has stopped is gone from the state; what it could not stop is stopped here.
    let _lock = StateLock::take(dir)?;
    if let Some(mut state) = LabState::read(dir)? {
        stop_hosts(&Driver::new(state.form, false), &mut state)?;
        finish(dir, &state, false)?;
    }
    Ok(state.name)
}

/// Removes what killed labs of machines have left in the kernel; a line for each. Does nothing without root, because
/// then there can be none of ours.
pub fn clear_abandoned() -> Result<Vec<String>> {
    if nix::unistd::geteuid().is_root() {
        machine::clear_abandoned()
    } else {
        Ok(vec![])
    }
}

/// Stops all hosts, the last one first. One that cannot be stopped does not keep the others up.
fn stop_hosts(driver: &Driver, state: &mut LabState) -> Result<()> {
    let network = state.network.clone().unwrap_or_default();
    let mut failure = None;
    for host in state.hosts.iter_mut().rev() {
        let stopped = match driver {
            Driver::Machine(form) => form.shut_down(&network, host, POWER_OFF),
            Driver::Process(form) => {
                let processes = host.services.iter().rev().filter_map(ServiceState::process);
                processes
                    .map(|process| form.stop(process, GRACE))
                    .fold(Ok(()), Result::and)
            }
        };
        failure = failure.or(stopped.err());
    }
    failure.map_or(Ok(()), Err)
}

/// Takes down what is left of a lab whose hosts are stopped.
fn finish(dir: &Path, state: &LabState, keep_files: bool) -> Result<()> {
    if state.form == Form::Machine {
        MachineForm::remove(state, keep_files)?;
    }
    let path = dir.join(STATE_FILE);
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    registry::forget(dir)
}

/// Stops what a crashed lab has left in this directory; refuses when the lab there is alive.
fn clear_crashed(dir: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    let Some(mut state) = LabState::read(dir)? else {
        return Ok(());
    };
    if state.is_wanted() {
        let how = state.owner.map_or_else(
            || "detached".to_owned(),
            |owner| format!("held by process {}", owner.pid),
        );
        let hosts: Vec<_> = state
            .hosts
            .iter()
            .map(|host| format!("{} at {}", host.name, host.address))
            .collect();
        bail!(
            "lab {} is already running in {} ({how}; {}): see `mainstay status`, stop it with `mainstay down`",
            state.name,
            dir.display(),
            hosts.join(", ")
        );
    }
    for process in state.leftovers() {
        progress(&format!(
            "stopping process {}, left over from a lab that was killed",
            process.pid
        ));
    }
    stop_hosts(&Driver::new(state.form, false), &mut state)?;
    finish(dir, &state, false)
}

/// Links the programs of the mainstay binary. A topology without any of them can do without the binary.
fn link_programs(dir: &Path, topology: &Topology) -> Result<()> {
    let mut services = topology.hosts.iter().flat_map(|host| &host.services);
    let needed = services.any(|service| matches!(service.program, Program::Applet(_)));
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
