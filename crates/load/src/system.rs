//! The two systems: how each is started and asked whether it is ready.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
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
}

impl System {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Chainfire => "chainfire",
        }
    }

    /// The path that answers 200 once the server serves.
    pub(crate) fn ready_path(self) -> &'static str {
        match self {
            Self::Etcd => "/health",
            Self::Chainfire => "/readyz",
        }
    }

    /// The program and arguments that serve `dir` on these ports. Calling it again for the same directory gives the same server.
    pub(crate) fn command(self, mainstay: &Path, dir: &Path, ports: Ports) -> Result<Vec<String>> {
        let Ports { api, peer, gossip } = ports;
        let data = text(&dir.join("data"))?;
        match self {
            Self::Etcd => Ok(vec![
                "etcd".to_owned(),
                format!("--data-dir={data}"),
                format!("--listen-client-urls=http://127.0.0.1:{api}"),
                format!("--advertise-client-urls=http://127.0.0.1:{api}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
                format!("--quota-backend-bytes={QUOTA_BYTES}"),
                "--log-level=error".to_owned(),
            ]),
            Self::Chainfire => {
                let file = dir.join("chainfire.toml");
                let config = format!(
                    "[node]\nid = 1\n\n[cluster]\nbootstrap = true\n\n\
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
        };
        let output = command
            .arg("--version")
            .output()
            .with_context(|| format!("run {} --version", command.get_program().display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or("version not told").to_owned())
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| {
        format!(
            "path {} is not UTF-8, which the configuration needs",
            path.display()
        )
    })
}
