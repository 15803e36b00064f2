//! When a change of `synchronous_standby_names` is in effect.
//!
//! PostgreSQL answers a reload before anybody has read the new configuration. Three kinds of processes have a part in acknowledging
//! (`src/backend/replication/syncrep.c` of version 15):
//!
//! - A backend that commits waits only if the shared flag says that names are set. The checkpointer keeps that flag, and wakes those who wait
//!   when it is taken back; it reads its configuration between two checkpoints. A new connection that shows the new value proves that the first
//!   process has read the file and has signalled all others, the checkpointer among them. A checkpoint requested from then on may still
//!   have begun before the checkpointer acted on the signal; one that is requested after that has not. So two are requested.
//! - A WAL sender compares what its standby has flushed with what the others have, and wakes those who waited. Whether its standby counts is in
//!   shared memory as its priority, which it writes when it has read the new configuration, so that is looked at.
//! - How many standbys it takes is known to each WAL sender alone. For another number they are therefore ended; those that come after were started
//!   by a process that knows the new value. Standbys come back within their `wal_retrieve_retry_interval`.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::database::Error;
use crate::names::application_name;
use crate::{Names, NodeId};

use super::session::{Login, Rows, Session};
use super::{conf, lsn, recovery};

const WHAT: &str = "bring the names into effect";

/// How long all of it may take, but for the checkpoints.
const LIMIT: Duration = Duration::from_secs(30);

/// A checkpoint writes whatever is in memory, as fast as the disk takes it.
const CHECKPOINT: Duration = Duration::from_mins(10);

/// One login or statement.
const STATEMENT: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Answers when no process can acknowledge by other names any more. The file has been written and the first process been told to reload.
/// `old` is what was in effect before, if that is certain.
pub(super) async fn wait(login: &Login, old: Option<&Names>, new: &Names) -> Result<(), Error> {
    let deadline = Instant::now() + LIMIT;
    let session = shown(login, new, deadline).await?;
    if new.any() > 0 && old.is_none_or(|old| old.any() == 0) {
        let checkpointer = login.open(WHAT, CHECKPOINT).await?;
        for _ in 0..2 {
            checkpointer.rows(WHAT, "checkpoint").await?;
        }
    }
    let deadline = Instant::now() + LIMIT;
    if old.is_none_or(|old| old.any() > 0 && old.any() != new.any()) {
        restart_senders(&session, deadline).await?;
    }
    if recovery::recovers(&session).await? {
        // Whoever follows a standby has no part in acknowledging, nor priority.
        return Ok(());
    }
    loop {
        let sql = "select application_name, sync_priority from pg_stat_replication";
        let rows = session.rows(WHAT, sql).await?;
        if rows.iter().all(|row| priority_fits(row, new)) {
            return Ok(());
        }
        pause(deadline, "WAL senders that have not read the new configuration").await?;
    }
}

/// Answers with a connection of a backend that has the new value.
async fn shown(login: &Login, new: &Names, deadline: Instant) -> Result<Session, Error> {
    loop {
        let session = login.open(WHAT, STATEMENT).await?;
        let shown = session.value(WHAT, "show synchronous_standby_names").await?;
        let shown = shown.unwrap_or_default();
        if shown == new.to_string() {
            return Ok(session);
        }
        if Instant::now() >= deadline {
            return Err(conf::overridden(&session, "synchronous_standby_names", &shown).await);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn priority_fits(row: &[Option<String>], names: &Names) -> bool {
    let [Some(application), Some(priority)] = row else {
        return false;
    };
    let member = names
        .members()
        .iter()
        .any(|node| application_name(*node) == *application);
    (priority != "0") == member
}

/// Ends every WAL sender that acknowledges and waits until none of them is left.
async fn restart_senders(session: &Session, deadline: Instant) -> Result<(), Error> {
    const SENDERS: &str = "select pid || ' ' || backend_start from pg_stat_replication
        where application_name like 'pgautofailover\\_standby\\_%'";
    let name = |rows: Rows| -> BTreeSet<Option<String>> { rows.into_iter().flatten().collect() };
    let old = name(session.rows(WHAT, SENDERS).await?);
    session
        .rows(
            WHAT,
            "select pg_terminate_backend(pid) from pg_stat_replication
             where application_name like 'pgautofailover\\_standby\\_%'",
        )
        .await?;
    while !name(session.rows(WHAT, SENDERS).await?).is_disjoint(&old) {
        pause(deadline, "WAL senders that have not ended").await?;
    }
    Ok(())
}

async fn pause(deadline: Instant, what: &str) -> Result<(), Error> {
    if Instant::now() >= deadline {
        let reason = format!("after {LIMIT:?} there are still {what}");
        return Err(Error::failed(WHAT, reason));
    }
    tokio::time::sleep(LOOK).await;
    Ok(())
}

/// Up to where everything is flushed. A commit that was acknowledged lies before it: whoever acknowledges has flushed it first. Not up to where it
/// is inserted: that may be behind the header of a page that nobody ever flushes, and standbys would be waited for in vain.
pub(super) async fn flushed_here(session: &Session) -> Result<u64, Error> {
    const WHAT: &str = "ask where the log ends";
    let text = session.value(WHAT, "select pg_current_wal_flush_lsn()").await?;
    let text = text.unwrap_or_default();
    lsn::read(&text).ok_or_else(|| Error::failed(WHAT, format!("the answer was `{text}`")))
}

/// Standbys that have flushed up to there. Base backups log in under other names.
pub(super) async fn flushed(session: &Session, position: u64) -> Result<BTreeSet<NodeId>, Error> {
    const WHAT: &str = "ask what standbys have";
    let sql = "select application_name, flush_lsn from pg_stat_replication where flush_lsn is not null";
    let prefix = application_name(0);
    let prefix = prefix.trim_end_matches('0');
    let rows = session.rows(WHAT, sql).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let [Some(application), Some(flushed)] = row.as_slice() else {
                return None;
            };
            let node = application.strip_prefix(prefix)?.parse().ok()?;
            (lsn::read(flushed)? >= position).then_some(node)
        })
        .collect())
}
