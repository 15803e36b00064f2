//! Where a formation's state lies: in Chainfire or any other etcd v3 store, or, with one monitor on one machine, in a file.
//!
//! Both do the same, in the terms of [`etcd::store`]: read a prefix as of one moment, change several keys if they are as they were read, hold
//! leases, hear of changes. What several processes must not disagree on is only ever changed so.

pub mod file;

use std::path::Path;
use std::time::Duration;

pub use etcd::store::{Change, Changes, Entry, Error, Outcome, Snapshot};
use file::FileStore;
use service::clock::SharedClock;

/// A store.
#[derive(Debug, Clone)]
pub enum Store {
    /// Chainfire, or another etcd v3 store.
    Etcd(std::sync::Arc<etcd::Store>),
    /// A file of this process.
    File(FileStore),
}

/// A stream of changes.
#[derive(Debug)]
pub enum Watch {
    /// From the server.
    Etcd(etcd::store::Watch),
    /// From this process.
    File(file::Watch),
}

impl Store {
    /// Of `http://` or `https://` endpoints, which are asked in their order.
    pub fn of_endpoints(endpoints: &[String], timeout: Duration) -> Result<Store, Error> {
        Ok(Store::Etcd(etcd::Store::new(endpoints, None, timeout)?.into()))
    }

    /// In a file, which is made if it is not there. Only one process may use it.
    pub fn in_file(path: &Path, clock: SharedClock) -> Result<Store, Error> {
        Ok(Store::File(FileStore::open(path, clock)?))
    }

    /// The same over connections of its own, with another limit for one answer of one endpoint.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Store {
        match self {
            Store::Etcd(store) => Store::Etcd(store.with_timeout(timeout).into()),
            Store::File(store) => Store::File(store.clone()),
        }
    }

    /// All keys that begin with `prefix`, at one moment.
    pub async fn read(&self, prefix: &str) -> Result<Snapshot, Error> {
        match self {
            Store::Etcd(store) => store.read(prefix).await,
            Store::File(store) => Ok(store.read(prefix)),
        }
    }

    /// Makes a change if everything is as it says. After [`Error::Unknown`] it may have happened, or may still.
    pub async fn commit(&self, change: Change) -> Result<Outcome, Error> {
        match self {
            Store::Etcd(store) => store.commit(change).await,
            Store::File(store) => store.commit(&change),
        }
    }

    /// A lease that lives for so many seconds without renewal.
    pub async fn grant(&self, seconds: i64) -> Result<i64, Error> {
        match self {
            Store::Etcd(store) => store.grant(seconds).await,
            Store::File(store) => store.grant(seconds),
        }
    }

    /// Renews a lease. Answers whether it still lived.
    pub async fn renew(&self, lease: i64) -> Result<bool, Error> {
        match self {
            Store::Etcd(store) => store.renew(lease).await,
            Store::File(store) => Ok(store.renew(lease)),
        }
    }

    /// What happens to keys that begin with `prefix` from that revision on.
    pub async fn watch(&self, prefix: &str, from: i64) -> Result<Watch, Error> {
        match self {
            Store::Etcd(store) => Ok(Watch::Etcd(store.watch(prefix, from).await?)),
            Store::File(store) => Ok(Watch::File(store.watch(prefix, from))),
        }
    }
}

impl Watch {
    /// The next changes. After an error the stream is over; read again, and watch from there.
    pub async fn next(&mut self) -> Result<Changes, Error> {
        match self {
            Watch::Etcd(watch) => watch.next().await,
            Watch::File(watch) => watch.next().await,
        }
    }
}
