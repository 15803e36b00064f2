//! Which lines the forms of checks, alerts and nodes have, and how each is read from an entry and written to it.
//!
//! One table for each kind of entry. Only lines that somebody has changed are written, so whatever the form does not show stays.

use super::field::{Field, Kind};
use crate::document::schema::OnUncertain;
use crate::document::{Alert, AlertKind, Check, CheckKind, Peer};
use crate::duration::Span;
use crate::secret::Secret;

/// Kinds of checks, in the order of the choice.
pub(super) const CHECK_KINDS: &[(&str, CheckKind)] = &[
    ("http", CheckKind::Http),
    ("tcp", CheckKind::Tcp),
    ("icmp", CheckKind::Icmp),
    ("tls", CheckKind::Tls),
    ("dns", CheckKind::Dns),
];
/// Kinds of alerts, in the order of the choice.
pub(super) const ALERT_KINDS: &[(&str, AlertKind)] = &[
    ("smtp", AlertKind::Smtp),
    ("discord", AlertKind::Discord),
    ("webhook", AlertKind::Webhook),
    ("slack", AlertKind::Slack),
    ("pagerduty", AlertKind::Pagerduty),
    ("ntfy", AlertKind::Ntfy),
    ("alertmanager", AlertKind::Alertmanager),
];
/// The label of the line that says what kind a new entry has.
pub(super) const TYPE: &str = "type";
/// Its options for checks.
pub(super) const CHECK_TYPES: Kind = Kind::Choice(&["http", "tcp", "icmp", "tls", "dns"]);
/// Its options for alerts.
pub(super) const ALERT_TYPES: Kind = Kind::Choice(&[
    "smtp",
    "discord",
    "webhook",
    "slack",
    "pagerduty",
    "ntfy",
    "alertmanager",
]);
const YES_NO: Kind = Kind::Choice(&["yes", "no"]);
const RECORDS: Kind = Kind::Choice(&["a", "aaaa", "cname", "mx", "txt", "ns"]);
const UNCERTAIN: Kind = Kind::Choice(&["resend", "drop"]);

type Problem = Result<(), String>;

/// A line of a form for entries of type `T`.
pub(super) struct Line<T> {
    label: &'static str,
    hint: &'static str,
    kind: Kind,
    /// Whether entries of this kind have it.
    fits: fn(&T) -> bool,
    read: fn(&T) -> String,
    write: fn(&mut T, &str) -> Problem,
}

/// The lines that an entry has, filled with what it says.
pub(super) fn fields<T>(lines: &[Line<T>], entry: &T) -> Vec<Field> {
    let there = lines.iter().filter(|line| (line.fits)(entry));
    there
        .map(|line| Field::new(line.label, line.hint, line.kind, (line.read)(entry)))
        .collect()
}

/// Writes what was changed.
///
/// # Errors
/// What cannot be read, with its label.
pub(super) fn lay_over<T>(lines: &[Line<T>], fields: &[Field], entry: &mut T) -> Problem {
    for field in fields.iter().filter(|field| field.is_changed()) {
        let line = lines
            .iter()
            .find(|line| line.label == field.label && (line.fits)(entry));
        if let Some(line) = line {
            (line.write)(entry, field.value().trim())
                .map_err(|problem| format!("{}: {problem}", field.label))?;
        }
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    let text = if text.is_empty() { "0" } else { text };
    text.parse()
        .map_err(|_| format!("\"{}\" is no {what}", terminal::brief(text)))
}

fn optional_number(text: &str, what: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    number(text, what).map(Some)
}

fn span(text: &str) -> Result<Span, String> {
    text.parse()
        .map_err(|error: crate::duration::BadDuration| error.to_string())
}

fn optional_span(text: &str) -> Result<Option<Span>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    span(text).map(|span| Some(span).filter(|span| !span.is_zero()))
}

fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn shown<T: Default + PartialEq + ToString>(value: &T) -> String {
    if *value == T::default() {
        String::new()
    } else {
        value.to_string()
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Problem {
    *place = value?;
    Ok(())
}

/// A password in a URL is not shown; left as it is shown it stays.
fn put_target(check: &mut Check, text: &str) -> Problem {
    if text == probe::masked(&check.target) {
        return Ok(());
    }
    if text.contains("***@") {
        return Err("write the password in place of ***".to_owned());
    }
    text.clone_into(&mut check.target);
    Ok(())
}

/// A line that every entry has, or every one of a kind.
macro_rules! line {
    ($label:literal, $hint:literal, $kind:expr, $fits:expr, $read:expr, $write:expr) => {
        Line {
            label: $label,
            hint: $hint,
            kind: $kind,
            fits: $fits,
            read: $read,
            write: $write,
        }
    };
}

fn is_http(check: &Check) -> bool {
    check.kind == CheckKind::Http
}

fn is_icmp(check: &Check) -> bool {
    check.kind == CheckKind::Icmp
}

fn is_tls(check: &Check) -> bool {
    check.kind == CheckKind::Tls
}

fn is_dns(check: &Check) -> bool {
    check.kind == CheckKind::Dns
}

/// Checks.
#[rustfmt::skip]
pub(super) const CHECK: &[Line<Check>] = &[
    line!("name", "unique", Kind::Text, |_| true, |c| c.name.clone(), |c, t| put(&mut c.name, Ok(t.to_owned()))),
    line!("target", "http: URL; tcp: host:port; icmp, dns: host; tls: host or host:port", Kind::Text, |_| true,
        |c| probe::masked(&c.target).into_owned(), put_target),
    line!("expect status", "such as 200; empty: any 2xx", Kind::Text, is_http,
        |c| shown(&c.expect_status), |c, t| put(&mut c.expect_status, number(t, "HTTP status"))),
    line!("body contains", "text that the body must contain", Kind::Text, is_http,
        |c| c.body_match.clone(), |c, t| put(&mut c.body_match, Ok(t.to_owned()))),
    line!("echoes", "per probe; empty: 1", Kind::Text, is_icmp,
        |c| shown(&c.icmp_count), |c, t| put(&mut c.icmp_count, number(t, "number of echoes"))),
    line!("max loss", "percentage of lost echoes up to which it is up; empty: 99", Kind::Text, is_icmp,
        |c| c.icmp_max_loss.map_or_else(String::new, |percent| percent.to_string()),
        |c, t| put(&mut c.icmp_max_loss, optional_number(t.trim_end_matches('%'), "percentage"))),
    line!("warn days", "days before the end of the certificate from which it fails", Kind::Text, is_tls,
        |c| shown(&c.tls_warn_days), |c, t| put(&mut c.tls_warn_days, number(t, "number of days"))),
    line!("server name", "to ask for, if not the host", Kind::Text, is_tls,
        |c| c.tls_server_name.clone(), |c, t| put(&mut c.tls_server_name, Ok(t.to_owned()))),
    line!("verify", "chain and name as well", YES_NO, is_tls,
        |c| yes(c.tls_verify), |c, t| put(&mut c.tls_verify, Ok(t == "yes"))),
    line!("record", "what to look up", RECORDS, is_dns,
        |c| if c.dns_record.is_empty() { "a".to_owned() } else { c.dns_record.clone() },
        |c, t| put(&mut c.dns_record, Ok(t.to_owned()))),
    line!("resolver", "server to ask: host:port", Kind::Text, is_dns,
        |c| c.dns_resolver.clone(), |c, t| put(&mut c.dns_resolver, Ok(t.to_owned()))),
    line!("expected answer", "the whole address or name of one answer; a part of a txt record", Kind::Text, is_dns,
        |c| c.dns_expect.clone(), |c, t| put(&mut c.dns_expect, Ok(t.to_owned()))),
    line!("interval", "from one probe to the next, such as 30s", Kind::Text, |_| true,
        |c| c.interval.to_string(), |c, t| put(&mut c.interval, span(t))),
    line!("timeout", "how long a probe may take, such as 10s", Kind::Text, |_| true,
        |c| c.timeout.to_string(), |c, t| put(&mut c.timeout, span(t))),
    line!("alerts", "by name, with commas; defaults need not be named", Kind::Text, |_| true,
        |c| c.alert_ids.join(","), |c, t| put(&mut c.alert_ids, Ok(list(t)))),
    line!("without alerts", "defaults that this check does not want, with commas", Kind::Text, |_| true,
        |c| c.suppress_alert_ids.join(","), |c, t| put(&mut c.suppress_alert_ids, Ok(list(t)))),
    line!("depends on", "checks that this one cannot do without, with commas", Kind::Text, |_| true,
        |c| c.depends_on.join(","), |c, t| put(&mut c.depends_on, Ok(list(t)))),
    line!("group", "for maintenance of several checks at once", Kind::Text, |_| true,
        |c| c.group.clone().unwrap_or_default(),
        |c, t| put(&mut c.group, Ok(Some(t.to_owned()).filter(|text| !text.is_empty())))),
    line!("confirm", "rounds in a row before it is down; empty: 2", Kind::Text, |_| true,
        |c| shown(&c.confirm), |c, t| put(&mut c.confirm, number(t, "number of rounds"))),
    line!("recover", "rounds in a row before it is up again; empty: 2", Kind::Text, |_| true,
        |c| shown(&c.recover), |c, t| put(&mut c.recover, number(t, "number of rounds"))),
    line!("min reports", "that a verdict needs; empty: the quorum", Kind::Text, |_| true,
        |c| shown(&c.min_reports), |c, t| put(&mut c.min_reports, number(t, "number of nodes"))),
    line!("second opinion", "the first failure is looked at again at once", YES_NO, |_| true,
        |c| yes(c.second_opinion.unwrap_or(true)), |c, t| put(&mut c.second_opinion, Ok(Some(t == "yes")))),
    line!("remind every", "an outage that lasts is told again, such as 1h; empty: never", Kind::Text, |_| true,
        |c| c.remind_every.map_or_else(String::new, |every| every.to_string()),
        |c, t| put(&mut c.remind_every, optional_span(t))),
    line!("resolvers", "DNS servers for this check, with commas", Kind::Text, |_| true,
        |c| c.resolvers.join(","), |c, t| put(&mut c.resolvers, Ok(list(t)))),
];

fn is_smtp(alert: &Alert) -> bool {
    alert.kind == AlertKind::Smtp
}

fn is_webhook(alert: &Alert) -> bool {
    alert.kind == AlertKind::Webhook
}

fn is_ntfy(alert: &Alert) -> bool {
    alert.kind == AlertKind::Ntfy
}

fn is_pagerduty(alert: &Alert) -> bool {
    alert.kind == AlertKind::Pagerduty
}

fn revealed(secret: &Secret) -> String {
    secret.reveal().to_owned()
}

/// Alerts.
#[rustfmt::skip]
pub(super) const ALERT: &[Line<Alert>] = &[
    line!("name", "unique", Kind::Text, |_| true, |a| a.name.clone(), |a, t| put(&mut a.name, Ok(t.to_owned()))),
    line!("host", "the relay", Kind::Text, is_smtp,
        |a| a.smtp_host.clone(), |a, t| put(&mut a.smtp_host, Ok(t.to_owned()))),
    line!("port", "empty: 587", Kind::Text, is_smtp,
        |a| shown(&a.smtp_port), |a, t| put(&mut a.smtp_port, number(t, "port"))),
    line!("from", "sender", Kind::Text, is_smtp,
        |a| a.smtp_from.clone(), |a, t| put(&mut a.smtp_from, Ok(t.to_owned()))),
    line!("to", "recipients, with commas", Kind::Text, is_smtp,
        |a| a.smtp_to.join(","), |a, t| put(&mut a.smtp_to, Ok(list(t)))),
    line!("user", "name to log in with", Kind::Text, is_smtp,
        |a| a.smtp_user.clone(), |a, t| put(&mut a.smtp_user, Ok(t.to_owned()))),
    line!("password", "not shown; kept if untouched", Kind::Secret, is_smtp,
        |a| revealed(&a.smtp_password), |a, t| put(&mut a.smtp_password, Ok(Secret::new(t)))),
    line!("password file", "on each node, instead of the password", Kind::Text, is_smtp,
        |a| a.smtp_password_file.clone(), |a, t| put(&mut a.smtp_password_file, Ok(t.to_owned()))),
    line!("starttls", "required", YES_NO, is_smtp,
        |a| yes(a.smtp_starttls.unwrap_or(true)), |a, t| put(&mut a.smtp_starttls, Ok(Some(t == "yes")))),
    line!("tls", "from the first byte", YES_NO, is_smtp,
        |a| yes(a.smtp_tls), |a, t| put(&mut a.smtp_tls, Ok(t == "yes"))),
    line!("webhook", "address; not shown; kept if untouched", Kind::Secret, |a| a.kind == AlertKind::Discord,
        |a| revealed(&a.discord_webhook), |a, t| put(&mut a.discord_webhook, Ok(Secret::new(t)))),
    line!("webhook", "address; not shown; kept if untouched", Kind::Secret, |a| a.kind == AlertKind::Slack,
        |a| revealed(&a.slack_webhook), |a, t| put(&mut a.slack_webhook, Ok(Secret::new(t)))),
    line!("url", "address; not shown; kept if untouched", Kind::Secret, is_webhook,
        |a| revealed(&a.webhook_url), |a, t| put(&mut a.webhook_url, Ok(Secret::new(t)))),
    line!("secret", "key of the signature; not shown; kept if untouched", Kind::Secret, is_webhook,
        |a| revealed(&a.webhook_secret), |a, t| put(&mut a.webhook_secret, Ok(Secret::new(t)))),
    line!("routing key", "not shown; kept if untouched", Kind::Secret, is_pagerduty,
        |a| revealed(&a.pagerduty_routing_key), |a, t| put(&mut a.pagerduty_routing_key, Ok(Secret::new(t)))),
    line!("url", "another place that takes its events; empty: PagerDuty's", Kind::Text, is_pagerduty,
        |a| a.pagerduty_url.clone(), |a, t| put(&mut a.pagerduty_url, Ok(t.to_owned()))),
    line!("url", "address of the topic; not shown; kept if untouched", Kind::Secret, is_ntfy,
        |a| revealed(&a.ntfy_url), |a, t| put(&mut a.ntfy_url, Ok(Secret::new(t)))),
    line!("token", "not shown; kept if untouched", Kind::Secret, is_ntfy,
        |a| revealed(&a.ntfy_token), |a, t| put(&mut a.ntfy_token, Ok(Secret::new(t)))),
    line!("url", "address", Kind::Text, |a| a.kind == AlertKind::Alertmanager,
        |a| a.alertmanager_url.clone(), |a, t| put(&mut a.alertmanager_url, Ok(t.to_owned()))),
    line!("default", "attached to every check", YES_NO, |_| true,
        |a| yes(a.default), |a, t| put(&mut a.default, Ok(t == "yes"))),
    line!("after", "told only when an outage has lasted so long, such as 15m", Kind::Text, |_| true,
        |a| a.after.map_or_else(String::new, |after| after.to_string()), |a, t| put(&mut a.after, optional_span(t))),
    line!("if uncertain", "whether a message was sent: send it again or drop it", UNCERTAIN, |_| true,
        |a| match a.on_uncertain { Some(OnUncertain::Drop) => "drop", _ => "resend" }.to_owned(),
        |a, t| put(&mut a.on_uncertain, Ok((t == "drop").then_some(OnUncertain::Drop)))),
    line!("subject", "template; empty: the built-in one", Kind::Text, |_| true,
        |a| a.subject_template.clone(), |a, t| put(&mut a.subject_template, Ok(t.to_owned()))),
    line!("body", "template; empty: the built-in one; several lines: qu alert edit --body-file", Kind::Text, |_| true,
        |a| a.body_template.clone(), |a, t| put(&mut a.body_template, Ok(t.to_owned()))),
];

/// Nodes.
#[rustfmt::skip]
pub(super) const PEER: &[Line<Peer>] = &[
    line!("address", "where the others reach it: host:port", Kind::Text, |_| true,
        |p| p.advertise.clone(), |p, t| { crate::document::review::advertise(t)?; put(&mut p.advertise, Ok(t.to_owned())) }),
    line!("location", "where it stands; for people", Kind::Text, |_| true,
        |p| p.location.clone().unwrap_or_default(),
        |p, t| put(&mut p.location, Ok(Some(t.to_owned()).filter(|text| !text.is_empty())))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays() {
        let alert = Alert {
            id: "1".to_owned(),
            smtp_password: Secret::new("old"),
            smtp_to: vec!["a@b".to_owned()],
            body_template: "two\nlines\n".to_owned(),
            ..Alert::new("mail", AlertKind::Smtp)
        };
        let fields = fields(ALERT, &alert);
        let mut after = alert.clone();
        lay_over(ALERT, &fields, &mut after).unwrap();
        assert_eq!(after, alert);
    }

    #[test]
    fn a_password_in_a_url_is_not_shown_and_not_lost() {
        let check = Check::new("x", CheckKind::Http, "http://bob:hunter2@h/");
        let fields = fields(CHECK, &check);
        let target = fields.iter().find(|field| field.label == "target").unwrap();
        assert_eq!(target.value(), "http://bob:***@h/");
        let mut after = check.clone();
        put_target(&mut after, "http://bob:***@h/").unwrap();
        assert_eq!(after, check);
        assert!(put_target(&mut after, "http://bob:***@other/").is_err());
        put_target(&mut after, "http://bob:new@other/").unwrap();
        assert_eq!(after.target, "http://bob:new@other/");
    }

    #[test]
    fn every_kind_shows_its_own_lines_once() {
        for (name, kind) in CHECK_KINDS {
            assert_eq!(kind.name(), *name);
            let labels: Vec<_> = fields(CHECK, &Check::new("x", *kind, "y"))
                .iter()
                .map(|field| field.label)
                .collect();
            assert_eq!(labels.contains(&"expect status"), *kind == CheckKind::Http);
        }
        for (name, kind) in ALERT_KINDS {
            assert_eq!(kind.name(), *name);
            let mut labels: Vec<_> = fields(ALERT, &Alert::new("x", *kind))
                .iter()
                .map(|field| field.label)
                .collect();
            let count = labels.len();
            labels.sort_unstable();
            labels.dedup();
            assert_eq!(labels.len(), count, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_label() {
        let mut check = Check::new("x", CheckKind::Http, "http://x");
        for (label, typed, told) in [
            ("interval", "soon", "interval: bad duration \"soon\""),
            (
                "expect status",
                "fine",
                "expect status: \"fine\" is no HTTP status",
            ),
        ] {
            let mut fields = fields(CHECK, &check);
            let field = fields.iter_mut().find(|field| field.label == label).unwrap();
            field.take_over(&Field::new("", "", Kind::Text, typed));
            let error = lay_over(CHECK, &fields, &mut check).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
