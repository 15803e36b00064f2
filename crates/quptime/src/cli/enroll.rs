//! `qu enroll`: hosts that come by themselves, each with a token that is good once.
//!
//! Tokens are made, approved and revoked as every entry of the configuration is changed; what happens when a host shows one is
//! [`crate::node::enroll`]'s, and what that host does is [`join`].

mod join;

use clap::{Args, Subcommand};
use serde::Serialize;
use service::SystemClock;
use terminal::Table;

use super::client;
use crate::document::schema::Enrollment;
use crate::document::{Change, Document, Entry};
use crate::duration::Span;
use crate::machine::enroll::{self, TTL_MAX, purpose};
use crate::node::shared::known_of;
use crate::secret::Secret;
use crate::token::{Endpoint, Token, hash};

#[derive(Debug, Subcommand)]
pub(super) enum EnrollCommand {
    /// Make a token with which one host can join; it is shown this once.
    Create(Create),
    /// List tokens that are not used up, and the hosts that wait.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the host in that has shown a token.
    Approve {
        /// The enrollment, by id or name.
        enrollment: String,
    },
    /// Make a token void; a host that waits is not let in.
    Revoke {
        /// The enrollment, by id or name.
        enrollment: String,
    },
    /// On a new host: join the cluster that a token is of. Can be repeated if it was interrupted.
    Join(join::Join),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// What for, such as the name of the host.
    #[arg(long, default_value = "")]
    name: String,
    /// How long the token lives; the host has to be let in within this time. 10s to 168h.
    #[arg(
        long,
        default_value = "1h",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    ttl: Span,
    /// Let in whichever host shows the token first, without qu enroll approve.
    #[arg(long)]
    auto_approve: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A new token, as JSON.
#[derive(Debug, Serialize)]
struct Created<'a> {
    id: &'a str,
    name: &'a str,
    expires_at: &'a str,
    auto_approve: bool,
    token: String,
    version: u64,
}

/// A line of the list, as JSON. Nothing of the secret.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    state: &'static str,
    expires_at: &'a str,
    auto_approve: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host<'a>>,
}

/// Who has shown the token.
#[derive(Debug, Serialize)]
struct Host<'a> {
    node_id: String,
    advertise: &'a str,
    fingerprint: &'a str,
}

fn now() -> u64 {
    SystemClock::shared().unix_ms()
}

impl EnrollCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            EnrollCommand::Create(create) => create.run(),
            EnrollCommand::List { json } => list(json),
            EnrollCommand::Approve { enrollment } => {
                let document = client::document()?;
                let (host, changes) =
                    enroll::approve(&document, now(), &enrollment).map_err(anyhow::Error::msg)?;
                let done = format!("node {} at {} added", host.node_id, host.advertise);
                client::configure(changes, purpose::APPROVE, &done)
            }
            EnrollCommand::Revoke { enrollment } => {
                let document = client::document()?;
                let known = enroll::find(&document, &enrollment).map_err(anyhow::Error::msg)?;
                let done = format!("enrollment {} revoked", known.id);
                let change = Change::remove(Entry::Enrollment(Box::new(known.clone())));
                client::configure(vec![change], purpose::REVOKE, &done)
            }
            EnrollCommand::Join(join) => join.run(),
        }
    }
}

/// Where the cluster is; the master first, since it decides.
fn endpoints(document: &Document) -> anyhow::Result<Vec<Endpoint>> {
    let master = super::status::status(true)?.master;
    let mut peers: Vec<_> = document.peers.iter().collect();
    peers.sort_by_key(|peer| Some(peer.node_id) != master);
    let endpoints = peers.into_iter().filter_map(|peer| {
        let known = known_of(peer)?;
        Some(Endpoint {
            address: known.address,
            fingerprint: known.pin.to_string(),
        })
    });
    Ok(endpoints.collect())
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let document = client::document()?;
        let secret = Secret::draw();
        let ttl = self.ttl.millis();
        let ends = i64::try_from(now().saturating_add(ttl.min(TTL_MAX)))?;
        let ends = jiff::Timestamp::from_millisecond(ends)?.round(jiff::Unit::Second)?;
        let enrollment = Enrollment {
            id: super::new_id(),
            name: self.name,
            secret_hash: hash(&secret),
            expires_at: ends.to_string(),
            auto_approve: self.auto_approve,
            applicant: None,
        };
        let token = Token {
            id: enrollment.id.clone(),
            secret,
            expires_at: enrollment.expires_at.clone(),
            endpoints: endpoints(&document)?,
        };
        let change = enroll::create(&document, enrollment.clone(), ttl).map_err(anyhow::Error::msg)?;
        let version = client::changed(vec![change], purpose::CREATE)?;
        if self.json {
            return terminal::print_json(&Created {
                id: &enrollment.id,
                name: &enrollment.name,
                expires_at: &enrollment.expires_at,
                auto_approve: enrollment.auto_approve,
                token: token.reveal(),
                version,
            });
        }
        terminal::out(&format!(
            "enrollment {} until {} (cluster version now {version})\n{}\n",
            enrollment.id,
            enrollment.expires_at,
            token.reveal()
        ));
        terminal::note(
            "the token is shown this once and good for one host; there, with the token on standard input: qu enroll join - --advertise HOST:PORT",
        );
        Ok(())
    }
}

fn list(json: bool) -> anyhow::Result<()> {
    let document = client::document()?;
    let now = now();
    let listed = document.pending_enrollments.iter().map(|known| Listed {
        id: &known.id,
        name: &known.name,
        state: enroll::stage(known, now).name(),
        expires_at: &known.expires_at,
        auto_approve: known.auto_approve,
        host: known.applicant.as_ref().map(|host| Host {
            node_id: host.node_id.to_string(),
            advertise: &host.advertise,
            fingerprint: &host.fingerprint,
        }),
    });
    let listed: Vec<Listed<'_>> = listed.collect();
    if json {
        return terminal::print_json(&listed);
    }
    let columns = [
        "ID",
        "NAME",
        "STATE",
        "EXPIRES",
        "APPROVAL",
        "NODE_ID",
        "ADVERTISE",
        "FINGERPRINT",
    ];
    let mut table = Table::new(columns);
    for line in &listed {
        let host = |text: fn(&Host<'_>) -> String| line.host.as_ref().map_or_else(|| "-".to_owned(), text);
        table.row([
            line.id.to_owned(),
            if line.name.is_empty() { "-" } else { line.name }.to_owned(),
            line.state.to_owned(),
            line.expires_at.to_owned(),
            if line.auto_approve { "auto" } else { "by hand" }.to_owned(),
            host(|host| host.node_id.clone()),
            host(|host| host.advertise.to_owned()),
            host(|host| host.fingerprint.to_owned()),
        ]);
    }
    terminal::out(&table.render(None));
    Ok(())
}
