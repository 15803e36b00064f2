//! Scalars of YAML that mean the same text to every reader.

use std::fmt::Write as _;

/// The text as it can stand after `key: ` on one line: plain where that is safe, otherwise in quotes.
pub(crate) fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        return quoted(text);
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// In double quotes, in which everything can be written.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            letter if letter.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(letter)).expect("a String takes everything");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether the text needs no quotes in a block mapping, and is taken for nothing but text.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "~" | "y" | "n"
    );
    (first.is_ascii_alphabetic() || matches!(first, '(' | '_'))
        && !is_word
        && text.trim_end() == text
        && !text.contains(": ")
        && !text.ends_with(':')
        && !text.contains(" #")
        && !text.chars().any(char::is_control)
        // A number with an exponent, or `inf`, begins with a digit or a sign or a point and so is quoted by the first rule.
        && text.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_get_back_what_was_written() {
        for text in [
            "plain",
            "",
            "true",
            "No",
            "12",
            "1e3",
            "a: b",
            "a:",
            "a #b",
            "it's",
            "\"q\"",
            "{x}",
            "[x]",
            "- a",
            "*a",
            "&a",
            "%",
            "a\nb",
            "tab\there",
            " lead",
            "trail ",
            "é",
            "(sum(rate(x{a=\"b\"}[5m])) or vector(0)) / 2",
            "a'b: c",
            "\u{1b}[2J",
            "null",
            "=",
            "@x",
            "`x`",
            "!x",
            "back\\slash\n",
        ] {
            let document = format!("key: {}\n", scalar(text));
            let tree = crate::document::tree::parse(&document).unwrap();
            let crate::document::tree::Value::Map(entries) = &tree[0].value else {
                unreachable!("{document}")
            };
            let expected = crate::document::tree::Value::Text(text.to_owned());
            assert_eq!(entries[0].2.value, expected, "{document}");
        }
    }
}
