//! `qu alert list`: who is told, and where, as far as that may be shown.

use terminal::Table;

use crate::channel::channel;
use crate::document::{Alert, AlertKind, Document};

/// Shorter secrets are not shown in part: what is left would be guessed.
const SECRET_MIN: usize = 16;
/// Letters of a secret that tell one from another.
const SHOWN: usize = 4;

/// A row of the list, without secrets.
#[derive(serde::Serialize)]
struct Row<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    enabled: bool,
    default: bool,
    name: &'a str,
    to: String,
}

/// Prints the list.
///
/// # Errors
/// Standard output is gone.
pub(super) fn print(document: &Document, json: bool) -> anyhow::Result<()> {
    let rows: Vec<Row<'_>> = document
        .alerts
        .iter()
        .map(|alert| Row {
            id: &alert.id,
            kind: alert.kind.name(),
            enabled: !alert.disabled,
            default: alert.default,
            name: &alert.name,
            to: to(alert),
        })
        .collect();
    if json {
        terminal::print_json(&rows)?;
        return Ok(());
    }
    let mut table = Table::new(["ID", "TYPE", "ENABLED", "DEFAULT", "NAME", "TO"]);
    for row in rows {
        table.row([
            row.id,
            row.kind,
            &row.enabled.to_string(),
            &row.default.to_string(),
            row.name,
            &row.to,
        ]);
    }
    terminal::out(&table.render(None));
    Ok(())
}

/// Where an alert goes: the host, and with mail the recipients; of a secret the last letters, if it is long enough.
fn to(alert: &Alert) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_place_shows_host_and_last_letters_and_nothing_else() {
        let mut discord = Alert::new("chat", AlertKind::Discord);
        discord.discord_webhook = Secret::new("https://discord.com/api/webhooks/1234/abcdefghijklmnop");
        assert_eq!(to(&discord), "https://discord.com ...mnop");
        let mut hook = Alert::new("hook", AlertKind::Webhook);
        hook.webhook_url = Secret::new("http://user:password-of-the-user@h:8080/short");
        assert_eq!(to(&hook), "http://h:8080", "too short to be shown in part");
        let mut pager = Alert::new("pager", AlertKind::Pagerduty);
        pager.pagerduty_routing_key = Secret::new("0123456789abcdef0123456789abcdef");
        assert_eq!(to(&pager), "https://events.pagerduty.com ...cdef");
        let mut mail = Alert::new("mail", AlertKind::Smtp);
        mail.smtp_host = "relay".to_owned();
        mail.smtp_from = "qu@example.com".to_owned();
        mail.smtp_user = "qu".to_owned();
        mail.smtp_to = vec!["a@example.com".to_owned(), "b@example.com".to_owned()];
        mail.smtp_password = Secret::new("password-that-is-long-enough");
        assert_eq!(to(&mail), "relay:587 for a@example.com,b@example.com");
        let broken = Alert::new("broken", AlertKind::Slack);
        assert_eq!(to(&broken), "nowhere: slack_webhook is missing");
    }
}
