//! `member-add`, `member-remove` and `member-promote`.
//!
//! Everything goes through the Cluster service of etcd. MemberAdd has no id in that interface: the server numbers the node,
//! and when it is not the number asked for, the node is taken out again and the command fails.

use std::time::Duration;

use clap::Args;
use service::clock::Stopwatch;

use super::argument;
use super::cli::Context;
use super::cluster::{ask_status, bare, members};
use super::connection::Session;
use super::failure::{Failure, Result};
use crate::wire::etcdserverpb::{Member, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest};

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
    let known = members(&session, false).await?.members;
    if let Some(member) = known.iter().find(|member| member.id == id) {
        return already_there(&session, member, &address, context).await;
    }
    let scheme = if arguments.peer_url.starts_with("https://") {
        "https"
    } else {
        "http"
    };
    let request = MemberAddRequest {
        peer_ur_ls: vec![format!("{scheme}://{address}")],
        is_learner: true,
    };
    let reply = session.ask(session.cluster().member_add(request)).await?;
    let cluster = reply.header.as_ref().map_or(0, |header| header.cluster_id);
    let given = reply.member.as_ref().map_or(0, |member| member.id);
    if given != id {
        remove_again(&session, given).await?;
        return Err(Failure::refused(format!(
            "{} numbered the node {given} instead of {id}; it was removed again",
            session.endpoint
        )));
    }
    context.printer.reply(&reply, |text| {
        text.line(format_args!("Node {id} added to cluster {cluster} (learner)"));
    })?;
    if arguments.learner || arguments.no_wait {
        return Ok(());
    }
    promote_when_ready(&session, id, context).await
}

/// Adding a node that is there is no error, so that a recipe can be repeated.
async fn already_there(
    session: &Session,
    member: &Member,
    address: &str,
    context: &mut Context,
) -> Result<()> {
    let id = member.id;
    if !member.peer_ur_ls.iter().any(|url| bare(url) == address) {
        let urls: Vec<_> = member.peer_ur_ls.iter().map(|url| bare(url)).collect();
        return Err(Failure::refused(format!(
            "node {id} is a member already, at {}",
            urls.join(",")
        )));
    }
    let leaderless = ask_status(session).await?.leader == 0;
    context.printer.text(|text| {
        text.line(format_args!("Node {id} is already a member ({address})"));
        if leaderless {
            text.line(format_args!(
                "no leader elected: start node {id} to regain quorum"
            ));
        }
    })
}

async fn remove_again(session: &Session, id: u64) -> Result<()> {
    session
        .ask(session.cluster().member_remove(MemberRemoveRequest { id }))
        .await
        .map(drop)
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
                remove_again(session, id).await?;
                let reason = failure.text().unwrap_or_default();
                return Err(Failure::unreachable(format!(
                    "node {id} not ready within {patience:?}: {reason}; it was removed again"
                )));
            }
            Err(failure) if is_not_ready(&failure) => {
                if told.as_ref().is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                    context.note(&format!(
                        "waiting for node {id}: {}",
                        failure.text().unwrap_or_default()
                    ));
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
