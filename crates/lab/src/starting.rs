//! Starting services and waiting until they are ready, several at a time.
//!
//! Members of a cluster are ready only once a majority of them run, so nothing may be waited for before all of them are started. What
//! a service stands on comes before it in its host's list: the first services of all hosts are started and waited for together, then
//! the second ones, and so on.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::host::{Host, network};
use crate::lab::{Driver, Lab};
use crate::machine::MachineForm;
use crate::pid::ProcessRef;
use crate::process::ProcessForm;
use crate::state::HostState;
use crate::topology::ServiceSpec;
use crate::wait;

/// Time services get to become ready.
const READY: Duration = Duration::from_mins(1);

/// A service that was started and may not be ready yet.
pub(crate) struct Started<'a> {
    lab: &'a Lab,
    state: HostState,
    service: String,
    /// None for a unit of a machine that the topology does not name.
    spec: Option<&'a ServiceSpec>,
    /// None in a machine.
    process: Option<ProcessRef>,
}

impl<'a> Started<'a> {
    /// Starts a service and returns at once.
    pub(crate) fn launch(host: &Host<'a>, service: &str) -> Result<Self> {
        let lab = host.lab();
        let (state, spec, process) = match lab.driver() {
            Driver::Process(form) => {
                let spec = host.service(service)?;
                let (state, process) = lab.change(|state| {
                    let host = state.host_mut(host.name())?;
                    let process = form.spawn(host, spec)?;
                    host.service_mut(service)?.set_process(Some(process));
                    Ok((host.clone(), process))
                })?;
                (state, Some(spec), Some(process))
            }
            Driver::Machine(_) => {
                let state = host.state()?;
                let spec = host.service(service).ok();
                MachineForm::start_service(&state, service, spec)?;
                (state, spec, None)
            }
        };
        Ok(Self {
            lab,
            state,
            service: service.to_owned(),
            spec,
            process,
        })
    }

    /// Whether it serves; an end before that is an error.
    fn is_ready(&self) -> Result<bool> {
        let Some(spec) = self.spec else { return Ok(true) };
        match (self.lab.driver(), self.process) {
            (Driver::Process(form), Some(process)) => form.started_is_ready(&self.state, spec, process),
            (Driver::Machine(_), _) => {
                MachineForm::started_is_ready(network(&self.lab.state()?)?, &self.state, spec)
            }
            (Driver::Process(_), None) => Ok(false),
        }
    }

    /// The error with the end of the log of this service below it.
    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        match self.lab.driver() {
            Driver::Process(_) => ProcessForm::explain(&self.state, &self.service, error),
            Driver::Machine(_) => MachineForm::explain(&self.state, &self.service, error),
        }
    }

    fn name(&self) -> String {
        format!("{} on {}", self.service, self.state.name)
    }
}

/// Waits until each of these is ready.
pub(crate) fn wait_ready(lab: &Lab, mut started: Vec<Started<'_>>) -> Result<()> {
    let names: Vec<String> = started.iter().map(Started::name).collect();
    let what = format!("{} to be ready", names.join(", "));
    // Nearly always there is one that has ended early, which is then the one to tell about.
    let mut ended = None;
    let waited = wait::until(READY, &what, || {
        ensure!(!lab.is_interrupted(), "interrupted while waiting for {what}");
        let mut pending = vec![];
        for service in std::mem::take(&mut started) {
            match service.is_ready() {
                Ok(true) => {}
                Ok(false) => pending.push(service),
                Err(error) => {
                    ended = Some(service.explain(&error));
                    return Err(error);
                }
            }
        }
        started = pending;
        Ok(started.is_empty().then_some(()))
    });
    let Err(error) = waited else { return Ok(()) };
    if let Some(ended) = ended {
        return Err(ended);
    }
    if lab.is_interrupted() {
        return Err(error);
    }
    let Some(first) = started.first() else {
        return Err(error);
    };
    let names: BTreeSet<String> = started.iter().map(Started::name).collect();
    let names: Vec<String> = names.into_iter().collect();
    let late = anyhow::anyhow!(
        "timed out after {READY:?} waiting for {} to be ready",
        names.join(", ")
    );
    Err(first.explain(&late))
}

/// Starts what the topology wants on every host, for the first time.
pub(crate) fn start_all(lab: &Lab, progress: &dyn Fn(&str)) -> Result<()> {
    let ranks = lab.topology().hosts.iter().map(|host| host.services.len()).max();
    for rank in 0..ranks.unwrap_or(0) {
        let mut started = vec![];
        for host in lab.hosts() {
            let Some(service) = host.spec()?.services.get(rank) else {
                continue;
            };
            ensure!(!lab.is_interrupted(), "interrupted");
            progress(&format!("starting {} on {}", service.name, host.name()));
            started.push(Started::launch(&host, &service.name)?);
        }
        wait_ready(lab, started)?;
    }
    Ok(())
}
