//! [`Host`]: one host of a lab, in either form.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::{Driver, Lab};
use crate::machine::{self, MachineForm};
use crate::pid::ProcessRef;
use crate::process::ProcessForm;
use crate::ready;
use crate::starting::{self, Started};
use crate::state::{HostState, LabState};
use crate::topology::{HostSpec, ServiceSpec};

/// Time a service gets to end after SIGTERM. Chainfire hands over leadership in at most 5 s.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Time a machine gets to power off: its services' own time limits, and a little.
pub(crate) const POWER_OFF: Duration = Duration::from_secs(45);

/// One host of a lab.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    lab: &'a Lab,
    name: String,
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

/// How a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It says that it serves.
    Ready,
    /// Its process runs but does not serve: it is starting, or it hangs.
    NotReady,
    /// It was stopped on purpose.
    Stopped,
    /// It ended by itself.
    Dead,
}

impl Condition {
    /// The word in listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not-ready",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }

    /// Whether it serves.
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }

    /// Whether it has a process.
    pub fn runs(self) -> bool {
        matches!(self, Self::Ready | Self::NotReady)
    }
}

impl<'a> Host<'a> {
    pub(crate) fn new(lab: &'a Lab, name: &str) -> Self {
        Self {
            lab,
            name: name.to_owned(),
        }
    }

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
        match self.lab.driver() {
            Driver::Process(_) => ProcessForm::command(&self.state()?, program, args),
            Driver::Machine(_) => MachineForm::command(&self.state()?, program, args),
        }
    }

    /// Runs a shell command line on this host and collects what it prints, for at most two minutes.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.run_within(line, Duration::from_mins(2))
    }

    /// Runs a shell command line on this host and collects what it prints. When it is not done within `limit`
    /// (whole seconds, at least one) it is killed, and the exit code is 124, as timeout(1) does it.
    pub fn run_within(&self, line: &str, limit: Duration) -> Result<Output> {
        let seconds = limit.as_secs().max(1).to_string();
        let words = ["--kill-after=5", &seconds, "sh", "-c", line].map(str::to_owned);
        let output = self
            .command("timeout", &words)?
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run on {}: {line}", self.name))?;
        Ok(Output {
            code: exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts a service and waits until it is ready. A machine starts any unit it has; one that the topology does
    /// not name is ready as soon as systemd says so.
    pub fn start(&self, service: &str) -> Result<()> {
        let started = Started::launch(self, service)?;
        starting::wait_ready(self.lab, vec![started])
    }

    /// Starts a service and returns without waiting: for a member of a cluster that needs others to be ready.
    pub fn launch(&self, service: &str) -> Result<()> {
        Started::launch(self, service).map(drop)
    }

    /// SIGTERM, then SIGKILL after a grace period; in a machine what the unit says.
    pub fn stop(&self, service: &str) -> Result<()> {
        match self.lab.driver() {
            Driver::Process(form) => self.end(service, |process| form.stop(process, GRACE)),
            Driver::Machine(_) => MachineForm::stop_service(&self.state()?, service),
        }
    }

    /// SIGKILL: the service gets no chance to finish anything.
    pub fn kill(&self, service: &str) -> Result<()> {
        match self.lab.driver() {
            Driver::Process(form) => self.end(service, |process| form.kill(process)),
            Driver::Machine(_) => MachineForm::kill_service(&self.state()?, service),
        }
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

    /// SIGKILL to everything on the host at once, as a power cut would. [`Self::boot`] switches it on again.
    pub fn kill_power(&self) -> Result<()> {
        self.lab.change(|state| match self.lab.driver() {
            Driver::Process(form) => {
                for service in &mut state.host_mut(&self.name)?.services {
                    if let Some(process) = service.process() {
                        form.kill(process)?;
                        service.set_process(None);
                    }
                }
                Ok(())
            }
            Driver::Machine(form) => {
                let network = network(state)?.to_owned();
                form.kill_power(&network, state.host_mut(&self.name)?)
            }
        })
    }

    /// Switches the host on after its power was cut. In the process form this starts every service of the host; a
    /// machine starts what its systemd has enabled, and the services for which the lab wrote the unit are started
    /// like at the beginning.
    pub fn boot(&self) -> Result<()> {
        if let Driver::Machine(form) = self.lab.driver() {
            self.lab.change(|state| {
                let network = network(state)?.to_owned();
                let host = state.host_mut(&self.name)?;
                ensure!(
                    !host.machine.is_some_and(ProcessRef::is_alive),
                    "{} is switched on already",
                    self.name
                );
                // The state is written whether it has booted or not: what was started must be stopped.
                Ok(form.boot(&network, host, &|| self.lab.is_interrupted()))
            })??;
        }
        for service in &self.spec()?.services {
            if !self.condition(&service.name)?.runs() {
                self.start(&service.name)?;
            }
        }
        Ok(())
    }

    /// How a service is doing now.
    pub fn condition(&self, service: &str) -> Result<Condition> {
        let state = self.lab.state()?;
        let host = state.host(&self.name)?;
        let spec = self.service(service)?;
        let (runs, ready) = match self.lab.driver() {
            Driver::Process(_) => match host.service(service)?.process() {
                None => return Ok(Condition::Stopped),
                Some(process) => (
                    process.is_alive(),
                    ready::is_ready(host.address.into(), &spec.ready),
                ),
            },
            Driver::Machine(_) if host.enter.is_empty() => return Ok(Condition::Stopped),
            Driver::Machine(_) => {
                if !host.machine.is_some_and(ProcessRef::is_alive) {
                    return Ok(Condition::Dead);
                }
                (
                    machine::is_active(host, service)?,
                    machine::is_ready(network(&state)?, host, spec)?,
                )
            }
        };
        Ok(match (runs, ready) {
            (true, true) => Condition::Ready,
            (true, false) => Condition::NotReady,
            (false, _) => Condition::Dead,
        })
    }

    /// The log of a service since the lab was started.
    pub fn logs(&self, service: &str) -> Result<String> {
        let state = self.state()?;
        if let Driver::Machine(_) = self.lab.driver() {
            return machine::logs(&state, service);
        }
        let log = &state.service(service)?.log;
        let bytes = std::fs::read(log).with_context(|| format!("cannot read log {log}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A command that prints the log of a service, and goes on with new lines if `follow`.
    pub fn logs_command(&self, service: &str, lines: Option<u32>, follow: bool) -> Result<Command> {
        let state = self.state()?;
        if let Driver::Machine(_) = self.lab.driver() {
            return machine::logs_command(&state, service, lines, follow);
        }
        let log = &state.service(service)?.log;
        let mut command = Command::new("tail");
        command.args([
            "-n",
            &lines.map_or_else(|| "+1".to_owned(), |lines| lines.to_string()),
        ]);
        if follow {
            command.arg("-F");
        }
        command.arg("--").arg(log);
        Ok(command)
    }

    /// Installs a Debian package file in a machine; what it depends on must be there already.
    pub fn install_deb(&self, package: &Path) -> Result<()> {
        match self.lab.driver() {
            Driver::Process(_) => {
                bail!(
                    "cannot install {}: hosts of form process have no packages: use --form machine",
                    package.display()
                )
            }
            Driver::Machine(_) => MachineForm::install_deb(&self.state()?, package),
        }
    }

    pub(crate) fn lab(&self) -> &'a Lab {
        self.lab
    }

    pub(crate) fn spec(&self) -> Result<&'a HostSpec> {
        self.lab
            .topology()
            .host(&self.name)
            .with_context(|| format!("unknown host {:?}", self.name))
    }

    pub(crate) fn service(&self, name: &str) -> Result<&'a ServiceSpec> {
        let spec = self.spec()?;
        spec.services
            .iter()
            .find(|service| service.name == name)
            .with_context(|| {
                let names: Vec<_> = spec
                    .services
                    .iter()
                    .map(|service| service.name.as_str())
                    .collect();
                format!(
                    "unknown service {name:?}: host {} has {}",
                    self.name,
                    names.join(", ")
                )
            })
    }
}

/// Network namespace of a lab of machines.
pub(crate) fn network(state: &LabState) -> Result<&str> {
    state
        .network
        .as_deref()
        .context("the state of the lab names no network")
}

/// Exit code as the shell gives it.
pub(crate) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
