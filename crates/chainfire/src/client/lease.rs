//! `lease grant|revoke|ttl|keepalive|list`, and the keeping of a lease while a lock or a leadership is held.

use std::time::Duration;

use clap::{Args, Subcommand};
use service::clock::Stopwatch;
use terminal::Table;

use super::argument;
use super::cli::Context;
use super::connection::{Session, Settings};
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use super::output::{Text, column, lease as show};
use crate::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};

/// Renewals in one time to live, so that two may be lost.
const BEATS_PER_TTL: u32 = 3;

/// Wait between attempts to renew while the server cannot be reached.
const RETRY: Duration = Duration::from_millis(200);

/// Lease commands.
#[derive(Debug, Subcommand)]
pub(super) enum Lease {
    /// Make a lease that ends after TTL seconds unless kept alive
    #[command(after_help = "Example:\n  chainfire-client lease grant 60")]
    Grant(Grant),
    /// End a lease and delete its keys
    #[command(after_help = "Example:\n  chainfire-client lease revoke 694d5765fc71500b")]
    Revoke(Id),
    /// Print how long a lease has left
    #[command(
        visible_alias = "timetolive",
        after_help = "Example:\n  chainfire-client lease ttl 694d5765fc71500b --keys"
    )]
    Ttl(Ttl),
    /// Renew a lease again and again, until Ctrl-C
    #[command(
        visible_alias = "keep-alive",
        after_help = "Example:\n  chainfire-client lease keepalive 694d5765fc71500b --once"
    )]
    Keepalive(Keepalive),
    /// List all leases
    #[command(after_help = "Example:\n  chainfire-client lease list")]
    List,
}

/// Grant arguments.
#[derive(Debug, Args)]
pub(super) struct Grant {
    /// Time to live in seconds; the server may raise it
    #[arg(value_parser = argument::seconds, allow_negative_numbers = true)]
    ttl: i64,
    /// Use this id instead of one the server chooses
    #[arg(long, value_name = "ID", value_parser = argument::lease_id, default_value = "0", hide_default_value = true)]
    id: i64,
}

/// A lease.
#[derive(Debug, Args)]
pub(super) struct Id {
    /// Lease, in hexadecimal
    #[arg(value_parser = argument::lease_id, allow_negative_numbers = true)]
    id: i64,
}

/// Ttl arguments.
#[derive(Debug, Args)]
pub(super) struct Ttl {
    /// Lease, in hexadecimal
    #[arg(value_parser = argument::lease_id, allow_negative_numbers = true)]
    id: i64,
    /// Print the attached keys, too
    #[arg(long)]
    keys: bool,
}

/// Keepalive arguments.
#[derive(Debug, Args)]
pub(super) struct Keepalive {
    /// Lease, in hexadecimal
    #[arg(value_parser = argument::lease_id, allow_negative_numbers = true)]
    id: i64,
    /// Renew once and end
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(command: Lease, context: &mut Context) -> Result<()> {
    match command {
        Lease::Grant(arguments) => grant(arguments, context).await,
        Lease::Revoke(Id { id }) => revoke(id, context).await,
        Lease::Ttl(arguments) => ttl(arguments, context).await,
        Lease::Keepalive(arguments) => keepalive(arguments, context).await,
        Lease::List => list(context).await,
    }
}

async fn grant(Grant { ttl, id }: Grant, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.lease().lease_grant(LeaseGrantRequest { ttl, id }))
        .await?;
    context.printer.reply(&reply, |text| {
        text.line(format_args!(
            "lease {} granted with TTL({}s)",
            show(reply.id),
            reply.ttl
        ));
    })
}

async fn revoke(id: i64, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.lease().lease_revoke(LeaseRevokeRequest { id }))
        .await?;
    context.printer.reply(&reply, |text| {
        text.line(format_args!("lease {} revoked", show(id)));
    })
}

async fn ttl(Ttl { id, keys }: Ttl, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(
            session
                .lease()
                .lease_time_to_live(LeaseTimeToLiveRequest { id, keys }),
        )
        .await?;
    let write = |text: &mut Text| {
        if reply.granted_ttl == 0 && reply.ttl == -1 {
            text.line(format_args!("lease {} already expired", show(id)));
            return;
        }
        let attached = if keys {
            let keys: Vec<_> = reply
                .keys
                .iter()
                .map(|key| String::from_utf8_lossy(key))
                .collect();
            format!(", attached keys([{}])", keys.join(" "))
        } else {
            String::new()
        };
        text.line(format_args!(
            "lease {} granted with TTL({}s), remaining({}s){attached}",
            show(id),
            reply.granted_ttl,
            reply.ttl
        ));
    };
    context.printer.listing(&reply, write, |shown| {
        let titles = ["LEASE", "GRANTED_TTL", "TTL", "KEYS"];
        let mut table = Table::new(titles).numeric(&titles[1..3]);
        let keys: Vec<_> = reply.keys.iter().map(|key| shown.bytes(key)).collect();
        table.row([
            show(id),
            reply.granted_ttl.to_string(),
            reply.ttl.to_string(),
            keys.join(" "),
        ]);
        table
    })
}

async fn list(context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.lease().lease_leases(LeaseLeasesRequest {}))
        .await?;
    let ids = || reply.leases.iter().map(|lease| show(lease.id));
    context.printer.listing(
        &reply,
        |text| {
            text.line(format_args!("found {} leases", reply.leases.len()));
            ids().for_each(|id| text.line(id));
        },
        |_| column("LEASE", ids()),
    )
}

async fn keepalive(Keepalive { id, once }: Keepalive, context: &mut Context) -> Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let mut session = context.open().await?;
    loop {
        let reply = renew(&mut session, &context.settings, id).await?;
        context.printer.reply(&reply, |text| {
            text.line(format_args!(
                "lease {} keepalived with TTL({})",
                show(id),
                reply.ttl
            ));
        })?;
        if once {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(between_beats(reply.ttl)) => {}
            _ = interrupt.wait() => return Ok(()),
        }
    }
}

/// Renews a lease once. When the connection fails, goes on with another as long as a request may take.
async fn renew(session: &mut Session, settings: &Settings, id: i64) -> Result<LeaseKeepAliveResponse> {
    let since = Stopwatch::start();
    loop {
        match renew_once(session, id).await {
            Err(failure) if failure.is_transient() && since.elapsed() < settings.timeout => {
                tokio::time::sleep(RETRY).await;
                if let Ok(fresh) = Session::open(settings).await {
                    *session = fresh;
                }
            }
            result => return result,
        }
    }
}

async fn renew_once(session: &Session, id: i64) -> Result<LeaseKeepAliveResponse> {
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut client = session.lease();
    let exchange = async {
        let mut replies = client.lease_keep_alive(requests).await?.into_inner();
        let reply = replies.message().await?;
        Ok(tonic::Response::new(reply))
    };
    match session.ask(exchange).await? {
        Some(reply) if reply.ttl > 0 => Ok(reply),
        Some(_) => Err(Failure::refused("etcdserver: requested lease not found")),
        None => Err(Failure::unreachable(format!(
            "{}: the server ended the stream",
            session.endpoint
        ))),
    }
}

fn between_beats(ttl: i64) -> Duration {
    Duration::from_secs(ttl.max(1).unsigned_abs()) / BEATS_PER_TTL
}

/// A lease that is kept alive in the background for as long as this lives.
pub(super) struct Kept {
    id: i64,
    session: Session,
    keeper: tokio::task::JoinHandle<Failure>,
}

impl Kept {
    /// Grants a lease of `ttl` seconds and starts keeping it.
    pub(super) async fn grant(session: &Session, settings: &Settings, ttl: i64) -> Result<Self> {
        let reply = session
            .ask(session.lease().lease_grant(LeaseGrantRequest { ttl, id: 0 }))
            .await?;
        let keeper = tokio::spawn(keep(session.clone(), settings.clone(), reply.id, reply.ttl));
        Ok(Self {
            id: reply.id,
            session: session.clone(),
            keeper,
        })
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Waits until the lease is lost, and says why. The lease may be lost a little earlier than the server ends it, never
    /// later.
    pub(super) async fn lost(&mut self) -> Failure {
        match (&mut self.keeper).await {
            Ok(failure) => failure,
            Err(error) => Failure::refused(format!("keep lease {}: {error}", show(self.id))),
        }
    }

    /// Ends the lease, and with it every key attached to it.
    pub(super) async fn revoke(self, settings: &Settings) -> Result<()> {
        self.keeper.abort();
        let request = LeaseRevokeRequest { id: self.id };
        match self.session.ask(self.session.lease().lease_revoke(request)).await {
            Err(failure) if failure.is_transient() => {
                let fresh = Session::open(settings).await?;
                fresh.ask(fresh.lease().lease_revoke(request)).await.map(drop)
            }
            result => result.map(drop),
        }
    }
}

/// Renews until the lease is gone, or until it may be because nobody could be reached for its whole time to live.
async fn keep(mut session: Session, settings: Settings, id: i64, mut ttl: i64) -> Failure {
    let mut renewed = Stopwatch::start();
    loop {
        tokio::time::sleep(between_beats(ttl)).await;
        loop {
            let asked = Stopwatch::start();
            let life = Duration::from_secs(ttl.max(1).unsigned_abs());
            let left = life.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, renew_once(&session, id)).await {
                Ok(Ok(reply)) => {
                    ttl = reply.ttl;
                    // The server's count began after the question was sent.
                    renewed = asked;
                    break;
                }
                Ok(Err(failure)) if failure.is_transient() => {
                    tokio::time::sleep(RETRY.min(left)).await;
                    if let Ok(Ok(fresh)) = tokio::time::timeout(left, Session::open(&settings)).await {
                        session = fresh;
                    }
                }
                Ok(Err(failure)) => return failure,
                Err(_elapsed) => {
                    return Failure::unreachable(format!("lease {} not renewed within {life:?}", show(id)));
                }
            }
        }
    }
}
