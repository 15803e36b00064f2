//! A mistake in a page: where it is, what is wrong, what would be right.
//!
//! The parser collects problems instead of stopping at the first, so an author sees all of them at once. Errors keep a
//! page from running; warnings do not.

use std::fmt;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The page cannot be run.
    Error,
    /// The page runs, but a reader would miss something.
    Warning,
}

/// One mistake at one place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file as the caller named it.
    pub file: String,
    /// Line from 1.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong and what would be right, in one line.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            out,
            "{}:{}:{}: {severity}: {}",
            self.file, self.line, self.column, self.message
        )
    }
}

/// Says `did you mean ...` when a known word is near, otherwise lists the known ones.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    // The distance of a very long word costs its length squared, and nothing is near it anyway.
    const WORD_BYTES_MAX: usize = 64;
    let nearest = known
        .clone()
        .into_iter()
        .filter(|_| word.len() <= WORD_BYTES_MAX)
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min();
    match nearest {
        Some((distance, candidate)) if distance <= (word.chars().count() / 3).max(1) => {
            format!("did you mean `{candidate}`?")
        }
        _ => match known.into_iter().collect::<Vec<_>>() {
            known if known.is_empty() => "none is known here".to_owned(),
            known => format!("known are {}", known.join(", ")),
        },
    }
}

/// Cuts foreign text so that it fits in a one-line message, with control characters made visible.
pub fn excerpt(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > SHOWN_CHARS_MAX {
        shown.push_str("...");
    }
    shown
}

/// A word as a person would type it in a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:=@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_names_the_nearest_or_all() {
        assert_eq!(
            suggestion("expct", ["expect", "timeout"]),
            "did you mean `expect`?"
        );
        assert_eq!(
            suggestion("colour", ["expect", "timeout"]),
            "known are expect, timeout"
        );
        assert_eq!(suggestion("x", []), "none is known here");
    }

    #[test]
    fn quoted_words_survive_a_shell() {
        assert_eq!(quoted("docs/runbooks/a-b.md"), "docs/runbooks/a-b.md");
        assert_eq!(quoted("my lab/it's"), r"'my lab/it'\''s'");
    }

    #[test]
    fn excerpt_is_one_short_line() {
        assert_eq!(excerpt("a\nb"), "a\\nb");
        assert!(excerpt(&"x".repeat(1000)).len() < 70);
    }
}
