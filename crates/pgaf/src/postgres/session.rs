//! A connection for one purpose, with a bound on everything that is asked over it.
//!
//! Our own statements never wait for standbys (`synchronous_commit = local`): roles and probes are no rows that anybody was promised, and a
//! keeper that waits for a standby cannot do anything about its absence.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::database::Error;

/// A login that is over when this is dropped.
pub(super) struct Session {
    client: Client,
    task: JoinHandle<()>,
    limit: Duration,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rows of texts; nothing is NULL.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// How to log in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    config: Config,
}

impl Login {
    /// The keeper's own user over the Unix socket.
    pub(super) fn local(socket_dir: &Path, port: u16, user: &str) -> Login {
        let mut config = Config::new();
        config.host_path(socket_dir).port(port).user(user);
        Login::new(config)
    }

    /// Over TCP, without a password.
    pub(super) fn remote(host: &str, port: u16, user: &str) -> Login {
        let mut config = Config::new();
        config.host(host).port(port).user(user);
        Login::new(config)
    }

    fn new(mut config: Config) -> Login {
        config
            .dbname("postgres")
            .application_name("pg_autoctl")
            .ssl_mode(SslMode::Disable)
            .options("-c synchronous_commit=local");
        Login { config }
    }

    /// Logs in; `limit` holds for this and for each statement.
    pub(super) async fn open(&self, what: &'static str, limit: Duration) -> Result<Session, Error> {
        self.try_open(limit).await.map_err(|failure| failure.error(what))
    }

    /// As [`Login::open`], telling ways to fail apart.
    pub(super) async fn try_open(&self, limit: Duration) -> Result<Session, Failure> {
        let connecting = tokio::time::timeout(limit, self.config.connect(NoTls)).await;
        let (client, connection) = connecting
            .map_err(|_| Failure::Late(limit))?
            .map_err(Failure::Sql)?;
        let task = tokio::spawn(async move {
            // What went wrong is what the statements say.
            let _ = connection.await;
        });
        Ok(Session { client, task, limit })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// None within this time.
    Late(Duration),
    /// PostgreSQL, or the connection.
    Sql(tokio_postgres::Error),
}

impl Failure {
    pub(super) fn error(&self, what: &'static str) -> Error {
        Error::failed(what, self)
    }

    /// The server is there, but not yet ready for logins.
    pub(super) fn starting(&self) -> bool {
        matches!(self, Failure::Sql(error) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW))
    }

    /// Nobody listens there.
    pub(super) fn refused(&self) -> bool {
        let Failure::Sql(error) = self else {
            return false;
        };
        std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Late(limit) => write!(f, "no answer within {limit:?}"),
            Failure::Sql(error) => match (error.as_db_error(), std::error::Error::source(error)) {
                (Some(error), _) => write!(f, "{}: {}", error.severity(), error.message()),
                (None, Some(source)) => write!(f, "{error}: {source}"),
                (None, None) => error.fmt(f),
            },
        }
    }
}

impl Session {
    /// All rows of a statement.
    pub(super) async fn rows(&self, what: &'static str, sql: &str) -> Result<Rows, Error> {
        self.try_rows(sql).await.map_err(|failure| failure.error(what))
    }

    /// As [`Session::rows`], telling ways to fail apart.
    pub(super) async fn try_rows(&self, sql: &str) -> Result<Rows, Failure> {
        let asking = tokio::time::timeout(self.limit, self.client.simple_query(sql)).await;
        let messages = asking
            .map_err(|_| Failure::Late(self.limit))?
            .map_err(Failure::Sql)?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the first row, if it is there and not NULL.
    pub(super) async fn value(&self, what: &'static str, sql: &str) -> Result<Option<String>, Error> {
        let rows = self.rows(what, sql).await?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten())
    }
}

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
