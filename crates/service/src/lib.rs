//! What every daemon of this workspace shares around its own work: settings, logs, metrics, health, sockets, signals,
//! drain, files that are replaced whole, error kinds and exit codes.
//!
//! A program's entry function reads [`settings`], starts [`logs`], binds its ports through [`net`], builds its service
//! and hands it to [`run::Runner`], which owns signals, readiness and the grace period.
//!
//! Invariants:
//! - Only this crate starts a log subscriber and only this crate reads the clock ([`clock`]).
//! - Nothing here is global except the log subscriber and the panic hook, so that two nodes can live in one test.
//! - No web framework and no RPC stack: [`metrics`] and [`health`] give texts, the systems serve them.

pub mod clock;
pub mod durable;
pub mod error;
pub mod exit;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod net;
pub mod run;
pub mod settings;
pub mod shutdown;

pub use clock::{Clock, SharedClock, SystemClock};
pub use error::ErrorKind;
pub use run::{Lifecycle, Runner};
pub use shutdown::Shutdown;
