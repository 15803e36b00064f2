//! Which directory or store a command is about.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use service::exit::with_code;

use super::{CONFIG, STORE, of_store};
use crate::config::{Config, Folders};
use crate::group::GroupState;
use crate::layout::{self, GroupId};
use crate::store::{Snapshot, Store};

/// How long one question to the store may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Scheme of a store's address.
const SCHEME: &str = "chainfire://";
/// Where Chainfire and etcd listen.
const PORT: &str = "2379";

/// Where a command finds the formation.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Where {
    /// Data directory of a configured node or monitor
    #[arg(long, env = "PGDATA", value_name = "DIR")]
    pub(super) pgdata: Option<PathBuf>,

    /// Store of the monitors: chainfire://HOST[:PORT][,...]
    #[arg(long, env = "PG_AUTOCTL_MONITOR", value_name = "URI")]
    pub(super) monitor: Option<String>,
}

/// One formation of all there are.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct InFormation {
    #[command(flatten)]
    pub(super) place: Where,

    /// Formation
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(super) formation: String,

    /// Group; there is only 0
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=0))]
    pub(super) group: u32,
}

impl InFormation {
    /// The store, and the group as it is.
    pub(super) async fn read(&self) -> Result<(Store, GroupState)> {
        let store = self.place.store()?;
        let id = GroupId::of(&self.formation)?;
        let state = read(&store, &id).await?;
        if state.formation.is_none() {
            bail!("there is no formation `{}`", self.formation);
        }
        Ok((store, state))
    }
}

/// A group as it is.
pub(super) async fn read(store: &Store, id: &GroupId) -> Result<GroupState> {
    let snapshot: Snapshot = store.read(layout::PREFIX).await.map_err(of_store)?;
    GroupState::read(&snapshot, id).map_err(|wrong| with_code(STORE, wrong))
}

impl Where {
    /// The store: as given, or of the directory, or of all directories of this user if they share one.
    pub(super) fn store(&self) -> Result<Store> {
        open(&self.uri()?)
    }

    /// Its address.
    pub(super) fn uri(&self) -> Result<String> {
        if let Some(uri) = &self.monitor {
            return Ok(uri.clone());
        }
        if self.pgdata.is_some() {
            return monitor_of(&self.directory()?);
        }
        let configured = folders().configured();
        let mut uris = Vec::new();
        for directory in &configured {
            let uri = monitor_of(directory)?;
            if !uris.contains(&uri) {
                uris.push(uri);
            }
        }
        match uris.as_slice() {
            [] => bail!("nothing is configured for this user: give --pgdata DIR or --monitor URI"),
            [uri] => Ok(uri.clone()),
            _ => bail!(
                "several monitors are configured: give --pgdata or --monitor; there are {}",
                listed(&configured)
            ),
        }
    }

    /// The directory: as given, or the only one of this user.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        if let Some(given) = &self.pgdata {
            return absolute(given);
        }
        let configured = folders().configured();
        match configured.as_slice() {
            [] => bail!("nothing is configured for this user: give --pgdata DIR"),
            [one] => Ok(one.clone()),
            _ => bail!(
                "several directories are configured: give --pgdata; there are {}",
                listed(&configured)
            ),
        }
    }
}

fn listed(directories: &[PathBuf]) -> String {
    let shown: Vec<String> = directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// Folders of this user's files.
pub(super) fn folders() -> Folders {
    Folders::of(|name| std::env::var(name).ok())
}

/// A path that does not depend on where the command was started, as it is part of other paths.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).with_context(|| path.display().to_string())?;
    // What is there may be reached by several names.
    Ok(absolute.canonicalize().unwrap_or(absolute))
}

/// The configuration of a directory.
pub(super) fn config_of(directory: &Path) -> Result<Config> {
    let path = folders().paths(directory).config;
    if !path.exists() {
        bail!(
            "{} is not configured: there is no {}",
            directory.display(),
            path.display()
        );
    }
    Config::read(&path).map_err(|invalid| with_code(CONFIG, invalid))
}

fn monitor_of(directory: &Path) -> Result<String> {
    let config = config_of(directory)?;
    let uri = config
        .need("pg_autoctl.monitor")
        .map_err(|invalid| with_code(CONFIG, invalid))?;
    Ok(uri.to_owned())
}

/// Opens the store of that address.
pub(super) fn open(uri: &str) -> Result<Store> {
    Store::of_endpoints(&endpoints(uri)?, ANSWER).map_err(of_store)
}

fn endpoints(uri: &str) -> Result<Vec<String>> {
    let Some(hosts) = uri.strip_prefix(SCHEME) else {
        return Err(anyhow!(
            "`{uri}` cannot be used: monitors and nodes meet in a store; give {SCHEME}HOST[:PORT][,...]"
        ));
    };
    hosts
        .split(',')
        .map(|host| {
            let (name, port) = match host.rsplit_once(':') {
                Some((name, port)) if !port.ends_with(']') => (name, port),
                _ => (host, PORT),
            };
            if name.is_empty() || port.parse::<u16>().is_err() || name.contains('/') {
                bail!("`{host}` in `{uri}` is not HOST or HOST:PORT");
            }
            Ok(format!("http://{name}:{port}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_their_hosts() {
        let read = |uri| endpoints(uri).map_err(|error| error.to_string());
        assert_eq!(
            read("chainfire://a,b:1,[::1]:2"),
            Ok(vec![
                "http://a:2379".to_owned(),
                "http://b:1".to_owned(),
                "http://[::1]:2".to_owned()
            ])
        );
        for wrong in [
            "file",
            "postgres://autoctl_node@h:5432/pg_auto_failover",
            "chainfire://",
            "chainfire://a:b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
