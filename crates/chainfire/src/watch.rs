//! Telling clients of changes, in order, none twice, none missing.
//!
//! The [`Hub`] knows, for every key, which *live* watches it concerns, and hands each change to the streams these belong to. A
//! [`Stream`] is one client connection's worth of watches with one bounded buffer. When a client reads too slowly the buffer
//! fills, and the watches concerned stop being live: they note the first revision they missed and later read it from the store
//! like a watch that starts in the past. So memory per client is bounded, and nothing is lost.
//!
//! **Invariant:** events reach a watch in revision order, and all events of one revision reach it together.
//! **Invariant:** a watch is told of revision R only after every change up to R that concerns it is in its stream.

mod hub;
mod intervals;
mod session;
mod together;

pub use hub::{Drained, Hub, Stream, WatchId};
pub use session::{Session, SessionSettings};
