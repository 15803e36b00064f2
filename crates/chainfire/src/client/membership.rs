//! `member-add`, `member-remove` and `member-promote`.
//!
//! MemberAdd of etcd has no id, so adding goes through our own service; the rest through etcd's.

use std::time::Duration;

use clap::Args;
use service::clock::Stopwatch;

use super::argument;
use super::cli::Context;
use super::cluster::{bare, members};
use super::connection::Session;
use super::failure::{Failure, Result};
use crate::wire::chainfire::v1;
use crate::wire::etcdserverpb::{Member, MemberPromoteRequest, MemberRemoveRequest};

/// How long `member-add` waits for the node unless `--timeout` says otherwise.
const ADD_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a promotion is tried, and how often the reason for waiting is told.
const PROMOTE_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Add arguments.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Number of the node
    #[arg(long, value_name = "N", value_parser = argument::member_id)]
    node_id: u64,
    /// Where the other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    peer_url: String,
    /// Leave it a learner: it receives the data but has no vote
    #[arg(long)]
    learner: bool,
    /// Do not wait until it has caught up
    #[arg(long)]
    no_wait: bool,
}

/// A node.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Number of the node
    #[arg(long, value_name = "N", value_parser = argument::member_id)]
    node_id: u64,
}

pub(super) async fn add(arguments: Add, context: &mut Context) -> Result<()> {
    let address = argument::peer_address(&arguments.peer_url).map_err(Failure::Usage)?;
    let id = arguments.node_id;
    let session = context.open().await?;
    let request = v1::MemberAddRequest {
        node_id: id,
        peer_url: address.clone(),
        learner: arguments.learner,
    };
    let reply = session.ask(session.own_cluster().member_add(request)).await;
    let reply = match reply {
        Err(failure) if failure.text() == Some("etcdserver: member ID already exist") => {
            let known = members(&session, false).await?.members;
            return match known.iter().find(|member| member.id == id) {
                Some(member) => Err(elsewhere(member)),
                None => Err(failure),
            };
        }
        reply => reply?,
    };
    let cluster = reply.header.as_ref().map_or(0, |header| header.cluster_id);
    let voter = reply.member.as_ref().is_some_and(|member| member.voter);
    if reply.already {
        let no_leader = reply.no_leader;
        context.printer.reply(&reply, |text| {
            text.line(format_args!("Node {id} is already a member ({address})"));
            if no_leader {
                text.line(format_args!(
                    "no leader elected: start node {id} to regain quorum"
                ));
            }
        })?;
        // A command that was cut short is finished by giving it again.
        if voter || no_leader || arguments.learner || arguments.no_wait {
            return Ok(());
        }
        return promote_when_ready(&session, id, context).await;
    }
    context.printer.reply(&reply, |text| {
        text.line(format_args!("Node {id} added to cluster {cluster} (learner)"));
    })?;
    if arguments.learner || arguments.no_wait {
        return Ok(());
    }
    promote_when_ready(&session, id, context).await
}

/// The number is taken by a node elsewhere.
fn elsewhere(member: &Member) -> Failure {
    let urls: Vec<_> = member.peer_ur_ls.iter().map(|url| bare(url)).collect();
    Failure::refused(format!(
        "node {} is a member already, at {}",
        member.id,
        urls.join(",")
    ))
}

async fn remove_again(session: &Session, id: u64) -> Result<()> {
    session
        .ask(session.cluster().member_remove(MemberRemoveRequest { id }))
        .await
        .map(drop)
}

/// Why the member asked has no connection to that node, if it has none and says why.
async fn unreachable(session: &Session, id: u64) -> Option<String> {
    let mut own = session.own_cluster();
    let status = session.ask(own.status(v1::StatusRequest {}));
    let members = status.await.ok()?.members;
    let member = members.into_iter().find(|member| member.id == id)?;
    (!member.error.is_empty()).then_some(member.error)
}

async fn promote_when_ready(session: &Session, id: u64, context: &mut Context) -> Result<()> {
    let patience = context.patience(ADD_TIMEOUT);
    let started = Stopwatch::start();
    let mut told = None::<Stopwatch>;
    loop {
        match session
            .ask(session.cluster().member_promote(MemberPromoteRequest { id }))
            .await
        {
            Ok(reply) => {
                return context.printer.reply(&reply, |text| {
                    text.line(format_args!("Node {id} promoted to voter"));
                });
            }
            Err(failure) if started.elapsed() >= patience => {
                let reason = match unreachable(session, id).await {
                    Some(error) => format!("not connected: {error}"),
                    None => failure.text().unwrap_or_default().to_owned(),
                };
                remove_again(session, id).await?;
                return Err(Failure::unreachable(format!(
                    "node {id} not ready within {patience:?}: {reason}; it was removed again"
                )));
            }
            Err(failure) if is_not_ready(&failure) => {
                if told.as_ref().is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    let reason = match unreachable(session, id).await {
                        Some(error) => format!("not connected: {error}"),
                        None => failure.text().unwrap_or_default().to_owned(),
                    };
                    context.note(&format!("waiting for node {id}: {reason}"));
                    told = Some(Stopwatch::start());
                }
                tokio::time::sleep(PROMOTE_EVERY).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn is_not_ready(failure: &Failure) -> bool {
    let lagging = "etcdserver: can only promote a learner member which is in sync with leader";
    failure.is_transient() || failure.text() == Some(lagging)
}

pub(super) async fn remove(Target { node_id: id }: Target, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.cluster().member_remove(MemberRemoveRequest { id }))
        .await?;
    let cluster = reply.header.as_ref().map_or(0, |header| header.cluster_id);
    context.printer.reply(&reply, |text| {
        text.line(format_args!("Node {id} removed from cluster {cluster}"));
    })
}

pub(super) async fn promote(Target { node_id: id }: Target, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.cluster().member_promote(MemberPromoteRequest { id }))
        .await?;
    context.printer.reply(&reply, |text| {
        text.line(format_args!("Node {id} promoted to voter"));
    })
}
