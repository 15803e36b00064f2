//! The live evaluator: what Prometheus' rules and Alertmanager do for objectives, in one process and against any endpoint that speaks
//! Prometheus' HTTP API.
//!
//! Every interval each objective is looked at ([`look`]): one query for each window, the very expression that `slo generate` records. What
//! follows is decided by a state machine without IO or clock ([`machine`]) and made into messages ([`telling`]), which wait in an [`outbox`]
//! until the channels of `notify` have taken them. State and outbox are one file ([`store`]), written before anything is sent, so that a
//! process that dies neither forgets an alert nor tells it twice; what was under way when it died is marked as a possible repeat.
//!
//! An answer is believed only if it is one: a Prometheus that is away, slow, or answers with something else changes no alert. That it does
//! so is a state with a name, and a ticket after five minutes.
//!
//! **Invariant:** alerts fire and end when Prometheus' own rules on the same samples say so, to an interval.
//!
//! **Invariant:** no secret is an argument, stands in the state file, or turns up in a text.

pub mod config;
pub mod daemon;
pub mod history;
pub mod look;
pub mod machine;
mod metrics;
pub mod outbox;
pub mod prometheus;
pub mod store;
pub mod telling;
mod web;
