//! A standby's way to being a primary: cut off, all replayed, promoted.
//!
//! That no process receives at some moment does not mean that none will: the startup process, which asks for one, may not have read the new
//! configuration yet. It reads it, if it was told to, just before it confirms that replay is paused. So a pause is asked for after the reload;
//! once it is confirmed the old upstream is not asked for any more, and once its last receiver has gone there is none again.

use std::time::Duration;

use tokio::time::Instant;

use crate::database::Error;

use super::session::{Login, Session};
use super::{conf, lsn};

/// Longest wait for the startup process, which may be busy with one record, or be kept from it by a query (`max_standby_streaming_delay`).
const CUT: Duration = Duration::from_mins(1);

/// One login or statement.
const STATEMENT: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Replay that has come to the end of what there is looks again every half second (`wal_retrieve_retry_interval`). If it has not come further
/// for so long, the rest is half a record.
const STILL: Duration = Duration::from_millis(1_500);

/// How long a server may take to become a primary once all is replayed.
const PROMOTION: Duration = Duration::from_mins(1);

/// Answers when nothing receives any more, nor will. The file has been written and the first process been told to reload.
pub(super) async fn cut(login: &Login) -> Result<(), Error> {
    const WHAT: &str = "cut the upstream";
    const RECEIVERS: &str = "select pid from pg_stat_activity where backend_type = 'walreceiver'";
    let deadline = Instant::now() + CUT;
    let late = |what: &str| Err(Error::failed(WHAT, format!("after {CUT:?} {what}")));
    let session = loop {
        let session = login.open(WHAT, STATEMENT).await?;
        let shown = session
            .value(WHAT, "show primary_conninfo")
            .await?
            .unwrap_or_default();
        if shown.is_empty() {
            break session;
        }
        if Instant::now() >= deadline {
            return Err(conf::overridden(&session, "primary_conninfo", &shown).await);
        }
        tokio::time::sleep(LOOK).await;
    };
    session.rows(WHAT, "select pg_wal_replay_pause()").await?;
    loop {
        let state = session
            .value(WHAT, "select pg_get_wal_replay_pause_state()")
            .await?;
        if state.as_deref() == Some("paused") {
            break;
        }
        if Instant::now() >= deadline {
            return late("replay has not read the new configuration");
        }
        tokio::time::sleep(LOOK).await;
    }
    session.rows(WHAT, "select pg_wal_replay_resume()").await?;
    while session.value(WHAT, RECEIVERS).await?.is_some() {
        if Instant::now() >= deadline {
            return late("a process still receives");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Answers when all there is has been replayed. What is in the directory counts, not only what was received since the last start.
pub(super) async fn replay(session: &Session) -> Result<(), Error> {
    const WHAT: &str = "replay what was received";
    const SQL: &str = "select wait_event, pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn()
        from pg_stat_activity where backend_type = 'startup'";
    let (mut last, mut since) = (None, Instant::now());
    loop {
        let rows = session.rows(WHAT, SQL).await?;
        let Some([event, replayed, received]) = rows.first().map(Vec::as_slice) else {
            return Ok(());
        };
        let position = |text: &Option<String>| text.as_deref().and_then(lsn::read).unwrap_or(0);
        let (replayed, received) = (position(replayed), position(received));
        // It has looked everywhere and found no more.
        let nothing_more = event.as_deref() == Some("RecoveryRetrieveRetryInterval");
        let waits = nothing_more || event.as_deref() == Some("RecoveryWalStream");
        if last != Some(replayed) || !waits {
            (last, since) = (Some(replayed), Instant::now());
        }
        let all = received > 0 && replayed >= received && waits;
        if all || since.elapsed() >= STILL {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Answers when it takes writes.
pub(super) async fn promote(login: &Login) -> Result<(), Error> {
    const WHAT: &str = "promote";
    let deadline = Instant::now() + PROMOTION;
    let session = login.open(WHAT, STATEMENT).await?;
    if recovers(&session).await? {
        session.rows(WHAT, "select pg_promote(false)").await?;
    }
    while recovers(&session).await? {
        if Instant::now() >= deadline {
            return Err(Error::failed(
                WHAT,
                format!("still in recovery after {PROMOTION:?}"),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    writes(login).await
}

/// Whether it is a standby.
pub(super) async fn recovers(session: &Session) -> Result<bool, Error> {
    let value = session
        .value("ask for the role", "select pg_is_in_recovery()")
        .await?;
    Ok(value.as_deref() == Some("t"))
}

/// Answers when a write has succeeded.
pub(super) async fn writes(login: &Login) -> Result<(), Error> {
    const WHAT: &str = "write";
    let session = login.open(WHAT, STATEMENT).await?;
    let sql = "select pg_logical_emit_message(true, 'pg_autoctl', 'begin')";
    session.rows(WHAT, sql).await.map(drop)
}
