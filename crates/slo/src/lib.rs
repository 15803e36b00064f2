//! `slo`: objectives written as OpenSLO, and what follows from them: recording rules and alerts for Prometheus, routes for Alertmanager,
//! runbooks with computed numbers, and the answer to "would this outage have paged?".
//!
//! The way of an objective, in reading order:
//!
//! - [`document`]: OpenSLO files, read strictly, with the place of everything in them.
//! - [`objective`]: what a set of documents says after all references are followed and everything is checked.
//! - [`decimal`], [`span`], [`pace`], [`query`]: exact shares, durations and how fast they pass, and the queries of Prometheus as far as objectives need them.
//! - [`burn`]: the arithmetic of burn rates, from the formula. No table anywhere.
//! - [`rules`], [`routes`], [`page`]: texts that are made from objectives, the same bytes for the same input.
//! - [`simulate`]: an outage played against the alerts, by the rules of Prometheus itself.
//! - [`import`]: objectives of other programs.
//! - [`budget`]: what a budget was spent on.
//! - [`live`]: the same evaluated against a real Prometheus, and told.
//! - [`cli`]: the program.
//!
//! Only [`live`], [`cli`] and the reading of files in [`document::files`] do IO; nothing else reads a clock.

pub mod budget;
pub mod burn;
pub mod cli;
pub mod decimal;
pub mod document;
pub mod import;
pub mod live;
pub mod objective;
pub mod pace;
pub mod page;
pub mod query;
pub mod routes;
pub mod rules;
pub mod simulate;
pub mod span;
mod yaml;
