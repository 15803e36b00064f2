//! Uptime checks decided by quorum, alerts sent once.
