//! Settings that are ours: two files in the data directory, included before everything else in `postgresql.conf`.
//!
//! `ALTER SYSTEM` is not used: its file belongs to the operator, cannot be replaced as a whole, and is read last, so that it wins over ours. A
//! setting of ours that is in it, or further down in `postgresql.conf`, is not in effect; whoever relies on one therefore looks at what the
//! server says, and names the file that says otherwise ([`overridden`]).

use std::fmt::Write as _;
use std::path::Path;

use crate::database::{Error, Options, Peer};
use crate::names::application_name;
use crate::{Names, NodeId};

use super::directory::{read, remove, write};
use super::session::{Session, literal};

/// What every node has, and the names.
const SETTINGS: &str = "postgresql-auto-failover.conf";
/// Whom it follows.
const STANDBY: &str = "postgresql-auto-failover-standby.conf";

const HEADER: &str = "# Written by pg_autoctl, which replaces the whole file.\n";

/// The role of standbys.
pub(super) const REPLICATOR: &str = "pgautofailover_replicator";

/// Standing settings. Twelve of each are enough for ten standbys and a base backup or two; log is kept so that a standby without a slot, on its
/// way back, finds it; a standby asks its upstream twice a second rather than every five seconds, because commits may wait for it.
const STANDING: &str = "wal_level = replica
hot_standby = on
wal_log_hints = on
max_wal_senders = 12
max_replication_slots = 12
wal_keep_size = '512MB'
synchronous_commit = on
hot_standby_feedback = on
recovery_target_timeline = latest
wal_retrieve_retry_interval = '500ms'
";

/// Puts settings and names into the directory, with nobody to follow unless that is known already.
pub(super) fn install(pgdata: &Path, options: &Options, names: &Names) -> Result<(), Error> {
    include(pgdata)?;
    if !pgdata.join(STANDBY).exists() {
        follow_nobody(pgdata)?;
    }
    write_names(pgdata, options, names)
}

/// Has `postgresql.conf` begin with our files.
fn include(pgdata: &Path) -> Result<(), Error> {
    let path = pgdata.join("postgresql.conf");
    let text = read(&path)?;
    let lines = format!("include '{SETTINGS}'\ninclude '{STANDBY}'\n");
    if text.starts_with(&lines) {
        return Ok(());
    }
    write(&path, &format!("{lines}{text}"))
}

/// The names that are in the file, or nobody.
pub(super) fn names(pgdata: &Path) -> Result<Names, Error> {
    const WHAT: &str = "read the names";
    let path = pgdata.join(SETTINGS);
    if !path.exists() {
        return Ok(Names::nobody());
    }
    let text = read(&path)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("synchronous_standby_names = '"))
        .and_then(|rest| rest.strip_suffix('\''))
        .ok_or_else(|| Error::failed(WHAT, format!("none in {}", path.display())))?;
    value
        .parse()
        .map_err(|error| Error::failed(WHAT, format!("{}: {error}", path.display())))
}

/// Writes settings with these names.
pub(super) fn write_names(pgdata: &Path, options: &Options, names: &Names) -> Result<(), Error> {
    let timeout = options.wal_timeout.as_millis();
    let text = format!(
        "{HEADER}{STANDING}wal_sender_timeout = '{timeout}ms'\nwal_receiver_timeout = '{timeout}ms'\n\
         synchronous_standby_names = '{names}'\n"
    );
    write(&pgdata.join(SETTINGS), &text)
}

/// Has it follow nobody, from the next reload or start on.
pub(super) fn follow_nobody(pgdata: &Path) -> Result<(), Error> {
    let text = format!("{HEADER}primary_conninfo = ''\nprimary_slot_name = ''\n");
    write(&pgdata.join(STANDBY), &text)
}

/// Has it follow `upstream` from the next reload or start on; by its slot there, if there is to be one.
pub(super) fn follow(
    pgdata: &Path,
    options: &Options,
    me: NodeId,
    upstream: &Peer,
    slot: bool,
) -> Result<(), Error> {
    let slot = if slot { application_name(me) } else { String::new() };
    let text = format!(
        "{HEADER}primary_conninfo = {}\nprimary_slot_name = {}\n",
        literal(&conninfo(options, upstream, &application_name(me))),
        literal(&slot)
    );
    write(&pgdata.join(STANDBY), &text)
}

/// How it logs in to its upstream, by the file; empty if it follows nobody.
pub(super) fn upstream(pgdata: &Path) -> Result<String, Error> {
    let text = read(&pgdata.join(STANDBY))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("primary_conninfo = '"))
        .and_then(|rest| rest.strip_suffix('\''))
        .unwrap_or_default();
    Ok(value.replace("''", "'"))
}

/// How one node logs in to another.
pub(super) fn conninfo(options: &Options, upstream: &Peer, application: &str) -> String {
    // Within it, as libpq's manual has it (34.1.1.1).
    let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut text = format!(
        "host={} port={} user={REPLICATOR} application_name={application} connect_timeout=5",
        quoted(&upstream.host),
        upstream.port
    );
    let timeout = options.wal_timeout.as_millis();
    let _ = write!(
        text,
        " sslmode={} tcp_user_timeout={timeout}",
        quoted(&options.sslmode)
    );
    text
}

/// The name of the file whose presence makes it a standby.
const SIGNAL: &str = "standby.signal";

/// Whether it starts as a standby.
pub(super) fn is_standby(pgdata: &Path) -> bool {
    pgdata.join(SIGNAL).exists()
}

/// Has it start as a standby.
pub(super) fn be_standby(pgdata: &Path) -> Result<(), Error> {
    remove(&pgdata.join("recovery.signal"))?;
    write(&pgdata.join(SIGNAL), "")
}

/// What the server says of one of our settings is not what we wrote: who says so.
pub(super) async fn overridden(session: &Session, setting: &str, shown: &str) -> Error {
    const WHAT: &str = "change a setting";
    let sql = format!(
        "select coalesce(sourcefile || ' line ' || sourceline, source) from pg_settings where name = {}",
        literal(setting)
    );
    let from = match session.value(WHAT, &sql).await {
        Ok(from) => from.unwrap_or_default(),
        Err(error) => return error,
    };
    Error::failed(WHAT, format!("{setting} is `{shown}` by {from}, which has to go"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(pgdata: &Path) -> Options {
        Options {
            pgdata: pgdata.to_owned(),
            bindir: "/".into(),
            socket_dir: "/tmp".into(),
            listen: String::new(),
            port: 5432,
            hostname: String::new(),
            auth: None,
            sslmode: "prefer".to_owned(),
            username: None,
            dbname: None,
            maximum_backup_rate: None,
            wal_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn names_come_back_from_the_file_and_lines_are_included_once() {
        let dir = testkit::TestDir::new("conf").expect("a directory");
        let options = options(dir.path());
        assert_eq!(names(dir.path()).expect("none yet"), Names::nobody());
        std::fs::write(dir.join("postgresql.conf"), "port = 1\n").expect("a file");
        for members in [vec![], vec![2], vec![2, 3]] {
            let any = u32::from(!members.is_empty());
            let value = Names::of(members.into_iter().collect(), any).expect("fits");
            install(dir.path(), &options, &value).expect("written");
            assert_eq!(names(dir.path()).expect("ours"), value);
        }
        let text = read(&dir.join("postgresql.conf")).expect("there");
        assert_eq!(text.matches("include '").count(), 2, "{text}");
        assert!(text.ends_with("port = 1\n"));
    }

    #[test]
    fn quotes_in_a_host_stay_within() {
        let upstream = Peer {
            node: 1,
            host: "it's".to_owned(),
            port: 5433,
        };
        let dir = testkit::TestDir::new("conf").expect("a directory");
        follow(dir.path(), &options(dir.path()), 2, &upstream, true).expect("written");
        let text = read(&dir.join(STANDBY)).expect("there");
        assert!(
            text.contains(r"primary_conninfo = 'host=''it\''s'' port=5433 "),
            "{text}"
        );
        assert!(
            text.contains("primary_slot_name = 'pgautofailover_standby_2'\n"),
            "{text}"
        );
    }
}
