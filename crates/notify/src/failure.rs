//! How an attempt ends: [`Receipt`], or [`Failure`] with what it means for the next attempt.

use std::fmt;
use std::time::Duration;

use jiff::fmt::rfc2822;

use crate::text;

/// Nobody is obeyed who asks to wait longer: the next attempt finds out again.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Bytes of a text, most of which is what the other end said. It stands in tables and log lines.
const TEXT_MAX: usize = 500;

/// Shorter ones are not looked for in texts: hiding every `a` would hide the text. No usable secret is that short.
const SECRET_MIN: usize = 4;

/// Whether trying again soon can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It can: the other end is busy, away, or has a problem of its own.
    Temporary,
    /// It cannot, until a person changes something: a setting, a key, a mailbox.
    Permanent,
}

/// An attempt that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Whether trying again soon can help.
    pub kind: Kind,
    /// The time the other end asked to be left alone, at most an hour.
    pub retry_after: Option<Duration>,
    /// Whether the other end may have taken the message all the same, since the connection broke, or the time was over, after
    /// it was handed over. The next attempt then sets [`crate::Message::repeat`].
    pub uncertain: bool,
    /// Whether nothing was handed over because the caller's [`crate::Gate`] was closed.
    pub held: bool,
    /// One line: type of the channel, host, what happened. Never a secret.
    pub text: String,
}

impl Failure {
    pub(crate) fn permanent(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Permanent,
            retry_after: None,
            uncertain: false,
            held: false,
            text: text.into(),
        }
    }

    pub(crate) fn temporary(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Temporary,
            ..Self::permanent(text)
        }
    }

    pub(crate) fn held() -> Self {
        Self {
            held: true,
            ..Self::temporary("held back at the last moment")
        }
    }

    pub(crate) fn maybe_taken(mut self, uncertain: bool) -> Self {
        self.uncertain = uncertain;
        self
    }

    pub(crate) fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait.map(|wait| wait.min(RETRY_AFTER_MAX));
        self
    }

    /// Puts the channel in front, makes it one line, and hides secrets that a server or a library has put into the text.
    pub(crate) fn told_by(mut self, place: &str, secrets: &[String]) -> Self {
        self.text = fit_to_show(&format!("{place}: {}", self.text), secrets);
        self
    }
}

/// An attempt that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// What the other end said to it, in one line: `250 2.0.0 Ok: queued as 4F1B`, `204`.
    pub answer: String,
    /// What a person should know although it was sent, such as recipients that the relay refused. One line each.
    pub remarks: Vec<String>,
}

impl Receipt {
    /// Hides secrets that a server has put into its answer.
    pub(crate) fn without(mut self, secrets: &[String]) -> Self {
        for line in self.remarks.iter_mut().chain([&mut self.answer]) {
            *line = fit_to_show(line, secrets);
        }
        self
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)?;
        for remark in &self.remarks {
            write!(f, "; {remark}")?;
        }
        Ok(())
    }
}

/// What a status of HTTP means; none for success.
pub(crate) fn kind_of_status(status: u16) -> Option<Kind> {
    match status {
        200..=299 => None,
        // Request Timeout, Too Early, Too Many Requests.
        408 | 425 | 429 | 500..=599 => Some(Kind::Temporary),
        _ => Some(Kind::Permanent),
    }
}

/// Whether a gateway answered that does not know what became of the request behind it.
pub(crate) fn is_from_gateway(status: u16) -> bool {
    matches!(status, 502 | 504)
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, or a date as of `now_unix_ms`.
pub(crate) fn retry_after(value: &str, now_unix_ms: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // Seconds with a fraction are outside the standard and sent all the same.
    if let Some(wait) = value
        .parse::<f64>()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
    {
        return Some(wait);
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let now = i64::try_from(now_unix_ms).ok()?;
    let wait = at.as_millisecond().saturating_sub(now).max(0);
    Some(Duration::from_millis(wait.unsigned_abs()))
}

/// One line of bearable length without secrets. They are hidden before the text is cut, since half a secret would not be found.
fn fit_to_show(text: &str, secrets: &[String]) -> String {
    // Once more in one line, where a line break inside a secret has become a blank.
    let line = hide(&text::one_line(&hide(text, secrets)), secrets);
    text::cut(&line, TEXT_MAX, text::bytes)
}

fn hide(text: &str, secrets: &[String]) -> String {
    let mut secrets: Vec<&String> = secrets.iter().filter(|s| s.len() >= SECRET_MIN).collect();
    // A secret inside another one must not break up the longer one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), "<secret>");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = 784_111_777_000;
        for (value, wait) in [
            ("120", Some(Duration::from_mins(2))),
            (" 0 ", Some(Duration::ZERO)),
            ("0.5", Some(Duration::from_millis(500))),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(Duration::from_secs(30))),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(Duration::ZERO)),
            ("-5", None),
            ("soon", None),
            ("", None),
            ("NaN", None),
        ] {
            assert_eq!(retry_after(value, now), wait, "{value:?}");
        }
        let long = Failure::temporary("x").after(Some(Duration::from_secs(u64::MAX)));
        assert_eq!(long.retry_after, Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn statuses_are_classified() {
        for status in [200, 202, 204] {
            assert_eq!(kind_of_status(status), None, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(kind_of_status(status), Some(Kind::Temporary), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410, 413, 422] {
            assert_eq!(kind_of_status(status), Some(Kind::Permanent), "{status}");
        }
    }

    #[test]
    fn secrets_are_hidden_wherever_they_come_from() {
        let secrets = ["abcd".to_owned(), "xx-abcd-yy".into(), "a".into(), String::new()];
        let failure = Failure::permanent("got xx-abcd-yy\r\nand abcd").told_by("slack https://h", &secrets);
        assert_eq!(failure.text, "slack https://h: got <secret> and <secret>");
        // Blanks of a secret, and one that stands where the text is cut.
        let secrets = ["two  blanks".to_owned()];
        for before in 0..TEXT_MAX {
            let text = format!("{}two  blanks", "x".repeat(before));
            let shown = Failure::permanent(text).told_by("h", &secrets).text;
            assert!(!shown.contains("two"), "{shown}");
            assert!(shown.len() <= TEXT_MAX);
        }
    }
}
