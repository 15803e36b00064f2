//! The hosts a runbook can use: from the running lab's state file, from `--on NAME=ADDRESS`, or only this machine.
//!
//! The lab writes `lab.json` into its state folder; this is the contract:
//!
//! ```json
//! {"name": "mainstay", "form": "process", "hosts": [
//!   {"name": "node1", "address": "127.0.0.11", "dir": "/…/node1", "config_dir": "/…/node1/etc",
//!    "path": ["/…/bin"], "env": {"CHAINFIRE_ENDPOINT": "http://127.0.0.11:2379"}, "enter": []}]}
//! ```
//!
//! `enter` (may be absent) holds the words that enter a container, put before `bash`. Fields not listed are the lab's own
//! business and are ignored. Every step gets `HOST_NAME` and `HOST_ADDR` of the host it runs on, `HOST_CONFIG_DIR` where the
//! lab names it, and `HOST_DIR` if the host is a folder of this machine; steps on `local` get those of the first host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::host::{Host, LocalHost};
use crate::model::Form;
use crate::ssh::Ssh;

/// Name of the state file in the lab's state folder.
pub const FILE_NAME: &str = "lab.json";

/// Largest state file read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The state file's content.
#[derive(Debug, Clone, serde::Deserialize)]
struct State {
    name: String,
    form: Form,
    hosts: Vec<HostState>,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct HostState {
    name: String,
    address: String,
    #[serde(default)]
    dir: Option<PathBuf>,
    #[serde(default)]
    config_dir: Option<PathBuf>,
    #[serde(default)]
    path: Vec<PathBuf>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    enter: Vec<String>,
}

/// The hosts of one run.
pub struct Hosts {
    /// Name of the lab, if there is one.
    pub lab: Option<String>,
    /// The lab's directory.
    pub lab_dir: Option<PathBuf>,
    /// What the hosts are; decides about steps with `when=`.
    pub form: Form,
    local: Box<dyn Host>,
    named: Vec<(String, Box<dyn Host>)>,
    /// Folders in front of `PATH` for commands on this machine outside a lab.
    programs: Vec<PathBuf>,
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hosts")
            .field("lab", &self.lab)
            .field("form", &self.form)
            .field("names", &self.names())
            .finish_non_exhaustive()
    }
}

impl Hosts {
    /// Only this machine.
    pub fn local_only() -> Self {
        Self::with_programs(Vec::new())
    }

    /// Only this machine, whose steps, and those on loopback addresses added later, find programs in these folders first.
    pub fn with_programs(programs: Vec<PathBuf>) -> Self {
        let env = host_variables("local", "127.0.0.1", None, None);
        let local = LocalHost {
            address: "127.0.0.1".to_owned(),
            path: programs.clone(),
            env,
            ..LocalHost::default()
        };
        Self {
            lab: None,
            lab_dir: None,
            form: Form::Machine,
            local: Box::new(local),
            named: Vec::new(),
            programs,
        }
    }

    /// The hosts of a lab described by the text of its state file.
    pub fn from_json(text: &str) -> anyhow::Result<Self> {
        let state: State = serde_json::from_str(text)?;
        let mut hosts = Self {
            lab: Some(state.name),
            form: state.form,
            ..Self::local_only()
        };
        for (index, host) in state.hosts.into_iter().enumerate() {
            // Inside a container the lab's own folder for the host means nothing.
            let folder = host.dir.filter(|dir| host.enter.is_empty() && dir.is_dir());
            let config = host.config_dir.as_deref();
            let mut env = host_variables(&host.name, &host.address, folder.as_deref(), config);
            env.extend(host.env);
            let runs = LocalHost {
                address: host.address,
                path: host.path,
                env,
                folder,
                enter: host.enter,
            };
            if index == 0 {
                hosts.programs = runs
                    .path
                    .iter()
                    .filter(|_| runs.enter.is_empty())
                    .cloned()
                    .collect();
                // The operator's own shell: same variables and programs, but outside the host.
                hosts.local = Box::new(LocalHost {
                    enter: Vec::new(),
                    folder: None,
                    ..runs.clone()
                });
            }
            hosts.insert(&host.name, Box::new(runs));
        }
        Ok(hosts)
    }

    /// Reads the state file in a lab's state folder.
    pub fn of_lab(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join(FILE_NAME);
        let bytes = std::fs::metadata(&file)
            .with_context(|| format!("read lab state {}: is the lab running?", file.display()))?
            .len();
        anyhow::ensure!(
            bytes <= FILE_BYTES_MAX,
            "read lab state {}: {bytes} bytes are too many",
            file.display()
        );
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read lab state {}", file.display()))?;
        let hosts = Self::from_json(&text).with_context(|| format!("read lab state {}", file.display()))?;
        Ok(Self {
            lab_dir: Some(std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())),
            ..hosts
        })
    }

    /// Adds a host, or puts it in the place of the one with this name.
    pub fn insert(&mut self, name: &str, host: Box<dyn Host>) {
        match self.named.iter_mut().find(|(known, _)| known == name) {
            Some(slot) => slot.1 = host,
            None => self.named.push((name.to_owned(), host)),
        }
    }

    /// Adds the host that `--on NAME=ADDRESS` names: on this machine if the address is a loopback one, else behind ssh.
    pub fn insert_address(&mut self, name: &str, address: &str) -> Result<(), String> {
        let name = crate::attribute::name("host", name)?;
        let loopback = address == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let bare = address.rsplit('@').next().unwrap_or(address);
        let env = host_variables(&name, bare, None, None);
        let host: Box<dyn Host> = if loopback {
            Box::new(LocalHost {
                address: address.to_owned(),
                path: self.programs.clone(),
                env,
                ..LocalHost::default()
            })
        } else {
            Box::new(Ssh::new(address, env)?)
        };
        self.insert(&name, host);
        Ok(())
    }

    /// The host of this name; `local` is always there.
    pub fn get(&self, name: &str) -> Option<&dyn Host> {
        if name == "local" {
            return Some(self.local.as_ref());
        }
        self.named
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, host)| host.as_ref())
    }

    /// Names of the hosts besides `local`.
    pub fn names(&self) -> Vec<&str> {
        self.named.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn host_variables(
    name: &str,
    address: &str,
    dir: Option<&Path>,
    config: Option<&Path>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("HOST_NAME".to_owned(), name.to_owned()),
        ("HOST_ADDR".to_owned(), address.to_owned()),
    ]);
    for (variable, folder) in [("HOST_DIR", dir), ("HOST_CONFIG_DIR", config)] {
        if let Some(folder) = folder {
            env.insert(variable.to_owned(), folder.display().to_string());
        }
    }
    env
}

/// Where the lab keeps its state unless told otherwise: `${XDG_STATE_HOME:-~/.local/state}/mainstay/lab`.
pub fn default_folder() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("mainstay/lab"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Stop, Task};

    const STATE: &str = r#"{"name": "l", "form": "process", "later": 1, "hosts": [
        {"name": "node1", "address": "127.0.0.11", "dir": "/", "config_dir": "/etc",
         "path": ["/opt/applets"], "env": {"CHAINFIRE_ENDPOINT": "http://127.0.0.11:2379"}},
        {"name": "node2", "address": "127.0.0.12", "enter": ["env", "INSIDE=yes"]}]}"#;

    async fn shell(hosts: &Hosts, host: &str, command: &str) -> String {
        let (_stopper, stop) = Stop::pair();
        let env = BTreeMap::new();
        let task = Task {
            command,
            env: &env,
            timeout: std::time::Duration::from_secs(10),
        };
        hosts.get(host).unwrap().run(&task, &stop).await.unwrap().stdout
    }

    #[tokio::test]
    async fn steps_see_the_host_they_run_on() {
        let hosts = Hosts::from_json(STATE).unwrap();
        assert_eq!(
            (hosts.form, hosts.names()),
            (Form::Process, vec!["node1", "node2"])
        );
        let show =
            "echo $HOST_NAME $HOST_ADDR ${HOST_DIR-} ${HOST_CONFIG_DIR-} ${CHAINFIRE_ENDPOINT-} ${PATH%%:*}";
        assert_eq!(
            shell(&hosts, "node1", show).await,
            "node1 127.0.0.11 / /etc http://127.0.0.11:2379 /opt/applets\n"
        );
        assert_eq!(
            shell(&hosts, "local", "echo $CHAINFIRE_ENDPOINT").await,
            "http://127.0.0.11:2379\n"
        );
        assert_eq!(
            shell(&hosts, "node2", "echo $HOST_ADDR $INSIDE").await,
            "127.0.0.12 yes\n"
        );
    }

    #[test]
    fn named_address_replaces_the_lab_s_host() {
        let mut hosts = Hosts::from_json(STATE).unwrap();
        hosts.insert_address("node1", "127.0.0.99").unwrap();
        hosts.insert_address("hub", "ops@192.0.2.1").unwrap();
        assert_eq!(hosts.get("node1").unwrap().address(), "127.0.0.99");
        assert_eq!(hosts.get("hub").unwrap().address(), "192.0.2.1");
        assert!(hosts.insert_address("hub", "-x").is_err());
        assert!(hosts.insert_address("Hub", "127.0.0.1").is_err());
    }

    #[tokio::test]
    async fn hosts_outside_a_lab_find_the_given_programs() {
        let mut hosts = Hosts::with_programs(vec!["/opt/applets".into()]);
        hosts.insert_address("node1", "127.0.0.99").unwrap();
        for host in ["local", "node1"] {
            assert_eq!(shell(&hosts, host, "echo ${PATH%%:*}").await, "/opt/applets\n");
        }
    }

    #[test]
    fn missing_state_says_what_to_look_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = Hosts::of_lab(folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("is the lab running?"), "{error:#}");
    }
}
