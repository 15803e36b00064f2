//! What `pg_control` says of a data directory that does not run, and where its log ends.

use std::path::Path;
use std::time::Duration;

use crate::Position;
use crate::database::Error;

use super::command::{program, run};
use super::lsn;

/// Longest look; it reads one file of 8 kB, on a disk that may be busy.
const LIMIT: Duration = Duration::from_secs(20);

/// How a cluster was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A primary that was stopped cleanly.
    ShutDown,
    /// A standby that was stopped cleanly.
    ShutDownInRecovery,
    /// A primary that was not stopped, or runs.
    InProduction,
    /// A standby that was not stopped, or runs.
    InRecovery,
    /// Anything else: it was starting, stopping or recovering from a crash.
    Other,
}

/// What `pg_controldata` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) system_identifier: u64,
    pub(super) state: State,
    /// Where the record of the latest checkpoint begins, on its timeline.
    pub(super) checkpoint: Position,
    /// Where a standby's recovery has to come to at least.
    pub(super) recovery_end: Position,
    wal_block: u64,
    wal_segment: u64,
}

impl Control {
    fn read(text: &str) -> Option<Control> {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
        };
        let state = match field("Database cluster state")? {
            "shut down" => State::ShutDown,
            "shut down in recovery" => State::ShutDownInRecovery,
            "in production" => State::InProduction,
            "in archive recovery" => State::InRecovery,
            _ => State::Other,
        };
        Some(Control {
            system_identifier: field("Database system identifier")?.parse().ok()?,
            state,
            checkpoint: Position {
                timeline: field("Latest checkpoint's TimeLineID")?.parse().ok()?,
                lsn: lsn::read(field("Latest checkpoint location")?)?,
            },
            recovery_end: Position {
                timeline: field("Min recovery ending loc's timeline")?.parse().ok()?,
                lsn: lsn::read(field("Minimum recovery ending location")?)?,
            },
            wal_block: field("WAL block size")?.parse().ok()?,
            wal_segment: field("Bytes per WAL segment")?.parse().ok()?,
        })
    }
}

/// Looks at a directory.
pub(super) async fn control(bindir: &Path, pgdata: &Path) -> Result<Control, Error> {
    const WHAT: &str = "read pg_control";
    let mut command = program(bindir, "pg_controldata");
    command.arg("-D").arg(pgdata);
    let text = run(WHAT, command, LIMIT, |_| ()).await?;
    Control::read(&text).ok_or_else(|| Error::failed(WHAT, "pg_controldata printed something unknown"))
}

/// Where the log of a cluster that does not run ends, if that is certain: a primary's last record is that of its last checkpoint, and
/// standbys that have everything have received up to its end.
pub(super) async fn end(bindir: &Path, pgdata: &Path, control: &Control) -> Result<Option<Position>, Error> {
    match control.state {
        State::ShutDownInRecovery => Ok(Some(control.recovery_end)),
        State::ShutDown => {
            let length = length_of_checkpoint(bindir, pgdata, control).await?;
            let lsn = end_of_record(
                control.checkpoint.lsn,
                length,
                control.wal_block,
                control.wal_segment,
            );
            Ok(Some(Position {
                lsn,
                ..control.checkpoint
            }))
        }
        _ => Ok(None),
    }
}

/// Its bytes without headers of pages, which differ from version to version.
async fn length_of_checkpoint(bindir: &Path, pgdata: &Path, control: &Control) -> Result<u64, Error> {
    const WHAT: &str = "read the last checkpoint";
    let mut command = program(bindir, "pg_waldump");
    command.arg("-p").arg(pgdata.join("pg_wal"));
    command.args(["-t", &control.checkpoint.timeline.to_string()]);
    command.args(["-s", &lsn::text(control.checkpoint.lsn), "-n", "1"]);
    let text = run(WHAT, command, LIMIT, |_| ()).await?;
    // `rmgr: XLOG        len (rec/tot):    114/   114, tx: ...`
    text.split_once("len (rec/tot):")
        .and_then(|(_, rest)| rest.split_once('/'))
        .and_then(|(_, rest)| rest.split_once(','))
        .and_then(|(total, _)| total.trim().parse().ok())
        .ok_or_else(|| Error::failed(WHAT, format!("pg_waldump printed `{}`", text.trim())))
}

/// Where a record that begins at `start` ends, aligned as the next one would begin. Pages begin with a header of 24 bytes, segments with one
/// of 40 (`xlog_internal.h`).
fn end_of_record(start: u64, length: u64, block: u64, segment: u64) -> u64 {
    let mut at = start;
    let mut left = length.next_multiple_of(8);
    while left > 0 {
        if at.is_multiple_of(block) {
            at += if at.is_multiple_of(segment) { 40 } else { 24 };
        }
        let here = left.min(block - at % block);
        at += here;
        left -= here;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_pages_lie_within_records() {
        const SEGMENT: u64 = 16 << 20;
        assert_eq!(end_of_record(0x150_0028, 114, 8192, SEGMENT), 0x150_00A0);
        // 16 bytes fit on the page.
        assert_eq!(
            end_of_record(0x150_1FF0, 114, 8192, SEGMENT),
            0x150_2000 + 24 + 104
        );
        assert_eq!(
            end_of_record(0x1FF_FFF0, 114, 8192, SEGMENT),
            0x200_0000 + 40 + 104
        );
        // It ends with the page.
        assert_eq!(end_of_record(0x150_1F88, 114, 8192, SEGMENT), 0x150_2000);
    }
}
