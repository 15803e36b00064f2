//! Making texts fit: one line, a length, the marks of tests and repeats.

use std::fmt::Write as _;

use crate::message::Message;

/// What channels that cannot de-duplicate add to a message that may have arrived before.
pub const REPEAT_MARK: &str = "(may be a repeat)";

/// What is added to a message that only tries out a channel.
pub(crate) const TEST_MARK: &str = "(test)";

/// Ends a text that was too long.
pub(crate) const CUT_MARK: &str = "… (cut)";

/// A mail body or JSON field longer than this is cut. Templates end at 64 KiB; a channel of today takes no more than a few
/// hundred.
pub(crate) const BODY_MAX: usize = 128 << 10;

/// A subject longer than this is cut: phones and lists show less.
pub(crate) const SUBJECT_MAX: usize = 300;

/// The text in one line: line breaks and other control characters become blanks.
pub(crate) fn one_line(text: &str) -> String {
    let blanked: String = text
        .chars()
        .map(|c| {
            // U+2028 and U+2029 end lines as well.
            let breaks = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            if breaks { ' ' } else { c }
        })
        .collect();
    blanked.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Width of a character where UTF-16 units are counted.
pub(crate) fn utf16(c: char) -> usize {
    c.len_utf16()
}

/// Width of a character where bytes are counted.
pub(crate) fn bytes(c: char) -> usize {
    c.len_utf8()
}

/// Width of a character where characters are counted.
pub(crate) fn chars(_: char) -> usize {
    1
}

/// The text if it is no wider than `max`, otherwise as much of its beginning as fits together with the mark.
pub(crate) fn cut(text: &str, max: usize, width: fn(char) -> usize) -> String {
    if text.chars().map(width).sum::<usize>() <= max {
        return text.to_owned();
    }
    let room = max.saturating_sub(CUT_MARK.chars().map(width).sum());
    let mut used = 0;
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            used += width(*c);
            used <= room
        })
        .collect();
    kept.push_str(CUT_MARK);
    kept
}

/// The subject in one line of bearable length, with the mark of a test.
pub(crate) fn subject(message: &Message) -> String {
    let mut subject = cut(&one_line(&message.subject), SUBJECT_MAX, chars);
    if message.test && !subject.contains(TEST_MARK) {
        let _ = write!(subject, " {TEST_MARK}");
    }
    subject
}

/// The subject, also with the mark of a repeat.
pub(crate) fn subject_with_repeat(message: &Message) -> String {
    let mut subject = subject(message);
    if message.repeat && !subject.contains(REPEAT_MARK) {
        let _ = write!(subject, " {REPEAT_MARK}");
    }
    subject
}

/// The marks that a body of the user's own template lacks, each on a line of its own.
pub(crate) fn marks_missing_in(body: &str, message: &Message) -> String {
    let mut marks = String::new();
    for (wanted, mark) in [(message.test, TEST_MARK), (message.repeat, REPEAT_MARK)] {
        if wanted && !body.contains(mark) {
            let _ = write!(marks, "\n{mark}");
        }
    }
    marks
}

/// The body, and below it the links that it does not show already. A body of the user's own stays as it is.
pub(crate) fn body_with_links(message: &Message) -> String {
    let mut body = message.body.clone();
    if !message.own_body {
        let missing = message
            .links
            .iter()
            .filter(|link| !message.body.contains(&link.url));
        for (index, link) in missing.enumerate() {
            body.push_str(if index == 0 { "\n\n" } else { "\n" });
            let _ = write!(body, "{}: {}", one_line(&link.title), one_line(&link.url));
        }
    }
    body
}

/// An id as a word that goes anywhere: characters that `keep` refuses are written as `escape` and hexadecimal digits, and one
/// that gets longer than `max` becomes its SHA-256. Different ids stay different as long as `keep` refuses `escape`.
pub(crate) fn token(id: &str, max: usize, escape: char, keep: fn(u8) -> bool) -> String {
    let mut token = String::new();
    for byte in id.bytes() {
        if keep(byte) {
            token.push(char::from(byte));
        } else {
            let _ = write!(token, "{escape}{byte:02X}");
        }
    }
    if token.len() > max {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        return format!("sha256-{}", hex(digest.as_ref()));
    }
    token
}

/// Bytes as hexadecimal digits in small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Milliseconds since 1970 as people and machines read it: `2026-05-12T15:01:32Z`.
pub(crate) fn time(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_has_no_line_breaks_of_any_kind() {
        assert_eq!(
            one_line("a\r\nBcc: x@y\u{2028}c\u{85}d\t e\0f\n"),
            "a Bcc: x@y c d e f"
        );
    }

    #[test]
    fn cut_text_fits_whole_characters_and_its_mark() {
        assert_eq!(cut("short", 5, chars), "short");
        assert_eq!(cut("too long a text", 10, chars), "too… (cut)");
        // An emoji is two units of UTF-16 and is not halved.
        let emojis = "😀".repeat(10);
        assert_eq!(cut(&emojis, 20, utf16), emojis);
        assert_eq!(cut(&emojis, 19, utf16), format!("{}{CUT_MARK}", "😀".repeat(6)));
        assert!(cut(&"é".repeat(100), 50, bytes).len() <= 50);
    }

    #[test]
    fn tokens_are_safe_short_and_different() {
        let word = |id: &str| token(id, 40, '%', |byte| byte.is_ascii_alphanumeric() || byte == b'/');
        assert_eq!(word("c1/7/oncall"), "c1/7/oncall");
        assert_eq!(word("a b\r\n%é"), "a%20b%0D%0A%25%C3%A9");
        let long = word(&"x".repeat(41));
        assert_eq!(long.len(), "sha256-".len() + 64);
        assert_ne!(long, word(&"x".repeat(42)));
    }

    #[test]
    fn links_are_added_unless_they_stand_there() {
        let mut message = crate::message::example();
        message.body = "text".into();
        assert_eq!(
            body_with_links(&message),
            "text\n\nRunbook: https://wiki.example.com/homepage"
        );
        message.body = "see https://wiki.example.com/homepage".into();
        assert_eq!(body_with_links(&message), message.body);
        message.body = "own".into();
        message.own_body = true;
        assert_eq!(body_with_links(&message), "own");
    }

    #[test]
    fn marks_are_added_once() {
        let mut message = crate::message::example();
        message.test = true;
        message.repeat = true;
        assert_eq!(subject(&message), "[quptime] DOWN: homepage (test)");
        assert_eq!(
            subject_with_repeat(&message),
            "[quptime] DOWN: homepage (test) (may be a repeat)"
        );
        assert_eq!(marks_missing_in("x", &message), "\n(test)\n(may be a repeat)");
        message.subject = "a (test) (may be a repeat)".into();
        assert_eq!(subject_with_repeat(&message), "a (test) (may be a repeat)");
        assert_eq!(marks_missing_in("(test) x (may be a repeat)", &message), "");
    }
}
