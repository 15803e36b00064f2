//! Log lines and counts. Whatever others can cause is thinned.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pki::{Look, Trouble, time_text};
use service::clock::{Moment, SharedClock};
use service::logs::Throttle;

use crate::driver::Counts;
use crate::envelope::Unfit;
use crate::node::{Seen, State};
use crate::settings::Tls;

/// Between two lines about other clusters.
const STRANGERS_EVERY: Duration = Duration::from_mins(1);

/// Between two lines of any other kind.
const OTHERS_EVERY: Duration = Duration::from_secs(1);

/// Lines about nodes that came or went.
const CHANGES_PER_SECOND: u32 = 50;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tell {
    clock: SharedClock,
    cluster: u64,
    strangers: Throttle,
    tls: Throttle,
    misdirected: Throttle,
    accepting: Throttle,
    /// The second under way, and lines told in it.
    changes: Mutex<(u64, u32)>,
    received: AtomicU64,
    garbage: AtomicU64,
    foreign: AtomicU64,
    tls_failures: AtomicU64,
}

impl Tell {
    pub(crate) fn new(clock: SharedClock, cluster: u64) -> Tell {
        let others = || Throttle::new(OTHERS_EVERY);
        Tell {
            clock,
            cluster,
            strangers: Throttle::new(STRANGERS_EVERY),
            tls: others(),
            misdirected: others(),
            accepting: others(),
            changes: Mutex::default(),
            received: AtomicU64::new(0),
            garbage: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            tls_failures: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    pub(crate) fn counts(&self) -> Counts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            received: value(&self.received),
            garbage: value(&self.garbage),
            foreign: value(&self.foreign),
            tls_failures: value(&self.tls_failures),
        }
    }

    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Anybody can send anything, so it is only counted.
    pub(crate) fn garbage(&self, from: &dyn fmt::Display) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(target: "chainfire_gossip", peer = %from, "Bad bytes on the gossip port");
    }

    pub(crate) fn unfit(&self, from: &dyn fmt::Display, unfit: Unfit) {
        match unfit {
            Unfit::Garbage => self.garbage(from),
            Unfit::Cluster { cluster, from: node } => self.foreign(from, node, cluster),
            Unfit::Version(version) => {
                self.foreign.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(target: "chainfire_gossip", peer = %from, version, "Gossip of another version ignored");
            }
        }
    }

    fn foreign(&self, from: &dyn fmt::Display, node: u64, cluster: u64) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
        if self.strangers.permit(self.now()) {
            let held_back = self.strangers.held_back_field();
            tracing::warn!(
                target: "chainfire_gossip", peer = %from, node_id = node, held_back, cluster,
                own_cluster = self.cluster, "Gossip of another cluster ignored"
            );
        }
    }

    pub(crate) fn changed(&self, seen: &Seen) {
        // A pair of nodes with the same id would fill the log.
        if !self.permit_change() {
            return;
        }
        let (node, name, address) = (
            seen.node.id,
            seen.node.name.as_str(),
            seen.node.gossip_address.as_str(),
        );
        match seen.state {
            State::Alive => {
                tracing::info!(target: "chainfire_gossip", node_id = node, name, addr = address, "Node is alive");
            }
            State::Suspect => {
                tracing::info!(target: "chainfire_gossip", node_id = node, name, addr = address, "Node does not answer");
            }
            State::Down => {
                tracing::warn!(target: "chainfire_gossip", node_id = node, name, addr = address, "Node is down");
            }
        }
    }

    fn permit_change(&self) -> bool {
        let second = self.now().millis() / 1000;
        let mut changes = self.changes.lock();
        if changes.0 != second {
            *changes = (second, 0);
        }
        changes.1 += 1;
        changes.1 <= CHANGES_PER_SECOND
    }

    /// TLS failed on a connection that was accepted.
    pub(crate) fn tls_refused(&self, from: SocketAddr, error: &io::Error) {
        self.tls_failures.fetch_add(1, Ordering::Relaxed);
        match Trouble::of(error) {
            Some(trouble) => self.tls_trouble(&from, &trouble),
            None => {
                tracing::debug!(target: "chainfire_gossip", peer = %from, error = %error, "TLS handshake broken off");
            }
        }
    }

    /// A connection did not come about.
    pub(crate) fn not_connected(&self, address: &str, error: &io::Error) {
        match Trouble::of(error) {
            Some(trouble) => {
                self.tls_failures.fetch_add(1, Ordering::Relaxed);
                self.tls_trouble(&address, &trouble);
            }
            // That somebody is not there is what the states are about.
            None => {
                tracing::debug!(target: "chainfire_gossip", error = %error, addr = address, "Failed to connect to node");
            }
        }
    }

    fn tls_trouble(&self, peer: &dyn fmt::Display, trouble: &Trouble) {
        if self.tls.permit(self.now()) {
            let held_back = self.tls.held_back_field();
            tracing::warn!(target: "chainfire_gossip", peer = %peer, held_back, error = %trouble, "TLS handshake with node failed");
        }
    }

    pub(crate) fn misdirected(&self, from: SocketAddr, wants_tls: bool) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
        if self.misdirected.permit(self.now()) {
            let held_back = self.misdirected.held_back_field();
            if wants_tls {
                tracing::warn!(target: "chainfire_gossip", peer = %from, held_back, "Plain text sent to the TLS port of gossip, want TLS there too");
            } else {
                tracing::warn!(target: "chainfire_gossip", peer = %from, held_back, "TLS sent to the plain-text port of gossip, want TLS here too");
            }
        }
    }

    /// The listener does not give connections.
    pub(crate) fn not_accepting(&self, error: &io::Error) {
        if self.accepting.permit(self.now()) {
            let held_back = self.accepting.held_back_field();
            tracing::error!(target: "chainfire_gossip", held_back, error = %error, "Accepting connections of gossip failed");
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
                target: "chainfire_gossip", subject = %leaf.subject, not_after = %time_text(leaf.not_after),
                "Certificate for gossip reloaded"
            );
        }
        Look::Refused(error) => {
            tracing::warn!(target: "chainfire_gossip", error = %error, "New certificate for gossip refused, the old one stays in use");
        }
    }
}
