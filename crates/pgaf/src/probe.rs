//! One look of the monitor at a node's PostgreSQL.

use std::future::Future;
use std::time::Duration;

use crate::NodeId;

/// Whom to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub node: NodeId,
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// It is a primary, so it has to be able to write too.
    pub writable: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It answers.
    Good {
        /// It is in recovery.
        standby: bool,
    },
    /// Its host answers that nobody listens.
    Refused,
    /// Anything else: silence, a refused login, a write that failed.
    Bad(String),
}

/// Somebody who looks: a real login and a query. Never takes longer than `timeout`, and never fails other than by what it finds.
pub trait Probe: Send + Sync + 'static {
    /// One look.
    fn look(&self, target: &Target, timeout: Duration) -> impl Future<Output = Found> + Send;
}
