//! Alertmanager: its API v2, as Prometheus uses it.
//!
//! Alertmanager knows an alert by its labels alone. So only what stays the same through an incident becomes a label; texts,
//! details and ids become annotations. An alert ends when it is sent with an end, or by itself when it is not sent again for
//! long enough.

use serde::Serialize;

use crate::channel::Alertmanager;
use crate::failure::Failure;
use crate::http::Outgoing;
use crate::message::{Link, Message, Pairs};
use crate::text;

const PATH: &str = "/api/v2/alerts";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    labels: Pairs,
    annotations: Pairs,
    starts_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<&'a str>,
}

pub(crate) fn request(
    settings: &Alertmanager,
    message: &Message,
    now_unix_ms: u64,
) -> Result<Outgoing, Failure> {
    let mut outgoing = Outgoing::json(settings.url.expose(), &[alert(settings, message, now_unix_ms)])?;
    let path = outgoing.url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(PATH) {
        outgoing.url.set_path(&format!("{path}{PATH}"));
    }
    Ok(outgoing)
}

fn alert<'a>(settings: &Alertmanager, message: &'a Message, now_unix_ms: u64) -> Alert<'a> {
    let ends = if message.open {
        settings.hold.map(|hold| now_unix_ms.saturating_add(hold.0))
    } else {
        Some(message.when_unix_ms)
    };
    // An end before the beginning is refused.
    let starts = message
        .since_unix_ms
        .unwrap_or(message.when_unix_ms)
        .min(ends.unwrap_or(u64::MAX));
    Alert {
        labels: labels(message),
        annotations: annotations(message),
        starts_at: text::time(starts),
        ends_at: ends.map(text::time),
        generator_url: message
            .links
            .iter()
            .find(|link| !is_runbook(link))
            .map(|link| link.url.as_str()),
    }
}

fn labels(message: &Message) -> Pairs {
    let mut labels = Pairs::new();
    labels.set("alertname", message.source.clone());
    labels.set("source", message.source.clone());
    for (name, value) in message.labels.iter().filter(|(_, value)| !value.is_empty()) {
        labels.set(label_name(name), value);
    }
    if message.test {
        labels.set("test", "true");
    }
    labels
}

fn annotations(message: &Message) -> Pairs {
    let mut annotations = Pairs::new();
    annotations.set("summary", text::subject(message));
    annotations.set(
        "description",
        text::cut(&message.body, text::BODY_MAX, text::bytes),
    );
    for link in &message.links {
        let name = format!("{}_url", label_name(&link.title.to_lowercase()));
        annotations.set(name, link.url.clone());
    }
    for (name, value) in message.details.iter() {
        let name = label_name(name);
        if annotations.get(&name).is_none() {
            annotations.set(name, value);
        }
    }
    annotations.set("severity", message.severity.name());
    annotations.set("incident", message.dedup_key.clone());
    annotations.set("delivery", message.delivery_id.clone());
    annotations
}

fn is_runbook(link: &Link) -> bool {
    link.title.eq_ignore_ascii_case("runbook")
}

/// A name as Prometheus allows it: letters, digits and underscores, no digit in front.
fn label_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(allowed).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        return format!("_{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use service::settings::{Millis, Secret};

    use super::*;
    use crate::message::{Verb, example};

    fn settings(url: &str, hold: Option<Millis>) -> Alertmanager {
        Alertmanager {
            url: Secret::new(url),
            hold,
        }
    }

    #[test]
    fn an_open_incident_fires() {
        let mut message = example();
        message.labels.set("2nd-team", "ops");
        message.links.push(Link {
            title: "Status page".into(),
            url: "https://status.example.com".into(),
        });
        let settings = settings("http://am:9093/", Some(Millis::seconds(300)));
        let outgoing = request(&settings, &message, message.when_unix_ms + 1_000).unwrap();
        assert_eq!(outgoing.url.as_str(), "http://am:9093/api/v2/alerts");
        assert_eq!(
            String::from_utf8(outgoing.body).unwrap(),
            concat!(
                r#"[{"labels":{"alertname":"quptime","source":"quptime","check":"homepage","type":"http","#,
                r#""_2nd_team":"ops"},"annotations":{"summary":"[quptime] DOWN: homepage","#,
                r#""description":"target: https://example.com\nstate: up -> down","#,
                r#""runbook_url":"https://wiki.example.com/homepage","status_page_url":"https://status.example.com","#,
                r#""reports":"1/3","detail":"connect: timed out","severity":"critical","#,
                r#""incident":"cluster-1/incident-9","delivery":"c1/7/oncall"},"#,
                r#""startsAt":"2026-05-12T15:01:32Z","endsAt":"2026-05-12T15:06:33Z","#,
                r#""generatorURL":"https://status.example.com"}]"#
            )
        );
    }

    #[test]
    fn a_closed_incident_ends_with_the_same_labels() {
        let settings = settings("http://am/prefix", None);
        let open = example();
        let mut closed = example();
        closed.verb = Verb::Recovered;
        closed.open = false;
        closed.since_unix_ms = Some(open.when_unix_ms);
        closed.when_unix_ms += 60_000;
        let fired = alert(&settings, &open, 0);
        let resolved = alert(&settings, &closed, 0);
        assert_eq!(fired.labels, resolved.labels);
        assert_eq!(fired.ends_at, None);
        assert_eq!(resolved.starts_at, fired.starts_at);
        assert_eq!(resolved.ends_at.as_deref(), Some("2026-05-12T15:02:32Z"));
        let outgoing = request(&settings, &closed, 0).unwrap();
        assert_eq!(outgoing.url.as_str(), "http://am/prefix/api/v2/alerts");
    }
}
