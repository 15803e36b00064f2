//! Ending the server, whatever else is going on.

use std::time::Duration;

use crate::Position;
use crate::database::{Error, Stop};

use super::{Postgres, control, directory, processes};

/// A checkpoint of all there is in memory, on a slow disk. Whoever cannot wait so long says how long it can.
const CLEAN: Duration = Duration::from_mins(30);

impl Postgres {
    pub(super) async fn end(&self, how: Stop) -> Result<Option<Position>, Error> {
        const WHAT: &str = "stop PostgreSQL";
        // What is under way ends, and nothing of it starts a server any more.
        {
            let mut stops = self.stops.lock();
            *stops += 1;
            self.stopping.send_replace(*stops);
        }
        let pgdata = &self.options.pgdata;
        if let Some(server) = self.running() {
            let limit = match how {
                Stop::Clean => CLEAN,
                Stop::Within(limit) => limit,
                Stop::Kill => Duration::ZERO,
            };
            if limit > Duration::ZERO {
                server.ask_to_stop();
            }
            if tokio::time::timeout(limit, server.ended()).await.is_err() {
                server.kill().await;
            }
        }
        // A server that has ended by itself has left nobody, but programs that work on the directory may be there.
        processes::kill_all(pgdata).await;
        if how != Stop::Clean || !directory::is_cluster(pgdata) {
            return Ok(None);
        }
        let control = control::control(&self.options.bindir, pgdata).await?;
        control::end(&self.options.bindir, pgdata, &control)
            .await
            .map_err(|error| Error::failed(WHAT, error))
    }
}
