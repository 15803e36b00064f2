//! From an alert of `cluster.yaml` to a channel.

use std::path::PathBuf;

use notify::{Alertmanager, Channel, Discord, Ntfy, PagerDuty, Slack, Smtp, Webhook};
use service::settings::Secret as Hidden;

use crate::document::{Alert, AlertKind};
use crate::machine::retell::HOLD_MS;
use crate::secret::Secret;

/// Shorter secrets are not shown in part: what is left would be guessed.
const SECRET_MIN: usize = 16;
/// Letters of a secret that tell one from another.
const SHOWN: usize = 4;

/// The port of mail submission.
const SUBMISSION: u16 = 587;

fn hidden(secret: &Secret) -> Hidden {
    Hidden::new(secret.reveal())
}

/// The channel of an alert, checked.
///
/// # Errors
/// What is missing or wrong, in one line.
pub fn channel(alert: &Alert) -> Result<Channel, String> {
    missing(alert)?;
    let channel = match alert.kind {
        AlertKind::Smtp => Channel::Smtp(Smtp {
            host: alert.smtp_host.clone(),
            port: if alert.smtp_port == 0 {
                SUBMISSION
            } else {
                alert.smtp_port
            },
            user: alert.smtp_user.clone(),
            password: hidden(&alert.smtp_password),
            password_file: (!alert.smtp_password_file.is_empty())
                .then(|| PathBuf::from(&alert.smtp_password_file)),
            from: alert.smtp_from.clone(),
            to: alert.smtp_to.clone(),
            starttls: alert.smtp_starttls.unwrap_or(true) && !alert.smtp_tls,
            tls: alert.smtp_tls,
            ca_file: None,
        }),
        AlertKind::Discord => Channel::Discord(Discord {
            webhook: hidden(&alert.discord_webhook),
        }),
        AlertKind::Webhook => Channel::Webhook(Webhook {
            url: hidden(&alert.webhook_url),
            secret: hidden(&alert.webhook_secret),
            headers: std::collections::BTreeMap::new(),
        }),
        AlertKind::Slack => Channel::Slack(Slack {
            webhook: hidden(&alert.slack_webhook),
        }),
        AlertKind::Pagerduty => {
            let mut pagerduty: PagerDuty = PagerDuty::new(hidden(&alert.pagerduty_routing_key));
            if !alert.pagerduty_url.is_empty() {
                pagerduty.url.clone_from(&alert.pagerduty_url);
            }
            Channel::PagerDuty(pagerduty)
        }
        AlertKind::Ntfy => Channel::Ntfy(Ntfy {
            url: hidden(&alert.ntfy_url),
            token: hidden(&alert.ntfy_token),
            priority: std::collections::BTreeMap::new(),
        }),
        AlertKind::Alertmanager => Channel::Alertmanager(Alertmanager {
            url: Hidden::new(&alert.alertmanager_url),
            hold: Some(service::settings::Millis(HOLD_MS)),
        }),
    };
    match channel.check().into_iter().next() {
        None => Ok(channel),
        Some(problem) => Err(problem),
    }
}

/// Names what is missing as it is called in the file.
fn missing(alert: &Alert) -> Result<(), String> {
    let fields: &[(&str, bool)] = match alert.kind {
        AlertKind::Smtp => &[
            ("smtp_host", alert.smtp_host.is_empty()),
            ("smtp_from", alert.smtp_from.is_empty()),
            ("smtp_to", alert.smtp_to.is_empty()),
        ],
        AlertKind::Discord => &[("discord_webhook", alert.discord_webhook.is_empty())],
        AlertKind::Webhook => &[("webhook_url", alert.webhook_url.is_empty())],
        AlertKind::Slack => &[("slack_webhook", alert.slack_webhook.is_empty())],
        AlertKind::Pagerduty => &[("pagerduty_routing_key", alert.pagerduty_routing_key.is_empty())],
        AlertKind::Ntfy => &[("ntfy_url", alert.ntfy_url.is_empty())],
        AlertKind::Alertmanager => &[("alertmanager_url", alert.alertmanager_url.is_empty())],
    };
    match fields.iter().find(|(_, is_missing)| *is_missing) {
        None => Ok(()),
        Some((field, _)) => Err(format!("{field} is missing")),
    }
}

/// Where an alert goes: the host, and with mail the recipients; of a secret the last letters, if it is long enough.
pub fn destination(alert: &Alert) -> String {
    let channel = match channel(alert) {
        Ok(channel) => channel,
        Err(error) => return format!("nowhere: {error}"),
    };
    let place = channel.place();
    let place = place.split_once(' ').map_or("", |(_, place)| place);
    let secret = match alert.kind {
        AlertKind::Smtp => return format!("{place} for {}", alert.smtp_to.join(",")),
        AlertKind::Alertmanager => "",
        AlertKind::Discord => alert.discord_webhook.reveal(),
        AlertKind::Webhook => alert.webhook_url.reveal(),
        AlertKind::Slack => alert.slack_webhook.reveal(),
        AlertKind::Ntfy => alert.ntfy_url.reveal(),
        AlertKind::Pagerduty => alert.pagerduty_routing_key.reveal(),
    };
    // What stands behind the host lets in; of a key all of it does.
    let behind = match secret.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => secret,
    };
    let letters: Vec<char> = behind.chars().collect();
    if letters.len() < SECRET_MIN {
        return place.to_owned();
    }
    let last: String = letters[letters.len() - SHOWN..].iter().collect();
    format!("{place} ...{last}")
}
