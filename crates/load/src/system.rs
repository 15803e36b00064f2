//! The systems: how each is called, which of two is ours, and how the stores are started and asked whether they are ready.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::server::Ports;

/// Both stores get the same quota, far above what any scenario writes.
const QUOTA_BYTES: u64 = 8 << 30;

/// A system under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// Debian's etcd, the rival.
    Etcd,
    /// Ours.
    Chainfire,
    /// Debian's Prometheus with its blackbox exporter, the rival of qu.
    Blackbox,
    /// Ours.
    Qu,
}

impl System {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Chainfire => "chainfire",
            Self::Blackbox => "blackbox",
            Self::Qu => "qu",
        }
    }

    /// Whether it is held against the other.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Chainfire | Self::Qu)
    }

    /// The path that answers 200 once the server serves.
    pub(crate) fn ready_path(self) -> &'static str {
        match self {
            Self::Etcd => "/health",
            Self::Chainfire | Self::Qu => "/readyz",
            Self::Blackbox => "/-/ready",
        }
    }

    /// The program and arguments that serve `dir` as this one of the members that have these ports. Calling it again for the same
    /// directory gives the same server. Both systems run with the same tick (100 ms) and election timeout (1 s), their defaults.
    pub(crate) fn command(
        self,
        mainstay: &Path,
        dir: &Path,
        member: usize,
        members: &[Ports],
    ) -> Result<Vec<String>> {
        let Ports { api, peer, gossip } = members[member];
        let data = text(&dir.join("data"))?;
        let list = |each: &dyn Fn(usize, u16) -> String, between: &str| {
            let all: Vec<String> = members
                .iter()
                .enumerate()
                .map(|(at, ports)| each(at + 1, ports.peer))
                .collect();
            all.join(between)
        };
        let id = member + 1;
        match self {
            Self::Etcd => Ok(vec![
                "etcd".to_owned(),
                format!("--name=member{id}"),
                format!("--data-dir={data}"),
                format!("--listen-client-urls=http://127.0.0.1:{api}"),
                format!("--advertise-client-urls=http://127.0.0.1:{api}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!(
                    "--initial-cluster={}",
                    list(&|id, peer| format!("member{id}=http://127.0.0.1:{peer}"), ",")
                ),
                "--heartbeat-interval=100".to_owned(),
                "--election-timeout=1000".to_owned(),
                format!("--quota-backend-bytes={QUOTA_BYTES}"),
                "--log-level=error".to_owned(),
            ]),
            Self::Chainfire => {
                let file = dir.join("chainfire.toml");
                let cluster = if members.len() > 1 {
                    let initial = list(
                        &|id, peer| format!("{{ id = {id}, peer_url = \"127.0.0.1:{peer}\" }}"),
                        ", ",
                    );
                    format!("id = 1\nbootstrap = true\ninitial_members = [{initial}]")
                } else {
                    "bootstrap = true".to_owned()
                };
                let config = format!(
                    "[node]\nid = {id}\n\n[cluster]\n{cluster}\n\n\
                     [network]\napi_addr = \"127.0.0.1:{api}\"\nraft_addr = \"127.0.0.1:{peer}\"\ngossip_addr = \"127.0.0.1:{gossip}\"\n\n\
                     [storage]\ndata_dir = {data:?}\nquota_backend_bytes = {QUOTA_BYTES}\n"
                );
                std::fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
                Ok(vec![
                    text(mainstay)?,
                    "chainfire".to_owned(),
                    "--config".to_owned(),
                    text(&file)?,
                ])
            }
            Self::Blackbox | Self::Qu => bail!("{} is no store", self.name()),
        }
    }

    /// What the program says of its version; the first line.
    pub(crate) fn version(self, mainstay: &Path) -> Result<String> {
        let mut command = match self {
            Self::Etcd => Command::new("etcd"),
            Self::Chainfire => {
                let mut command = Command::new(mainstay);
                command.arg("chainfire");
                command
            }
            Self::Blackbox => Command::new("prometheus"),
            Self::Qu => {
                let mut command = Command::new(mainstay);
                command.arg("qu");
                command
            }
        };
        let output = command
            .arg("--version")
            .output()
            .with_context(|| format!("run {} --version", command.get_program().display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or("version not told").to_owned())
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| {
        format!(
            "path {} is not UTF-8, which the configuration needs",
            path.display()
        )
    })
}
