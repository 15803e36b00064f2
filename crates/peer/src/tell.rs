//! Counts what happens, and tells it: whatever others can cause is thinned.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consensus::NodeId;
use pki::{Look, Reloadable, Trouble, time_text};
use service::clock::{Moment, SharedClock};
use service::logs::Throttle;

use crate::handler::Version;
use crate::handshake::{Cause, Own, Preamble};
use crate::notice::{Notice, Shown, Sink};
use crate::transport::Counts;

/// Between two lines about the same peer that cannot be connected to.
const CONNECT_EVERY: Duration = Duration::from_secs(30);

/// The least between two such lines when the peer was connected in between.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// Between two lines about other clusters, and other versions.
const STRANGERS_EVERY: Duration = Duration::from_mins(1);

/// Between two lines about peers that are not wanted: a member that was removed dials until somebody stops it.
const REFUSED_EVERY: Duration = Duration::from_secs(10);

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
    sink: Sink,
    cluster: Throttle,
    version: Throttle,
    refused: Throttle,
    turned_down: Throttle,
    garbage: Throttle,
    abandoned: Throttle,
    bad_certificate: Throttle,
    unverified: Throttle,
    misdirected: Throttle,
    other_tls: Throttle,
    strangers: Throttle,
    accepting: Throttle,
    pub(crate) bad_connections: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) tls_failures: AtomicU64,
    pub(crate) strangers_failed: AtomicU64,
    pub(crate) unaddressed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tell {
    pub(crate) fn new(clock: SharedClock, own: Own, sink: Sink) -> Tell {
        let others = || Throttle::new(OTHERS_EVERY);
        Tell {
            clock,
            own,
            sink,
            cluster: Throttle::new(STRANGERS_EVERY),
            version: Throttle::new(STRANGERS_EVERY),
            refused: Throttle::new(REFUSED_EVERY),
            turned_down: Throttle::new(REFUSED_EVERY),
            garbage: others(),
            abandoned: others(),
            bad_certificate: others(),
            unverified: others(),
            misdirected: others(),
            other_tls: others(),
            strangers: others(),
            accepting: others(),
            bad_connections: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            tls_failures: AtomicU64::new(0),
            strangers_failed: AtomicU64::new(0),
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
            strangers_failed: value(&self.strangers_failed),
            unaddressed: value(&self.unaddressed),
        }
    }

    /// Tells what may be told now, with the number of those that might not.
    fn thinned<'a>(&self, throttle: &Throttle, notice: impl FnOnce(Option<u64>) -> Notice<'a>) {
        if throttle.permit(self.now()) {
            self.sink.tell(notice(throttle.held_back_field()));
        }
    }

    /// A connection to `address` did not come about; `held_back` such lines were not told.
    pub(crate) fn not_connected(
        &self,
        node: NodeId,
        reason: &str,
        refused: Option<Cause>,
        held_back: u64,
        address: &str,
    ) {
        self.sink.tell(Notice::NotConnected {
            node,
            reason,
            refused,
            held_back: Some(held_back).filter(|held_back| *held_back > 0),
            address,
        });
    }

    pub(crate) fn connected(&self, node: NodeId, address: &dyn fmt::Display, version: Version) {
        self.sink.tell(Notice::Connected {
            node,
            version,
            address: Shown(address),
        });
    }

    pub(crate) fn disconnected(&self, node: NodeId, reason: &str, address: &dyn fmt::Display) {
        self.sink.tell(Notice::Disconnected {
            node,
            reason,
            address: Shown(address),
        });
    }

    /// A handshake ended with a refusal. `theirs` is what the other end said of itself.
    pub(crate) fn refused(&self, cause: Cause, theirs: Preamble, reason: &str, peer: &dyn fmt::Display) {
        self.refusal(&self.refused, cause, theirs, reason, peer);
    }

    /// The other end has dialled us and then did not want us.
    pub(crate) fn turned_down(&self, cause: Cause, theirs: Preamble, reason: &str, peer: &dyn fmt::Display) {
        self.refusal(&self.turned_down, cause, theirs, reason, peer);
    }

    fn refusal(
        &self,
        throttle: &Throttle,
        cause: Cause,
        theirs: Preamble,
        reason: &str,
        peer: &dyn fmt::Display,
    ) {
        if cause == Cause::Duplicate {
            return;
        }
        count(&self.refusals);
        let node = theirs.node;
        match cause {
            Cause::Cluster => self.thinned(&self.cluster, |held_back| Notice::OtherCluster {
                peer: Shown(peer),
                node,
                held_back,
                cluster: theirs.cluster,
                own_cluster: self.own.cluster,
            }),
            Cause::Version => self.thinned(&self.version, |held_back| Notice::OtherVersion {
                peer: Shown(peer),
                node,
                held_back,
                version: theirs.version,
                own_version: self.own.version,
            }),
            _ => self.thinned(throttle, |held_back| Notice::Refused {
                peer: Shown(peer),
                node,
                held_back,
                cause,
                reason,
            }),
        }
    }

    /// A peer in use does not keep to the protocol.
    pub(crate) fn broken(&self, node: NodeId, error: &str) {
        count(&self.bad_connections);
        self.thinned(&self.garbage, |held_back| Notice::BadPeer {
            node,
            held_back,
            error,
        });
    }

    /// Somebody came with something else than the protocol.
    pub(crate) fn garbage(&self, peer: SocketAddr, error: &dyn fmt::Display) {
        count(&self.bad_connections);
        self.thinned(&self.garbage, |held_back| Notice::Garbage {
            peer,
            held_back,
            error: Shown(error),
        });
    }

    /// A handshake was not finished.
    pub(crate) fn abandoned(&self, peer: SocketAddr, error: &str) {
        count(&self.given_up);
        self.thinned(&self.abandoned, |held_back| Notice::Abandoned {
            peer,
            held_back,
            error,
        });
    }

    pub(crate) fn plain_to_tls(&self, peer: SocketAddr) {
        count(&self.bad_connections);
        self.thinned(&self.misdirected, |held_back| Notice::PlainToTls {
            peer,
            held_back,
        });
    }

    pub(crate) fn tls_to_plain(&self, peer: SocketAddr) {
        count(&self.bad_connections);
        self.thinned(&self.misdirected, |held_back| Notice::TlsToPlain {
            peer,
            held_back,
        });
    }

    /// TLS failed on a connection that was accepted.
    pub(crate) fn tls_failed(&self, peer: SocketAddr, error: &io::Error) {
        count(&self.tls_failures);
        match Trouble::of(error) {
            Some(Trouble::Refused(reason)) => {
                self.thinned(&self.bad_certificate, |held_back| Notice::CertificateRefused {
                    peer,
                    reason: &reason,
                    held_back,
                });
            }
            Some(Trouble::Unverified(reason)) => {
                self.thinned(&self.unverified, |held_back| Notice::Unverified {
                    peer,
                    reason: &reason,
                    held_back,
                });
            }
            Some(reason) => self.thinned(&self.other_tls, |held_back| Notice::TlsFailed {
                peer,
                reason: &reason,
                held_back,
            }),
            None => self.sink.tell(Notice::TlsBrokenOff {
                peer,
                error: Shown(error),
            }),
        }
    }

    /// A stranger's call came to nothing.
    pub(crate) fn stranger_failed(&self, peer: SocketAddr, reason: &str) {
        count(&self.strangers_failed);
        self.thinned(&self.strangers, |held_back| Notice::StrangerFailed {
            peer,
            held_back,
            reason,
        });
    }

    /// The listener does not give connections.
    pub(crate) fn not_accepting(&self, error: &io::Error) {
        self.thinned(&self.accepting, |held_back| Notice::NotAccepting {
            held_back,
            error: Shown(error),
        });
    }

    pub(crate) fn introduction_cut(&self, length: usize) {
        if self.accepting.permit(self.now()) {
            self.sink.tell(Notice::IntroductionCut { length });
        }
    }

    /// Looks at the files once.
    pub(crate) fn look(&self, files: &Reloadable) {
        match files.look(self.unix_s()) {
            Look::Quiet => {}
            Look::Reloaded => {
                let leaf = files.leaf();
                self.sink.tell(Notice::Reloaded {
                    subject: &leaf.subject,
                    not_after: Shown(&time_text(leaf.not_after)),
                });
            }
            Look::Refused(error) => self.sink.tell(Notice::NotReloaded { error: Shown(&error) }),
        }
    }

    /// That came to nothing.
    pub(crate) fn not_looked(&self, error: &dyn fmt::Display) {
        self.sink.tell(Notice::NotLooked { error: Shown(error) });
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
