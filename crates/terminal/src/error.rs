//! Errors and remarks on standard error.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io::Write;

/// Prints `Error: TEXT` to standard error, as one line. An `anyhow::Error` shows all its causes; a cause that repeats the end
/// of the text before it is left out.
pub fn error(error: &(impl Display + ?Sized)) {
    // With `#` an `anyhow::Error` shows its chain; other errors show the same as without.
    write_stderr(&line("Error: ", without_echo(&format!("{error:#}"))));
}

/// Prints a remark for a person to standard error.
pub fn note(text: &(impl Display + ?Sized)) {
    write_stderr(&line("", &text.to_string()));
}

/// An error and its causes, joined by `: `. A cause that the text before it already ends with is not said twice.
pub fn chain(error: &anyhow::Error) -> String {
    join(error.chain())
}

fn join<'a>(causes: impl Iterator<Item = &'a (dyn StdError + 'static)>) -> String {
    let mut text = String::new();
    for cause in causes {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !cause.is_empty() && !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// `a: b: b` as `a: b`, also when `b` has several parts. An error whose text includes its source's looks so in a chain.
fn without_echo(text: &str) -> &str {
    let mut text = text;
    while let Some(at) = text.match_indices(": ").map(|(at, _)| at).find(|at| {
        let (head, tail) = (&text[..*at], &text[at + 2..]);
        head.strip_suffix(tail)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(": "))
    }) {
        text = &text[..at];
    }
    text
}

/// One line, whatever is in the text: line breaks become blanks, other characters that act instead of being seen are escaped.
fn line(start: &str, text: &str) -> String {
    let mut line = start.to_owned();
    for c in text.trim_end().chars() {
        match c {
            '\n' => line.push(' '),
            '\t' => line.push('\t'),
            c if crate::is_harmful(c) => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

fn write_stderr(line: &str) {
    // Nowhere is left to report that standard error is gone; the exit code still tells.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn causes_are_joined_without_repeats() {
        let error = anyhow!("connection refused")
            .context("dial node2:2380")
            .context("status");
        assert_eq!(chain(&error), "status: dial node2:2380: connection refused");
        let error = anyhow!("disk full")
            .context("write log: disk full")
            .context("put");
        assert_eq!(chain(&error), "put: write log: disk full");
    }

    #[test]
    fn echoes_at_the_end_are_left_out() {
        for (text, shown) in [
            (
                "put: write log: disk full: disk full",
                "put: write log: disk full",
            ),
            ("dial a: refused: dial a: refused", "dial a: refused"),
            ("a: a: a", "a"),
            ("bad key: badkey", "bad key: badkey"),
            ("subkey: key", "subkey: key"),
            ("no leader elected", "no leader elected"),
        ] {
            assert_eq!(without_echo(text), shown);
        }
        let error = anyhow!("disk full").context("put");
        assert_eq!(format!("{error:#}"), "put: disk full");
    }

    #[test]
    fn errors_are_one_harmless_line() {
        assert_eq!(line("Error: ", "no leader elected"), "Error: no leader elected\n");
        assert_eq!(line("Error: ", "a\nb\u{1b}[2J\n"), "Error: a b\\u{1b}[2J\n");
    }
}
