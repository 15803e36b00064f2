//! Probes against servers of our own that answer well, badly, slowly or not at all, and against real ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these are the helpers of tests, which may end this way, and say so when they skip"
)]

mod dns;
mod http;
mod icmp;
mod real;
mod servers;
mod shortage;
mod tcp;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use probe::{Finding, Kind, Nameserver, Outcome, Probe, Prober, Roots, Settings};
use service::clock::ManualClock;

/// For probes that are expected to end by themselves.
pub(crate) const AMPLE: Duration = Duration::from_secs(30);

/// For probes that are expected to time out; long enough for everything before the phase that never ends.
pub(crate) const SHORT: Duration = Duration::from_secs(2);

/// 2026-06-01, the day on which all of these tests happen.
pub(crate) const TODAY_S: i64 = 1_780_272_000;

pub(crate) const DAY_S: i64 = 86_400;

/// Settings that do not depend on this machine's resolver.
pub(crate) fn settings() -> Settings {
    Settings {
        resolv_conf: "/nonexistent/resolv.conf".into(),
        hosts: "/nonexistent/hosts".into(),
        ..Settings::new("9.9.9")
    }
}

pub(crate) fn prober_with(settings: Settings) -> Prober {
    let clock = ManualClock::at(u64::try_from(TODAY_S * 1000).unwrap());
    Prober::new(settings, Arc::new(clock)).unwrap()
}

/// A prober that trusts the authority of [`servers::authority`].
pub(crate) fn prober() -> Prober {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, servers::authority().pem()).unwrap();
    prober_with(Settings {
        roots: Roots::File(path),
        ..settings()
    })
}

pub(crate) fn probe_of(kind: Kind, timeout: Duration, resolvers: &[String]) -> Probe {
    Probe {
        kind,
        timeout,
        resolvers: resolvers
            .iter()
            .map(|text| text.parse::<Nameserver>().unwrap())
            .collect(),
    }
}

pub(crate) async fn look(kind: Kind) -> Outcome {
    prober().probe(&probe_of(kind, AMPLE, &[])).await
}

#[track_caller]
pub(crate) fn assert_up(outcome: &Outcome, detail: &str) {
    assert_eq!((outcome.result, outcome.detail.as_str()), (Finding::Up, detail));
}

#[track_caller]
pub(crate) fn assert_down(outcome: &Outcome, detail: &str) {
    assert_eq!((outcome.result, outcome.detail.as_str()), (Finding::Down, detail));
}
