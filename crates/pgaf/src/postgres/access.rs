//! What other nodes need to follow this one: roles, slots.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::NodeId;
use crate::database::{Error, Options, Peer};
use crate::names::application_name;

use super::conf::REPLICATOR;
use super::hba::MONITOR;
use super::session::{Session, identifier, literal};

const WHAT: &str = "let other nodes in";

/// Functions that `pg_rewind` reads a server's files by (its manual, "Notes").
const REWIND: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// Makes the roles of nodes and monitors; on a primary.
pub(super) async fn roles(session: &Session) -> Result<(), Error> {
    role(session, REPLICATOR, "login replication").await?;
    role(session, MONITOR, "login connection limit 20").await?;
    for function in REWIND {
        let sql = format!("grant execute on function pg_catalog.{function} to {REPLICATOR}");
        session.rows(WHAT, &sql).await?;
    }
    Ok(())
}

async fn role(session: &Session, name: &str, attributes: &str) -> Result<bool, Error> {
    let sql = format!("select 1 from pg_roles where rolname = {}", literal(name));
    if session.value(WHAT, &sql).await?.is_some() {
        return Ok(false);
    }
    let sql = format!("create role {} {attributes}", identifier(name));
    session.rows(WHAT, &sql).await?;
    Ok(true)
}

/// Makes the application's role and database, if they are wanted and not there.
pub(super) async fn application(session: &Session, options: &Options) -> Result<(), Error> {
    if let Some(user) = &options.username {
        role(session, user, "login").await?;
    }
    if let Some(database) = &options.dbname {
        let sql = format!("select 1 from pg_database where datname = {}", literal(database));
        if session.value(WHAT, &sql).await?.is_none() {
            let mut sql = format!("create database {}", identifier(database));
            if let Some(user) = &options.username {
                let _ = write!(sql, " owner {}", identifier(user));
            }
            session.rows(WHAT, &sql).await?;
        }
    }
    Ok(())
}

/// Log that a standby keeps for others beyond what it has replayed itself: they may be behind it when it becomes their primary.
const BEHIND: u64 = 128 << 20;

/// Makes a slot for each of the others and takes away those of nodes that are not there any more. On a standby nobody uses them, so they are
/// moved on, for they would keep the log for ever.
pub(super) async fn slots(session: &Session, others: &[Peer], standby: bool) -> Result<(), Error> {
    let wanted: BTreeSet<NodeId> = others.iter().map(|peer| peer.node).collect();
    let sql = "select slot_name, active from pg_replication_slots
        where slot_type = 'physical' and slot_name like 'pgautofailover\\_standby\\_%'";
    let rows = session.rows(WHAT, sql).await?;
    let mut there = BTreeSet::new();
    for row in &rows {
        let [Some(name), Some(active)] = row.as_slice() else {
            continue;
        };
        there.insert(name.clone());
        let is_wanted = wanted.iter().any(|node| application_name(*node) == *name);
        let name = literal(name);
        if !is_wanted && active == "f" {
            session
                .rows(WHAT, &format!("select pg_drop_replication_slot({name})"))
                .await?;
        } else if is_wanted && standby && active == "f" {
            let sql = format!(
                "select pg_replication_slot_advance(slot_name, pg_last_wal_replay_lsn() - {BEHIND}) from pg_replication_slots
                 where slot_name = {name} and restart_lsn < pg_last_wal_replay_lsn() - {BEHIND}"
            );
            session.rows(WHAT, &sql).await?;
        }
    }
    for node in wanted {
        let name = application_name(node);
        if !there.contains(&name) {
            let sql = format!(
                "select pg_create_physical_replication_slot({}, true)",
                literal(&name)
            );
            session.rows(WHAT, &sql).await?;
        }
    }
    Ok(())
}
