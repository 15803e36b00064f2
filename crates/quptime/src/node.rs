//! The daemon: everything around the decisions.
//!
//! A *run* is a node in one group, or looking for one. To leave a group for another the run ends and the next begins, so nothing in here
//! ever changes its group: [`run::serve`] is the loop over runs.
//!
//! - [`shared`]: what all parts of a run have in hand; [`network`]: what arrives from peers; [`wire`]: what they say to each other.
//! - [`live`]: who is heard; [`beats`]: being heard; [`copied`]: whether this node runs elsewhere already.
//! - [`schedule`]: probes; [`master`]: what only the master does; [`send`]: messages to channels.
//! - [`propose`]: changes, on whichever node they are asked for; [`file`]: `cluster.yaml` and its editors; [`join`] and [`enroll`]:
//!   nodes that come, [`apply`]: what they become.
//! - [`enter`]: into the group, or not yet; [`differs`]: which entries keep it out.
//! - [`fallback`]: notes about lost quorum, and the watchdog.
//! - [`control`]: the socket for commands, which waits until the node is [`current`]; [`status`]: what they show; [`doctor`]: what it finds, with [`trouble`], errors of late, and
//!   [`tested`], alerts that took a test; [`web`]: health and pages on [`web_listen`], [`metrics`]: their numbers, [`counts`]: those that nothing else remembers.

pub mod apply;
pub mod beats;
pub mod control;
pub mod copied;
pub mod counts;
pub mod current;
pub mod differs;
pub mod doctor;
pub mod enroll;
pub mod enter;
pub mod fallback;
pub mod file;
pub mod join;
pub mod live;
pub mod master;
pub mod metrics;
pub mod network;
pub mod promised;
pub mod propose;
pub mod run;
pub mod schedule;
pub mod send;
pub mod shared;
pub mod standstill;
pub mod status;
pub mod tested;
pub mod trouble;
pub mod web;
pub mod web_listen;
pub mod wire;
