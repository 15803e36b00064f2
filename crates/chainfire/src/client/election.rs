//! `elect NAME VALUE` takes part in an election and holds the leadership once won; `elect NAME --listen` prints each leader.

use bytes::Bytes;
use clap::Args;

use super::argument;
use super::cli::Context;
use super::connection::Session;
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use super::lease::Kept;
use super::output::Printer;
use crate::wire::v3electionpb::{CampaignRequest, LeaderRequest, ResignRequest};

/// Wait before observing again after the connection was lost.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Elect arguments.
#[derive(Debug, Args)]
pub(super) struct Elect {
    /// Name of the election
    #[arg(value_parser = argument::bytes())]
    name: Bytes,
    /// What the leader is known by
    #[arg(value_parser = argument::bytes(), required_unless_present = "listen", conflicts_with = "listen")]
    value: Option<Bytes>,
    /// Print each leader instead of taking part
    #[arg(long, short)]
    listen: bool,
    /// Seconds after which the leadership is free when this program dies
    #[arg(long, value_name = "SECONDS", value_parser = argument::seconds, default_value_t = 10)]
    ttl: i64,
}

pub(super) async fn elect(arguments: Elect, context: &mut Context) -> Result<()> {
    match arguments.value {
        Some(value) => campaign(arguments.name, value, arguments.ttl, context).await,
        None => listen(arguments.name, context).await,
    }
}

async fn campaign(name: Bytes, value: Bytes, ttl: i64, context: &mut Context) -> Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let session = context.open().await?;
    let mut lease = Kept::grant(&session, &context.settings, ttl).await?;
    let request = CampaignRequest {
        name,
        lease: lease.id(),
        value: value.clone(),
    };
    let mut client = session.election();
    let won = tokio::select! {
        reply = session.wait(client.campaign(request)) => reply.map(Some),
        failure = lease.lost() => Err(lost(&failure)),
        _ = interrupt.wait() => Ok(None),
    };
    let result = match won {
        Ok(Some(reply)) => {
            let key = reply
                .leader
                .as_ref()
                .map(|leader| leader.key.clone())
                .unwrap_or_default();
            let printed = context.printer.reply(&reply, |text| {
                text.bytes(&key);
                text.bytes(&value);
            });
            let held = match printed {
                Ok(()) => tokio::select! {
                    failure = lease.lost() => Err(lost(&failure)),
                    _ = interrupt.wait() => Ok(()),
                },
                Err(failure) => Err(failure),
            };
            let resigned = session
                .ask(client.resign(ResignRequest { leader: reply.leader }))
                .await
                .map(drop);
            held.and(resigned)
        }
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    let released = lease.revoke(&context.settings).await;
    // What ended the leadership says more than what ended the lease after it.
    result.and(released)
}

fn lost(failure: &Failure) -> Failure {
    Failure::refused(format!("leadership lost: {}", failure.text().unwrap_or_default()))
}

async fn listen(name: Bytes, context: &mut Context) -> Result<()> {
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        result = observe(name, context) => result,
        _ = interrupt.wait() => Ok(()),
    }
}

/// Prints each leader, over as many connections as it takes. A leader is printed again only when it is another one.
async fn observe(name: Bytes, context: &mut Context) -> Result<()> {
    let mut seen = None;
    let mut connected = false;
    loop {
        let ended = match context.open().await {
            Ok(session) => {
                connected = true;
                one_stream(&session, &name, &mut seen, &mut context.printer).await
            }
            Err(failure) => Err(failure),
        };
        match ended {
            Err(failure) if failure.is_transient() && connected => tokio::time::sleep(PAUSE).await,
            ended => return ended,
        }
    }
}

async fn one_stream(
    session: &Session,
    name: &Bytes,
    seen: &mut Option<(Bytes, i64)>,
    printer: &mut Printer,
) -> Result<()> {
    let mut client = session.election();
    let mut leaders = session
        .wait(client.observe(LeaderRequest { name: name.clone() }))
        .await?;
    loop {
        let reply = match leaders.message().await {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                return Err(Failure::unreachable(format!(
                    "{}: the server ended the stream",
                    session.endpoint
                )));
            }
            Err(status) => return Err(Failure::of_status(&status, &session.endpoint)),
        };
        let Some(pair) = &reply.kv else { continue };
        let leader = Some((pair.key.clone(), pair.mod_revision));
        if *seen != leader {
            printer.reply(&reply, |text| text.pair(pair, false))?;
            *seen = leader;
        }
    }
}
