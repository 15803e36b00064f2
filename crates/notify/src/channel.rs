//! [`Channel`]: a way to tell somebody, and its settings.
//!
//! Settings can be read with serde but not written: what is written shows no secrets, and a settings file made of that would
//! have lost them. Whoever stores channels stores them in a form of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use serde::Deserialize;
use service::settings::{Millis, Secret};

use crate::message::Verb;

/// A way to tell somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Channel {
    /// Mail through a relay.
    Smtp(Smtp),
    /// A channel of Discord, by webhook.
    Discord(Discord),
    /// Any HTTP receiver.
    Webhook(Webhook),
    /// A channel of Slack, or of something that takes Slack's incoming webhooks.
    Slack(Slack),
    /// A service of PagerDuty, by Events API v2.
    PagerDuty(PagerDuty),
    /// A topic of ntfy.
    Ntfy(Ntfy),
    /// Alertmanager's API v2.
    Alertmanager(Alertmanager),
}

/// Settings of mail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Name or address of the relay.
    pub host: String,
    /// Its port: 587 for submission, 465 with `tls`, 25 for a relay that knows us by address.
    #[serde(default = "submission_port")]
    pub port: u16,
    /// Name to log in with; without one there is no log-in.
    #[serde(default)]
    pub user: String,
    /// Its password.
    #[serde(default)]
    pub password: Secret,
    /// A file of this machine that holds the password, in place of `password`. It is read for every attempt; one line break at
    /// its end is not part of the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The sender: `qu@example.com` or `Uptime <qu@example.com>`.
    pub from: String,
    /// The recipients, written like the sender.
    pub to: Vec<String>,
    /// Whether the connection must be secured with STARTTLS before anything is said. A relay that does not offer it is not used.
    /// Without both this and `tls` everything goes in plain text, and no password to another machine.
    #[serde(default = "yes")]
    pub starttls: bool,
    /// TLS from the first byte, in place of STARTTLS.
    #[serde(default)]
    pub tls: bool,
    /// A file of this machine with further authorities (PEM) for the relay's certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Settings of Discord.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discord {
    /// The address that Discord made for the channel. Whoever knows it can write there.
    pub webhook: Secret,
}

/// Settings of a webhook. What it sends is described at [`crate::sign`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to post to.
    pub url: Secret,
    /// Key of the signature; without one nothing is signed.
    #[serde(default)]
    pub secret: Secret,
    /// Further headers, such as `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

/// Settings of Slack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// The address that Slack made for the channel. Whoever knows it can write there.
    pub webhook: Secret,
}

/// Settings of PagerDuty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// Integration key of the service.
    pub routing_key: Secret,
    /// Where events go; in the European region `https://events.eu.pagerduty.com/v2/enqueue`.
    #[serde(default = "pagerduty_events")]
    pub url: String,
}

/// Settings of ntfy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ntfy {
    /// Address of the topic: `https://ntfy.sh/my-topic`. Whoever knows it can read along, unless the server asks for tokens.
    pub url: Secret,
    /// Access token, for servers that ask for one.
    #[serde(default)]
    pub token: Secret,
    /// Priorities from 1 to 5 that differ from what follows from verb and severity.
    #[serde(default)]
    pub priority: BTreeMap<Verb, u8>,
}

/// Settings of Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Its address, with the path under which it lives if it has one: `http://alertmanager:9093`. A name and a password may
    /// stand in it.
    pub url: Secret,
    /// How long an alert counts as firing unless it is sent again. Without it, Alertmanager's `resolve_timeout` decides, which
    /// is 5 minutes where nobody has set it.
    #[serde(default)]
    pub hold: Option<Millis>,
}

fn submission_port() -> u16 {
    587
}

fn yes() -> bool {
    true
}

/// PagerDuty's public address for events.
fn pagerduty_events() -> String {
    "https://events.pagerduty.com/v2/enqueue".into()
}

impl Smtp {
    /// Mail through STARTTLS on port 587, without log-in.
    pub fn new(host: impl Into<String>, from: impl Into<String>, to: Vec<String>) -> Self {
        Self {
            host: host.into(),
            port: submission_port(),
            user: String::new(),
            password: Secret::default(),
            password_file: None,
            from: from.into(),
            to,
            starttls: true,
            tls: false,
            ca_file: None,
        }
    }
}

impl PagerDuty {
    /// Events to PagerDuty's public address.
    pub fn new(routing_key: Secret) -> Self {
        Self {
            routing_key,
            url: pagerduty_events(),
        }
    }
}

impl Channel {
    /// The name of its type, as it stands in settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Discord(_) => "discord",
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::PagerDuty(_) => "pagerduty",
            Self::Ntfy(_) => "ntfy",
            Self::Alertmanager(_) => "alertmanager",
        }
    }

    /// Whether its receiver can tell a second copy of a message by its key: mail by `Message-ID`, a webhook by
    /// `Idempotency-Key`, PagerDuty by `dedup_key`, Alertmanager by labels.
    pub fn deduplicates(&self) -> bool {
        match self {
            Self::Smtp(_) | Self::Webhook(_) | Self::PagerDuty(_) | Self::Alertmanager(_) => true,
            Self::Discord(_) | Self::Slack(_) | Self::Ntfy(_) => false,
        }
    }

    /// What is wrong with the settings: one line each, which says what would be right and shows no secret. Files are not
    /// looked at, since they may be on another machine.
    pub fn check(&self) -> Vec<String> {
        crate::check::problems(self)
    }

    /// Type and host: all that may be said about where a message goes.
    pub fn place(&self) -> String {
        let name = self.name();
        match self {
            Self::Smtp(smtp) => format!("{name} {}:{}", crate::text::one_line(&smtp.host), smtp.port),
            _ => match self.address().and_then(|address| Url::parse(address).ok()) {
                Some(url) => format!("{name} {}", origin(&url)),
                None => name.to_owned(),
            },
        }
    }

    /// The address of one that speaks HTTP.
    pub(crate) fn address(&self) -> Option<&str> {
        match self {
            Self::Smtp(_) => None,
            Self::Discord(discord) => Some(discord.webhook.expose()),
            Self::Webhook(webhook) => Some(webhook.url.expose()),
            Self::Slack(slack) => Some(slack.webhook.expose()),
            Self::PagerDuty(pagerduty) => Some(&pagerduty.url),
            Self::Ntfy(ntfy) => Some(ntfy.url.expose()),
            Self::Alertmanager(alertmanager) => Some(alertmanager.url.expose()),
        }
    }

    /// Whether the address itself lets whoever knows it in.
    fn has_secret_address(&self) -> bool {
        !matches!(self, Self::Smtp(_) | Self::PagerDuty(_))
    }

    /// Everything that must not turn up in a text, in all forms in which it goes over the line.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![];
        if let Some(address) = self.address().filter(|_| self.has_secret_address()) {
            secrets.push(address.to_owned());
            if let Ok(url) = Url::parse(address) {
                address_secrets(&url, &mut secrets);
            }
        }
        match self {
            Self::Smtp(smtp) => login_secrets(&smtp.user, smtp.password.expose(), &mut secrets),
            Self::Webhook(webhook) => {
                secrets.push(webhook.secret.expose().to_owned());
                for value in webhook.headers.values() {
                    secrets.push(value.expose().to_owned());
                    secrets.extend(value.expose().split_whitespace().map(str::to_owned));
                }
            }
            Self::PagerDuty(pagerduty) => secrets.push(pagerduty.routing_key.expose().to_owned()),
            Self::Ntfy(ntfy) => secrets.push(ntfy.token.expose().to_owned()),
            Self::Discord(_) | Self::Slack(_) | Self::Alertmanager(_) => {}
        }
        secrets
    }
}

/// What an address shows of itself: scheme, host, and a port that is not the scheme's own.
pub(crate) fn origin(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// The parts of an address behind the host. Servers quote them in their answers.
fn address_secrets(url: &Url, secrets: &mut Vec<String>) {
    /// Shorter parts are words such as `api`, which texts need.
    const PART_MIN: usize = 8;
    let mut part = |part: &str| {
        if part.len() >= PART_MIN {
            secrets.push(part.to_owned());
        }
    };
    part(url.as_str());
    part(url.path());
    url.path().split('/').for_each(&mut part);
    url.query_pairs().for_each(|(_, value)| part(&value));
    part(url.query().unwrap_or_default());
    if let Some(password) = url.password() {
        secrets.push(password.to_owned());
        secrets.push(STANDARD.encode(format!("{}:{password}", url.username())));
    }
}

/// A password and how AUTH PLAIN and AUTH LOGIN write it.
pub(crate) fn login_secrets(user: &str, password: &str, secrets: &mut Vec<String>) {
    if !password.is_empty() {
        secrets.push(password.to_owned());
        secrets.push(STANDARD.encode(password));
        secrets.push(STANDARD.encode(format!("\0{user}\0{password}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_defaults_and_shown_without_secrets() {
        let smtp: Channel = serde_json::from_str(
            r#"{"type":"smtp","host":"mail","from":"a@b.c","to":["d@e.f"],"password":"hunter22"}"#,
        )
        .unwrap();
        let Channel::Smtp(settings) = &smtp else { panic!() };
        assert_eq!(
            (settings.port, settings.starttls, settings.tls),
            (587, true, false)
        );
        let pagerduty: Channel =
            serde_json::from_str(r#"{"type":"pagerduty","routing_key":"hunter22"}"#).unwrap();
        assert_eq!(pagerduty.place(), "pagerduty https://events.pagerduty.com");
        let webhook: Channel = serde_json::from_str(
            r#"{"type":"webhook","url":"https://u:hunter22@h:8443/hunter22?t=hunter22","secret":"hunter22",
                "headers":{"Authorization":"Bearer hunter22"}}"#,
        )
        .unwrap();
        assert_eq!(webhook.place(), "webhook https://h:8443");
        for channel in [smtp, pagerduty, webhook] {
            let shown = format!("{channel:?} {} {:?}", channel.place(), channel.check());
            assert!(!shown.contains("hunter22"), "{shown}");
        }
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error =
            serde_json::from_str::<Channel>(r#"{"type":"slack","webhook":"https://h/x","channel":"c"}"#)
                .unwrap_err();
        assert!(error.to_string().contains("unknown field `channel`"), "{error}");
    }
}
