//! One look at a target: http, tcp, icmp, tls, dns.
//!
//! A [`Prober`] is made once per process and holds what is costly: the root certificates with the TLS settings built
//! from them, the system's resolver files, the ICMP sockets. [`Prober::probe`] then takes a [`Probe`], which is plain
//! data, and gives an [`Outcome`]: up, down or no report, one line that says why, and how long each phase took.
//!
//! What this crate does not do: it has no schedule, limits nothing but single probes, and decides nothing about a
//! check. When to look, how many looks run at once and what several nodes make of their outcomes is the caller's.
//!
//! Invariants:
//! - A probe ends at its timeout at the latest, and dropping its future ends it at once; nothing it started goes on.
//! - Nothing is remembered from one probe to the next. No connection is used twice (a pooled one hides failures), no
//!   DNS answer is kept (a monitor must see changes), and no TLS session is resumed: a full handshake is what a new
//!   user gets, and a resumed one does not even show the server's certificate.
//! - Everything a peer sends is read into a bounded buffer, and what it says is cut to one line before it is shown.

mod connect;
mod dns;
mod host;
mod http1;
mod icmp;
mod journal;
mod nameserver;
mod outcome;
mod probe;
mod prober;
mod resolve;
mod shortage;
mod target;
mod tls;
mod wording;

pub use dns::RecordType;
pub use host::Host;
pub use icmp::IcmpMode;
pub use nameserver::{BadNameserver, Nameserver};
pub use outcome::{Finding, Outcome, Phases};
pub use probe::{Dns, Http, Icmp, Kind, Probe, Tcp, Tls};
pub use prober::{Error, Prober, Roots, Settings};
pub use target::{BadTarget, Target, TargetKind, masked};
