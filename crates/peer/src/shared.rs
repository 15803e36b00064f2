//! What all tasks of a transport know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use consensus::NodeId;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Handshakes;
use crate::bulk::Places;
use crate::handler::{Handler, Version};
use crate::handshake::{Cause, Greeting, Own, Purpose, Refusal};
use crate::peers::Peers;
use crate::settings::{EXTRA_MAX, Limits, Settings, Tls};
use crate::tell::Tell;

/// See the module.
pub(crate) struct Shared {
    pub(crate) own: Own,
    /// Of this run.
    instance: u64,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Tls>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) peers: Peers,
    pub(crate) tell: Tell,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) places: Arc<Places>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    numbers: AtomicU64,
}

impl Shared {
    pub(crate) fn new(settings: &Settings, handler: Arc<dyn Handler>) -> Arc<Shared> {
        let own = Own {
            version: Version::OURS,
            cluster: settings.cluster,
            node: settings.node,
        };
        Arc::new(Shared {
            own,
            instance: random(),
            limits: settings.limits.clone(),
            tls: settings.tls.clone(),
            handler,
            peers: Peers::default(),
            tell: Tell::new(settings.clock.clone(), own),
            handshakes: Handshakes::new(settings.limits.handshakes),
            places: Places::new(settings.limits.transfers),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            numbers: AtomicU64::new(0),
        })
    }

    /// Numbers attempts.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// What this member says of itself.
    pub(crate) fn greeting(&self, purpose: Purpose, to: NodeId) -> Greeting {
        let mut extra: Bytes = self.handler.introduction();
        if extra.len() > EXTRA_MAX {
            self.tell.introduction_cut(extra.len());
            extra.truncate(EXTRA_MAX);
        }
        Greeting {
            version: self.own.version,
            cluster: self.own.cluster,
            node: self.own.node,
            to,
            instance: self.instance,
            purpose,
            extra,
        }
    }

    /// Whether the user wants this peer.
    pub(crate) fn admit(&self, theirs: &Greeting) -> Result<(), Refusal> {
        self.handler
            .admit(&theirs.introduction())
            .map_err(|text| self.own.refusal(Cause::NotAdmitted, text))
    }
}

/// Not for secrets: names runs and spreads retries.
pub(crate) fn random() -> u64 {
    SysRng
        .try_next_u64()
        .expect("the operating system gives random numbers")
}
