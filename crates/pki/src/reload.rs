//! The configuration in use, and files that take its place when they change.
//!
//! A certificate and its key are two files, so between the first and the second new one they do not fit together. New files are
//! therefore taken when two looks in a row have seen the same, and files that cannot be used are told once, not at every look.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};

use super::Error;
use super::certificate::Certificate;
use super::material::{ClientAuth, Material, Paths, Warning, client_config, server_config};

/// See the module.
#[derive(Debug)]
pub struct Reloadable {
    paths: Paths,
    clients: ClientAuth,
    alpn: &'static [&'static [u8]],
    current: ArcSwap<Current>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Current {
    server: Arc<ServerConfig>,
    /// There if there are authorities to verify servers by.
    client: Option<Arc<ClientConfig>>,
    leaf: Certificate,
    warnings: Vec<Warning>,
}

/// What a look has found.
#[derive(Debug)]
pub enum Look {
    /// Nothing new, or something that is still changing.
    Quiet,
    /// New files are in use.
    Reloaded,
    /// New files cannot be used; the old ones stay in use.
    Refused(Error),
}

/// What identifies the content of the three files without reading them. Includes the time of change of owner and mode, so that a
/// key that becomes readable is tried again.
type Print = Vec<Option<(u64, u64, i64, i64, i64, i64)>>;

#[derive(Debug)]
struct Seen {
    /// Taken, or refused and told.
    settled: Print,
    /// Of the last look.
    last: Print,
}

impl Reloadable {
    /// Loads for the first time, when a mistake is a reason not to start.
    pub fn load(
        paths: Paths,
        clients: ClientAuth,
        alpn: &'static [&'static [u8]],
        now_unix_s: u64,
    ) -> Result<Reloadable, Error> {
        let print = print(&paths);
        let current = current(&paths, clients, alpn, now_unix_s)?;
        Ok(Reloadable {
            paths,
            clients,
            alpn,
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(Seen {
                settled: print.clone(),
                last: print,
            }),
        })
    }

    /// What the next connection is served with.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.current.load().server.clone()
    }

    /// What the next connection to another machine is begun with: it verifies that machine by the same authorities and shows the same
    /// certificate. Nothing if no authorities are named.
    pub fn client(&self) -> Option<Arc<ClientConfig>> {
        self.current.load().client.clone()
    }

    /// The certificate in use.
    pub fn leaf(&self) -> Certificate {
        self.current.load().leaf.clone()
    }

    /// What there was to tell when it was loaded.
    pub fn warnings(&self) -> Vec<Warning> {
        self.current.load().warnings.clone()
    }

    /// Where the files are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Looks at the files and takes what has changed. To be called every few seconds.
    pub fn look(&self, now_unix_s: u64) -> Look {
        let print = print(&self.paths);
        {
            let mut seen = self.seen.lock();
            let is_stable = seen.last == print;
            seen.last.clone_from(&print);
            if !is_stable || seen.settled == print {
                return Look::Quiet;
            }
            seen.settled = print;
        }
        match self.take(now_unix_s) {
            Ok(()) => Look::Reloaded,
            Err(error) => Look::Refused(error),
        }
    }

    /// Takes the files as they are, because somebody said that they are complete.
    pub fn reload(&self, now_unix_s: u64) -> Result<(), Error> {
        let print = print(&self.paths);
        *self.seen.lock() = Seen {
            settled: print.clone(),
            last: print,
        };
        self.take(now_unix_s)
    }

    fn take(&self, now_unix_s: u64) -> Result<(), Error> {
        let next = current(&self.paths, self.clients, self.alpn, now_unix_s)?;
        self.current.store(Arc::new(next));
        Ok(())
    }
}

fn current(paths: &Paths, clients: ClientAuth, alpn: &[&[u8]], now_unix_s: u64) -> Result<Current, Error> {
    let material = Material::load(paths, now_unix_s)?;
    let client = match material.authorities() {
        Some(authorities) => Some(Arc::new(client_config(authorities, Some(&material), alpn)?)),
        None => None,
    };
    Ok(Current {
        server: Arc::new(server_config(&material, clients, alpn)?),
        client,
        leaf: material.leaf,
        warnings: material.warnings,
    })
}

fn print(paths: &Paths) -> Print {
    let of = |path: &Path| {
        let m = std::fs::metadata(path).ok()?;
        Some((
            m.ino(),
            m.size(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec(),
        ))
    };
    [
        Some(&paths.certificate),
        Some(&paths.key),
        paths.authorities.as_ref(),
    ]
    .into_iter()
    .flatten()
    .map(|path| of(path))
    .collect()
}
