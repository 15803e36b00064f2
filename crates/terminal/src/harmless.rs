//! Characters that would do something to a terminal, or to how a line reads, instead of being seen.
//!
//! Names come from files that people edit and from other machines. A control character may move the cursor or hide what was printed, and
//! marks for the direction of writing let a line read as another one.

use std::borrow::Cow;

/// Whether a character is not seen but acts: control characters, line separators, and invisible marks such as those for the direction
/// of writing. Joiners, which scripts and emoji need inside of words, are none.
pub fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// The text with such characters escaped, as `\u{1b}`.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_harmful(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// Letters that are shown of an input that was refused: enough to know it again.
const BRIEF_MAX: usize = 80;

/// The beginning of a text that somebody gave, harmless, with `…` for the rest: for errors that say which input was wrong.
pub fn brief(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(BRIEF_MAX) {
        None => harmless(text),
        Some((end, _)) => Cow::Owned(format!("{}…", harmless(&text[..end]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_inputs_are_cut_between_letters() {
        let just = "ü".repeat(BRIEF_MAX);
        assert_eq!(brief(&just), just);
        assert_eq!(brief(&format!("{just}x")), format!("{just}…"));
        assert_eq!(brief("a\nb"), "a\\nb");
    }

    #[test]
    fn what_acts_is_escaped_and_words_are_not() {
        for text in [
            "homepage",
            "Bücher",
            "日本",
            "a b",
            "👩\u{200d}🚒",
            "می\u{200c}خواهم",
        ] {
            assert!(matches!(harmless(text), Cow::Borrowed(_)), "{text:?}");
        }
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(harmless("a\0\u{202e}b\u{feff}"), "a\\u{0}\\u{202e}b\\u{feff}");
    }
}
