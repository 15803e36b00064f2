//! `qu tui` in a terminal: the real program in tmux, keys typed and the screen read, beside real nodes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod cluster;
mod node;
mod page;
mod terminal;

use std::time::Duration;

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);
