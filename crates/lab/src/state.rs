//! `lab.json`: what a running lab is made of, for every other program.
//!
//! The file is the only link between the program that started a lab and those that use it later: the other `lab`
//! commands and the runbook runner. Its keys are therefore an interface: keys may be added, never renamed. It is replaced as a
//! whole (written aside, then renamed), so a reader never sees half of it, and changed only while `lab.lock` is held.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::pid::ProcessRef;
use crate::topology::Form;

/// File name of the state inside the lab's directory.
pub const STATE_FILE: &str = "lab.json";

/// File name of the topology inside the lab's directory.
pub(crate) const TOPOLOGY_FILE: &str = "topology.json";

/// A lab that is up, or was when its owner last wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// Name from the topology.
    pub name: String,
    /// How its hosts came about.
    pub form: Form,
    /// The program that stays in the foreground and stops the lab when it ends; none for a detached lab.
    pub owner: Option<ProcessRef>,
    /// Network namespace of a lab of machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Hosts in the order of the topology.
    pub hosts: Vec<HostState>,
}

/// One host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// Host name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its directory on the machine that runs the lab.
    pub dir: PathBuf,
    /// Directories to put before `PATH` for commands run on it.
    pub path: Vec<PathBuf>,
    /// Environment for commands run on it.
    pub env: BTreeMap<String, String>,
    /// Where configuration files lie, as seen by commands run on it.
    pub config_dir: PathBuf,
    /// Words to put before a command so that it runs on the host; empty where the host is this machine.
    #[serde(default)]
    pub enter: Vec<String>,
    /// The container's supervisor, for a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<ProcessRef>,
    /// Services in the order of the topology.
    pub services: Vec<ServiceState>,
}

/// One service of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Unit name without `.service`.
    pub name: String,
    /// Process number; none when it was stopped or never started.
    pub pid: Option<u32>,
    /// Start time of that process in clock ticks since boot.
    pub start_time: Option<u64>,
    /// Its log file; in a machine the journal holds the log and this names the unit's journal command instead.
    pub log: String,
    /// What says that it is ready, as a URL.
    pub ready: String,
}

impl ServiceState {
    /// The process, if it was started and not stopped since.
    pub fn process(&self) -> Option<ProcessRef> {
        Some(ProcessRef {
            pid: self.pid?,
            start_time: self.start_time?,
        })
    }

    /// Notes which process runs the service now.
    pub fn set_process(&mut self, process: Option<ProcessRef>) {
        self.pid = process.map(|p| p.pid);
        self.start_time = process.map(|p| p.start_time);
    }
}

impl LabState {
    /// Reads the state of the lab in `dir`; none when no lab is up there.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        read_json(&dir.join(STATE_FILE))
    }

    /// Replaces the state of the lab in `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join(STATE_FILE), self)
    }

    /// Whether the foreground owner or any process of the lab still runs.
    pub fn is_alive(&self) -> bool {
        self.owner.is_some_and(ProcessRef::is_alive) || self.leftovers().next().is_some()
    }

    /// Whether somebody still wants it: its owner lives, or it has none and something of it runs. Anything else that
    /// runs is left over from a crash.
    pub fn is_wanted(&self) -> bool {
        match self.owner {
            Some(owner) => owner.is_alive(),
            None => self.leftovers().next().is_some(),
        }
    }

    /// Every service with its host.
    pub fn services(&self) -> impl Iterator<Item = (&HostState, &ServiceState)> {
        self.hosts
            .iter()
            .flat_map(|host| host.services.iter().map(move |service| (host, service)))
    }

    /// Every process of the lab that still runs.
    pub fn leftovers(&self) -> impl Iterator<Item = ProcessRef> {
        self.hosts
            .iter()
            .flat_map(|host| {
                host.services
                    .iter()
                    .filter_map(ServiceState::process)
                    .chain(host.machine)
            })
            .filter(|process| process.is_alive())
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<&HostState> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("unknown host {name:?}: this lab has {}", self.host_names()))
    }

    /// The host of that name, to be changed.
    pub fn host_mut(&mut self, name: &str) -> Result<&mut HostState> {
        let names = self.host_names();
        self.hosts
            .iter_mut()
            .find(|host| host.name == name)
            .with_context(|| format!("unknown host {name:?}: this lab has {names}"))
    }

    fn host_names(&self) -> String {
        self.hosts
            .iter()
            .map(|host| host.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl HostState {
    /// The service of that name.
    pub fn service(&self, name: &str) -> Result<&ServiceState> {
        self.services
            .iter()
            .find(|service| service.name == name)
            .with_context(|| self.unknown(name))
    }

    /// Process number of the service of that name, if the lab has started one.
    pub fn pid_of(&self, name: &str) -> Option<u32> {
        self.services.iter().find(|service| service.name == name)?.pid
    }

    /// The service of that name, to be changed.
    pub fn service_mut(&mut self, name: &str) -> Result<&mut ServiceState> {
        let message = self.unknown(name);
        self.services
            .iter_mut()
            .find(|service| service.name == name)
            .context(message)
    }

    fn unknown(&self, service: &str) -> String {
        let names: Vec<_> = self
            .services
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        format!(
            "unknown service {service:?}: host {} has {}",
            self.name,
            names.join(", ")
        )
    }
}

/// `${XDG_STATE_HOME:-~/.local/state}/mainstay`
pub(crate) fn state_home() -> Result<PathBuf> {
    Ok(xdg("XDG_STATE_HOME", ".local/state")?.join("mainstay"))
}

/// `${XDG_CACHE_HOME:-~/.cache}/mainstay`
pub(crate) fn cache_home() -> Result<PathBuf> {
    Ok(xdg("XDG_CACHE_HOME", ".cache")?.join("mainstay"))
}

/// A relative value is ignored, as the XDG base directory specification demands.
fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    match set {
        Some(path) => Ok(path),
        None => Ok(std::env::home_dir()
            .with_context(|| format!("cannot tell the home directory: set HOME or {variable}"))?
            .join(below_home)),
    }
}

/// Directory of the lab that `mainstay up` starts: `${XDG_STATE_HOME:-~/.local/state}/mainstay/lab`.
pub fn default_dir() -> Result<PathBuf> {
    Ok(state_home()?.join("lab"))
}

/// Holds `lab.lock` until dropped: one change of the lab at a time, across programs.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join("lab.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Reads a JSON file; none when it does not exist.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    serde_json::from_str(&text)
        .with_context(|| format!("cannot read {}: not the form this version writes", path.display()))
        .map(Some)
}

/// Writes a JSON file aside and renames it, so that a reader sees the old or the new one.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("cannot encode the state of the lab")?;
    text.push('\n');
    let aside = path.with_extension("json.new");
    std::fs::write(&aside, text).with_context(|| format!("cannot write {}", aside.display()))?;
    std::fs::rename(&aside, path).with_context(|| format!("cannot rename {}", aside.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_contract_stay() {
        let state = LabState {
            name: "mainstay".into(),
            form: Form::Process,
            owner: None,
            network: None,
            hosts: vec![HostState {
                name: "node1".into(),
                address: "127.0.0.11".parse().unwrap(),
                dir: "/lab/node1".into(),
                path: vec!["/lab/bin".into()],
                env: [(
                    "CHAINFIRE_ENDPOINT".to_owned(),
                    "http://127.0.0.11:2379".to_owned(),
                )]
                .into(),
                config_dir: "/lab/node1/etc".into(),
                enter: vec![],
                machine: None,
                services: vec![ServiceState {
                    name: "chainfire".into(),
                    pid: Some(7),
                    start_time: Some(9),
                    log: "/lab/node1/logs/chainfire.log".into(),
                    ready: "http://127.0.0.11:2379/readyz".into(),
                }],
            }],
        };
        let json = serde_json::to_value(&state).unwrap();
        let expected = serde_json::json!({
            "name": "mainstay", "form": "process", "owner": null,
            "hosts": [{
                "name": "node1", "address": "127.0.0.11", "dir": "/lab/node1", "path": ["/lab/bin"],
                "env": {"CHAINFIRE_ENDPOINT": "http://127.0.0.11:2379"}, "config_dir": "/lab/node1/etc",
                "enter": [],
                "services": [{
                    "name": "chainfire", "pid": 7, "start_time": 9, "log": "/lab/node1/logs/chainfire.log",
                    "ready": "http://127.0.0.11:2379/readyz"
                }]
            }]
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<LabState>(json).unwrap(), state);
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let state = LabState {
            name: "mainstay".into(),
            form: Form::Process,
            owner: None,
            network: None,
            hosts: vec![],
        };
        let error = state.host("nodeX").unwrap_err().to_string();
        assert_eq!(error, "unknown host \"nodeX\": this lab has ");
    }
}
