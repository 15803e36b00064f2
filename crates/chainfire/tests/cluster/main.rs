//! Several real servers that are one cluster.
#![allow(clippy::unwrap_used, reason = "a test's own steps must work")]

mod gossip;
mod membership;
mod together;
