//! What a lab consists of, as plain data: hosts, the services on each, and how to tell that a service is ready.
//!
//! A topology names no address and no directory, because those are known only once a form has been chosen and an
//! address block has been taken. Texts that need them carry *placeholders*, filled in by [`Places::fill`], those of other hosts
//! before by [`Topology::resolve`]:
//!
//! | placeholder | process form | machine form |
//! | --- | --- | --- |
//! | `{host}` | the host's name | the host's name |
//! | `{address}` | its loopback address | its address on the lab's bridge |
//! | `{address:HOST}` | that of the host of this name | that of the host of this name |
//! | `{config_dir}` | `DIR/HOST/etc` | the service's own `config_dir`, e.g. `/etc/centra-cloud` |
//! | `{data_dir}` | `DIR/HOST/data/SERVICE` | the service's own `data_dir`, e.g. `/var/lib/chainfire` |
//!
//! Any other text in braces is left alone, so TOML and JSON need no escaping.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// How hosts come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A host is a loopback address and a directory; needs no root.
    Process,
    /// A host is a systemd-nspawn container with a real Debian; needs root.
    Machine,
}

impl Form {
    /// The word used in `lab.json` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Machine => "machine",
        }
    }
}

/// All hosts of one lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Short name, shown by listings; letters, digits and `-`.
    pub name: String,
    /// Hosts in the order in which they are started.
    pub hosts: Vec<HostSpec>,
}

/// One host and what runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Host name, unique in the lab; letters, digits and `-`.
    pub name: String,
    /// Services in the order in which they are started: the first ones of all hosts together, then the second ones, and so on.
    #[serde(default)]
    pub services: Vec<ServiceSpec>,
    /// Debian packages which a machine of this host carries besides the base system. The process form ignores it.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// One long-running program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Unit name without `.service`; unique on its host.
    pub name: String,
    /// What to execute.
    pub program: Program,
    /// Arguments; placeholders allowed.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment of the service; placeholders allowed in values.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Configuration file written before the first start.
    #[serde(default)]
    pub config: Option<ConfigFile>,
    /// How to tell that it serves.
    pub ready: Readiness,
    /// Variables which commands run on the host want (where the service is found); placeholders allowed in values.
    #[serde(default)]
    pub host_env: BTreeMap<String, String>,
    /// What `{config_dir}` means in a machine.
    #[serde(default = "machine_config_dir")]
    pub machine_config_dir: String,
    /// What `{data_dir}` means in a machine.
    #[serde(default = "machine_data_dir")]
    pub machine_data_dir: String,
}

fn machine_config_dir() -> String {
    "/etc".into()
}

fn machine_data_dir() -> String {
    "/var/lib/lab".into()
}

/// Where the program of a service comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// A name of the multi-call `mainstay` binary, found in the lab's `bin` directory.
    Applet(String),
    /// A program on `PATH`, or an absolute path.
    Path(String),
}

impl Program {
    /// The name or path as it was given.
    pub fn name(&self) -> &str {
        match self {
            Self::Applet(name) | Self::Path(name) => name,
        }
    }
}

/// A file placed in the host's configuration directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// File name below `{config_dir}`.
    pub name: String,
    /// Text; placeholders allowed.
    pub contents: String,
}

/// How to tell that a service is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// `GET http://{address}:port/path` answers with status 200.
    Http {
        /// Port on the host's address.
        port: u16,
        /// Path, with its leading slash.
        path: String,
    },
    /// A TCP connection to this port of the host's address is accepted.
    Tcp {
        /// Port on the host's address.
        port: u16,
    },
}

impl Readiness {
    /// The port that is asked.
    pub fn port(&self) -> u16 {
        match self {
            Self::Http { port, .. } | Self::Tcp { port } => *port,
        }
    }
}

impl Topology {
    /// Refuses names that could not be a directory, a host name and a unit name, and names given twice.
    pub fn check(&self) -> Result<()> {
        check_name("lab", &self.name)?;
        ensure!(
            !self.hosts.is_empty(),
            "lab {}: has no hosts: name at least one",
            self.name
        );
        let mut hosts = BTreeSet::new();
        for host in &self.hosts {
            check_name("host", &host.name)?;
            ensure!(
                hosts.insert(&host.name),
                "lab {}: host {} is named twice",
                self.name,
                host.name
            );
            let mut services = BTreeSet::new();
            for service in &host.services {
                check_name("service", &service.name)?;
                ensure!(
                    services.insert(&service.name),
                    "host {}: service {} is named twice",
                    host.name,
                    service.name
                );
                if let Some(file) = &service.config {
                    ensure!(
                        !file.name.is_empty() && !file.name.contains('/') && !file.name.starts_with('.'),
                        "service {}: bad config file name {:?}: want a plain file name",
                        service.name,
                        file.name
                    );
                }
            }
        }
        Ok(())
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&HostSpec> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Fills in every `{address:HOST}`; `address` gives that of the host with this index.
    ///
    /// # Errors
    /// If a host is named that the topology does not have, or `address` fails.
    pub fn resolve(&mut self, address: impl Fn(usize) -> Result<Ipv4Addr>) -> Result<()> {
        let names = self.hosts.iter().map(|host| host.name.clone()).enumerate();
        let addresses = names
            .map(|(index, name)| Ok((name, address(index)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        for host in &mut self.hosts {
            for service in &mut host.services {
                for text in service.texts() {
                    *text = fill_addresses(text, &addresses)?;
                }
            }
        }
        Ok(())
    }
}

impl ServiceSpec {
    /// Every text that may hold placeholders.
    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        self.args
            .iter_mut()
            .chain(self.env.values_mut())
            .chain(self.host_env.values_mut())
            .chain(self.config.as_mut().map(|file| &mut file.contents))
    }
}

fn fill_addresses(text: &str, addresses: &BTreeMap<String, Ipv4Addr>) -> Result<String> {
    let mut parts = text.split("{address:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        let Some(address) = addresses.get(name) else {
            let known: Vec<&str> = addresses.keys().map(String::as_str).collect();
            let named: String = name.chars().take(63).collect();
            bail!(
                "no host {named:?} for the placeholder {{address:{named}}}: the lab has {}",
                known.join(", ")
            );
        };
        out.push_str(&address.to_string());
        out.push_str(rest);
    }
    Ok(out)
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ensure!(
        fits,
        "bad {what} name {name:?}: want 1 to 63 of a-z, 0-9 and -, not starting with -"
    );
    Ok(())
}

/// The values of the placeholders for one service on one host.
#[derive(Debug, Clone)]
pub struct Places {
    /// `{host}`
    pub host: String,
    /// `{address}`
    pub address: String,
    /// `{config_dir}`
    pub config_dir: String,
    /// `{data_dir}`
    pub data_dir: String,
}

impl Places {
    /// Replaces every placeholder in one pass, so that a value is never searched for placeholders itself.
    pub fn fill(&self, text: &str) -> String {
        let values = [
            ("{host}", &self.host),
            ("{address}", &self.address),
            ("{config_dir}", &self.config_dir),
            ("{data_dir}", &self.data_dir),
        ];
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some((name, value)) = values.iter().find(|(name, _)| rest.starts_with(name)) {
                out.push_str(value);
                rest = &rest[name.len()..];
            } else {
                out.push('{');
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            host: "node1".into(),
            address: "127.0.0.11".into(),
            config_dir: "/lab/etc".into(),
            data_dir: "/lab/{host}".into(),
        }
    }

    #[test]
    fn placeholders_are_filled_once_and_other_braces_stay() {
        let filled = places().fill("{ id = 1, a = \"{address}:1\", d = {data_dir} } {unknown} {");
        assert_eq!(
            filled,
            "{ id = 1, a = \"127.0.0.11:1\", d = /lab/{host} } {unknown} {"
        );
    }

    #[test]
    fn addresses_of_other_hosts_are_filled_in_and_unknown_hosts_refused() {
        let text = |text: &str| {
            let json = serde_json::json!({ "name": "t", "hosts": [{ "name": "node1" }, { "name": "node2", "services": [{
                "name": "s", "program": { "path": "true" }, "ready": { "tcp": { "port": 1 } }, "args": [text],
            }]}]});
            let mut topology: Topology = serde_json::from_value(json).unwrap();
            topology.resolve(|index| Ok([127, 0, 0, 11 + index as u8].into()))?;
            Ok::<_, anyhow::Error>(topology.hosts[1].services[0].args[0].clone())
        };
        assert_eq!(
            text("{address:node1}:1,{address:node2}:1 {address}").unwrap(),
            "127.0.0.11:1,127.0.0.12:1 {address}"
        );
        assert_eq!(
            text("a {address:node3} b").unwrap_err().to_string(),
            "no host \"node3\" for the placeholder {address:node3}: the lab has node1, node2"
        );
        assert!(text("{address:").is_err());
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let mut topology = Topology {
            name: "t".into(),
            hosts: vec![HostSpec {
                name: "../x".into(),
                services: vec![],
                packages: vec![],
            }],
        };
        let error = topology.check().unwrap_err().to_string();
        assert!(error.contains("bad host name \"../x\""), "{error}");
        topology.hosts[0].name = "node1".into();
        topology.hosts.push(topology.hosts[0].clone());
        assert_eq!(
            topology.check().unwrap_err().to_string(),
            "lab t: host node1 is named twice"
        );
    }
}
