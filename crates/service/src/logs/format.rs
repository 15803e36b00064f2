//! The text of one line, from an event that was already taken apart. Pure.

use std::fmt::Write;

use serde_json::{Map, Value as Json};
use tracing::Level;

use super::Format;

/// The value of one field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

/// One event: what a line is made of.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'static str, Value)],
    /// Wall clock, where the form asks for it.
    pub(super) unix_ms: u64,
}

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) format: Format,
    pub(super) timestamps: bool,
    /// Put the journal's `<N>` in front.
    pub(super) priority: bool,
}

/// The line, with its newline.
pub(super) fn line(look: Look, event: &Line<'_>) -> String {
    let mut out = String::with_capacity(128);
    if look.priority {
        out.push_str(priority(event.level));
    }
    match look.format {
        Format::Text => text(look.timestamps, event, &mut out),
        Format::Json => json(event, &mut out),
    }
    out.push('\n');
    out
}

fn text(timestamps: bool, event: &Line<'_>, out: &mut String) {
    if timestamps {
        out.push_str(&timestamp(event.unix_ms));
        out.push(' ');
    }
    out.push_str(event.level.as_str());
    out.push(' ');
    escape(event.target, out);
    out.push_str(": ");
    escape(event.message, out);
    for (key, value) in event.fields {
        out.push_str(", ");
        out.push_str(key);
        out.push('=');
        match value {
            Value::Text(text) => escape(text, out),
            Value::Signed(number) => push(out, number),
            Value::Unsigned(number) => push(out, number),
            Value::Float(number) => push(out, number),
            Value::Flag(flag) => push(out, flag),
        }
    }
}

fn json(event: &Line<'_>, out: &mut String) {
    let mut object = Map::new();
    object.insert("ts".into(), timestamp(event.unix_ms).into());
    object.insert("level".into(), event.level.as_str().to_ascii_lowercase().into());
    object.insert("target".into(), event.target.into());
    object.insert("msg".into(), event.message.into());
    // serde_json sorts a map's keys unless another crate of the build asks it not to; so write the object by hand.
    out.push('{');
    for (n, key) in ["ts", "level", "target", "msg"].into_iter().enumerate() {
        member(out, n == 0, key, &object[key]);
    }
    for (key, value) in event.fields {
        // A field may not replace one of ours, nor an earlier one of an enclosing span.
        let mut name = (*key).to_owned();
        while object.contains_key(&name) {
            name.push('_');
        }
        let value = match value {
            Value::Text(text) => text.as_str().into(),
            Value::Signed(number) => (*number).into(),
            Value::Unsigned(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Flag(flag) => (*flag).into(),
        };
        member(out, false, &name, &value);
        object.insert(name, value);
    }
    out.push('}');
}

fn member(out: &mut String, first: bool, key: &str, value: &Json) {
    if !first {
        out.push(',');
    }
    push(out, Json::from(key));
    out.push(':');
    push(out, value);
}

fn push(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("writing to a string cannot fail");
}

/// Keeps a line a line: control characters are written as escapes, everything else as it is.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // The two separators beyond ASCII end a line in some viewers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => push(out, c.escape_unicode()),
            c => out.push(c),
        }
    }
}

fn timestamp(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(jiff::Timestamp::MAX))
}

/// Syslog's priorities, as `sd-daemon(3)` reads them at the start of a line.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Look = Look {
        format: Format::Text,
        timestamps: false,
        priority: false,
    };

    fn show(look: Look, level: Level, message: &str, fields: &[(&'static str, Value)]) -> String {
        line(
            look,
            &Line {
                level,
                target: "chainfire_raft",
                message,
                fields,
                unix_ms: 1_700_000_000_123,
            },
        )
    }

    #[test]
    fn values_cannot_break_the_line() {
        let fields = [
            ("error", Value::Text("a\nb\t\u{1b}[31m\u{2028}ü".into())),
            ("n", Value::Signed(-3)),
        ];
        assert_eq!(
            show(TEXT, Level::ERROR, "Two\nlines", &fields),
            "ERROR chainfire_raft: Two\\nlines, error=a\\nb\\t\\u{1b}[31m\\u{2028}ü, n=-3\n"
        );
    }

    #[test]
    fn the_journal_gets_priorities() {
        let look = Look {
            priority: true,
            ..TEXT
        };
        for (level, start) in [
            (Level::ERROR, "<3>ERROR "),
            (Level::WARN, "<4>WARN "),
            (Level::INFO, "<6>INFO "),
            (Level::DEBUG, "<7>DEBUG "),
            (Level::TRACE, "<7>TRACE "),
        ] {
            assert!(show(look, level, "x", &[]).starts_with(start), "{level}");
        }
    }

    #[test]
    fn timestamps_are_utc_with_milliseconds() {
        let look = Look {
            timestamps: true,
            ..TEXT
        };
        assert_eq!(
            show(look, Level::INFO, "x", &[]),
            "2023-11-14T22:13:20.123Z INFO chainfire_raft: x\n"
        );
    }

    #[test]
    fn json_is_flat_and_ordered() {
        let look = Look {
            format: Format::Json,
            ..TEXT
        };
        let fields = [
            ("term", Value::Unsigned(3)),
            ("msg", Value::Text("a \"quote\"\n".into())),
            ("learner", Value::Flag(true)),
            ("ratio", Value::Float(0.5)),
            ("term", Value::Unsigned(4)),
        ];
        let line = show(look, Level::INFO, "Leader elected", &fields);
        assert_eq!(
            line,
            concat!(
                r#"{"ts":"2023-11-14T22:13:20.123Z","level":"info","target":"chainfire_raft","msg":"Leader elected","#,
                r#""term":3,"msg_":"a \"quote\"\n","learner":true,"ratio":0.5,"term_":4}"#,
                "\n"
            )
        );
        let parsed: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["msg"], "Leader elected");
    }
}
