//! Becoming the standby of somebody, by whatever takes least.

use tokio::time::Instant;

use crate::NodeId;
use crate::database::{Error, Peer};

use super::conf::{self, REPLICATOR};
use super::control::{self, State};
use super::replication::{self, History, Identity};
use super::{POLL, Postgres, RECEIVE, START, START_STANDBY, STATEMENT, Turn, directory, join, recovery};

const WHAT: &str = "follow the primary";

/// What came of an attempt to follow.
enum Tried {
    /// It receives.
    Follows,
    /// It never will with what it has.
    Hopeless(String),
}

impl Postgres {
    pub(super) async fn become_standby(&self, turn: &Turn, me: NodeId, upstream: &Peer) -> Result<(), Error> {
        let options = &self.options;
        let pgdata = &options.pgdata;
        let (identity, history) =
            replication::identify_remote(&upstream.host, upstream.port, REPLICATOR, STATEMENT).await?;
        if !directory::is_cluster(pgdata) {
            directory::must_be_empty(pgdata)?;
            return self.copy(turn, me, upstream).await;
        }
        let control = control::control(&options.bindir, pgdata).await?;
        if control.system_identifier != identity.system_identifier {
            return Err(Error::OtherCluster {
                pgdata: pgdata.display().to_string(),
                here: control.system_identifier,
                there: identity.system_identifier,
            });
        }
        if directory::is_rewinding(pgdata) {
            tracing::warn!("an earlier rewind of {} was interrupted", pgdata.display());
            return self.copy(turn, me, upstream).await;
        }
        if self.running().is_some() && !recovery::recovers(&self.session(WHAT).await?).await? {
            return Err(Error::failed(WHAT, "it takes writes; it has to be stopped first"));
        }
        if self.may_just_follow(&identity, &history).await? {
            match self.try_to_follow(turn, me, upstream).await? {
                Tried::Follows => return Ok(()),
                Tried::Hopeless(why) => tracing::warn!("cannot just follow: {why}"),
            }
        }
        self.down().await;
        if let Err(error) = self.rewind(turn, me, upstream).await {
            tracing::warn!("{error}");
        } else {
            match self.try_to_follow(turn, me, upstream).await? {
                Tried::Follows => return Ok(()),
                Tried::Hopeless(why) => tracing::warn!("cannot follow after a rewind: {why}"),
            }
        }
        self.down().await;
        self.copy(turn, me, upstream).await
    }

    /// Whether what is here may be no more than what the upstream has. A primary that was not stopped cleanly may have more.
    async fn may_just_follow(&self, upstream: &Identity, history: &History) -> Result<bool, Error> {
        if self.running().is_some() {
            let end = self.end_of_standby().await?;
            return Ok(join::is_past_of(end, upstream.position, history));
        }
        let (bindir, pgdata) = (&self.options.bindir, &self.options.pgdata);
        let control = control::control(bindir, pgdata).await?;
        if conf::is_standby(pgdata) && matches!(control.state, State::InRecovery | State::Other) {
            // It was killed; what it has received beyond that is looked at when it runs.
            return Ok(join::is_past_of(control.recovery_end, upstream.position, history));
        }
        let end = control::end(bindir, pgdata, &control).await?;
        Ok(end.is_some_and(|end| join::is_past_of(end, upstream.position, history)))
    }

    /// Follows with what is here.
    async fn try_to_follow(&self, turn: &Turn, me: NodeId, upstream: &Peer) -> Result<Tried, Error> {
        let options = &self.options;
        conf::follow(&options.pgdata, options, me, upstream, true)?;
        let log = self.log_length();
        if let Some(server) = self.running() {
            server.reload();
        } else {
            conf::be_standby(&options.pgdata)?;
        }
        let deadline = Instant::now() + RECEIVE;
        // It may have to receive before it lets anybody in.
        let up = self.up(turn, START_STANDBY).await;
        let Err(error) = (match up {
            Ok(_) => self.receives(deadline, upstream).await,
            Err(error) => Err(error),
        }) else {
            return Ok(Tried::Follows);
        };
        let said = self.log_since(log);
        if join::is_hopeless(&said) {
            let line = said.lines().rev().find(|line| join::is_hopeless(line));
            return Ok(Tried::Hopeless(line.unwrap_or_default().to_owned()));
        }
        Err(error)
    }

    /// Answers when it receives from this upstream.
    async fn receives(&self, deadline: Instant, upstream: &Peer) -> Result<(), Error> {
        let sql = "select 1 from pg_stat_wal_receiver where status = 'streaming' and sender_host = ";
        let sql = format!(
            "{sql}{} and sender_port = {}",
            super::session::literal(&upstream.host),
            upstream.port
        );
        loop {
            if self.session(WHAT).await?.value(WHAT, &sql).await?.is_some() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let log = self.running().map(|server| server.log_tail()).unwrap_or_default();
                let reason = format!(
                    "nothing from node {} at {}:{} within {RECEIVE:?}; the log: {log}",
                    upstream.node, upstream.host, upstream.port
                );
                return Err(Error::failed(WHAT, reason));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Gives up what the upstream does not have. Nothing runs before and afterwards.
    async fn rewind(&self, turn: &Turn, me: NodeId, upstream: &Peer) -> Result<(), Error> {
        let options = &self.options;
        let pgdata = &options.pgdata;
        let control = control::control(&options.bindir, pgdata).await?;
        let clean = matches!(control.state, State::ShutDown | State::ShutDownInRecovery);
        if !clean && conf::is_standby(pgdata) {
            // pg_rewind recovers primaries by itself, but not standbys.
            conf::follow_nobody(pgdata)?;
            self.up(turn, START).await?;
            self.down().await;
        }
        tracing::info!(
            "rewinding {} to what node {} has",
            pgdata.display(),
            upstream.node
        );
        *self.stopped.lock() = None;
        join::rewind(options, me, upstream).await
    }

    /// Takes a copy instead of what is here, and follows.
    async fn copy(&self, turn: &Turn, me: NodeId, upstream: &Peer) -> Result<(), Error> {
        let options = &self.options;
        tracing::info!("copying node {} to {}", upstream.node, options.pgdata.display());
        directory::make_room(&options.pgdata);
        let new = join::copy(options, me, upstream).await?;
        *self.stopped.lock() = None;
        if let Some(kept) = directory::replace(&options.pgdata, &new)? {
            tracing::warn!("what was there before is kept in {}", kept.display());
        }
        directory::unmark_rewinding(&options.pgdata)?;
        match self.try_to_follow(turn, me, upstream).await? {
            Tried::Follows => Ok(()),
            Tried::Hopeless(why) => Err(Error::failed(WHAT, why)),
        }
    }

    fn log_length(&self) -> u64 {
        let path = self.options.pgdata.join(super::postmaster::LOG);
        std::fs::metadata(path).map_or(0, |found| found.len())
    }

    fn log_since(&self, length: u64) -> String {
        let path = self.options.pgdata.join(super::postmaster::LOG);
        let bytes = std::fs::read(path).unwrap_or_default();
        let from = usize::try_from(length).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }
}
