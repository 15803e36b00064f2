//! Log lines. Whatever others can cause is thinned.
//!
//! Lines about a peer that cannot be connected to end with its address, for operators count them by their last field.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consensus::NodeId;
use pki::{Look, Trouble, time_text};
use service::clock::{Moment, SharedClock};
use service::logs::Throttle;

use crate::handler::Version;
use crate::handshake::{Cause, Own, Preamble};
use crate::settings::Tls;
use crate::transport::Counts;

/// Between two lines about the same peer that cannot be connected to.
const CONNECT_EVERY: Duration = Duration::from_secs(30);

/// The least between two such lines when the peer was connected in between.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// Between two lines about other clusters, and other versions.
const STRANGERS_EVERY: Duration = Duration::from_mins(1);

/// Between two lines of any other kind that anybody can cause.
const OTHERS_EVERY: Duration = Duration::from_secs(1);

/// Thins the lines about one peer: the first failure after a success passes, then one per half minute.
#[derive(Debug, Default)]
pub(crate) struct Thinned {
    has_failed: bool,
    last: Option<Moment>,
    held_back: u64,
}

impl Thinned {
    pub(crate) fn succeeded(&mut self) {
        self.has_failed = false;
    }

    /// Whether to tell, and then how many were not told.
    pub(crate) fn permit(&mut self, now: Moment) -> Option<u64> {
        let pause = if self.has_failed {
            CONNECT_EVERY
        } else {
            CONNECT_AGAIN
        };
        self.has_failed = true;
        if self.last.is_some_and(|last| now.since(last) < pause) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

/// Says and counts.
#[derive(Debug)]
pub(crate) struct Tell {
    clock: SharedClock,
    own: Own,
    cluster: Throttle,
    version: Throttle,
    refused: Throttle,
    garbage: Throttle,
    abandoned: Throttle,
    bad_certificate: Throttle,
    unverified: Throttle,
    misdirected: Throttle,
    other_tls: Throttle,
    accepting: Throttle,
    pub(crate) bad_connections: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) tls_failures: AtomicU64,
    pub(crate) unaddressed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tell {
    pub(crate) fn new(clock: SharedClock, own: Own) -> Tell {
        let others = || Throttle::new(OTHERS_EVERY);
        Tell {
            clock,
            own,
            cluster: Throttle::new(STRANGERS_EVERY),
            version: Throttle::new(STRANGERS_EVERY),
            refused: others(),
            garbage: others(),
            abandoned: others(),
            bad_certificate: others(),
            unverified: others(),
            misdirected: others(),
            other_tls: others(),
            accepting: others(),
            bad_connections: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            tls_failures: AtomicU64::new(0),
            unaddressed: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn unix_s(&self) -> u64 {
        self.clock.unix_ms() / 1000
    }

    pub(crate) fn counts(&self) -> Counts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            bad_connections: value(&self.bad_connections),
            refused: value(&self.refusals),
            abandoned: value(&self.given_up),
            tls_failures: value(&self.tls_failures),
            unaddressed: value(&self.unaddressed),
        }
    }

    /// A connection to `address` did not come about; `held_back` such lines were not told.
    pub(crate) fn not_connected(node: NodeId, reason: &str, held_back: u64, address: &str) {
        let held_back = Some(held_back).filter(|held_back| *held_back > 0);
        tracing::error!(target: "chainfire_network", node_id = node.0, error = reason, held_back, addr = address, "Failed to connect to peer");
    }

    pub(crate) fn connected(node: NodeId, address: &dyn fmt::Display, version: Version) {
        tracing::info!(target: "chainfire_network", node_id = node.0, version = %version, addr = %address, "Connected to peer");
    }

    pub(crate) fn disconnected(node: NodeId, reason: &str, address: &dyn fmt::Display) {
        tracing::warn!(target: "chainfire_network", node_id = node.0, error = reason, addr = %address, "Connection to peer lost");
    }

    /// One end refused the other in the handshake. `theirs` is what the other end said of itself.
    pub(crate) fn refused(&self, cause: Cause, theirs: Preamble, reason: &str, peer: &dyn fmt::Display) {
        if cause == Cause::Duplicate {
            return;
        }
        count(&self.refusals);
        let (node, now) = (theirs.node.0, self.now());
        match cause {
            Cause::Cluster if self.cluster.permit(now) => {
                let held_back = self.cluster.held_back_field();
                tracing::warn!(
                    target: "chainfire_network", peer = %peer, node_id = node, held_back,
                    cluster = theirs.cluster, own_cluster = self.own.cluster, "Peer belongs to another cluster"
                );
            }
            Cause::Version if self.version.permit(now) => {
                let held_back = self.version.held_back_field();
                tracing::warn!(
                    target: "chainfire_network", peer = %peer, node_id = node, held_back,
                    version = %theirs.version, own_version = %self.own.version,
                    "Peer speaks another protocol version"
                );
            }
            Cause::Cluster | Cause::Version => {}
            _ if self.refused.permit(now) => {
                let held_back = self.refused.held_back_field();
                tracing::warn!(target: "chainfire_network", peer = %peer, node_id = node, held_back, reason, "Peer refused");
            }
            _ => {}
        }
    }

    /// A peer in use does not keep to the protocol.
    pub(crate) fn broken(&self, node: NodeId, what: &str) {
        count(&self.bad_connections);
        if self.garbage.permit(self.now()) {
            let held_back = self.garbage.held_back_field();
            tracing::warn!(target: "chainfire_network", node_id = node.0, held_back, error = what, "Bad bytes from peer");
        }
    }

    /// Somebody came with something else than the protocol.
    pub(crate) fn garbage(&self, from: SocketAddr, what: &dyn fmt::Display) {
        count(&self.bad_connections);
        if self.garbage.permit(self.now()) {
            let held_back = self.garbage.held_back_field();
            tracing::warn!(target: "chainfire_network", peer = %from, held_back, error = %what, "Bad bytes on the port of members");
        }
    }

    /// A handshake was not finished.
    pub(crate) fn abandoned(&self, from: SocketAddr, reason: &str) {
        count(&self.given_up);
        if self.abandoned.permit(self.now()) {
            let held_back = self.abandoned.held_back_field();
            tracing::warn!(target: "chainfire_network", peer = %from, held_back, error = reason, "Handshake with peer given up");
        }
    }

    pub(crate) fn plain_to_tls(&self, from: SocketAddr) {
        count(&self.bad_connections);
        if self.misdirected.permit(self.now()) {
            let held_back = self.misdirected.held_back_field();
            tracing::warn!(target: "chainfire_network", peer = %from, held_back, "Plain text sent to the TLS port of members, want TLS there too");
        }
    }

    pub(crate) fn tls_to_plain(&self, from: SocketAddr) {
        count(&self.bad_connections);
        if self.misdirected.permit(self.now()) {
            let held_back = self.misdirected.held_back_field();
            tracing::warn!(target: "chainfire_network", peer = %from, held_back, "TLS sent to the plain-text port of members, want TLS here too");
        }
    }

    /// TLS failed on a connection that was accepted.
    pub(crate) fn tls_failed(&self, from: SocketAddr, error: &io::Error) {
        count(&self.tls_failures);
        let now = self.now();
        match Trouble::of(error) {
            Some(Trouble::Refused(reason)) => {
                if self.bad_certificate.permit(now) {
                    let held_back = self.bad_certificate.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, reason, held_back, "tls: bad certificate");
                }
            }
            Some(Trouble::Unverified(reason)) => {
                if self.unverified.permit(now) {
                    let held_back = self.unverified.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, reason = %reason, held_back, "certificate verify failed");
                }
            }
            Some(trouble) => {
                if self.other_tls.permit(now) {
                    let held_back = self.other_tls.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, reason = %trouble, held_back, "TLS handshake with peer failed");
                }
            }
            None => {
                tracing::debug!(target: "chainfire_network", peer = %from, error = %error, "TLS handshake with peer broken off");
            }
        }
    }

    /// The listener does not give connections.
    pub(crate) fn not_accepting(&self, error: &io::Error) {
        if self.accepting.permit(self.now()) {
            let held_back = self.accepting.held_back_field();
            tracing::error!(target: "chainfire_network", held_back, error = %error, "Accepting connections of peers failed");
        }
    }

    pub(crate) fn introduction_cut(&self, length: usize) {
        if self.accepting.permit(self.now()) {
            tracing::error!(target: "chainfire_network", length, "The introduction of this member is too long and was cut");
        }
    }
}

/// Looks at the files once.
pub(crate) fn look(tls: &Tls, unix_s: u64) {
    match tls.files().look(unix_s) {
        Look::Quiet => {}
        Look::Reloaded => {
            let leaf = tls.files().leaf();
            tracing::info!(
                target: "chainfire_network", subject = %leaf.subject, not_after = %time_text(leaf.not_after),
                "Certificate for members reloaded"
            );
        }
        Look::Refused(error) => {
            tracing::warn!(target: "chainfire_network", error = %error, "New certificate for members refused, the old one stays in use");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_cannot_be_reached_is_told_at_once_and_then_each_half_minute() {
        let mut thinned = Thinned::default();
        let at = |second: u64| Moment::from_millis(second * 1000);
        let told: Vec<u64> = (0..65)
            .filter(|second| thinned.permit(at(*second)).is_some())
            .collect();
        assert_eq!(told, [0, 30, 60]);
        thinned.succeeded();
        assert_eq!(thinned.permit(at(66)), Some(4));
        thinned.succeeded();
        assert_eq!(thinned.permit(Moment::from_millis(66_500)), None, "it flaps");
    }
}
