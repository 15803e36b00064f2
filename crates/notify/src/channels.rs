//! What each channel that speaks HTTP sends: one file each, which turns a message into a request and nothing else.

pub(crate) mod alertmanager;
pub(crate) mod discord;
pub(crate) mod ntfy;
pub(crate) mod pagerduty;
pub(crate) mod slack;
pub(crate) mod webhook;
