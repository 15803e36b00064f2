//! What only a replication connection answers (PostgreSQL's manual, 55.4): where the log of a standby ends on the timeline it is on, and how
//! timelines follow each other. No client library that we use speaks it.

use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::Position;
use crate::database::Error;

use super::lsn;

/// Most that one answer may have: histories have a line for each timeline.
const ANSWER_LIMIT: usize = 1 << 20;

/// Who somebody is, and where its log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) system_identifier: u64,
    /// Flushed on a primary; on a standby received or replayed, whichever is more, on the timeline it replays.
    pub(super) position: Position,
}

/// How timelines follow each other: each with the position at which the next one left it.
pub(super) type History = Vec<Position>;

/// Asks the own server.
pub(super) async fn identify_local(
    socket_dir: &Path,
    port: u16,
    user: &str,
    limit: Duration,
) -> Result<Identity, Error> {
    let socket = socket_dir.join(format!(".s.PGSQL.{port}"));
    let asking = async {
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|error| format!("{}: {error}", socket.display()))?;
        let rows = ask(stream, user, &["IDENTIFY_SYSTEM".to_owned()]).await?;
        identity(&rows[0])
    };
    bounded(asking, limit).await
}

/// Asks another one, also for its history.
pub(super) async fn identify_remote(
    host: &str,
    port: u16,
    user: &str,
    limit: Duration,
) -> Result<(Identity, History), Error> {
    let asking = async {
        let connect = || async {
            TcpStream::connect((host, port))
                .await
                .map_err(|error| format!("{host}:{port}: {error}"))
        };
        let rows = ask(connect().await?, user, &["IDENTIFY_SYSTEM".to_owned()]).await?;
        let identity = identity(&rows[0])?;
        let timeline = identity.position.timeline;
        if timeline == 1 {
            return Ok((identity, History::new()));
        }
        let rows = ask(connect().await?, user, &[format!("TIMELINE_HISTORY {timeline}")]).await?;
        let text = rows[0].get(1).cloned().unwrap_or_default();
        Ok((identity, history(&text)?))
    };
    bounded(asking, limit).await
}

async fn bounded<T>(asking: impl Future<Output = Result<T, String>>, limit: Duration) -> Result<T, Error> {
    const WHAT: &str = "ask where the log ends";
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer.map_err(|error| Error::failed(WHAT, error)),
        Err(_) => Err(Error::failed(WHAT, format!("no answer within {limit:?}"))),
    }
}

fn identity(row: &[String]) -> Result<Identity, String> {
    let read = || {
        Some(Identity {
            system_identifier: row.first()?.parse().ok()?,
            position: Position {
                timeline: row.get(1)?.parse().ok()?,
                lsn: lsn::read(row.get(2)?)?,
            },
        })
    };
    read().ok_or_else(|| format!("IDENTIFY_SYSTEM answered {row:?}"))
}

/// Lines of timeline, position and reason, with comments and empty lines between them.
fn history(text: &str) -> Result<History, String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut read = || {
                Some(Position {
                    timeline: words.next()?.parse().ok()?,
                    lsn: lsn::read(words.next()?)?,
                })
            };
            read().ok_or_else(|| format!("the history has the line `{line}`"))
        })
        .collect()
}

/// The first row of each answer.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    user: &str,
    commands: &[String],
) -> Result<Vec<Vec<String>>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut out = BytesMut::new();
    let parameters = [
        ("user", user),
        ("replication", "true"),
        ("application_name", "pg_autoctl"),
    ];
    frontend::startup_message(parameters, &mut out).map_err(text)?;
    stream.write_all(&out).await.map_err(text)?;
    let mut input = BytesMut::new();
    answer(&mut stream, &mut input).await?;
    let mut answers = Vec::new();
    for command in commands {
        out.clear();
        frontend::query(command, &mut out).map_err(text)?;
        stream.write_all(&out).await.map_err(text)?;
        let row = answer(&mut stream, &mut input).await?;
        answers.push(row.ok_or_else(|| format!("no answer to {command}"))?);
    }
    Ok(answers)
}

/// Reads until the server is ready for the next command; the first row, if there was one.
async fn answer(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
) -> Result<Option<Vec<String>>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut first = None;
    loop {
        while let Some(message) = Message::parse(input).map_err(text)? {
            match message {
                Message::ReadyForQuery(_) => return Ok(first),
                Message::DataRow(row) if first.is_none() => {
                    first = Some(columns(&row).map_err(text)?);
                }
                Message::ErrorResponse(error) => {
                    return Err(message_of(&error).map_err(text)?);
                }
                Message::AuthenticationCleartextPassword
                | Message::AuthenticationMd5Password(_)
                | Message::AuthenticationSasl(_) => return Err("it asks for a password".to_owned()),
                _ => {}
            }
        }
        if input.len() > ANSWER_LIMIT {
            return Err("its answer does not end".to_owned());
        }
        if stream.read_buf(input).await.map_err(text)? == 0 {
            return Err("it closed the connection".to_owned());
        }
    }
}

fn columns(row: &DataRowBody) -> std::io::Result<Vec<String>> {
    let text = |range: Option<std::ops::Range<usize>>| {
        let bytes = range
            .and_then(|range| row.buffer().get(range))
            .unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    row.ranges().map(text).collect()
}

fn message_of(error: &ErrorResponseBody) -> std::io::Result<String> {
    let found = error.fields().find(|field| Ok(field.type_() == b'M'))?;
    Ok(found.map_or_else(String::new, |field| {
        String::from_utf8_lossy(field.value_bytes()).into_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read() {
        let text =
            "1\t0/3000148\tno recovery target specified\n\n2\t0/50000A0\tno recovery target specified\n";
        let position = |timeline, lsn| Position { timeline, lsn };
        assert_eq!(
            history(text),
            Ok(vec![position(1, 0x300_0148), position(2, 0x500_00A0)])
        );
        assert!(history("1 nowhere\n").is_err());
    }
}
