//! A webhook: any HTTP receiver, which can know who sent and whether it has seen it before.

use reqwest::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::channel::Webhook;
use crate::failure::Failure;
use crate::http::Outgoing;
use crate::message::{Link, Message, Pairs, Severity, Verb};
use crate::text;

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "mainstay-signature";

/// Says that somebody only tries out the channel.
const TEST_HEADER: &str = "mainstay-test";

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Receivers store keys in columns; most take this much.
const KEY_MAX: usize = 255;

/// Level of the event's form. It grows when a field changes its meaning or goes away; new fields may come without that.
const FORM: u32 = 1;

#[derive(Serialize)]
struct Event<'a> {
    form: u32,
    source: &'a str,
    verb: Verb,
    severity: Severity,
    open: bool,
    test: bool,
    repeat: bool,
    delivery_id: &'a str,
    dedup_key: &'a str,
    when: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    subject: String,
    body: &'a str,
    labels: &'a Pairs,
    details: &'a Pairs,
    links: &'a [Link],
}

/// The signature of a webhook's body, as it stands in the header [`SIGNATURE_HEADER`]: `t=1778598092,v1=5257a869…`.
///
/// What is posted is an event in JSON, or the user's own text in its place. `Idempotency-Key` holds the id of the delivery: the
/// same in every attempt, so a receiver that has seen it answers with success and does nothing. With a `secret` in the
/// settings, the signature says that the sender knew the secret at the time `t` (seconds since 1970). `v1` is the HMAC-SHA256,
/// in hexadecimal digits, with the secret as key over the digits of `t`, a full stop, and the body byte by byte.
///
/// A receiver computes the same over the bytes as they came, before it parses them, compares in constant time, and refuses a
/// `t` that is more than some minutes away, so that a recorded request is of no use later. In Python:
///
/// ```python
/// parts = dict(part.split("=", 1) for part in headers["Mainstay-Signature"].split(","))
/// wanted = hmac.new(secret, parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
/// good = hmac.compare_digest(wanted, parts["v1"]) and abs(time.time() - int(parts["t"])) < 300
/// ```
pub fn sign(secret: &str, unix_s: u64, body: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let mut signed = aws_lc_rs::hmac::Context::with_key(&key);
    signed.update(format!("{unix_s}.").as_bytes());
    signed.update(body);
    format!("t={unix_s},v1={}", text::hex(signed.sign().as_ref()))
}

pub(crate) fn request(settings: &Webhook, message: &Message, now_unix_ms: u64) -> Result<Outgoing, Failure> {
    let address = settings.url.expose();
    let mut outgoing = if message.own_body {
        own(address, message)?
    } else {
        Outgoing::json(address, &event(message))?
    };
    let key = text::token(&message.delivery_id, KEY_MAX, '%', |byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'%' | b'"' | b'\\')
    });
    insert(&mut outgoing, IDEMPOTENCY_KEY, &key)?;
    if message.test {
        insert(&mut outgoing, TEST_HEADER, "true")?;
    }
    if !settings.secret.is_empty() {
        let signature = sign(settings.secret.expose(), now_unix_ms / 1000, &outgoing.body);
        insert(&mut outgoing, SIGNATURE_HEADER, &signature)?;
    }
    for (name, value) in &settings.headers {
        insert(&mut outgoing, name, value.expose())?;
    }
    Ok(outgoing)
}

fn event(message: &Message) -> Event<'_> {
    Event {
        form: FORM,
        source: &message.source,
        verb: message.verb,
        severity: message.severity,
        open: message.open,
        test: message.test,
        repeat: message.repeat,
        delivery_id: &message.delivery_id,
        dedup_key: &message.dedup_key,
        when: text::time(message.when_unix_ms),
        since: message.since_unix_ms.map(text::time),
        subject: text::subject(message),
        body: &message.body,
        labels: &message.labels,
        details: &message.details,
        links: &message.links,
    }
}

/// A body of the user's own: not touched, hence refused when it is too long. Only a text that tries out the channel gets the mark of a
/// test in front; JSON has a form that its receiver wants, so there the header alone says it.
fn own(address: &str, message: &Message) -> Result<Outgoing, Failure> {
    let body = &message.body;
    if body.len() > text::BODY_MAX {
        let (length, max) = (body.len(), text::BODY_MAX);
        return Err(Failure::permanent(format!(
            "the text of the template has {length} bytes, at most {max} are sent"
        )));
    }
    let is_json = serde_json::from_str::<IgnoredAny>(body).is_ok();
    let content_type = if is_json {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    };
    let mark = if message.test && !is_json && !body.contains(text::TEST_MARK) {
        format!("{} ", text::TEST_MARK)
    } else {
        String::new()
    };
    Outgoing::new(address, content_type, (mark + body).into_bytes())
}

fn insert(outgoing: &mut Outgoing, name: &str, value: &str) -> Result<(), Failure> {
    let (Ok(name), Ok(value)) = (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(value),
    ) else {
        return Err(Failure::permanent("a header cannot be sent as it is set"));
    };
    outgoing.headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use service::settings::Secret;

    use super::*;
    use crate::message::example;

    fn settings() -> Webhook {
        Webhook {
            url: Secret::new("https://hooks.example.com/in"),
            secret: Secret::new("key"),
            headers: [("X-Team".to_owned(), Secret::new("ops"))].into(),
        }
    }

    fn header<'a>(outgoing: &'a Outgoing, name: &str) -> &'a str {
        outgoing.headers[name].to_str().unwrap()
    }

    #[test]
    fn the_event_has_all_there_is() {
        let mut message = example();
        message.since_unix_ms = Some(1_778_598_032_500);
        let outgoing = request(&settings(), &message, 1_778_598_093_999).unwrap();
        let body = String::from_utf8(outgoing.body.clone()).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"form":1,"source":"quptime","verb":"DOWN","severity":"critical","open":true,"test":false,"#,
                r#""repeat":false,"delivery_id":"c1/7/oncall","dedup_key":"cluster-1/incident-9","#,
                r#""when":"2026-05-12T15:01:32Z","since":"2026-05-12T15:00:32.5Z","#,
                r#""subject":"[quptime] DOWN: homepage","#,
                r#""body":"target: https://example.com\nstate: up -> down","#,
                r#""labels":{"check":"homepage","type":"http"},"#,
                r#""details":{"reports":"1/3","detail":"connect: timed out"},"#,
                r#""links":[{"title":"Runbook","url":"https://wiki.example.com/homepage"}]}"#
            )
        );
        assert_eq!(header(&outgoing, "content-type"), "application/json");
        assert_eq!(header(&outgoing, "idempotency-key"), "c1/7/oncall");
        assert_eq!(header(&outgoing, "x-team"), "ops");
        assert_eq!(
            header(&outgoing, SIGNATURE_HEADER),
            sign("key", 1_778_598_093, body.as_bytes())
        );
    }

    #[test]
    fn the_signature_is_the_one_others_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        assert_eq!(
            sign("key", 1_700_000_000, br#"{"a":1}"#),
            "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
        );
    }

    #[test]
    fn a_test_is_marked_whatever_the_body_is() {
        let mut message = example();
        message.own_body = true;
        message.test = true;
        for (body, sent) in [
            ("down: x", "(test) down: x"),
            ("down: x (test)", "down: x (test)"),
            (r#"{"text": "x"}"#, r#"{"text": "x"}"#),
        ] {
            message.body = body.into();
            let outgoing = request(&settings(), &message, 0).unwrap();
            assert_eq!(outgoing.body, sent.as_bytes());
            assert_eq!(header(&outgoing, TEST_HEADER), "true");
        }
        message.test = false;
        let outgoing = request(&settings(), &message, 0).unwrap();
        assert!(!outgoing.headers.contains_key(TEST_HEADER));
    }

    #[test]
    fn own_text_is_not_touched() {
        let mut message = example();
        message.own_body = true;
        message.repeat = true;
        for (body, content_type) in [
            (r#"{"text": "x"}"#, "application/json"),
            ("down: x", "text/plain; charset=utf-8"),
        ] {
            message.body = body.into();
            let outgoing = request(&settings(), &message, 0).unwrap();
            assert_eq!(outgoing.body, body.as_bytes());
            assert_eq!(header(&outgoing, "content-type"), content_type);
        }
        message.body = "x".repeat(text::BODY_MAX + 1);
        let failure = request(&settings(), &message, 0).err().unwrap();
        assert_eq!(
            failure.text,
            "the text of the template has 131073 bytes, at most 131072 are sent"
        );
    }

    #[test]
    fn a_key_is_a_header_whatever_the_id_is() {
        let mut message = example();
        message.delivery_id = "c\r\nX-Evil: 1/7/é".into();
        let outgoing = request(&settings(), &message, 0).unwrap();
        assert_eq!(
            header(&outgoing, "idempotency-key"),
            "c%0D%0AX-Evil:%201/7/%C3%A9"
        );
        assert!(!outgoing.headers.contains_key("x-evil"));
    }
}
