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
use crate::frame::Partial;
use crate::handler::{Handler, Introduction, Version};
use crate::handshake::{Cause, Greeting, Own, Purpose, Refusal};
use crate::peers::Peers;
use crate::settings::{EXTRA_MAX, Limits, Settings, Tls};
use crate::stranger::Strangers;
use crate::stream::Proof;
use crate::tell::Tell;

/// The longest frames that all peers which are named nowhere may have under way together: in plain text anybody can be such a peer. One
/// honest one is the rule (the leader that a new member does not know yet), and only a leader sends long frames.
const UNNAMED_FRAMES: usize = 2;

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
    pub(crate) strangers: Strangers,
    /// Shared by the connections of peers that came by themselves.
    pub(crate) partial: Arc<Partial>,
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
            tell: Tell::new(settings.clock.clone(), own, settings.sink.clone()),
            handshakes: Handshakes::new(settings.limits.handshakes),
            places: Places::new(settings.limits.transfers),
            strangers: Strangers::new(settings.limits.strangers),
            partial: Partial::new(settings.limits.frame_bytes.saturating_mul(UNNAMED_FRAMES)),
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

    /// Whether keys are pinned.
    pub(crate) fn is_pinned(&self) -> bool {
        self.tls.as_ref().and_then(Tls::identity).is_some()
    }

    /// Whether the peer has the key that it must have, and the user wants it, if there is more to come than its name.
    pub(crate) fn admit(&self, theirs: &Greeting, proof: &Proof) -> Result<(), Refusal> {
        let introduction = theirs.introduction(proof.key);
        self.judge_key(&introduction)?;
        if theirs.purpose == Purpose::Ask {
            return Ok(());
        }
        self.handler
            .admit(&introduction)
            .map_err(|text| self.own.refusal(Cause::NotAdmitted, text))
    }

    /// Whether the key is that of whom the peer says it is.
    pub(crate) fn judge_key(&self, peer: &Introduction) -> Result<(), Refusal> {
        let Some(own) = self.tls.as_ref().and_then(Tls::identity) else {
            return Ok(());
        };
        if peer.node == self.own.node && peer.key == Some(own.fingerprint()) {
            // It asks itself.
            return Ok(());
        }
        let judged = match (self.peers.pin(peer.node), peer.key) {
            (Some(pin), Some(key)) if pin.is(&key) => Ok(()),
            (Some(pin), Some(key)) => Err(format!("member {} must have the key {pin}, not {key}", peer.node)),
            (None, Some(_)) => self.handler.known(peer),
            (_, None) => Err("members show certificates here".to_owned()),
        };
        judged.map_err(|text| self.own.refusal(Cause::UnknownKey, text))
    }
}

/// Not for secrets: names runs and spreads retries.
pub(crate) fn random() -> u64 {
    SysRng
        .try_next_u64()
        .expect("the operating system gives random numbers")
}
