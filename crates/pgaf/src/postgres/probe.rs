//! The monitor's look: a real login, a query, and on a primary a write.
//!
//! The write is a message in the log that nobody reads, in a transaction of its own, so that it is committed and flushed as a row would be, but
//! leaves nothing behind in any database. It does not wait for standbys: that they are away is not the primary's illness.

use std::time::Duration;

use crate::probe::{Found, Probe, Target};

use super::hba::MONITOR;
use super::session::{self, Failure};

/// Logs in as `pgautofailover_monitor`, without a password.
#[derive(Debug, Clone, Copy, Default)]
pub struct Login {
    _private: (),
}

const LOOK: &str = "select pg_is_in_recovery()";
const WRITE: &str = "select pg_logical_emit_message(true, 'pg_autoctl', 'canary')";

impl Probe for Login {
    async fn look(&self, target: &Target, timeout: Duration) -> Found {
        match tokio::time::timeout(timeout, look(target, timeout)).await {
            Ok(Ok(standby)) => Found::Good { standby },
            Ok(Err(failure)) if failure.refused() => Found::Refused,
            Ok(Err(failure)) => Found::Bad(failure.to_string()),
            Err(_) => Found::Bad(Failure::Late(timeout).to_string()),
        }
    }
}

async fn look(target: &Target, timeout: Duration) -> Result<bool, Failure> {
    let login = session::Login::remote(&target.host, target.port, MONITOR);
    let session = login.try_open(timeout).await?;
    let rows = session.try_rows(LOOK).await?;
    let standby = rows.iter().flatten().flatten().any(|value| value == "t");
    if target.writable && !standby {
        session.try_rows(WRITE).await?;
    }
    Ok(standby)
}
