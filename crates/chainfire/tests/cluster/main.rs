//! Several real servers that are one cluster.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test's own steps must work, and it measures the time of real servers"
)]

mod catch_up;
mod gossip;
mod leases;
mod membership;
mod restored;
mod together;
