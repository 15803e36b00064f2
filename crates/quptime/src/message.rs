//! The text of a message: what templates see, the default texts, and what becomes of an error in a template.

use jiff::Timestamp;
use template::{Limits, Template, Value};

use crate::document::{Alert, Check, CheckKind};
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::command::Snapshot;
use crate::machine::state::{Status, Verb};

/// Everything a message is made of.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The check.
    pub check: &'a Check,
    /// What it says.
    pub verb: Verb,
    /// State before.
    pub from: Status,
    /// State after.
    pub to: Status,
    /// What was seen.
    pub snapshot: &'a Snapshot,
    /// The node that sends.
    pub node: NodeId,
    /// When it happened.
    pub at: Millis,
    /// When the state before had begun; 0 if there was none.
    pub since: Millis,
    /// The outage.
    pub incident: Option<&'a str>,
    /// Identity of the delivery.
    pub delivery: &'a str,
    /// Whether somebody tries it out.
    pub test: bool,
    /// Whether it may have been sent before.
    pub repeat: bool,
}

/// A rendered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// One line.
    pub subject: String,
    /// The rest.
    pub body: String,
    /// Whether the body comes from a template of the operator.
    pub own_body: bool,
    /// What was wrong with templates, for the log.
    pub errors: Vec<String>,
}

/// Checks templates before they are saved: whether they can be read, and whether what they name is there.
///
/// # Errors
/// The first mistake with its place.
pub fn check_templates(alert: &Alert) -> Result<(), String> {
    let check = Check::new("example", CheckKind::Http, "https://example.com");
    let node = NodeId::draw();
    let snapshot = Snapshot {
        reports: 3,
        ok: 1,
        detail: "connect: connection refused".to_owned(),
        bad_nodes: vec![node, NodeId::draw()],
    };
    let example = Event {
        check: &check,
        verb: Verb::Down,
        from: Status::Up,
        to: Status::Down,
        snapshot: &snapshot,
        node,
        at: 1_778_853_600_000,
        since: 1_778_850_000_000,
        incident: Some("0123456789abcdef"),
        delivery: "example/1/example",
        test: true,
        repeat: false,
    };
    let rendered = render(alert, &example);
    if let Some(error) = rendered.errors.into_iter().next() {
        return Err(error);
    }
    // What printf puts where a format does not fit its values, as Go does; a template may have the same letters as text.
    for (field, source, text) in [
        ("subject_template", &alert.subject_template, &rendered.subject),
        ("body_template", &alert.body_template, &rendered.body),
    ] {
        if !source.is_empty() && text.matches(MISFIT).count() > source.matches(MISFIT).count() {
            return Err(format!(
                "{field}: a format of printf does not fit its values, or its width is more than a million; the message would say {MISFIT}..."
            ));
        }
    }
    Ok(())
}

/// How it begins what printf prints of a value that does not fit.
const MISFIT: &str = "%!";

/// Renders the message for an alert. An error in a template never keeps a message back: that part gets its default text.
pub fn render(alert: &Alert, event: &Event<'_>) -> Text {
    let mut errors = Vec::new();
    let mut part = |name: &str, source: &str| {
        if source.is_empty() {
            return None;
        }
        let rendered = Template::parse(name, source)
            .map_err(|error| error.to_string())
            .and_then(|template| {
                template
                    .render(&data(event), &Limits::default())
                    .map_err(|error| error.to_string())
            });
        rendered.map_err(|error| errors.push(error)).ok()
    };
    let subject = part("subject_template", &alert.subject_template);
    let body = part("body_template", &alert.body_template);
    let own_body = body.is_some();
    let subject = subject.unwrap_or_else(|| default_subject(event));
    Text {
        subject: terminal::harmless(subject.lines().next().unwrap_or_default()).into_owned(),
        body: body.unwrap_or_else(|| default_body(event)),
        own_body,
        errors,
    }
}

/// A value for templates, in one line: what was accepted by an older program may hold line breaks, which would look like lines of ours.
fn text(value: impl AsRef<str>) -> Value {
    Value::Str(terminal::harmless(value.as_ref()).into_owned().into())
}

/// The target as anybody may see it.
pub fn target(check: &Check) -> String {
    terminal::harmless(&probe::masked(&check.target)).into_owned()
}

fn time(at: Millis) -> String {
    let stamp = Timestamp::from_millisecond(at as i64).unwrap_or(Timestamp::UNIX_EPOCH);
    stamp.round(jiff::Unit::Second).unwrap_or(stamp).to_string()
}

fn lasted(event: &Event<'_>) -> String {
    if event.since == 0 || event.at < event.since {
        return String::new();
    }
    let seconds = (event.at - event.since) / 1000;
    crate::duration::Span::from_secs(seconds).to_string()
}

/// What templates see; the names are those of the reference.
fn data(event: &Event<'_>) -> Value {
    let check = event.check;
    let fields = [
        ("ID", text(&check.id)),
        ("Name", text(&check.name)),
        ("Type", text(check.kind.name())),
        ("Target", text(target(check))),
        ("ExpectStatus", Value::Int(i64::from(check.expect_status))),
        ("BodyMatch", text(&check.body_match)),
        ("TLSServerName", text(&check.tls_server_name)),
        ("TLSWarnDays", Value::Int(i64::from(check.tls_warn_days))),
        ("DNSRecord", text(&check.dns_record)),
        ("DNSResolver", text(&check.dns_resolver)),
        ("DNSExpect", text(&check.dns_expect)),
    ];
    let snapshot = [
        ("Reports", Value::Int(i64::from(event.snapshot.reports))),
        ("OKCount", Value::Int(i64::from(event.snapshot.ok))),
        (
            "NotOK",
            Value::Int(i64::from(
                event.snapshot.reports.saturating_sub(event.snapshot.ok),
            )),
        ),
        ("Detail", text(&event.snapshot.detail)),
    ];
    let nodes = event.snapshot.bad_nodes.iter().map(|node| text(node.to_string()));
    Value::record(
        "alerts.TemplateContext",
        [
            ("Check", Value::record("config.Check", fields)),
            ("From", text(event.from.name())),
            ("To", text(event.to.name())),
            ("Verb", text(event.verb.name())),
            ("VerbLower", text(event.verb.name().to_lowercase())),
            ("Snapshot", Value::record("checks.Snapshot", snapshot)),
            ("NodeID", text(event.node.to_string())),
            ("When", text(time(event.at))),
            ("IncidentID", text(event.incident.unwrap_or_default())),
            ("DeliveryID", text(event.delivery)),
            ("Duration", text(lasted(event))),
            (
                "Since",
                text(if event.since == 0 {
                    String::new()
                } else {
                    time(event.since)
                }),
            ),
            ("Nodes", Value::list(nodes)),
            ("Test", Value::Bool(event.test)),
            ("Repeat", Value::Bool(event.repeat)),
        ],
    )
}

/// All that templates may name.
#[cfg(test)]
pub(crate) fn fields() -> std::collections::BTreeSet<String> {
    fn walk(value: &Value, path: &str, found: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Record(record) => {
                for (name, value) in record.fields() {
                    walk(value, &format!("{path}.{name}"), found);
                }
            }
            _ => {
                found.insert(path.to_owned());
            }
        }
    }
    let check = Check::new("example", CheckKind::Http, "https://example.com");
    let event = Event {
        check: &check,
        verb: Verb::Down,
        from: Status::Up,
        to: Status::Down,
        snapshot: &Snapshot::default(),
        node: NodeId::draw(),
        at: 0,
        since: 0,
        incident: None,
        delivery: "",
        test: true,
        repeat: false,
    };
    let mut found = std::collections::BTreeSet::new();
    walk(&data(&event), "", &mut found);
    found
}

/// How the state changes: `up -> down`. Of a check that nobody looks at any more it says so. What is told later than it happened, or again,
/// tells the state.
pub fn changed(event: &Event<'_>) -> String {
    if event.verb.closes_unseen() {
        let verb = event.verb.name().to_lowercase();
        return format!("{} when it was {verb}; nobody looks any more", event.from.name());
    }
    if is_told_late(event) {
        return format!("{}, held back until now", event.to.name());
    }
    if event.from == event.to {
        return event.to.name().to_owned();
    }
    format!("{} -> {}", event.from.name(), event.to.name())
}

/// Whether an outage that was held back is told: it began when the state did, not now.
pub fn is_told_late(event: &Event<'_>) -> bool {
    event.verb == Verb::Down && event.from == event.to
}

/// How many nodes found it down; nothing if nobody looked.
pub fn reports(event: &Event<'_>) -> Option<String> {
    let bad = event.snapshot.reports.saturating_sub(event.snapshot.ok);
    let text = || format!("{bad} of {} nodes found it down", event.snapshot.reports);
    (!event.verb.closes_unseen()).then(text)
}

fn default_subject(event: &Event<'_>) -> String {
    let test = if event.test { " (test)" } else { "" };
    let name = terminal::harmless(&event.check.name);
    format!("[quptime] {}: {name}{test}", event.verb.name())
}

fn default_body(event: &Event<'_>) -> String {
    use std::fmt::Write as _;
    let check = event.check;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a text does not fail.
            let _ = writeln!(out, "{name:<9} {}", terminal::harmless(value));
        }
    };
    line("check", &format!("{} ({})", check.name, check.kind.name()));
    line("target", &target(check));
    match check.kind {
        CheckKind::Http => {
            if check.expect_status != 0 {
                line("expects", &format!("status {}", check.expect_status));
            }
            line("contains", &check.body_match);
        }
        CheckKind::Tls => {
            line("name", &check.tls_server_name);
            line("warns", &format!("{} days before the end", check.tls_warn_days));
        }
        CheckKind::Dns => {
            let record = if check.dns_record.is_empty() {
                "a"
            } else {
                &check.dns_record
            };
            line("record", record);
            line("resolver", &check.dns_resolver);
            line("expects", &check.dns_expect);
        }
        CheckKind::Tcp | CheckKind::Icmp => {}
    }
    line("state", &changed(event));
    let lasted = lasted(event);
    if !lasted.is_empty() {
        // Nobody shall take the time that it was up for that of the outage.
        line("lasted", &format!("{lasted} ({})", event.from.name()));
    }
    line("reports", &reports(event).unwrap_or_default());
    line("detail", &event.snapshot.detail);
    line("time", &time(event.at));
    line("master", &event.node.to_string());
    if event.test {
        line("note", "this is a test; nothing has happened");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::AlertKind;

    #[test]
    fn formats_that_do_not_fit_are_refused() {
        for (template, fits) in [
            ("{{ printf \"%0999999999d\" 1 }}", false),
            ("{{ printf \"%999999d\" 1 }}", false),
            ("{{ printf \"%d\" .Check.Name }}", false),
            ("{{ printf \"%5d\" .Snapshot.NotOK }}", true),
            ("so %!( it is", true),
        ] {
            let alert = Alert {
                body_template: template.to_owned(),
                ..Alert::new("a", AlertKind::Discord)
            };
            let told = check_templates(&alert);
            assert_eq!(told.is_ok(), fits, "{template}: {told:?}");
            assert!(told.err().is_none_or(|told| told.len() < 300));
        }
    }

    fn check() -> Check {
        Check {
            id: "c1".to_owned(),
            expect_status: 200,
            ..Check::new("homepage", CheckKind::Http, "https://example.com")
        }
    }

    fn event<'a>(check: &'a Check, snapshot: &'a Snapshot) -> Event<'a> {
        Event {
            check,
            verb: Verb::Down,
            from: Status::Up,
            to: Status::Down,
            snapshot,
            node: "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap(),
            at: 1_778_853_600_000,
            since: 1_778_850_000_000,
            incident: Some("i1"),
            delivery: "c1/1/a",
            test: false,
            repeat: false,
        }
    }

    #[test]
    fn defaults_show_what_matters() {
        let (check, snapshot) = (
            check(),
            Snapshot {
                reports: 3,
                ok: 1,
                detail: "status 503".to_owned(),
                bad_nodes: Vec::new(),
            },
        );
        let text = render(&Alert::new("a", AlertKind::Discord), &event(&check, &snapshot));
        assert_eq!(text.subject, "[quptime] DOWN: homepage");
        assert_eq!(
            text.body,
            "check     homepage (http)\n\
             target    https://example.com\n\
             expects   status 200\n\
             state     up -> down\n\
             lasted    1h (up)\n\
             reports   2 of 3 nodes found it down\n\
             detail    status 503\n\
             time      2026-05-15T14:00:00Z\n\
             master    1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091\n"
        );
    }

    /// Older programs accepted such texts, and files hold them still.
    #[test]
    fn line_breaks_in_old_texts_forge_no_lines() {
        let forged = "x\r\nstate     all is well\u{2028}";
        let check = Check {
            target: format!("http://user:pass@h/{forged}"),
            body_match: forged.to_owned(),
            ..Check::new(forged, CheckKind::Http, "")
        };
        let snapshot = Snapshot {
            detail: forged.to_owned(),
            ..Snapshot::default()
        };
        let mut alert = Alert::new("a", AlertKind::Smtp);
        let told = render(&alert, &event(&check, &snapshot));
        let escaped = r"x\r\nstate     all is well\u{2028}";
        assert_eq!(told.subject, format!("[quptime] DOWN: {escaped}"));
        assert_eq!(told.body.matches("\nstate ").count(), 1, "{}", told.body);
        assert!(
            told.body
                .contains(&format!("target    http://user:***@h/{escaped}\n")),
            "{}",
            told.body
        );
        alert.subject_template = "{{ .Check.Name }}".to_owned();
        alert.body_template = "{{ .Check.Target }}\n{{ .Snapshot.Detail }}".to_owned();
        let told = render(&alert, &event(&check, &snapshot));
        assert_eq!(told.subject, escaped);
        assert_eq!(told.body, format!("http://user:***@h/{escaped}\n{escaped}"));
    }

    #[test]
    fn an_outage_that_was_held_back_says_so_and_for_how_long_it_lasts() {
        let (check, snapshot) = (check(), Snapshot::default());
        let late = Event {
            from: Status::Down,
            ..event(&check, &snapshot)
        };
        let alert = Alert::new("a", AlertKind::Discord);
        let text = render(&alert, &late).body;
        assert!(
            text.contains("\nstate     down, held back until now\nlasted    1h (down)\n"),
            "{text}"
        );
        let reminder = Event {
            verb: Verb::Reminder,
            ..late
        };
        let text = render(&alert, &reminder).body;
        assert!(text.contains("\nstate     down\nlasted    1h (down)\n"), "{text}");
    }

    #[test]
    fn templates_see_the_names_of_the_reference() {
        let (check, snapshot) = (
            check(),
            Snapshot {
                reports: 3,
                ok: 1,
                ..Snapshot::default()
            },
        );
        let mut alert = Alert::new("a", AlertKind::Smtp);
        alert.subject_template = "{{ .VerbLower }} {{ .Check.Name | printf \"%q\" }}\nmore".to_owned();
        alert.body_template =
            "{{ .Snapshot.NotOK }}/{{ .Snapshot.Reports }} {{ .When }} {{ .Duration }}".to_owned();
        let text = render(&alert, &event(&check, &snapshot));
        assert_eq!(text.subject, "down \"homepage\"");
        assert_eq!(text.body, "2/3 2026-05-15T14:00:00Z 1h");
        assert!(text.own_body && text.errors.is_empty());
    }

    #[test]
    fn a_check_that_is_gone_is_not_said_to_have_recovered() {
        let (check, snapshot) = (
            check(),
            Snapshot {
                detail: "removed by uid 0 on alpha:9901 (check remove)".to_owned(),
                ..Snapshot::default()
            },
        );
        let removed = Event {
            verb: Verb::Removed,
            from: Status::Down,
            to: Status::Unknown,
            ..event(&check, &snapshot)
        };
        let text = render(&Alert::new("a", AlertKind::Discord), &removed);
        assert_eq!(text.subject, "[quptime] REMOVED: homepage");
        assert_eq!(
            text.body,
            "check     homepage (http)\n\
             target    https://example.com\n\
             expects   status 200\n\
             state     down when it was removed; nobody looks any more\n\
             lasted    1h (down)\n\
             detail    removed by uid 0 on alpha:9901 (check remove)\n\
             time      2026-05-15T14:00:00Z\n\
             master    1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091\n"
        );
    }

    #[test]
    fn a_bad_template_keeps_nothing_back() {
        let (check, snapshot) = (check(), Snapshot::default());
        let mut alert = Alert::new("a", AlertKind::Smtp);
        alert.body_template = "{{ .Nothing }}".to_owned();
        let text = render(&alert, &event(&check, &snapshot));
        assert!(text.body.starts_with("check     homepage"));
        assert!(!text.own_body);
        assert_eq!(text.errors.len(), 1);
        alert.body_template = "{{ if }}".to_owned();
        assert!(check_templates(&alert).unwrap_err().contains("body_template"));
        // A template may rest on what every outage has.
        alert.body_template =
            "{{ index .Nodes 0 }} {{ slice .IncidentID 0 8 }} {{ slice .Since 0 10 }} {{ slice .Duration 0 1 }}".to_owned();
        assert_eq!(check_templates(&alert), Ok(()));
    }
}
