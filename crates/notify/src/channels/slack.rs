//! Slack: an incoming webhook, with blocks for those who read in Slack and a text for lists of notifications.
//!
//! Everything that comes from the message is escaped, so a quoted server cannot mention anybody. A body of the user's own is
//! Slack's own markup and sent as it is.

use serde::Serialize;

use crate::channel::Slack;
use crate::failure::Failure;
use crate::http::Outgoing;
use crate::message::Message;
use crate::text;

/// Slack refuses longer texts in a section.
const SECTION_MAX: usize = 3000;

/// Slack advises against longer texts of a message, and cuts them at ten times that.
const TEXT_MAX: usize = 4000;

const FENCE: &str = "```";

#[derive(Serialize)]
struct Body {
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<Block>,
    unfurl_links: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block {
    Section { text: Text },
    Context { elements: [Text; 1] },
}

#[derive(Serialize)]
struct Text {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
}

pub(crate) fn request(settings: &Slack, message: &Message) -> Result<Outgoing, Failure> {
    Outgoing::json(settings.webhook.expose(), &body(message))
}

fn body(message: &Message) -> Body {
    if message.own_body {
        let marks = text::marks_missing_in(&message.body, message);
        return Body {
            text: text::cut(&message.body, TEXT_MAX - marks.len(), text::chars) + &marks,
            blocks: vec![],
            unfurl_links: false,
        };
    }
    let subject = escape(&text::subject_with_repeat(message));
    let mut blocks = vec![Block::Section {
        text: markdown(format!("*{subject}*")),
    }];
    let block = message.body.trim_end().replace(FENCE, "`\u{200b}`\u{200b}`");
    if !block.is_empty() {
        let room = SECTION_MAX - 2 * FENCE.len();
        let block = escape(&text::cut(&block, room, escaped_width));
        blocks.push(Block::Section {
            text: markdown(format!("{FENCE}{block}{FENCE}")),
        });
    }
    blocks.push(Block::Context {
        elements: [markdown(footer(message))],
    });
    Body {
        text: subject,
        blocks,
        unfurl_links: false,
    }
}

/// Who says so, since when, and where to read on.
fn footer(message: &Message) -> String {
    let mut parts = vec![
        escape(&text::one_line(&message.source)),
        text::time(message.when_unix_ms),
    ];
    let mut length: usize = parts.iter().map(String::len).sum();
    for link in &message.links {
        // A bar or a bracket would end the address inside the link's own marks.
        let url = escape(&text::one_line(&link.url)).replace('|', "%7C");
        let part = format!(
            "<{url}|{}>",
            escape(&text::one_line(&link.title)).replace('|', "/")
        );
        length += part.len();
        // Cutting a link would break it: those that do not fit are left out.
        if length < SECTION_MAX - 100 {
            parts.push(part);
        }
    }
    parts.join(" · ")
}

fn markdown(text: String) -> Text {
    Text { kind: "mrkdwn", text }
}

/// The three characters with a meaning in Slack's markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn escaped_width(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use service::settings::Secret;

    use super::*;
    use crate::message::example;

    fn sent(message: &Message) -> String {
        let settings = Slack {
            webhook: Secret::new("https://hooks.slack.com/services/T/B/x"),
        };
        String::from_utf8(request(&settings, message).unwrap().body).unwrap()
    }

    #[test]
    fn the_message_has_text_and_blocks() {
        let mut message = example();
        message.body = "a <!channel> & b".into();
        assert_eq!(
            sent(&message),
            concat!(
                r#"{"text":"[quptime] DOWN: homepage","blocks":["#,
                r#"{"type":"section","text":{"type":"mrkdwn","text":"*[quptime] DOWN: homepage*"}},"#,
                r#"{"type":"section","text":{"type":"mrkdwn","text":"```a &lt;!channel&gt; &amp; b```"}},"#,
                r#"{"type":"context","elements":[{"type":"mrkdwn","text":"quptime · 2026-05-12T15:01:32Z · <https://wiki.example.com/homepage|Runbook>"}]}"#,
                r#"],"unfurl_links":false}"#
            )
        );
    }

    #[test]
    fn own_text_is_sent_as_it_is_but_marked() {
        let mut message = example();
        message.own_body = true;
        message.repeat = true;
        message.body = "<!here> *down*".into();
        assert_eq!(
            sent(&message),
            r#"{"text":"<!here> *down*\n(may be a repeat)","unfurl_links":false}"#
        );
    }

    #[test]
    fn a_long_body_fits_its_section() {
        let mut message = example();
        message.body = "<&>".repeat(5000);
        let Block::Section { text } = &body(&message).blocks[1] else {
            panic!("a section")
        };
        assert!(text.text.chars().count() <= SECTION_MAX);
        assert!(text.text.ends_with("… (cut)```"), "{}", text.text);
    }
}
