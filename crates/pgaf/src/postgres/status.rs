//! One look at the server: what it does and where its log ends.

use crate::Position;
use crate::database::{Error, Running, Status};

use super::control::Control;
use super::postmaster::Postmaster;
use super::{LOOK, Postgres, control, directory, lsn, processes, replication};

const WHAT: &str = "look at PostgreSQL";

/// The timeline of a primary is in the names of its segments.
const SQL: &str = "select pg_is_in_recovery(),
    exists (select from pg_stat_wal_receiver where status = 'streaming'),
    case when pg_is_in_recovery() then null else left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) end,
    case when pg_is_in_recovery() then null else pg_current_wal_flush_lsn() end";

impl Postgres {
    pub(super) async fn look(&self) -> Result<Status, Error> {
        let pgdata = &self.options.pgdata;
        let Some(server) = self.running() else {
            return self.look_at_directory().await;
        };
        let system_identifier = match self.control_of_running().await {
            Ok(identifier) => Some(identifier),
            Err(_) if !directory::is_cluster(pgdata) => None,
            Err(error) => return Err(error),
        };
        let (running, position) = match self.look_at_server().await {
            Ok(found) => found,
            // It starts, stops, or does not answer.
            Err(error) if server.exit().is_none() => {
                tracing::debug!("{error}");
                (as_started(&server), None)
            }
            Err(_) => return self.look_at_directory().await,
        };
        Ok(Status {
            running,
            position,
            system_identifier,
        })
    }

    async fn look_at_server(&self) -> Result<(Running, Option<Position>), Error> {
        let options = &self.options;
        let session = self.login().open(WHAT, LOOK).await?;
        let rows = session.rows(WHAT, SQL).await?;
        let Some([recovers, receives, timeline, flushed]) = rows.first().map(Vec::as_slice) else {
            return Err(Error::failed(WHAT, "no answer"));
        };
        if recovers.as_deref() == Some("t") {
            let receiving = receives.as_deref() == Some("t");
            let identity =
                replication::identify_local(&options.socket_dir, options.port, &self.user, LOOK).await?;
            return Ok((Running::Standby { receiving }, Some(identity.position)));
        }
        let position = || {
            Some(Position {
                timeline: u32::from_str_radix(timeline.as_deref()?, 16).ok()?,
                lsn: lsn::read(flushed.as_deref()?)?,
            })
        };
        Ok((Running::Primary, position()))
    }

    /// The identifier does not change while it runs.
    async fn control_of_running(&self) -> Result<u64, Error> {
        if let Some((control, _)) = self.stopped.lock().as_ref() {
            return Ok(control.system_identifier);
        }
        let control = control::control(&self.options.bindir, &self.options.pgdata).await?;
        let identifier = control.system_identifier;
        let mut stopped = self.stopped.lock();
        // Only for the identifier: whoever wants to know where the log ends asks when nothing runs.
        if stopped.is_none() && self.running().is_some() {
            *stopped = Some((control, None));
        }
        Ok(identifier)
    }

    async fn look_at_directory(&self) -> Result<Status, Error> {
        let pgdata = &self.options.pgdata;
        let nothing = Status {
            running: Running::Not,
            position: None,
            system_identifier: None,
        };
        if !directory::is_cluster(pgdata) {
            return Ok(nothing);
        }
        let known = self.stopped.lock().clone();
        let (control, position) = match known {
            Some((control, Some(position))) => (control, Some(position)),
            _ => self.read_directory().await?,
        };
        Ok(Status {
            position,
            system_identifier: Some(control.system_identifier),
            ..nothing
        })
    }

    async fn read_directory(&self) -> Result<(Control, Option<Position>), Error> {
        let (bindir, pgdata) = (&self.options.bindir, &self.options.pgdata);
        let control = control::control(bindir, pgdata).await?;
        // A directory that is being rewound, or a log that is damaged, has no end that anybody knows.
        let position = match control::end(bindir, pgdata, &control).await {
            Ok(position) => position,
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        };
        if self.running().is_none() && processes::of(pgdata).is_empty() {
            *self.stopped.lock() = Some((control.clone(), position));
        }
        Ok((control, position))
    }
}

fn as_started(server: &Postmaster) -> Running {
    if server.standby() {
        Running::Standby { receiving: false }
    } else {
        Running::Primary
    }
}
