//! How the members of each system are started.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::clock::Clock;
use crate::network::{End, Network};

/// A small distance between snapshots, so that members that return from a short absence often need one.
const SNAPSHOT_ENTRIES: u32 = 1000;
const SNAPSHOT_CATCHUP_ENTRIES: u32 = 200;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// Debian's etcd.
    Etcd,
    /// Ours.
    Chainfire,
}

/// What members are made of.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) mainstay: PathBuf,
    /// What makes their clocks steppable, if it could be made.
    pub(crate) clock_library: Option<PathBuf>,
}

/// How one member is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) words: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// The member's wall clock, if it can be stepped.
    pub(crate) clock: Option<Clock>,
}

impl System {
    /// The name in reports and paths.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Chainfire => "chainfire",
        }
    }

    /// How to start a member, always the same for the same directory.
    pub(crate) fn launch(
        self,
        programs: &Programs,
        dir: &Path,
        member: usize,
        members: usize,
        network: &Network,
    ) -> Result<Launch> {
        let Programs {
            mainstay,
            clock_library,
        } = programs;
        let clock_library = clock_library.as_deref();
        let address = network.address(End::Member(member))?;
        let peers = (0..members)
            .map(|at| Ok((at + 1, network.address(End::Member(at))?)))
            .collect::<Result<Vec<_>>>()?;
        let list = |each: &dyn Fn(&(usize, std::net::Ipv4Addr)) -> String, between: &str| {
            peers.iter().map(each).collect::<Vec<_>>().join(between)
        };
        let id = member + 1;
        let data = dir.join("data");
        match self {
            Self::Etcd => {
                let initial = list(&|(id, address)| format!("m{id}=http://{address}:2380"), ",");
                Ok(Launch {
                    words: vec![
                        "etcd".to_owned(),
                        format!("--name=m{id}"),
                        format!("--data-dir={}", data.display()),
                        format!("--listen-client-urls=http://{address}:2379"),
                        format!("--advertise-client-urls=http://{address}:2379"),
                        format!("--listen-peer-urls=http://{address}:2380"),
                        format!("--initial-advertise-peer-urls=http://{address}:2380"),
                        format!("--initial-cluster={initial}"),
                        "--heartbeat-interval=100".to_owned(),
                        "--election-timeout=1000".to_owned(),
                        format!("--snapshot-count={SNAPSHOT_ENTRIES}"),
                        "--log-level=info".to_owned(),
                        "--logger=zap".to_owned(),
                        "--log-outputs=stderr".to_owned(),
                    ],
                    // Go asks the kernel itself for the time.
                    env: Vec::new(),
                    clock: None,
                })
            }
            Self::Chainfire => {
                let initial = list(
                    &|(id, address)| format!("{{ id = {id}, peer_url = \"{address}:2380\" }}"),
                    ", ",
                );
                let config = format!(
                    "[node]\nid = {id}\n\n[cluster]\nid = 1\nbootstrap = true\ninitial_members = [{initial}]\n\n\
                     [network]\napi_addr = \"{address}:2379\"\nraft_addr = \"{address}:2380\"\ngossip_addr = \"{address}:2381\"\n\n\
                     [raft]\nsnapshot_entries = {SNAPSHOT_ENTRIES}\nsnapshot_catchup_entries = {SNAPSHOT_CATCHUP_ENTRIES}\n\n\
                     [storage]\ndata_dir = \"{}\"\n",
                    data.display()
                );
                let file = dir.join("chainfire.toml");
                std::fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
                let clock = Clock::create(&dir.join("clock"))?;
                let env = clock_library
                    .map(|library| clock.env(library))
                    .unwrap_or_default();
                Ok(Launch {
                    words: vec![
                        mainstay.display().to_string(),
                        "chainfire".to_owned(),
                        "--config".to_owned(),
                        file.display().to_string(),
                    ],
                    env,
                    clock: clock_library.map(|_| clock),
                })
            }
        }
    }
}
