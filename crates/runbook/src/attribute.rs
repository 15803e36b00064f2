//! The words after a fence's language: `step=rotate on=hub expect=0 timeout=30s destructive`.
//!
//! Grammar: words separated by blanks; each is `key=value` or a bare mark; no quoting, because no value needs a blank.
//! This module reads one fence's words; which fences are steps is decided in [`parse`](crate::parse).

use std::time::Duration;

use crate::model::{Expect, Form, Place};
use crate::problem::{excerpt, suggestion};

/// Attributes a step fence may carry.
pub const KNOWN: [&str; 8] = [
    "step",
    "on",
    "expect",
    "timeout",
    "retry",
    "when",
    "destructive",
    "repeat-until",
];

/// Those an author should hear of; `repeat-until` is only recognised to point at `retry`.
const OFFERED: [&str; 7] = ["step", "on", "expect", "timeout", "retry", "when", "destructive"];

/// How long a step may take when the page does not say.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Longest `timeout=` and `retry=`: a runbook step that needs more belongs in the background.
pub const DURATION_MAX: Duration = Duration::from_hours(1);

/// Longest name of a step or host.
const NAME_CHARS_MAX: usize = 64;

/// Most words looked at on a fence.
const WORDS_MAX: usize = 32;

/// The attributes of one fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `step=`, with the offset of the word.
    pub step: Option<String>,
    /// `on=`.
    pub on: Place,
    /// `expect=`.
    pub expect: Expect,
    /// `timeout=`.
    pub timeout: Duration,
    /// `retry=`.
    pub retry: Option<Duration>,
    /// `when=`.
    pub when: Option<Form>,
    /// `destructive`.
    pub destructive: bool,
}

/// A word of the info string with its byte offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// The text.
    pub text: &'a str,
    /// Where it starts, in bytes from the start of the info string.
    pub offset: usize,
}

/// Splits an info string at blanks.
pub fn words(info: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut start = None;
    for (offset, character) in info.char_indices() {
        match (character.is_whitespace(), start) {
            (false, None) => start = Some(offset),
            (true, Some(from)) => {
                found.push(Word {
                    text: &info[from..offset],
                    offset: from,
                });
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        found.push(Word {
            text: &info[from..],
            offset: from,
        });
    }
    found
}

/// The key of a word: what stands before `=`, or all of it.
pub fn key<'a>(word: &Word<'a>) -> &'a str {
    word.text.split_once('=').map_or(word.text, |(key, _)| key)
}

/// Reads a step fence's attributes. Mistakes come back as (offset, message); the attributes hold the defaults there.
pub fn read(words: &[Word<'_>]) -> (Attributes, Vec<(usize, String)>) {
    let mut attributes = Attributes {
        step: None,
        on: Place::Local,
        expect: Expect::Code(0),
        timeout: TIMEOUT_DEFAULT,
        retry: None,
        when: None,
        destructive: false,
    };
    let mut mistakes = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    if let Some(word) = words.get(WORDS_MAX) {
        mistakes.push((
            word.offset,
            format!("more than {WORDS_MAX} words on a fence; a step needs at most seven"),
        ));
    }
    for word in words.iter().take(WORDS_MAX) {
        let key = key(word);
        if seen.contains(&key) {
            mistakes.push((
                word.offset,
                format!("attribute `{}` is given twice; keep one", excerpt(key)),
            ));
            continue;
        }
        seen.push(key);
        if let Err(message) = apply(&mut attributes, word.text) {
            mistakes.push((word.offset, message));
        }
    }
    (attributes, mistakes)
}

fn apply(attributes: &mut Attributes, word: &str) -> Result<(), String> {
    match word.split_once('=') {
        Some(("step", value)) => attributes.step = Some(name("step", value)?),
        Some(("on", value)) => attributes.on = place(value)?,
        Some(("expect", value)) => attributes.expect = expect(value)?,
        Some(("timeout", value)) => attributes.timeout = duration("timeout", value)?,
        Some(("retry", value)) => attributes.retry = Some(duration("retry", value)?),
        Some(("when", value)) => attributes.when = Some(form(value)?),
        Some(("destructive", _)) => return Err("`destructive` takes no value; write it alone".to_owned()),
        Some(("repeat-until", _)) => {
            return Err(
                "unknown attribute `repeat-until`; write `retry=10s` to repeat until the step passes"
                    .to_owned(),
            );
        }
        None if word == "destructive" => attributes.destructive = true,
        None if KNOWN.contains(&word) => {
            return Err(format!("attribute `{word}` needs a value: `{word}=...`"));
        }
        Some((key, _)) => return Err(unknown(key)),
        None => return Err(unknown(word)),
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    format!(
        "unknown attribute `{}`; {}",
        excerpt(key),
        suggestion(key, OFFERED)
    )
}

/// Checks the name of a step or host: small letters, digits, `-`, starting with a letter or digit.
pub fn name(what: &str, value: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty()
        || value.starts_with('-')
        || !value.chars().all(allowed)
        || value.len() > NAME_CHARS_MAX
    {
        return Err(format!(
            "bad {what} name `{}`; use small letters, digits and `-`, at most {NAME_CHARS_MAX} characters",
            excerpt(value)
        ));
    }
    Ok(value.to_owned())
}

fn place(value: &str) -> Result<Place, String> {
    if let Some(parameter) = value.strip_prefix('$') {
        if !is_variable(parameter) {
            return Err(format!(
                "bad host `{}`; a parameter is capitals, digits and `_`, as in `on=$NODE`",
                excerpt(value)
            ));
        }
        return Ok(Place::Parameter(parameter.to_owned()));
    }
    if value == "local" {
        return Ok(Place::Local);
    }
    name("host", value).map(Place::Host)
}

/// Whether this is the form of a parameter's name.
pub fn is_variable(text: &str) -> bool {
    text.len() <= NAME_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn expect(value: &str) -> Result<Expect, String> {
    if value == "any" {
        return Ok(Expect::Any);
    }
    let digits_only = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(code) if digits_only => Ok(Expect::Code(code)),
        _ => Err(format!(
            "bad exit code `{}`; write a number from 0 to 255, or `any`",
            excerpt(value)
        )),
    }
}

fn form(value: &str) -> Result<Form, String> {
    match value {
        "process" => Ok(Form::Process),
        "machine" => Ok(Form::Machine),
        _ => Err(format!(
            "bad lab form `{}`; {}",
            excerpt(value),
            suggestion(value, ["process", "machine"])
        )),
    }
}

/// Reads `500ms`, `30s`, `2m` or `1h`; above zero and at most [`DURATION_MAX`].
fn duration(what: &str, value: &str) -> Result<Duration, String> {
    let wanted = || {
        format!(
            "bad {what} `{}`; write a number and a unit: 500ms, 30s, 2m, 1h",
            excerpt(value)
        )
    };
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = value[..digits].parse().map_err(|_| wanted())?;
    let unit_ms: u64 = match &value[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(wanted()),
    };
    match number.checked_mul(unit_ms).map(Duration::from_millis) {
        Some(Duration::ZERO) => Err(format!(
            "{what} `{value}` is zero; give it some time, such as 30s"
        )),
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("{what} `{}` is too long; at most 1h", excerpt(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> (Attributes, Vec<String>) {
        let (attributes, mistakes) = read(&words(line));
        (
            attributes,
            mistakes
                .into_iter()
                .map(|(offset, message)| format!("{offset}: {message}"))
                .collect(),
        )
    }

    #[test]
    fn every_attribute_is_read() {
        let (attributes, mistakes) =
            read_line("step=rotate on=hub expect=3 timeout=2m retry=500ms when=machine destructive");
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(attributes.step.as_deref(), Some("rotate"));
        assert_eq!(attributes.on, Place::Host("hub".to_owned()));
        assert_eq!(attributes.expect, Expect::Code(3));
        assert_eq!(attributes.timeout, Duration::from_mins(2));
        assert_eq!(attributes.retry, Some(Duration::from_millis(500)));
        assert_eq!(attributes.when, Some(Form::Machine));
        assert!(attributes.destructive);
    }

    #[test]
    fn host_may_be_a_parameter_or_local() {
        assert_eq!(read_line("on=$NODE").0.on, Place::Parameter("NODE".to_owned()));
        assert_eq!(read_line("on=local").0.on, Place::Local);
        assert_eq!(read_line("").0.on, Place::Local);
    }

    #[test]
    fn mistakes_say_where_and_what_would_be_right() {
        let cases = [
            ("expct=0", "0: unknown attribute `expct`; did you mean `expect`?"),
            (
                "step=a  destructve",
                "8: unknown attribute `destructve`; did you mean `destructive`?",
            ),
            ("on=a on=b", "5: attribute `on` is given twice; keep one"),
            ("timeout", "0: attribute `timeout` needs a value: `timeout=...`"),
            (
                "timeout=30",
                "0: bad timeout `30`; write a number and a unit: 500ms, 30s, 2m, 1h",
            ),
            (
                "timeout=s",
                "0: bad timeout `s`; write a number and a unit: 500ms, 30s, 2m, 1h",
            ),
            (
                "retry=0s",
                "0: retry `0s` is zero; give it some time, such as 30s",
            ),
            ("retry=2h", "0: retry `2h` is too long; at most 1h"),
            (
                "retry=99999999999999999999s",
                "0: bad retry `99999999999999999999s`; write a number and a unit: 500ms, 30s, 2m, 1h",
            ),
            (
                "expect=256",
                "0: bad exit code `256`; write a number from 0 to 255, or `any`",
            ),
            (
                "expect=+1",
                "0: bad exit code `+1`; write a number from 0 to 255, or `any`",
            ),
            (
                "step=Rotate",
                "0: bad step name `Rotate`; use small letters, digits and `-`, at most 64 characters",
            ),
            (
                "on=$node",
                "0: bad host `$node`; a parameter is capitals, digits and `_`, as in `on=$NODE`",
            ),
            ("when=vm", "0: bad lab form `vm`; known are process, machine"),
            (
                "destructive=yes",
                "0: `destructive` takes no value; write it alone",
            ),
        ];
        for (line, message) in cases {
            assert_eq!(read_line(line).1, vec![message.to_owned()], "for {line}");
        }
    }
}
