//! PagerDuty: Events API v2. An incident that is open triggers, one that is not resolves; the key of the incident keeps the
//! two together, and makes reminders and repeats updates of the same alert.

use serde::Serialize;

use crate::channel::PagerDuty;
use crate::failure::Failure;
use crate::http::Outgoing;
use crate::message::{Message, Pairs, Severity};
use crate::text;

/// Limits of the API for `summary` and `dedup_key`.
const SUMMARY_MAX: usize = 1024;
const DEDUP_KEY_MAX: usize = 255;

#[derive(Serialize)]
struct Event<'a> {
    routing_key: &'a str,
    #[serde(rename = "event_action")]
    action: &'static str,
    dedup_key: String,
    client: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link<'a>>,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Link<'a> {
    href: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    summary: String,
    source: &'a str,
    severity: Severity,
    timestamp: String,
    custom_details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    verb: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    labels: &'a Pairs,
    #[serde(rename = "details", skip_serializing_if = "Pairs::is_empty")]
    known: &'a Pairs,
    delivery_id: &'a str,
}

pub(crate) fn request(settings: &PagerDuty, message: &Message) -> Result<Outgoing, Failure> {
    let links = message.links.iter().map(|link| Link {
        href: &link.url,
        text: &link.title,
    });
    let event = Event {
        routing_key: settings.routing_key.expose(),
        action: if message.open { "trigger" } else { "resolve" },
        dedup_key: dedup_key(message),
        client: &message.source,
        links: links.collect(),
        payload: Payload {
            summary: text::cut(&text::subject(message), SUMMARY_MAX, text::chars),
            source: &message.source,
            // Nobody is to be woken by a test, as far as the service goes by severity.
            severity: if message.test {
                Severity::Info
            } else {
                message.severity
            },
            timestamp: text::time(message.when_unix_ms),
            custom_details: Details {
                verb: message.verb.name(),
                text: text::cut(&message.body, text::BODY_MAX, text::bytes),
                labels: &message.labels,
                known: &message.details,
                delivery_id: &message.delivery_id,
            },
        },
    };
    Outgoing::json(&settings.url, &event)
}

/// The key of the incident. Without one every event would open an incident of its own that nothing closes: the delivery's id
/// is the next best.
fn dedup_key(message: &Message) -> String {
    let key = if message.dedup_key.is_empty() {
        &message.delivery_id
    } else {
        &message.dedup_key
    };
    text::token(key, DEDUP_KEY_MAX, '%', |byte| {
        byte.is_ascii_graphic() && byte != b'%'
    })
}

#[cfg(test)]
mod tests {
    use service::settings::Secret;

    use super::*;
    use crate::message::{Verb, example};

    fn sent(message: &Message) -> String {
        let outgoing = request(&PagerDuty::new(Secret::new("key")), message).unwrap();
        assert_eq!(outgoing.url.as_str(), "https://events.pagerduty.com/v2/enqueue");
        String::from_utf8(outgoing.body).unwrap()
    }

    #[test]
    fn an_open_incident_triggers() {
        assert_eq!(
            sent(&example()),
            concat!(
                r#"{"routing_key":"key","event_action":"trigger","dedup_key":"cluster-1/incident-9","client":"quptime","#,
                r#""links":[{"href":"https://wiki.example.com/homepage","text":"Runbook"}],"#,
                r#""payload":{"summary":"[quptime] DOWN: homepage","source":"quptime","severity":"critical","#,
                r#""timestamp":"2026-05-12T15:01:32Z","custom_details":{"verb":"DOWN","#,
                r#""text":"target: https://example.com\nstate: up -> down","#,
                r#""labels":{"check":"homepage","type":"http"},"#,
                r#""details":{"reports":"1/3","detail":"connect: timed out"},"delivery_id":"c1/7/oncall"}}}"#
            )
        );
    }

    #[test]
    fn a_closed_incident_resolves_with_the_same_key() {
        let mut message = Message::new("slo", Verb::Resolved, "over", "");
        message.dedup_key = example().dedup_key;
        message.delivery_id = "x".into();
        assert_eq!(
            sent(&message),
            concat!(
                r#"{"routing_key":"key","event_action":"resolve","dedup_key":"cluster-1/incident-9","client":"slo","#,
                r#""payload":{"summary":"over","source":"slo","severity":"info","timestamp":"1970-01-01T00:00:00Z","#,
                r#""custom_details":{"verb":"RESOLVED","text":"","delivery_id":"x"}}}"#
            )
        );
    }

    #[test]
    fn a_test_is_marked_and_wakes_nobody() {
        let mut message = example();
        message.test = true;
        let sent = sent(&message);
        assert!(
            sent.contains(
                r#""summary":"[quptime] DOWN: homepage (test)","source":"quptime","severity":"info""#
            ),
            "{sent}"
        );
    }

    #[test]
    fn a_repeat_differs_in_nothing() {
        let mut message = example();
        let first = sent(&message);
        message.repeat = true;
        assert_eq!(sent(&message), first);
    }
}
