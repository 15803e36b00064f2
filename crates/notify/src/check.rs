//! What can be wrong with the settings of a channel, in the words of somebody who has to put it right.
//!
//! Nothing here repeats a value that may be a secret, and nothing touches a file or the network.

use lettre::message::Mailbox;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use service::settings::Secret;

use crate::channel::{Alertmanager, Channel, Ntfy, PagerDuty, Smtp, Webhook};
use crate::{http, text};

/// RFC 5321 (4.5.3.1.8) makes every server take a hundred recipients for a mail.
const RECIPIENTS_MAX: usize = 100;

/// Settings and headers are short texts; a longer one is a mistake, or a file in the wrong place.
const SETTING_MAX: usize = 4096;

/// Headers that are made here, or that decide where a request ends.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "idempotency-key",
    "mainstay-signature",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// One line for each problem, with the type in front; none means that the channel can be tried.
pub(crate) fn problems(channel: &Channel) -> Vec<String> {
    let name = channel.name();
    of(channel)
        .into_iter()
        .map(|line| format!("{name}: {line}"))
        .collect()
}

/// The same without the type.
pub(crate) fn of(channel: &Channel) -> Vec<String> {
    let mut found = vec![];
    match channel {
        Channel::Smtp(settings) => smtp(settings, &mut found),
        Channel::Discord(settings) => address("webhook", settings.webhook.expose(), &mut found),
        Channel::Slack(settings) => address("webhook", settings.webhook.expose(), &mut found),
        Channel::Webhook(settings) => webhook(settings, &mut found),
        Channel::PagerDuty(settings) => pagerduty(settings, &mut found),
        Channel::Ntfy(settings) => ntfy(settings, &mut found),
        Channel::Alertmanager(settings) => alertmanager(settings, &mut found),
    }
    found
}

/// Whether a host is this machine, as far as its name tells.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn smtp(settings: &Smtp, found: &mut Vec<String>) {
    if settings.host.is_empty() {
        found.push("host is missing: the name of the mail relay".into());
    } else if ServerName::try_from(settings.host.as_str()).is_err() {
        found.push("host is neither a host name nor an address; the port stands in port".into());
    }
    if settings.port == 0 {
        found.push("port is 0; 587 is usual, or 465 with tls".into());
    }
    mailbox("from", &settings.from, found);
    if settings.to.is_empty() {
        found.push("to is empty: name at least one recipient".into());
    }
    if settings.to.len() > RECIPIENTS_MAX {
        let count = settings.to.len();
        found.push(format!(
            "to has {count} recipients, at most {RECIPIENTS_MAX} fit; use a list address"
        ));
    }
    for recipient in &settings.to {
        mailbox("to", recipient, found);
    }
    login(settings, found);
}

fn login(settings: &Smtp, found: &mut Vec<String>) {
    single_line("user", &settings.user, found);
    single_line("password", settings.password.expose(), found);
    let (password, file) = (!settings.password.is_empty(), settings.password_file.is_some());
    if password && file {
        found.push("password and password_file are both set; keep one".into());
    }
    match (settings.user.is_empty(), password || file) {
        (true, true) => found.push("a password is set but user is missing".into()),
        (false, false) => found.push("user is set but neither password nor password_file".into()),
        _ => {}
    }
    if !settings.user.is_empty() && !settings.starttls && !settings.tls && !is_loopback(&settings.host) {
        found.push("a password goes only over TLS: set starttls or tls, or leave user out".into());
    }
}

fn mailbox(setting: &str, value: &str, found: &mut Vec<String>) {
    let shown = text::cut(&text::one_line(value), 100, text::chars);
    let mut problem = |what: &str| found.push(format!("{setting}: {shown:?} {what}"));
    if value.chars().any(char::is_control) {
        return problem("contains a line break or control character");
    }
    match value.parse::<Mailbox>() {
        Err(_) => problem("is not a mail address such as ops@example.com or Ops <ops@example.com>"),
        // Everything else needs a relay with SMTPUTF8, and all relays after it too.
        Ok(mailbox) if !AsRef::<str>::as_ref(&mailbox.email).is_ascii() => {
            problem("has characters outside ASCII; write the domain in its xn-- form");
        }
        Ok(_) => {}
    }
}

fn single_line(setting: &str, value: &str, found: &mut Vec<String>) {
    if value.chars().any(char::is_control) {
        found.push(format!("{setting} contains a line break or control character"));
    }
    if value.len() > SETTING_MAX {
        found.push(format!("{setting} is longer than {SETTING_MAX} bytes"));
    }
}

fn address(setting: &str, value: &str, found: &mut Vec<String>) {
    if value.is_empty() {
        found.push(format!(
            "{setting} is missing: an address such as https://host/path"
        ));
    } else if value.chars().any(char::is_control) || value.len() > SETTING_MAX {
        single_line(setting, value, found);
    } else {
        match Url::parse(value) {
            Err(error) => found.push(format!("{setting} is not an address: {error}")),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                found.push(format!("{setting} does not begin with https:// or http://"));
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                found.push(format!("{setting} names no host"));
            }
            Ok(_) => {}
        }
    }
}

fn webhook(settings: &Webhook, found: &mut Vec<String>) {
    address("url", settings.url.expose(), found);
    for (name, value) in &settings.headers {
        header(name, value, found);
    }
}

fn header(name: &str, value: &Secret, found: &mut Vec<String>) {
    let shown = text::cut(&text::one_line(name), 100, text::chars);
    match HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => found.push(format!("headers: {shown:?} is not the name of a header")),
        Ok(known) if OWN_HEADERS.contains(&known.as_str()) => {
            found.push(format!("headers: {shown} is set by the sender; leave it out"));
        }
        Ok(_) => {}
    }
    let value = value.expose();
    if value.len() > SETTING_MAX || HeaderValue::from_str(value).is_err() {
        found.push(format!(
            "headers: the value of {shown} contains a line break or control character, or is too long"
        ));
    }
}

fn pagerduty(settings: &PagerDuty, found: &mut Vec<String>) {
    if settings.routing_key.is_empty() {
        found.push("routing_key is missing: the integration key of the service".into());
    }
    single_line("routing_key", settings.routing_key.expose(), found);
    address("url", &settings.url, found);
}

fn ntfy(settings: &Ntfy, found: &mut Vec<String>) {
    let before = found.len();
    address("url", settings.url.expose(), found);
    if found.len() == before && http::split_topic(settings.url.expose()).is_none() {
        found.push("url names no topic: https://ntfy.sh/TOPIC".into());
    }
    if HeaderValue::from_str(settings.token.expose()).is_err() {
        found.push("token contains a line break or control character".into());
    }
    for (verb, priority) in &settings.priority {
        if !(1..=5).contains(priority) {
            found.push(format!("priority of {verb} is {priority}; it goes from 1 to 5"));
        }
    }
}

fn alertmanager(settings: &Alertmanager, found: &mut Vec<String>) {
    address("url", settings.url.expose(), found);
    if settings.hold.is_some_and(|hold| hold.0 < 1_000) {
        found.push("hold is below 1s; it is the time until an alert ends by itself".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of settings written as JSON.
    fn check(settings: &str) -> Vec<String> {
        serde_json::from_str::<Channel>(settings).unwrap().check()
    }

    #[test]
    fn good_settings_have_no_problems() {
        for settings in [
            r#"{"type":"smtp","host":"mail.example.com","from":"Uptime <qu@example.com>","to":["a@b.c","B C <b@c.d>"],
                "user":"u","password":"p"}"#,
            r#"{"type":"smtp","host":"::1","from":"qu@example.com","to":["a@b.c"],"starttls":false,"user":"u","password":"p"}"#,
            r#"{"type":"discord","webhook":"https://discord.com/api/webhooks/1/x"}"#,
            r#"{"type":"webhook","url":"http://[::1]:8080/x","headers":{"X-A":"b"}}"#,
            r#"{"type":"slack","webhook":"https://hooks.slack.com/services/a/b/c"}"#,
            r#"{"type":"pagerduty","routing_key":"k"}"#,
            r#"{"type":"ntfy","url":"https://ntfy.sh/topic","priority":{"DOWN":5}}"#,
            r#"{"type":"alertmanager","url":"http://u:p@am:9093/prefix","hold":"5m"}"#,
        ] {
            assert_eq!(check(settings), Vec::<String>::new(), "{settings}");
        }
    }

    #[test]
    fn each_problem_has_one_clear_line() {
        let mail = |rest: &str| {
            check(&format!(
                r#"{{"type":"smtp","host":"mail.example.com","from":"qu@example.com",{rest}}}"#
            ))
        };
        for (found, line) in [
            (
                mail(r#""to":[]"#),
                "smtp: to is empty: name at least one recipient",
            ),
            (
                mail(r#""to":["nobody"]"#),
                r#"smtp: to: "nobody" is not a mail address such as ops@example.com or Ops <ops@example.com>"#,
            ),
            (
                mail(r#""to":["a@b.c\r\nBcc: d@e.f"]"#),
                r#"smtp: to: "a@b.c Bcc: d@e.f" contains a line break or control character"#,
            ),
            (
                mail(r#""to":["a@müller.de"]"#),
                r#"smtp: to: "a@müller.de" has characters outside ASCII; write the domain in its xn-- form"#,
            ),
            (
                mail(r#""to":["a@b.c"],"port":0"#),
                "smtp: port is 0; 587 is usual, or 465 with tls",
            ),
            (
                mail(r#""to":["a@b.c"],"user":"u""#),
                "smtp: user is set but neither password nor password_file",
            ),
            (
                mail(r#""to":["a@b.c"],"password":"p""#),
                "smtp: a password is set but user is missing",
            ),
            (
                mail(r#""to":["a@b.c"],"user":"u","password":"p","password_file":"/f""#),
                "smtp: password and password_file are both set; keep one",
            ),
            (
                mail(r#""to":["a@b.c"],"user":"u","password":"p","starttls":false"#),
                "smtp: a password goes only over TLS: set starttls or tls, or leave user out",
            ),
            (
                check(r#"{"type":"smtp","host":"mail:587","from":"a@b.c","to":["a@b.c"]}"#),
                "smtp: host is neither a host name nor an address; the port stands in port",
            ),
            (
                check(r#"{"type":"discord","webhook":"discord.com/x"}"#),
                "discord: webhook is not an address: relative URL without a base",
            ),
            (
                check(r#"{"type":"slack","webhook":"ftp://h/x"}"#),
                "slack: webhook does not begin with https:// or http://",
            ),
            (
                check(r#"{"type":"slack","webhook":""}"#),
                "slack: webhook is missing: an address such as https://host/path",
            ),
            (
                check(r#"{"type":"slack","webhook":"https://h/a\r\nX-A: b"}"#),
                "slack: webhook contains a line break or control character",
            ),
            (
                check(r#"{"type":"webhook","url":"https://h/","headers":{"X A":"b"}}"#),
                r#"webhook: headers: "X A" is not the name of a header"#,
            ),
            (
                check(r#"{"type":"webhook","url":"https://h/","headers":{"X-A":"b\r\nX-B: c"}}"#),
                "webhook: headers: the value of X-A contains a line break or control character, or is too long",
            ),
            (
                check(r#"{"type":"webhook","url":"https://h/","headers":{"Content-Length":"1"}}"#),
                "webhook: headers: Content-Length is set by the sender; leave it out",
            ),
            (
                check(r#"{"type":"pagerduty","routing_key":""}"#),
                "pagerduty: routing_key is missing: the integration key of the service",
            ),
            (
                check(r#"{"type":"ntfy","url":"https://ntfy.sh/"}"#),
                "ntfy: url names no topic: https://ntfy.sh/TOPIC",
            ),
            (
                check(r#"{"type":"ntfy","url":"https://ntfy.sh/t","priority":{"DOWN":6}}"#),
                "ntfy: priority of DOWN is 6; it goes from 1 to 5",
            ),
            (
                check(r#"{"type":"alertmanager","url":"http://h","hold":"10ms"}"#),
                "alertmanager: hold is below 1s; it is the time until an alert ends by itself",
            ),
        ] {
            assert_eq!(found, [line]);
        }
    }
}
