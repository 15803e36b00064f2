//! `alarm list|disarm`, `defrag`, `hash`, `hashkv`.

use clap::{Args, Subcommand};
use terminal::Table;

use super::argument;
use super::cli::Context;
use super::failure::Result;
use super::output::Text;
use crate::wire::etcdserverpb::alarm_request::AlarmAction;
use crate::wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, HashKvRequest, HashRequest,
};

/// Alarm commands.
#[derive(Debug, Subcommand)]
pub(super) enum Alarm {
    /// List the alarms of all members
    #[command(after_help = "Example:\n  chainfire-client alarm list")]
    List,
    /// Clear all alarms; prints those it cleared
    #[command(after_help = "Example:\n  chainfire-client alarm disarm")]
    Disarm,
}

/// Hashkv arguments.
#[derive(Debug, Args)]
pub(super) struct HashKv {
    /// Hash what there was up to this revision instead of the newest
    #[arg(long, value_name = "REVISION", value_parser = argument::revision, default_value_t = 0, hide_default_value = true)]
    rev: i64,
}

pub(super) async fn alarm(command: Alarm, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let list = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..Default::default()
    };
    let mut reply: AlarmResponse = session.ask(session.maintenance().alarm(list)).await?;
    if matches!(command, Alarm::Disarm) {
        let raised = std::mem::take(&mut reply.alarms);
        for AlarmMember { member_id, alarm } in raised {
            let clear = AlarmRequest {
                action: AlarmAction::Deactivate.into(),
                member_id,
                alarm,
            };
            let cleared = session.ask(session.maintenance().alarm(clear)).await?;
            reply.header = cleared.header;
            reply.alarms.extend(cleared.alarms);
        }
    }
    context.printer.listing(
        &reply,
        |text| {
            for alarm in &reply.alarms {
                text.line(format_args!(
                    "memberID:{} alarm:{}",
                    alarm.member_id,
                    alarm.alarm().as_str_name()
                ));
            }
        },
        |_| {
            let mut table = Table::new(["MEMBER", "ALARM"]);
            for alarm in &reply.alarms {
                table.row([
                    alarm.member_id.to_string(),
                    alarm.alarm().as_str_name().to_owned(),
                ]);
            }
            table
        },
    )
}

pub(super) async fn defrag(context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    // Takes as long as the store is large.
    let reply = session
        .wait(session.maintenance().defragment(DefragmentRequest {}))
        .await?;
    context.printer.reply(&reply, |text| {
        text.line(format_args!("Finished defragmenting {}", session.endpoint));
    })
}

pub(super) async fn hash(context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session.wait(session.maintenance().hash(HashRequest {})).await?;
    let revision = reply.header.as_ref().map_or(0, |header| header.revision);
    context.printer.listing(
        &reply,
        |text| {
            text.line(format_args!("hash: {}", reply.hash));
            text.line(format_args!("revision: {revision}"));
        },
        |_| {
            row(
                ["ENDPOINT", "HASH", "REVISION"],
                [
                    session.endpoint.clone(),
                    reply.hash.to_string(),
                    revision.to_string(),
                ],
            )
        },
    )
}

pub(super) async fn hash_kv(HashKv { rev }: HashKv, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .wait(session.maintenance().hash_kv(HashKvRequest { revision: rev }))
        .await?;
    // Servers older than etcd 3.6 do not say which revision they hashed.
    let newest = reply.header.as_ref().map_or(0, |header| header.revision);
    let revision = [reply.hash_revision, rev, newest]
        .into_iter()
        .find(|known| *known > 0)
        .unwrap_or(0);
    let write = |text: &mut Text| {
        text.line(format_args!("hash: {}", reply.hash));
        text.line(format_args!("revision: {revision}"));
        text.line(format_args!("compact_revision: {}", reply.compact_revision));
    };
    context.printer.listing(&reply, write, |_| {
        row(
            ["ENDPOINT", "HASH", "REVISION", "COMPACT_REVISION"],
            [
                session.endpoint.clone(),
                reply.hash.to_string(),
                revision.to_string(),
                reply.compact_revision.to_string(),
            ],
        )
    })
}

fn row<const N: usize>(titles: [&str; N], cells: [String; N]) -> Table {
    let mut table = Table::new(titles);
    table.row(cells);
    table
}
