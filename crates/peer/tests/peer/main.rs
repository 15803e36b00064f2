//! Transports that talk to each other over loopback addresses of their own, and to peers that misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test is a panic"
)]

mod bulk;
mod handshakes;
mod harness;
mod links;
mod pinned;
mod relay;
mod requests;
mod tls;
mod web;
