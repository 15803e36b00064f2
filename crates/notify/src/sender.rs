//! [`Sender`]: one attempt with a deadline.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Client;
use service::clock::SharedClock;
use tokio::time::{Instant, timeout_at};

use crate::channel::Channel;
use crate::channels;
use crate::failure::{Failure, Receipt};
use crate::gate::Gate;
use crate::http::{self, Outgoing};
use crate::message::Message;
use crate::smtp;
use crate::tls::Roots;

/// The deadline of an attempt where nothing else is wanted.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// What may differ between senders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A PEM file of authorities that are believed in addition to the machine's, for all channels.
    pub ca_file: Option<PathBuf>,
    /// Whether HTTP obeys the machine's proxy variables (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    pub proxy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ca_file: None,
            proxy: true,
        }
    }
}

/// A sender that cannot be made: its authorities cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up sending of alerts: {0}")]
pub struct SenderError(String);

/// Sends messages through channels. Clones share everything.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    roots: Roots,
    clock: SharedClock,
}

impl Sender {
    /// A sender. It reads the machine's authorities now and keeps them.
    ///
    /// # Errors
    /// When the file of authorities cannot be used.
    pub fn new(options: &Options, clock: SharedClock) -> Result<Self, SenderError> {
        let mut roots = Roots::of_machine();
        if let Some(path) = &options.ca_file {
            roots = roots.with_file(path, std::fs::read(path)).map_err(SenderError)?;
        }
        let client = http::client(&roots, options.proxy).map_err(SenderError)?;
        Ok(Self { client, roots, clock })
    }

    /// Makes one attempt, which ends within `deadline` whatever the other end does.
    ///
    /// # Errors
    /// [`Failure`], with whether and when to try again. Its text names the channel's type and host, and no secret.
    pub async fn send(
        &self,
        channel: &Channel,
        message: &Message,
        deadline: Duration,
    ) -> Result<Receipt, Failure> {
        self.send_through(channel, message, deadline, &Gate::open()).await
    }

    /// The same, if the gate is open when the connection stands.
    ///
    /// # Errors
    /// As above; [`Failure::held`] says that the gate was closed and nothing was sent.
    pub async fn send_through(
        &self,
        channel: &Channel,
        message: &Message,
        deadline: Duration,
        gate: &Gate,
    ) -> Result<Receipt, Failure> {
        let until = Instant::now() + deadline;
        let mut secrets = channel.secrets();
        let outcome = self.attempt(channel, message, until, gate, &mut secrets).await;
        match outcome {
            Ok(receipt) => Ok(receipt.without(&secrets)),
            Err(Outcome::TimeUp { during, maybe_taken }) => {
                let text = format!("no answer within {deadline:?}{during}");
                Err(Failure::temporary(text)
                    .maybe_taken(maybe_taken)
                    .told_by(&channel.place(), &secrets))
            }
            Err(Outcome::Failed(failure)) => Err(failure.told_by(&channel.place(), &secrets)),
        }
    }

    async fn attempt(
        &self,
        channel: &Channel,
        message: &Message,
        until: Instant,
        gate: &Gate,
        secrets: &mut Vec<String>,
    ) -> Result<Receipt, Outcome> {
        let problems = crate::check::of(channel);
        if !problems.is_empty() {
            return Err(Failure::permanent(problems.join("; ")).into());
        }
        let now_unix_ms = self.clock.unix_ms();
        let outgoing = match channel {
            Channel::Smtp(settings) => {
                let attempt = smtp::send(settings, message, &self.roots, now_unix_ms, until, gate, secrets);
                return Box::pin(attempt).await;
            }
            Channel::Discord(settings) => channels::discord::request(settings, message),
            Channel::Webhook(settings) => channels::webhook::request(settings, message, now_unix_ms),
            Channel::Slack(settings) => channels::slack::request(settings, message),
            Channel::PagerDuty(settings) => channels::pagerduty::request(settings, message),
            Channel::Ntfy(settings) => channels::ntfy::request(settings, message),
            Channel::Alertmanager(settings) => {
                channels::alertmanager::request(settings, message, now_unix_ms)
            }
        }?;
        self.post(outgoing, until, gate).await
    }

    async fn post(&self, outgoing: Outgoing, until: Instant, gate: &Gate) -> Result<Receipt, Outcome> {
        let attempt = Box::pin(http::post(&self.client, outgoing, gate, &self.clock));
        match timeout_at(until, attempt).await {
            Ok(outcome) => outcome.map_err(Outcome::Failed),
            Err(_) => Err(Outcome::TimeUp {
                during: String::new(),
                maybe_taken: true,
            }),
        }
    }
}

/// How an attempt did not succeed.
pub(crate) enum Outcome {
    /// It failed.
    Failed(Failure),
    /// The deadline came first.
    TimeUp {
        /// What it was doing, to be put behind the text; may be empty.
        during: String,
        /// Whether the message was handed over.
        maybe_taken: bool,
    },
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
