//! Several real servers that are one cluster.
#![allow(clippy::unwrap_used, reason = "a test's own steps must work")]

mod catch_up;
mod gossip;
mod membership;
mod restored;
mod together;
