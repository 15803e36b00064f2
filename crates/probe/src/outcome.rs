//! What a probe finds.

use std::time::Duration;

/// What one look says of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It is as it should be.
    Up,
    /// It is not.
    Down,
    /// This node cannot look; that says nothing of the target, so it is no vote.
    NoReport,
}

/// Time spent in each phase; none for a phase that was not entered.
///
/// A phase that did not end (the probe failed or timed out in it) counts as far as it went. Over redirects, equal
/// phases add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Looking up names; for a dns check the whole query.
    pub resolve: Option<Duration>,
    /// TCP connect, over all addresses tried.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// From the request until the head of the answer is there; for icmp the mean round trip.
    pub first_byte: Option<Duration>,
    /// The body, as far as it is read.
    pub transfer: Option<Duration>,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the target is.
    pub result: Finding,
    /// Why, in one line without control characters, at most 300 bytes: `status 503`, `timeout after 10s in connect`.
    pub detail: String,
    /// Where the time went.
    pub phases: Phases,
    /// From the start of the probe to its end.
    pub latency: Duration,
    /// When the server's own certificate ends, in seconds since 1970, if one was seen; also when it was refused.
    pub certificate_expiry: Option<i64>,
}

impl Outcome {
    /// Whether the target is as it should be.
    pub fn is_up(&self) -> bool {
        self.result == Finding::Up
    }
}
