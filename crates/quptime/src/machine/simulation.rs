//! Whole clusters in virtual time, from seeds: what the master decides, with everything around it that can go wrong.
//!
//! - `world`: nodes with their [`super::mastery::Mastery`] and their copy of the state, a replicated log that is played rather than run
//!   (one leader in a term; commits by a majority; what a dead leader had proposed is kept or lost), targets, channels, clocks.
//! - `trouble`: what goes wrong, and what operators do.
//! - `ledger`: what must hold after every step and at the end of a fair time.
//! - `schedules`: random schedules, and for each clause that one of them fails without it.

mod ledger;
mod schedules;
mod trouble;
mod world;
