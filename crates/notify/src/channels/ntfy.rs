//! ntfy: publishing as JSON, which goes to the server itself and names the topic. Headers, the other way, cannot carry texts
//! outside ASCII without encoding.

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Serialize;

use crate::channel::Ntfy;
use crate::failure::Failure;
use crate::http::{self, Outgoing};
use crate::message::{Message, Severity, Verb};
use crate::text;

/// Bytes of a message: a server turns longer ones into attached files.
const MESSAGE_MAX: usize = 4096;

#[derive(Serialize)]
struct Body<'a> {
    topic: String,
    title: String,
    message: String,
    priority: u8,
    tags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    click: Option<&'a str>,
}

pub(crate) fn request(settings: &Ntfy, message: &Message) -> Result<Outgoing, Failure> {
    let (server, topic): (Url, String) = http::split_topic(settings.url.expose())
        .ok_or_else(|| Failure::permanent("the address names no topic"))?;
    let marks = if message.own_body {
        text::marks_missing_in(&message.body, message)
    } else {
        String::new()
    };
    let body = text::body_with_links(message);
    let body = Body {
        topic,
        title: text::subject_with_repeat(message),
        message: text::cut(body.trim_end(), MESSAGE_MAX - marks.len(), text::bytes) + &marks,
        priority: priority(settings, message),
        tags: tags(message),
        click: message.links.first().map(|link| link.url.as_str()),
    };
    let mut outgoing = Outgoing::json(server.as_str(), &body)?;
    if !settings.token.is_empty() {
        let value = HeaderValue::from_str(&format!("Bearer {}", settings.token.expose()))
            .map_err(|_| Failure::permanent("token cannot be sent as a header"))?;
        outgoing.headers.insert(AUTHORIZATION, value);
    }
    Ok(outgoing)
}

/// 5 breaks through "do not disturb", 4 rings, 3 is ordinary.
fn priority(settings: &Ntfy, message: &Message) -> u8 {
    if let Some(priority) = settings.priority.get(&message.verb) {
        return *priority;
    }
    match message.verb {
        Verb::Down | Verb::Firing if message.severity == Severity::Critical => 5,
        Verb::Down | Verb::Firing | Verb::Flapping | Verb::Reminder => 4,
        Verb::Recovered
        | Verb::Up
        | Verb::Stable
        | Verb::Notice
        | Verb::Resolved
        | Verb::Removed
        | Verb::Disabled => 3,
    }
}

/// Names of signs that are shown before the title.
fn tags(message: &Message) -> Vec<&'static str> {
    let sign = match message.verb {
        Verb::Stable if message.open => "rotating_light",
        Verb::Down | Verb::Firing => "rotating_light",
        Verb::Recovered | Verb::Up | Verb::Stable | Verb::Resolved => "white_check_mark",
        Verb::Flapping => "warning",
        Verb::Reminder => "bell",
        Verb::Notice | Verb::Removed | Verb::Disabled => "information_source",
    };
    let mut tags = vec![sign];
    if message.test {
        tags.push("test");
    }
    tags
}

#[cfg(test)]
mod tests {
    use service::settings::Secret;

    use super::*;
    use crate::message::example;

    fn settings() -> Ntfy {
        Ntfy {
            url: Secret::new("https://ntfy.sh/alerts"),
            token: Secret::new("tk_secret"),
            priority: [(Verb::Notice, 1)].into(),
        }
    }

    #[test]
    fn the_topic_moves_into_the_body() {
        let mut message = example();
        message.repeat = true;
        let outgoing = request(&settings(), &message).unwrap();
        assert_eq!(outgoing.url.as_str(), "https://ntfy.sh/");
        assert_eq!(outgoing.headers["authorization"], "Bearer tk_secret");
        assert_eq!(
            String::from_utf8(outgoing.body).unwrap(),
            concat!(
                r#"{"topic":"alerts","title":"[quptime] DOWN: homepage (may be a repeat)","#,
                r#""message":"target: https://example.com\nstate: up -> down\n\nRunbook: https://wiki.example.com/homepage","#,
                r#""priority":5,"tags":["rotating_light"],"click":"https://wiki.example.com/homepage"}"#
            )
        );
    }

    #[test]
    fn priority_follows_verb_and_severity_unless_set() {
        let with = |verb, severity| {
            let mut message = Message::new("q", verb, "s", "b");
            message.severity = severity;
            priority(&settings(), &message)
        };
        assert_eq!(with(Verb::Firing, Severity::Critical), 5);
        assert_eq!(with(Verb::Firing, Severity::Warning), 4);
        assert_eq!(with(Verb::Recovered, Severity::Info), 3);
        assert_eq!(with(Verb::Notice, Severity::Info), 1);
    }
}
