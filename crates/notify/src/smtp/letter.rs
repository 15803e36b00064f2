//! The mail itself: headers that nothing can be smuggled into, and a body that every relay passes on unchanged.
//!
//! `Message-ID` is made from the delivery's id, so that a second copy can be told; `References` from the incident's, so that
//! mail programs show its messages together.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox};

use crate::channel::Smtp;
use crate::message::Message;
use crate::text;

/// Characters of an id in `Message-ID`: with the domain it stays within a line of 998.
const ID_MAX: usize = 200;

/// A mail ready to be sent.
pub(super) struct Letter {
    pub(super) from: Address,
    pub(super) to: Vec<Address>,
    /// Headers and body. ASCII, lines end in CRLF.
    pub(super) bytes: Vec<u8>,
}

pub(super) fn write(settings: &Smtp, message: &Message, now_unix_ms: u64) -> Result<Letter, String> {
    let from = mailbox(&settings.from)?;
    let domain = from.email.domain().to_owned();
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        .subject(text::subject(message))
        .date(UNIX_EPOCH + Duration::from_millis(now_unix_ms))
        .message_id(Some(message_id(&message.delivery_id, &domain)));
    let mut to = Vec::with_capacity(settings.to.len());
    for recipient in &settings.to {
        let recipient = mailbox(recipient)?;
        to.push(recipient.email.clone());
        builder = builder.to(recipient);
    }
    if !message.dedup_key.is_empty() {
        builder = builder.references(message_id(&format!("incident/{}", message.dedup_key), &domain));
    }
    // RFC 3834: nobody's holiday note answers to this.
    builder = builder.raw_header(HeaderValue::new(
        HeaderName::new_from_ascii_str("Auto-Submitted"),
        "auto-generated".into(),
    ));
    let body = Body::new_with_encoding(body(message), ContentTransferEncoding::QuotedPrintable)
        .map_err(|_| "the text cannot be encoded".to_owned())?;
    let mail = builder
        .header(ContentType::TEXT_PLAIN)
        .body(body)
        .map_err(|error| format!("cannot write the mail: {error}"))?;
    Ok(Letter {
        from: from.email,
        to,
        bytes: mail.formatted(),
    })
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse()
        .map_err(|_| format!("{:?} is not a mail address", text::one_line(text)))
}

/// An id in the form of RFC 5322, 3.6.4: letters and digits of the id, the rest as `=` and hexadecimal digits.
fn message_id(id: &str, domain: &str) -> String {
    let id = text::token(id, ID_MAX, '=', |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/')
    });
    format!("<{id}@{domain}>")
}

/// The body with line ends of one kind, without characters that no mail may contain.
fn body(message: &Message) -> String {
    let body = text::body_with_links(message)
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace('\0', "");
    // The end of its last line comes with the end of the mail.
    text::cut(body.trim_end(), text::BODY_MAX, text::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example;

    fn settings() -> Smtp {
        Smtp::new(
            "mail.example.com",
            "Uptime <qu@example.com>",
            vec!["ops@example.com".into(), "Zoë <zoe@example.org>".into()],
        )
    }

    fn written(message: &Message) -> String {
        let letter = write(&settings(), message, 1_778_598_093_000).unwrap();
        String::from_utf8(letter.bytes).unwrap()
    }

    #[test]
    fn the_mail_as_it_is_sent() {
        let mut message = example();
        message.subject = "[quptime] DOWN: größe".into();
        message.body = "ü=1\n.\nend".into();
        let lines = written(&message);
        assert_eq!(
            lines.split("\r\n").collect::<Vec<_>>(),
            [
                "From: Uptime <qu@example.com>",
                "Subject: [quptime] DOWN: =?utf-8?b?Z3LDtsOfZQ==?=",
                "Date: Tue, 12 May 2026 15:01:33 +0000",
                "Message-ID: <c1/7/oncall@example.com>",
                "To: ops@example.com, =?utf-8?b?Wm/Dqw==?= <zoe@example.org>",
                "References: <incident/cluster-1/incident-9@example.com>",
                "Auto-Submitted: auto-generated",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Transfer-Encoding: quoted-printable",
                "",
                "=C3=BC=3D1",
                ".",
                "end",
                "",
                "Runbook: https://wiki.example.com/homepage",
            ]
        );
    }

    #[test]
    fn nothing_becomes_a_header_or_a_recipient() {
        let mut message = example();
        let evil = "x\r\nBcc: evil@example.net\r\n\r\nbody";
        message.subject = evil.into();
        message.delivery_id = evil.into();
        message.dedup_key = evil.into();
        let letter = write(&settings(), &message, 0).unwrap();
        assert_eq!(letter.to.len(), 2);
        let mail = String::from_utf8(letter.bytes).unwrap();
        let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = headers
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split_once(": ").unwrap().0)
            .collect();
        assert_eq!(
            names,
            [
                "From",
                "Subject",
                "Date",
                "Message-ID",
                "To",
                "References",
                "Auto-Submitted",
                "Content-Type",
                "Content-Transfer-Encoding"
            ]
        );
        let mut bad = settings();
        bad.from = evil.into();
        assert!(write(&bad, &example(), 0).is_err());
    }

    #[test]
    fn everything_is_ascii_in_short_lines() {
        let mut message = example();
        message.subject = "ü".repeat(2000);
        message.delivery_id = "é/".repeat(300);
        message.body = "日本語".repeat(3000) + "\r\rx\0y";
        let mail = written(&message);
        assert!(mail.is_ascii());
        assert!(mail.split("\r\n").all(|line| line.len() <= 998));
        assert!(!mail.replace("\r\n", "").contains(['\r', '\n', '\0']));
        assert!(mail.contains("Message-ID: <sha256-"), "{}", &mail[..2000]);
    }
}
