//! Real PostgreSQL servers under [`pgaf::postgres::Postgres`]: alone, in pairs, crashed, cut off, promoted and rewound.
//!
//! A test of root runs as the user `postgres`, on loopback addresses of its own. All servers of a test die with it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test's own steps must work; it works with real programs"
)]

mod alone;
mod node;
mod pair;
