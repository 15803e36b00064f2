//! Discord: `Execute Webhook` with a text.
//!
//! Default text: the subject, and the body in a code block. A body of the user's own is sent as it is. No mention is ever
//! carried out, so that a text which quotes a server cannot wake everybody. `wait=true` makes Discord answer after it has
//! stored the message; without it an answer of success promises nothing.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channel::Discord;
use crate::failure::Failure;
use crate::http::Outgoing;
use crate::message::Message;
use crate::text;

/// Discord refuses longer texts. Its API counts code points, its clients have counted UTF-16 units; counted in the latter, a
/// text is short enough for both.
const CONTENT_MAX: usize = 2000;

const FENCE: &str = "```";

#[derive(Serialize)]
struct Body {
    content: String,
    allowed_mentions: Mentions,
}

#[derive(Serialize)]
struct Mentions {
    parse: [&'static str; 0],
}

/// What Discord says beside status 429.
#[derive(Deserialize)]
struct Limited {
    /// Seconds, with a fraction.
    retry_after: f64,
}

pub(crate) fn request(settings: &Discord, message: &Message) -> Result<Outgoing, Failure> {
    let body = Body {
        content: content(message),
        allowed_mentions: Mentions { parse: [] },
    };
    let mut outgoing = Outgoing::json(settings.webhook.expose(), &body)?;
    if !outgoing.url.query_pairs().any(|(name, _)| name == "wait") {
        outgoing.url.query_pairs_mut().append_pair("wait", "true");
    }
    outgoing.wait_in_body = wait_in_body;
    Ok(outgoing)
}

fn wait_in_body(answer: &[u8]) -> Option<Duration> {
    let limited: Limited = serde_json::from_slice(answer).ok()?;
    Duration::try_from_secs_f64(limited.retry_after).ok()
}

fn content(message: &Message) -> String {
    if message.own_body {
        let marks = text::marks_missing_in(&message.body, message);
        return text::cut(&message.body, CONTENT_MAX - marks.len(), text::utf16) + &marks;
    }
    let head = text::subject_with_repeat(message);
    let mut tail = String::new();
    for link in &message.links {
        // In angle brackets an address gets no preview.
        let _ = write!(
            tail,
            "\n{}: <{}>",
            text::one_line(&link.title),
            text::one_line(&link.url)
        );
    }
    let tail = text::cut(&tail, CONTENT_MAX / 4, text::utf16);
    // A fence inside the body would end the block; a zero-width space takes it apart.
    let body = message.body.trim_end().replace(FENCE, "`\u{200b}`\u{200b}`");
    if body.is_empty() {
        return head + &tail;
    }
    let around: usize = [head.as_str(), &tail, "\n", FENCE, "\n", "\n", FENCE]
        .iter()
        .flat_map(|part| part.chars())
        .map(text::utf16)
        .sum();
    let body = text::cut(&body, CONTENT_MAX.saturating_sub(around), text::utf16);
    format!("{head}\n{FENCE}\n{body}\n{FENCE}{tail}")
}

#[cfg(test)]
mod tests {
    use service::settings::Secret;

    use super::*;
    use crate::message::example;

    fn sent(message: &Message) -> (String, String) {
        let settings = Discord {
            webhook: Secret::new("https://discord.com/api/webhooks/1/key?thread_id=5"),
        };
        let outgoing = request(&settings, message).unwrap();
        (
            outgoing.url.to_string(),
            String::from_utf8(outgoing.body).unwrap(),
        )
    }

    #[test]
    fn default_text_is_subject_and_block() {
        let mut message = example();
        message.links.clear();
        let (url, body) = sent(&message);
        assert_eq!(
            url,
            "https://discord.com/api/webhooks/1/key?thread_id=5&wait=true"
        );
        assert_eq!(
            body,
            concat!(
                r#"{"content":"[quptime] DOWN: homepage\n```\ntarget: https://example.com\nstate: up -> down\n```","#,
                r#""allowed_mentions":{"parse":[]}}"#
            )
        );
        message.repeat = true;
        message.links = example().links;
        assert_eq!(
            content(&message),
            "[quptime] DOWN: homepage (may be a repeat)\n```\ntarget: https://example.com\nstate: up -> down\n```\n\
             Runbook: <https://wiki.example.com/homepage>"
        );
    }

    #[test]
    fn own_text_is_sent_as_it_is_but_marked() {
        let mut message = example();
        message.own_body = true;
        message.body = "**down** ```x```".into();
        assert_eq!(content(&message), "**down** ```x```");
        message.repeat = true;
        assert_eq!(content(&message), "**down** ```x```\n(may be a repeat)");
    }

    #[test]
    fn long_texts_fit_and_end_their_block() {
        let width = |text: &str| text.chars().map(char::len_utf16).sum::<usize>();
        let mut message = example();
        for body in ["x".repeat(5000), "😀".repeat(5000), "`".repeat(5000)] {
            message.body = body;
            for (own, repeat) in [(false, false), (false, true), (true, true)] {
                message.own_body = own;
                message.repeat = repeat;
                let content = content(&message);
                assert!(width(&content) <= 2000, "{}", width(&content));
                assert!(width(&content) >= 1900, "{}", width(&content));
                assert!(content.contains("… (cut)"));
                assert!(own || content.matches("```").count() == 2, "{content}");
                assert_eq!(content.contains("(may be a repeat)"), repeat);
            }
        }
    }

    #[test]
    fn the_time_to_wait_stands_in_the_answer() {
        assert_eq!(
            wait_in_body(br#"{"message":"You are being rate limited.","retry_after":0.5,"global":false}"#),
            Some(Duration::from_millis(500))
        );
        assert_eq!(wait_in_body(br#"{"retry_after":-1}"#), None);
        assert_eq!(wait_in_body(b"busy"), None);
    }
}
