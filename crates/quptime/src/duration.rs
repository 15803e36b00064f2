//! Durations as they are written in `cluster.yaml` and on the command line: Go's syntax (`5s`, `1m30s`, `2h`, `500ms`, `1.5h`), since
//! files of the reference carry it.
//!
//! The canonical text drops what is zero (`2h`, not `2h0m0s`); both are read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in whole milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// Longest span that is taken: ten years. Sums of a few stay far below any limit.
const LONGEST_MS: u64 = 10 * 366 * 24 * 3600 * 1000;

impl Span {
    /// So many milliseconds.
    pub const fn from_millis(ms: u64) -> Span {
        Span(ms)
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Span {
        Span(seconds * 1000)
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        Duration::from_millis(span.0)
    }
}

/// Not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// It is none.
    #[error("bad duration \"{0}\": write a number with a unit, such as 30s, 1m30s or 2h")]
    Text(String),
    /// Time does not go back.
    #[error("duration \"{0}\" is negative; write it without the minus, such as 30s")]
    Negative(String),
    /// Nobody waits for so long.
    #[error("duration \"{0}\" is too long; at most {most}h, ten years, is possible", most = LONGEST_MS / 3_600_000)]
    TooLong(String),
}

impl FromStr for Span {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Span, BadDuration> {
        let shown = || terminal::brief(text).into_owned();
        let bad = || BadDuration::Text(shown());
        if text == "0" {
            return Ok(Span(0));
        }
        if text
            .strip_prefix('-')
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.'))
        {
            return Err(BadDuration::Negative(shown()));
        }
        let mut rest = text;
        let mut nanoseconds = 0f64;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest
                .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .ok_or_else(bad)?;
            let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let unit_end = rest
                .find(|letter: char| letter.is_ascii_digit() || letter == '.')
                .unwrap_or(rest.len());
            let unit = match &rest[..unit_end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(bad()),
            };
            nanoseconds += number * unit;
            rest = &rest[unit_end..];
        }
        let ms = (nanoseconds / 1e6).round();
        if !ms.is_finite() || ms > LONGEST_MS as f64 {
            return Err(BadDuration::TooLong(shown()));
        }
        Ok(Span(ms as u64))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, seconds) = (self.0 % 1000, self.0 / 1000);
        if seconds == 0 {
            return match ms {
                0 => f.write_str("0s"),
                ms => write!(f, "{ms}ms"),
            };
        }
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (rest, ms) {
            (0, 0) => Ok(()),
            (rest, 0) => write!(f, "{rest}s"),
            (rest, ms) => {
                let fraction = format!("{ms:03}");
                write!(f, "{rest}.{}s", fraction.trim_end_matches('0'))
            }
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, ms, canonical) in [
            ("30s", 30_000, "30s"),
            ("1m30s", 90_000, "1m30s"),
            ("2h0m0s", 7_200_000, "2h"),
            ("1.5h", 5_400_000, "1h30m"),
            ("500ms", 500, "500ms"),
            ("1.25s", 1250, "1.25s"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("1h0.5s", 3_600_500, "1h0.5s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(
                (span.millis(), span.to_string().as_str()),
                (ms, canonical),
                "{text}"
            );
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "", "5", "-", "-x", "5x", "s", "1s2", "1..2s", "1e3s", " 5s", "5 s",
        ] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.starts_with("bad duration \""), "{error}");
        }
        let error = "-5s".parse::<Span>().unwrap_err().to_string();
        assert_eq!(
            error,
            "duration \"-5s\" is negative; write it without the minus, such as 30s"
        );
        for text in ["9999999999h", "999999999h", "87841h"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            let wanted = format!("duration \"{text}\" is too long; at most 87840h, ten years, is possible");
            assert_eq!(error, wanted);
        }
        assert_eq!("87840h".parse(), Ok(Span(LONGEST_MS)));
    }
}
