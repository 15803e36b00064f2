//! [`Span`]: a length of time as OpenSLO and Prometheus write it: `5m`, `1h`, `30d`, `4w`, and for calendars `1M`, `1Q`, `1Y`.

use std::fmt;

/// Units with their seconds, the largest first. Only these are written.
const UNITS: [(char, u64); 5] = [('w', WEEK), ('d', DAY), ('h', HOUR), ('m', 60), ('s', 1)];

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Longest that is read: more than any window of an objective.
const SECONDS_MAX: u64 = 10 * 366 * DAY;

/// Whole seconds, more than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// What a text that should be a length of time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Its length; that of a month is 30 days, of a quarter 90, of a year 365.
    pub span: Span,
    /// Whether it is a month, quarter or year, which differ in length.
    pub is_calendar: bool,
}

impl Span {
    /// So many seconds.
    ///
    /// # Panics
    /// If there are none.
    pub const fn seconds(seconds: u64) -> Span {
        assert!(seconds > 0, "a length of time is more than nothing");
        Span(seconds)
    }

    /// So many minutes.
    pub const fn minutes(minutes: u64) -> Span {
        Span::seconds(minutes * 60)
    }

    /// So many hours.
    pub const fn hours(hours: u64) -> Span {
        Span::seconds(hours * HOUR)
    }

    /// So many days.
    pub const fn days(days: u64) -> Span {
        Span::seconds(days * DAY)
    }

    /// Its seconds.
    pub const fn as_seconds(self) -> u64 {
        self.0
    }

    /// One number and one unit. `None` for anything else.
    pub fn parse(text: &str) -> Option<Parsed> {
        let unit = text.chars().next_back()?;
        let digits = &text[..text.len() - unit.len_utf8()];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let seconds = match unit {
            'M' => 30 * DAY,
            'Q' => 90 * DAY,
            'Y' => 365 * DAY,
            unit => UNITS.iter().find(|(known, _)| *known == unit)?.1,
        };
        let count: u64 = digits.parse().ok()?;
        let total = count
            .checked_mul(seconds)
            .filter(|total| (1..=SECONDS_MAX).contains(total))?;
        let is_calendar = matches!(unit, 'M' | 'Q' | 'Y');
        Some(Parsed {
            span: Span(total),
            is_calendar,
        })
    }

    /// For people: `4m 19s`, `3h 36m`, `50h`, `30d`. Two units are shown; days only from two days on and if nothing else is left.
    pub fn spoken(self) -> String {
        spoken(self.0 as f64)
    }
}

/// Seconds for people, as [`Span::spoken`].
pub fn spoken(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    if seconds == 0 {
        return "0s".to_owned();
    }
    if seconds.is_multiple_of(DAY) && seconds > 5 * DAY {
        return format!("{}d", seconds / DAY);
    }
    let (hours, minutes, rest) = (seconds / HOUR, seconds % HOUR / 60, seconds % 60);
    let parts: Vec<String> = [(hours, 'h'), (minutes, 'm'), (rest, 's')]
        .into_iter()
        .filter(|(count, unit)| *count > 0 && !(*unit == 's' && hours > 0))
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    parts.join(" ")
}

/// As Prometheus takes it, in one unit: `5m`, `1h`, `30d`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) = UNITS
            .into_iter()
            // Weeks read worse than days: nobody says 4w of an alert.
            .find(|(unit, seconds)| *unit != 'w' && self.0.is_multiple_of(*seconds))
            .expect("everything is a number of seconds");
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_printed() {
        for (text, printed) in [
            ("5m", "5m"),
            ("60m", "1h"),
            ("30d", "30d"),
            ("4w", "28d"),
            ("90s", "90s"),
            ("1M", "30d"),
            ("1Q", "90d"),
            ("1Y", "365d"),
        ] {
            assert_eq!(Span::parse(text).unwrap().span.to_string(), printed, "{text}");
        }
        assert!(Span::parse("1M").unwrap().is_calendar && !Span::parse("1m").unwrap().is_calendar);
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in [
            "",
            "5",
            "m",
            "0m",
            "-5m",
            "1.5h",
            "5 m",
            "1h30m",
            "30D",
            "99999999999999999999d",
            "11Y",
            "5µ",
        ] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn people_read_two_units() {
        for (seconds, text) in [
            (0.4, "0s"),
            (30.0, "30s"),
            (259.2, "4m 19s"),
            (12_960.0, "3h 36m"),
            (180_000.0, "50h"),
            (432_000.0, "120h"),
            (2_592_000.0, "30d"),
            (3600.0, "1h"),
        ] {
            assert_eq!(spoken(seconds), text);
        }
    }
}
