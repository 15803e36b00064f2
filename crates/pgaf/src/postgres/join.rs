//! Ways to make a standby of what is there: a copy of another node, or its own past given up where it went another way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::database::{Error, Options, Peer};
use crate::names::application_name;
use crate::{Names, NodeId, Position};

use super::command::{program, run};
use super::conf::REPLICATOR;
use super::replication::History;
use super::session::Login;
use super::{conf, directory, postmaster};

/// A copy takes as long as it takes; whoever does not want it any more stops it.
const COPY: Duration = Duration::from_hours(72);

/// As does reading all of the log since the two parted.
const REWIND: Duration = Duration::from_hours(12);

/// How long a primary that was just promoted may take for its first checkpoint.
const CHECKPOINT: Duration = Duration::from_mins(5);

/// One login or statement.
const STATEMENT: Duration = Duration::from_secs(5);

/// What a standby's log says when no waiting helps (`walsender.c`, `walreceiver.c`, `xlogrecovery.c`).
const HOPELESS: [&str; 5] = [
    "has already been removed",
    "is not in this server's history",
    "is not a child of this server's history",
    "is behind recovery timeline",
    "is ahead of the WAL flush position",
];

/// Whether a log that says this will ever go on.
pub(super) fn is_hopeless(log: &str) -> bool {
    HOPELESS.iter().any(|text| log.contains(text))
}

/// Whether somebody at `end` has only what `upstream` has, or had before.
pub(super) fn is_past_of(end: Position, upstream: Position, history: &History) -> bool {
    if end.timeline == upstream.timeline {
        return true;
    }
    let left = history.iter().find(|left| left.timeline == end.timeline);
    left.is_some_and(|left| end.lsn <= left.lsn)
}

/// Copies the upstream into a new directory, which then waits to take its place.
pub(super) async fn copy(options: &Options, me: NodeId, upstream: &Peer) -> Result<PathBuf, Error> {
    const WHAT: &str = "copy the primary";
    let new = directory::new(&options.pgdata);
    let mut command = program(&options.bindir, "pg_basebackup");
    command.arg("-D").arg(&new);
    // Under another name than the standby's: what it flushes is not the standby's.
    let login = conf::conninfo(options, upstream, &format!("pgautofailover_backup_{me}"));
    command.args(["-d", &login, "--slot", &application_name(me)]);
    command.args(["-X", "stream", "--checkpoint=fast", "--no-password", "--progress"]);
    if let Some(rate) = &options.maximum_backup_rate {
        command.args(["--max-rate", rate]);
    }
    let mut told = Instant::now();
    let copied = run(WHAT, command, COPY, |line| {
        // `123456/654321 kB (18%), 0/1 tablespace`
        if told.elapsed() >= Duration::from_secs(5) && line.contains("kB (") {
            told = Instant::now();
            tracing::info!("copying: {}", line.trim());
        }
    });
    let prepare = async {
        copied.await?;
        conf::install(&new, options, &Names::nobody())?;
        conf::follow(&new, options, me, upstream, true)?;
        conf::be_standby(&new)?;
        directory::remove(&new.join(postmaster::LOG))?;
        directory::remove(&new.join(super::UNFINISHED))
    };
    if let Err(error) = prepare.await {
        let _ = std::fs::remove_dir_all(&new);
        return Err(error);
    }
    Ok(new)
}

/// Gives up what the upstream does not have, and leaves a standby of it. A directory whose rewind was interrupted stays marked and is no good.
pub(super) async fn rewind(options: &Options, me: NodeId, upstream: &Peer) -> Result<(), Error> {
    const WHAT: &str = "rewind";
    let pgdata: &Path = &options.pgdata;
    checkpointed(upstream).await?;
    directory::mark_rewinding(pgdata)?;
    let mut command = program(&options.bindir, "pg_rewind");
    command.arg("--target-pgdata").arg(pgdata);
    let login = conf::conninfo(options, upstream, "pg_rewind");
    command
        .arg("--source-server")
        .arg(format!("{login} dbname=postgres"));
    let output = run(WHAT, command, REWIND, |_| ()).await?;
    tracing::info!("{}", output.trim().replace('\n', "; "));
    conf::install(pgdata, options, &Names::nobody())?;
    conf::follow(pgdata, options, me, upstream, true)?;
    conf::be_standby(pgdata)?;
    directory::unmark_rewinding(pgdata)
}

/// Answers when the upstream's `pg_control` names its timeline. Before the first checkpoint after a promotion it names the one before, and
/// `pg_rewind` would find nothing to do.
async fn checkpointed(upstream: &Peer) -> Result<(), Error> {
    const WHAT: &str = "wait for the primary's checkpoint";
    const SQL: &str = "select (select timeline_id from pg_control_checkpoint())
        = ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
    let session = Login::remote(&upstream.host, upstream.port, REPLICATOR)
        .open(WHAT, STATEMENT)
        .await?;
    let deadline = Instant::now() + CHECKPOINT;
    while session.value(WHAT, SQL).await?.as_deref() != Some("t") {
        if Instant::now() >= deadline {
            return Err(Error::failed(WHAT, format!("none within {CHECKPOINT:?}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, lsn: u64) -> Position {
        Position { timeline, lsn }
    }

    #[test]
    fn who_went_on_after_the_others_parted_has_another_past() {
        let history = vec![at(1, 500), at(2, 900)];
        let upstream = at(3, 1_000);
        assert!(is_past_of(at(1, 500), upstream, &history));
        assert!(!is_past_of(at(1, 501), upstream, &history));
        assert!(is_past_of(at(2, 700), upstream, &history));
        assert!(!is_past_of(at(4, 100), upstream, &history), "never heard of it");
        assert!(is_past_of(at(3, 1_200), upstream, &history), "the log will tell");
    }
}
