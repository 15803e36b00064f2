//! What process tests stand on: real programs in directories of their own, on addresses of their own, with bounded waits.
//!
//! A test starts [`Chainfire`], [`Qu`] or [`Etcd`], talks to it, kills it, starts it again; everything it started is gone when
//! the test ends, even when the test itself is killed. When a test fails, the end of each log is printed and the
//! directory stays, with its path printed.
//!
//! **Addresses.** Each server takes a block of loopback addresses of its own from [`lab::address`] and listens on its
//! default ports there. Unlike a port that was free a moment ago, an address cannot be taken by anybody else between
//! reserving and binding.
//!
//! **The binary.** Tests of our own programs run the built `mainstay` ([`mainstay_binary`]): `MAINSTAY_BIN` if set,
//! otherwise the one in the target folder of the test. Cargo builds it for `cargo build --workspace`, which
//! `cargo xtask test` runs first; `cargo nextest run -p NAME` alone does not, so after a change run
//! `cargo build -p mainstay` (a test notes on standard error when the binary is older than its sources).
//!
//! Nothing here sleeps but [`lab::wait`], which polls a condition.

mod binary;
mod chainfire;
mod cluster;
mod dir;
mod etcd;
mod port;
mod programs;
mod qu;
mod server;
mod unprivileged;

pub use binary::mainstay_binary;
pub use chainfire::{Chainfire, ChainfireBuilder};
pub use cluster::ChainfireCluster;
pub use dir::TestDir;
pub use etcd::Etcd;
pub use lab::Readiness;
pub use lab::address::AddressBlock;
pub use port::free_port;
pub use programs::require;
pub use qu::{QU_SECRET, Qu, QuCluster};
pub use server::{Output, Server};
pub use unprivileged::as_postgres;

use std::time::Duration;

/// Whether something that must not happen happens within a time; comes back at once when it does.
pub fn happens_within(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    lab::wait::happens(limit, condition)
}

/// Polls `condition` until it holds.
///
/// # Panics
/// When it does not hold within `limit`: `timed out after 10s waiting for WHAT`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(
        lab::wait::happens(limit, condition),
        "timed out after {limit:?} waiting for {what}"
    );
}
