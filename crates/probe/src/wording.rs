//! How durations, dates and system errors read in a detail line.

use std::io;
use std::time::Duration;

/// Longest detail line. Details go into status tables, alerts and the replicated state.
const DETAIL_MAX: usize = 300;

/// Seconds of a day.
pub(crate) const DAY_S: i64 = 86_400;

/// A configured duration: `10s`, `1m30s`, `2h`, `250ms`, `1.5s`.
pub(crate) fn duration(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    if seconds == 0 {
        return format!("{millis}ms");
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if millis > 0 {
        format!(".{millis:03}")
    } else {
        String::new()
    };
    let parts = [
        (hours > 0).then(|| format!("{hours}h")),
        (minutes > 0).then(|| format!("{minutes}m")),
        (seconds > 0 || millis > 0).then(|| format!("{seconds}{}s", fraction.trim_end_matches('0'))),
    ];
    parts.into_iter().flatten().collect()
}

/// A measured time: `0.31 ms`, `12.4 ms`.
pub(crate) fn millis(time: Duration) -> String {
    format!(
        "{:.*} ms",
        if time < Duration::from_millis(10) { 2 } else { 1 },
        time.as_secs_f64() * 1e3
    )
}

/// A distance in time in its largest unit: `12d`, `5h`, `3m`.
pub(crate) fn distance(seconds: i64) -> String {
    match seconds {
        DAY_S.. => format!("{}d", seconds / DAY_S),
        3600.. => format!("{}h", seconds / 3600),
        60.. => format!("{}m", seconds / 60),
        _ => format!("{}s", seconds.max(0)),
    }
}

/// The day (UTC) of a time in seconds since 1970: `2026-05-12`.
pub(crate) fn day(unix_s: i64) -> String {
    let time = jiff::Timestamp::from_second(unix_s).unwrap_or(if unix_s < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    time.strftime("%Y-%m-%d").to_string()
}

/// A system error without its number and in lower case: `connection refused`.
pub(crate) fn io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::ConnectionAborted => "connection aborted".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        io::ErrorKind::PermissionDenied => "operation not permitted".to_owned(),
        _ => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let mut letters = text.chars();
            letters
                .next()
                .map(|first| first.to_lowercase().chain(letters).collect())
                .unwrap_or_default()
        }
    }
}

/// One line of bounded length, whatever a peer put into it.
pub(crate) fn line(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if shown.len() > DETAIL_MAX {
        // The mark takes three bytes itself.
        let end = shown.floor_char_boundary(DETAIL_MAX - 3);
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_configured() {
        for (ms, text) in [
            (250, "250ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (10_000, "10s"),
            (90_000, "1m30s"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(millis(Duration::from_micros(312)), "0.31 ms");
        assert_eq!(millis(Duration::from_micros(12_400)), "12.4 ms");
    }

    #[test]
    fn distances_and_days() {
        assert_eq!(distance(5 * DAY_S + 3), "5d");
        assert_eq!(distance(7_300), "2h");
        assert_eq!(distance(61), "1m");
        assert_eq!(distance(-1), "0s");
        assert_eq!(day(1_778_544_000), "2026-05-12");
        assert_eq!(day(i64::MIN).len(), "-9999-01-02".len());
    }

    #[test]
    fn errors_and_lines_are_tidy() {
        assert_eq!(io(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(io(&io::Error::from_raw_os_error(24)), "too many open files");
        assert_eq!(line("a\r\nb\u{1b}[31m"), "a  b [31m");
        let long = line(&"ä".repeat(400));
        assert!(long.len() <= DETAIL_MAX && long.ends_with('…'));
    }
}
