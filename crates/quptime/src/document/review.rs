//! What makes no sense in a document although it holds together: looked at where people type it, before it is proposed. Unlike
//! [`super::integrity`] this may become stricter or milder from version to version, since replicas never ask it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::change::{Change, Section};
use super::index::Index;
use super::integrity::Place;
use super::schema::{Alert, Check, CheckKind, Document, Enrollment, Peer, Window};
use crate::duration::Span;
use terminal::brief;

/// Shortest interval between two probes.
pub const INTERVAL_MIN: Span = Span::from_secs(1);
/// Checks that a cluster takes.
pub const CHECKS_MAX: usize = 10_000;
/// Alerts that a cluster takes.
pub const ALERTS_MAX: usize = 200;
/// Announced work that a cluster takes.
pub const WINDOWS_MAX: usize = 1000;
/// Voters that a cluster takes.
pub const PEERS_MAX: usize = 9;
/// Bytes of where a node is: a name of DNS and a port.
const ADVERTISE_MAX: usize = 260;
/// Bytes of a name, an id, a fingerprint, and whatever else names something.
const NAME_MAX: usize = 128;
/// Bytes of a URL, as browsers and proxies take them, and of what else says where something is.
const URL_MAX: usize = 2048;
/// Bytes of a name of DNS.
const HOST_MAX: usize = 255;
/// Bytes of an address of mail.
const MAIL_MAX: usize = 320;
/// Bytes of a password, token or key.
const SECRET_MAX: usize = 1024;
/// Bytes of a text that an answer must contain.
const MATCH_MAX: usize = 4096;
/// Bytes of a certificate: an RSA key of 4096 bits takes half of that.
const CERT_MAX: usize = 4096;
/// Bytes of templates: of a line, and of a message.
const SUBJECT_MAX: usize = 1024;
const BODY_MAX: usize = 16 << 10;

/// What makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Objection {
    /// Where.
    pub place: Place,
    text: String,
}

/// Looks at all entries. Yields what is allowed but hardly meant.
///
/// # Errors
/// The first thing that makes no sense.
pub fn review(document: &Document) -> Result<Vec<String>, Objection> {
    let mut warnings = Vec::new();
    let index = Index::of(document);
    counts(document, |_| true)?;
    whole(document)?;
    for (position, peer) in document.peers.iter().enumerate() {
        one_peer(peer).map_err(|text| Objection {
            place: Place::Peer(position),
            text: format!("peer {}: {text}", peer.node_id),
        })?;
    }
    for (position, check) in document.checks.iter().enumerate() {
        one_check(document, &index, check, &mut warnings).map_err(|text| Objection {
            place: Place::Check(position),
            text: format!("check {}: {text}", brief(&check.name)),
        })?;
    }
    for (position, alert) in document.alerts.iter().enumerate() {
        one_alert(alert).map_err(|text| Objection {
            place: Place::Alert(position),
            text: format!("alert {}: {text}", brief(&alert.name)),
        })?;
    }
    for (position, window) in document.maintenance.iter().enumerate() {
        one_window(window).map_err(|text| Objection {
            place: Place::Window(position),
            text: format!("maintenance {}: {text}", brief(&window.name)),
        })?;
    }
    for enrollment in &document.pending_enrollments {
        one_enrollment(enrollment).map_err(|text| Objection {
            place: Place::Whole,
            text: format!("pending_enrollments: {}: {text}", brief(&enrollment.id)),
        })?;
    }
    Ok(warnings)
}

/// As [`review`], but what was there before and is not touched by `changes` may stay as it is: a file of the reference that is a little
/// odd must not stop all later changes.
///
/// # Errors
/// The first thing that makes no sense in what is changed.
pub fn review_changes(result: &Document, changes: &[Change]) -> Result<Vec<String>, Objection> {
    let touched: BTreeSet<&str> = changes.iter().map(|change| change.key.id.as_str()).collect();
    let index = Index::of(result);
    counts(result, |section| grows(section, changes))?;
    whole(result)?;
    let mut part = result.clone();
    part.peers
        .retain(|peer| touched.contains(peer.node_id.to_string().as_str()));
    part.checks.retain(|check| touched.contains(check.id.as_str()));
    part.alerts.retain(|alert| touched.contains(alert.id.as_str()));
    part.maintenance
        .retain(|window| touched.contains(window.id.as_str()));
    part.pending_enrollments
        .retain(|enrollment| touched.contains(enrollment.id.as_str()));
    let mut warnings = Vec::new();
    for check in &part.checks {
        cycle(result, &index, check).map_err(|text| Objection {
            place: Place::Whole,
            text: format!("check {}: {text}", brief(&check.name)),
        })?;
    }
    warnings.extend(review(&part)?);
    Ok(warnings)
}

/// Whether a section has more entries after these changes than before. Who has too many must be able to remove some.
fn grows(section: Section, changes: &[Change]) -> bool {
    let here = changes.iter().filter(|change| change.key.section == section);
    let balance = here.fold(0, |sum: i64, change| {
        sum + i64::from(change.wanted.is_some()) - i64::from(change.base.is_some())
    });
    balance > 0
}

fn counts(document: &Document, matters: impl Fn(Section) -> bool) -> Result<(), Objection> {
    for (what, section, count, most) in [
        ("peers", Section::Peers, document.peers.len(), PEERS_MAX),
        ("checks", Section::Checks, document.checks.len(), CHECKS_MAX),
        ("alerts", Section::Alerts, document.alerts.len(), ALERTS_MAX),
        (
            "maintenance",
            Section::Maintenance,
            document.maintenance.len(),
            WINDOWS_MAX,
        ),
    ] {
        if count > most && matters(section) {
            return Err(Objection {
                place: Place::Whole,
                text: format!("{what}: {count} are too many; at most {most} are possible"),
            });
        }
    }
    Ok(())
}

fn whole(document: &Document) -> Result<(), Objection> {
    let objection = |text: String| Objection {
        place: Place::Whole,
        text,
    };
    for resolver in &document.resolvers {
        one_resolver(resolver).map_err(|text| objection(format!("resolvers: {text}")))?;
    }
    let settings = &document.settings;
    let (beat, silence) = (settings.beat(), settings.silence());
    if beat < Span::from_millis(100) || beat > Span::from_secs(60) {
        return Err(objection(format!(
            "settings.heartbeat: {beat} is not between 100ms and 1m"
        )));
    }
    if silence.millis() < 2 * beat.millis() {
        return Err(objection(format!(
            "settings.dead_after: {silence} is less than two heartbeats ({beat})"
        )));
    }
    Ok(())
}

fn one_peer(peer: &Peer) -> Result<(), String> {
    advertise(&peer.advertise).map_err(|text| format!("advertise: {text}"))?;
    short("fingerprint", &peer.fingerprint, NAME_MAX)?;
    short("cert_pem", &peer.cert_pem, CERT_MAX)?;
    line("location", peer.location.as_deref().unwrap_or_default(), NAME_MAX)
}

fn one_enrollment(enrollment: &Enrollment) -> Result<(), String> {
    line("name", &enrollment.name, NAME_MAX)?;
    for (field, text) in [
        ("id", &enrollment.id),
        ("secret_hash", &enrollment.secret_hash),
        ("expires_at", &enrollment.expires_at),
    ] {
        short(field, text, NAME_MAX)?;
    }
    enrollment.applicant.as_ref().map_or(Ok(()), |applicant| {
        one_peer(applicant).map_err(|text| format!("applicant: {text}"))
    })
}

/// A text that is not longer than it makes sense. It is not repeated: it may be a secret, and is long.
fn short(field: &str, text: &str, most: usize) -> Result<(), String> {
    match text.len() {
        bytes if bytes > most => Err(format!("{field}: {bytes} bytes are too many; at most {most}")),
        _ => Ok(()),
    }
}

/// Both: short, and one line.
fn line(field: &str, text: &str, most: usize) -> Result<(), String> {
    short(field, text, most)?;
    plain(field, text)
}

/// A text that is shown in one line: of a message, a table or a header. What acts instead of being seen could make it look like other lines.
///
/// # Errors
/// What it has that is not seen, and what to write.
pub fn plain(field: &str, text: &str) -> Result<(), String> {
    match text.chars().find(|letter| terminal::is_harmful(*letter)) {
        Some(letter) => Err(format!(
            "{field} contains {letter:?}; write it in one line, without line breaks, tabs and control characters"
        )),
        None => Ok(()),
    }
}

fn one_check(
    document: &Document,
    index: &Index,
    check: &Check,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    name(&check.name)?;
    for (field, text, most) in [
        ("id", check.id.as_str(), NAME_MAX),
        ("target", &check.target, URL_MAX),
        ("body_match", &check.body_match, MATCH_MAX),
        ("tls_server_name", &check.tls_server_name, HOST_MAX),
        ("dns_record", &check.dns_record, NAME_MAX),
        ("dns_resolver", &check.dns_resolver, NAME_MAX),
        ("dns_expect", &check.dns_expect, MATCH_MAX),
        ("group", check.group.as_deref().unwrap_or_default(), NAME_MAX),
    ] {
        line(field, text, most)?;
    }
    if check.interval < INTERVAL_MIN {
        return Err(format!(
            "interval {} is too short; at least {INTERVAL_MIN}",
            check.interval
        ));
    }
    if check.timeout.is_zero() {
        return Err("timeout 0s leaves no time for a probe".to_owned());
    }
    if check.timeout > check.interval {
        warnings.push(format!(
            "check {}: timeout {} is longer than interval {}; slow probes will be skipped",
            check.name, check.timeout, check.interval
        ));
    }
    if check.expect_status != 0 && !(100..600).contains(&check.expect_status) {
        return Err(format!("expect_status {} is no HTTP status", check.expect_status));
    }
    if let Some(percent) = check.icmp_max_loss.filter(|percent| *percent > 100) {
        return Err(format!("icmp_max_loss {percent} is more than 100 percent"));
    }
    if check.icmp_count > 20 {
        return Err(format!("icmp_count {} is too much; at most 20", check.icmp_count));
    }
    let records = ["", "a", "aaaa", "cname", "mx", "txt", "ns"];
    if !records.contains(&check.dns_record.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "dns_record \"{}\" is not known; possible are a, aaaa, cname, mx, txt and ns",
            brief(&check.dns_record)
        ));
    }
    if !check.dns_resolver.is_empty() {
        one_resolver(&check.dns_resolver).map_err(|text| format!("dns_resolver: {text}"))?;
    }
    for resolver in &check.resolvers {
        one_resolver(resolver).map_err(|text| format!("resolvers: {text}"))?;
    }
    let voters = document.peers.len() as u32;
    if voters > 0 && check.min_reports > voters {
        return Err(format!(
            "min_reports {} can never be reached with {voters} nodes",
            check.min_reports
        ));
    }
    foreign_fields(check)?;
    crate::target::probe_of(check, document)?;
    cycle(document, index, check)
}

/// Fields of another type are refused: they would be without effect, and whoever wrote them expects one.
fn foreign_fields(check: &Check) -> Result<(), String> {
    use CheckKind::{Dns, Http, Icmp, Tls};
    for (field, is_set, kind) in [
        ("expect_status", check.expect_status != 0, Http),
        ("body_match", !check.body_match.is_empty(), Http),
        ("tls_warn_days", check.tls_warn_days != 0, Tls),
        ("tls_server_name", !check.tls_server_name.is_empty(), Tls),
        ("tls_verify", check.tls_verify, Tls),
        ("dns_record", !check.dns_record.is_empty(), Dns),
        ("dns_resolver", !check.dns_resolver.is_empty(), Dns),
        ("dns_expect", !check.dns_expect.is_empty(), Dns),
        ("icmp_count", check.icmp_count != 0, Icmp),
        ("icmp_max_loss", check.icmp_max_loss.is_some(), Icmp),
    ] {
        if is_set && check.kind != kind {
            return Err(format!(
                "{field} belongs to checks of type {}, not {}",
                kind.name(),
                check.kind.name()
            ));
        }
    }
    Ok(())
}

fn cycle(document: &Document, index: &Index, check: &Check) -> Result<(), String> {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![check]);
    while let Some(next) = waiting.pop() {
        for text in &next.depends_on {
            if check.is_called(text) {
                return Err("depends_on leads back to the check itself".to_owned());
            }
            if let Some(parent) = index
                .check(text)
                .and_then(|position| document.checks.get(position))
                && seen.insert(&parent.name)
            {
                waiting.push(parent);
            }
        }
    }
    Ok(())
}

fn one_alert(alert: &Alert) -> Result<(), String> {
    name(&alert.name)?;
    for (field, text, most) in [
        ("id", alert.id.as_str(), NAME_MAX),
        ("smtp_host", &alert.smtp_host, HOST_MAX),
        ("smtp_user", &alert.smtp_user, MAIL_MAX),
        ("smtp_from", &alert.smtp_from, MAIL_MAX),
        ("smtp_password_file", &alert.smtp_password_file, URL_MAX),
        ("discord_webhook", alert.discord_webhook.reveal(), URL_MAX),
        ("webhook_url", alert.webhook_url.reveal(), URL_MAX),
        ("slack_webhook", alert.slack_webhook.reveal(), URL_MAX),
        ("pagerduty_url", &alert.pagerduty_url, URL_MAX),
        (
            "pagerduty_routing_key",
            alert.pagerduty_routing_key.reveal(),
            SECRET_MAX,
        ),
        ("ntfy_url", alert.ntfy_url.reveal(), URL_MAX),
        ("ntfy_token", alert.ntfy_token.reveal(), SECRET_MAX),
        ("alertmanager_url", &alert.alertmanager_url, URL_MAX),
    ] {
        line(field, text, most)?;
    }
    for (field, text, most) in [
        ("smtp_password", alert.smtp_password.reveal(), SECRET_MAX),
        ("webhook_secret", alert.webhook_secret.reveal(), SECRET_MAX),
        ("subject_template", &alert.subject_template, SUBJECT_MAX),
        ("body_template", &alert.body_template, BODY_MAX),
    ] {
        short(field, text, most)?;
    }
    for to in &alert.smtp_to {
        line("smtp_to", to, MAIL_MAX)?;
    }
    crate::channel::channel(alert)?;
    crate::message::check_templates(alert)
}

fn one_window(window: &Window) -> Result<(), String> {
    name(&window.name)?;
    line("id", &window.id, NAME_MAX)?;
    line("group", window.group.as_deref().unwrap_or_default(), NAME_MAX)?;
    let moment = |field: &str, text: &str| {
        text.parse::<jiff::Timestamp>().map_err(|_| {
            format!(
                "{field} \"{}\" is no time; write 2026-05-15T14:01:00Z",
                brief(text)
            )
        })
    };
    let (start, end) = (moment("start", &window.start)?, moment("end", &window.end)?);
    if start >= end {
        return Err(format!("it ends ({end}) before it starts ({start})"));
    }
    Ok(())
}

fn name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > NAME_MAX {
        return Err(format!("a name has 1 to {NAME_MAX} bytes"));
    }
    if text.trim() != text {
        return Err("a name cannot begin or end with a blank".to_owned());
    }
    // Lists of names are separated by commas.
    let forbidden = |letter: &char| terminal::is_harmful(*letter) || *letter == ',';
    match text.chars().find(forbidden) {
        Some(letter) => Err(format!("a name cannot contain {letter:?}")),
        None => Ok(()),
    }
}

/// `host:port`.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str) -> Result<(), String> {
    let parts = text.rsplit_once(':');
    let fits = parts.is_some_and(|(host, port)| {
        let v6 = host.starts_with('[') && host.ends_with(']');
        let plain = !host.is_empty() && !host.contains(':');
        (v6 || plain)
            && !host.chars().any(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if fits {
        Ok(())
    } else {
        Err(format!(
            "\"{}\" is no address; write host:port, such as alpha.example.com:9901",
            brief(text)
        ))
    }
}

/// Where the other nodes reach one: `host:port` that means this one host to all of them.
///
/// # Errors
/// What is wrong with it.
pub fn advertise(text: &str) -> Result<(), String> {
    address(text)?;
    if let Some(letter) = text.chars().find(|letter| !letter.is_ascii_graphic()) {
        return Err(format!(
            "\"{}\" has the letter {letter:?}; write the name in ASCII, as DNS knows it, such as xn--bcher-kva.example:9901",
            brief(text)
        ));
    }
    if text.len() > ADVERTISE_MAX {
        return Err(format!(
            "{} bytes are too many; at most {ADVERTISE_MAX}",
            text.len()
        ));
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let number = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_nobody = match number.map(|number| number.to_canonical()) {
        Ok(number) => {
            number.is_unspecified()
                || number.is_multicast()
                || matches!(number, IpAddr::V4(number) if number.is_broadcast())
        }
        // Programs read such words as numbers, each in its way; 0 is 0.0.0.0.
        Err(_) => host
            .chars()
            .all(|letter| letter.is_ascii_digit() || letter == '.'),
    };
    if is_nobody {
        return Err(format!(
            "nobody reaches a node at {text}; write the name or address that the other nodes use for this host, such as \
             alpha.example.com:9901"
        ));
    }
    Ok(())
}

/// `address` or `address:port` of a DNS server: a number, not a name, since a name would have to be looked up first.
fn one_resolver(text: &str) -> Result<(), String> {
    let fits = text.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok();
    if fits {
        Ok(())
    } else {
        Err(format!(
            "\"{}\" is no address of a DNS server; write 1.1.1.1 or 1.1.1.1:53",
            brief(text)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::changes_between;
    use super::*;

    const FILE: &str = "version: 1
peers: []
checks:
  - id: c
    name: NAME
    type: http
    target: http://h/TARGET
    body_match: BODY
    group: GROUP
  - id: d
    name: d
    type: dns
    target: h
    dns_expect: EXPECT
  - id: t
    name: t
    type: tls
    target: h
    tls_server_name: SERVER
alerts:
  - id: a
    name: ALERT
    type: smtp
    smtp_host: HOST
    smtp_from: from@h
    smtp_user: USER
    smtp_password: p
    smtp_to: [to@h, \"TO@h\"]
    subject_template: SUBJECT
    body_template: TEXT
  - id: w
    name: w
    type: webhook
    webhook_url: http://h/HOOK
maintenance:
  - id: m
    name: WINDOW
    group: ROOM
    start: 2026-05-15T14:00:00Z
    end: 2026-05-15T15:00:00Z
pending_enrollments:
  - id: e
    name: INVITED
    secret_hash: x
    expires_at: 2026-05-15T15:00:00Z
";

    /// Reads it with a text of this kind in place of a word.
    fn told(word: &str, text: &str) -> Result<Vec<String>, String> {
        let quoted = |line: &str| match line.split_once(": ") {
            // In quotes a text of YAML may have every character.
            Some((_, value)) if value.starts_with('[') => line.replace(word, text),
            Some((key, value)) if value.contains(word) => {
                format!("{key}: \"{}\"", value.replace(word, text))
            }
            _ => line.to_owned(),
        };
        let lines: Vec<String> = FILE.lines().map(quoted).collect();
        let document = super::super::parse(&(lines.join("\n") + "\n")).expect("it can always be read");
        review(&document).map_err(|objection| objection.to_string())
    }

    #[test]
    fn texts_that_reach_messages_are_one_line_each() {
        for (word, field) in [
            ("NAME", "a name"),
            ("TARGET", "check NAME: target"),
            ("BODY", "check NAME: body_match"),
            ("GROUP", "check NAME: group"),
            ("EXPECT", "check d: dns_expect"),
            ("SERVER", "check t: tls_server_name"),
            ("ALERT", "a name"),
            ("HOST", "alert ALERT: smtp_host"),
            ("USER", "alert ALERT: smtp_user"),
            ("TO", "alert ALERT: smtp_to"),
            ("HOOK", "alert w: webhook_url"),
            ("WINDOW", "a name"),
            ("ROOM", "maintenance WINDOW: group"),
            ("INVITED", "pending_enrollments: e: name"),
        ] {
            for (escape, shown) in [
                ("x\\ny", "'\\n'"),
                ("x\\ry", "'\\r'"),
                ("x\\ty", "'\\t'"),
                ("x\\ey", "'\\u{1b}'"),
                ("x\\u2028y", "'\\u{2028}'"),
                ("x\\u202Ey", "'\\u{202e}'"),
            ] {
                let told = told(word, escape).unwrap_err();
                assert!(
                    told.contains(field) && told.contains(shown),
                    "{word} {escape}: {told}"
                );
                assert!(!told.contains(terminal::is_harmful), "{told:?}");
            }
        }
        // Messages have bodies of several lines.
        assert_eq!(told("TEXT", "one\\ntwo\\tthree"), Ok(Vec::new()));
        assert_eq!(told("SUBJECT", "one\\n"), Ok(Vec::new()));
    }

    #[test]
    fn what_was_accepted_before_stays_until_it_is_touched() {
        let text = FILE
            .replace("h/TARGET", "\"h/x\\ny\"")
            .replace("target: http://\"h", "target: \"http://h");
        let document = super::super::parse(&text).unwrap();
        let touching = |id: &str| {
            let check = document.check(id).unwrap().clone();
            let entry = super::super::Entry::Check(Box::new(check));
            review_changes(&document, &[Change::edit(entry.clone(), entry)])
        };
        assert!(document.checks[0].target.contains('\n'));
        assert_eq!(touching("d"), Ok(Vec::new()));
        assert!(
            touching("c")
                .unwrap_err()
                .to_string()
                .contains("target contains '\\n'")
        );
    }

    #[test]
    fn texts_have_limits() {
        for (word, expected) in [
            (
                "TARGET",
                "check NAME: target: 2049 bytes are too many; at most 2048",
            ),
            (
                "BODY",
                "check NAME: body_match: 4097 bytes are too many; at most 4096",
            ),
            ("GROUP", "check NAME: group: 129 bytes are too many; at most 128"),
            (
                "EXPECT",
                "check d: dns_expect: 4097 bytes are too many; at most 4096",
            ),
            (
                "SERVER",
                "check t: tls_server_name: 256 bytes are too many; at most 255",
            ),
            (
                "HOST",
                "alert ALERT: smtp_host: 256 bytes are too many; at most 255",
            ),
            (
                "USER",
                "alert ALERT: smtp_user: 321 bytes are too many; at most 320",
            ),
            (
                "SUBJECT",
                "alert ALERT: subject_template: 1025 bytes are too many; at most 1024",
            ),
            (
                "TEXT",
                "alert ALERT: body_template: 16385 bytes are too many; at most 16384",
            ),
            (
                "HOOK",
                "alert w: webhook_url: 2049 bytes are too many; at most 2048",
            ),
            (
                "ROOM",
                "maintenance WINDOW: group: 129 bytes are too many; at most 128",
            ),
            (
                "INVITED",
                "pending_enrollments: e: name: 129 bytes are too many; at most 128",
            ),
        ] {
            let around = match word {
                "TARGET" | "HOOK" => "http://h/".len(),
                _ => 0,
            };
            let most: usize = expected.rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(
                told(word, &"y".repeat(most + 1 - around)),
                Err(expected.to_owned())
            );
            if let Err(other) = told(word, &"y".repeat(most - around)) {
                assert!(!other.contains("too many"), "{word}: {other}");
            }
        }
        let mut document = super::super::parse(FILE).unwrap();
        let secrets = |alert: &mut Alert| {
            let long = crate::secret::Secret::new("geheim".repeat(200));
            alert.smtp_password = long.clone();
            alert.webhook_secret = long;
        };
        document.alerts.iter_mut().for_each(secrets);
        let told = review(&document).unwrap_err().to_string();
        assert!(told.contains(": 1200 bytes are too many; at most 1024") && !told.contains("geheim"));
    }

    #[test]
    fn long_inputs_are_not_repeated_whole() {
        for word in ["NAME", "EXPECT", "SERVER", "ALERT", "WINDOW", "HOST"] {
            let told = told(word, &"q w".repeat(30_000));
            let told = told.err().unwrap_or_default();
            assert!(told.len() < 400, "{word}: {told}");
        }
        let long = "a b".repeat(30_000);
        for told in [advertise(&long), address(&long), one_resolver(&long)] {
            let told = told.unwrap_err();
            assert!(told.len() < 400 && told.contains("…\""), "{told}");
        }
    }

    #[test]
    fn too_many_are_refused_but_may_become_fewer() {
        let window = |number: usize| Window {
            id: format!("w{number}"),
            name: format!("work {number}"),
            checks: Vec::new(),
            group: None,
            start: "2026-05-15T14:00:00Z".to_owned(),
            end: "2026-05-15T15:00:00Z".to_owned(),
            pause: false,
        };
        let with = |count: usize| Document {
            maintenance: (0..count).map(window).collect(),
            ..Document::default()
        };
        let between = |before: usize, after: usize| {
            let (before, after) = (with(before), with(after));
            review_changes(&after, &changes_between(&before, &after)).map_err(|told| told.to_string())
        };
        let told = "maintenance: 1001 are too many; at most 1000 are possible";
        assert_eq!(review(&with(1001)).unwrap_err().to_string(), told);
        assert_eq!(between(1000, 1001), Err(told.to_owned()));
        assert_eq!(between(999, 1000), Ok(Vec::new()));
        assert_eq!(between(1003, 1002), Ok(Vec::new()));
    }
}
