//! `qu alert list`: who is told, and where, as far as that may be shown.

use terminal::Table;

use crate::channel::destination;
use crate::document::Document;

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
            to: destination(alert),
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

#[cfg(test)]
mod tests {
    use crate::channel::destination as to;
    use crate::document::{Alert, AlertKind};
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
