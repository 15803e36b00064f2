//! Errors of the YAML library in the words of whoever writes such a file: what is wrong on which line, and what to write instead.

use serde_saphyr::Error;

use super::parse::Mistake;

/// Letters of a text of ours that are told.
const TEXT_MAX: usize = 400;

/// One line, without the position in front or behind that the library may put there.
pub(super) fn mistake_of(source: &str, error: &Error) -> Mistake {
    let line = error.location().map_or(0, |location| location.line());
    let error = bare(error);
    let line = match error {
        Error::ExternalMessage { msg, .. } if msg.contains("tab") => line_with_tab(source, line),
        Error::ExternalMessage { msg, .. }
            if ["unclosed quote", "multiline quoted", "document indicator"]
                .iter()
                .any(|word| msg.contains(word)) =>
        {
            line_with_quote(source, line)
        }
        _ => line,
    };
    let text = match (in_own_words(error), key_on(source, line)) {
        (Some(Own::Whole(text)), _) | (Some(Own::Value(text)), None) => text,
        (Some(Own::Value(text)), Some(key)) => format!("{key}: {text}"),
        (None, _) => in_its_words(error),
    };
    let end = text.char_indices().nth(TEXT_MAX);
    let text = end.map_or(text.clone(), |(end, _)| format!("{}…", &text[..end]));
    Mistake { line, text }
}

/// Without what only says how the library came there.
fn bare(error: &Error) -> &Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => bare(error),
        error => error,
    }
}

/// What is told.
enum Own {
    /// All of it.
    Whole(String),
    /// What to write as the value of the key that stands there.
    Value(String),
}

fn in_own_words(error: &Error) -> Option<Own> {
    let whole = |text: &str| Some(Own::Whole(text.to_owned()));
    let value = |text: &str| Some(Own::Value(text.to_owned()));
    match error {
        Error::SerdeUnknownField { field, expected, .. } => Some(Own::Whole(format!(
            "unknown field \"{}\"; possible are {}",
            terminal::brief(field),
            expected.join(", ")
        ))),
        Error::SerdeMissingField { field, .. } => Some(Own::Whole(format!(
            "{field} is missing; write {field}: and its value"
        ))),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => Some(Own::Value(format!(
            "\"{}\" is not known; write one of {}",
            terminal::brief(variant),
            expected.join(", ")
        ))),
        Error::DuplicateMappingKey { key, .. } => Some(Own::Whole(match key {
            Some(key) => format!("{} stands there twice; keep one of them", terminal::brief(key)),
            None => "a key stands there twice; keep one of them".to_owned(),
        })),
        Error::MultipleDocuments { .. } => whole(
            "a second document begins (---); the file is a single one: remove that line, and what belongs to another file",
        ),
        Error::Eof { .. } => whole("the file ends before it says anything; it begins with version:"),
        Error::UnsupportedTag { .. }
        | Error::TaggedEnumMismatch { .. }
        | Error::TaggedStructFieldName { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. }
        | Error::BinaryNotUtf8 { .. }
        | Error::InvalidBinaryBase64 { .. } => value(
            "a tag (!name) is not understood; write the value without it, and texts that begin with ! in quotes",
        ),
        Error::MergeValueNotMapOrSeqOfMaps { .. } | Error::MergeKeyNotAllowed { .. } => {
            whole("keys cannot be taken over with <<; write the keys themselves")
        }
        Error::SerdeInvalidType { expected, .. }
        | Error::SerdeInvalidValue { expected, .. }
        | Error::SerdeInvalidLength { expected, .. } => value(wanted(expected)),
        Error::InvalidScalar { ty, .. } => value(wanted(ty)),
        Error::InvalidBooleanStrict { .. } => value("write true or false"),
        Error::NullIntoString { .. } => value("write a text, or leave the line out"),
        Error::Unexpected { expected, .. } => value(wanted(expected)),
        Error::Budget { .. } => {
            whole("the file has too many entries, or entries within each other; leave some out")
        }
        Error::ExternalMessage { msg, .. } => whole(about_grammar(msg)),
        error => about_aliases(error).map(|text| Own::Whole(text.to_owned())),
    }
}

/// What has to be written where the library wants this.
fn wanted(expected: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| expected.contains(word));
    if has(&["bool"]) {
        "write true or false"
    } else if has(&["u16"]) {
        "write a whole number from 0 to 65535"
    } else if has(&["u32", "u64", "usize", "integer"]) {
        "write a whole number, 0 or more"
    } else if has(&["mapping", "struct", "map"]) {
        "write keys with values, each on a line of its own below it and indented"
    } else if has(&["sequence", "array", "list"]) {
        "write a list, each entry on a line of its own behind a dash"
    } else {
        "write one word or number"
    }
}

/// What is wrong with anchors (`&name`) and aliases (`*name`), which hardly anybody writes on purpose.
fn about_aliases(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias (*name) stands within what its anchor (&name) begins; write the values themselves, and texts with * or & in quotes"
        }
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "too many aliases (*name); write the values themselves, and texts that begin with * in quotes"
        }
        Error::UnknownAnchor { .. } => {
            "an alias (*name) has no anchor (&name) above it; write the value itself, and texts that begin with * in quotes"
        }
        _ => return None,
    })
}

/// The line that is indented with a tab: the library names what stands before it.
fn line_with_tab(source: &str, from: u64) -> u64 {
    let is_it = |line: &str| line.trim_start_matches(' ').starts_with('\t') && !line.trim().is_empty();
    let mut numbered = (1..).zip(source.lines()).skip_while(|(number, _)| *number < from);
    numbered
        .find(|(_, line)| is_it(line))
        .map_or(from, |(number, _)| number)
}

/// The line in which a quote is opened and not closed: the library names where it gave up.
fn line_with_quote(source: &str, until: u64) -> u64 {
    let opens = |line: &str| {
        let value = line.split_once(": ").map_or(line, |(_, value)| value);
        let value = value.trim_start_matches(['-', ' ']);
        let quote = value.chars().next().filter(|letter| matches!(letter, '"' | '\''));
        quote.is_some_and(|quote| value.matches(quote).count() % 2 == 1)
    };
    let numbered = (1..)
        .zip(source.lines())
        .take_while(|(number, _)| *number <= until);
    let opening = numbered.filter(|(_, line)| opens(line)).last();
    opening.map_or(until, |(number, _)| number)
}

/// What is wrong with a text that is no YAML. By what the library says about it, of which nothing is shown: it speaks of scalars and
/// mappings, and some of its messages repeat what stands there.
fn about_grammar(said: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["tab"]) {
        "a tab stands where blanks must be; indent with blanks, and put texts with tabs in quotes"
    } else if has(&["trailing content"]) {
        "something stands behind the closing quote; put all of the text in quotes, and write '' for a ' in it"
    } else if has(&["escape", "hexadecimal", "surrogate"]) {
        "a backslash between \" quotes begins a sign that is not known; write \\\\ for a backslash, or put the text in ' quotes"
    } else if has(&["unclosed quote", "quoted scalar"]) {
        "a quote is opened and never closed; close it, or put the whole text in the other kind of quotes"
    } else if has(&["mapping values"]) {
        "a second colon with a blank behind it stands in the line; put the value in quotes, or give each key a line of its own"
    } else if has(&["bracket", "flow", "','", "'}'", "']'"]) {
        "a bracket ([ or {) is not closed, or closed without being opened; texts with brackets need quotes"
    } else if has(&["simple key", "':'"]) {
        "a key and its value are not written as key: value; the colon, and a blank behind it, are missing"
    } else if has(&["anchor", "alias"]) {
        "& and * at the beginning of a value stand for anchors and aliases; put the text in quotes"
    } else if has(&["tag", "handle"]) {
        "! at the beginning of a value stands for a tag; put the text in quotes"
    } else if has(&["directive", "document start", "document end"]) {
        "lines that begin with % or ... are not understood; leave them out, or put the text in quotes"
    } else if has(&["unexpected character"]) {
        "no value begins with this sign; put the text in quotes"
    } else if has(&[
        "indent",
        "expected key",
        "'-'",
        "\"-\"",
        "sequence entries",
        "block",
    ]) {
        "the line does not begin in the column of what it belongs to; keys of one entry begin below each other, and entries with a dash"
    } else {
        "this cannot be read; write key: value, each on a line of its own, and put texts with special signs in quotes"
    }
}

/// What our own types say about a value.
fn in_its_words(error: &Error) -> String {
    let full = error.to_string();
    let first = full.lines().next().unwrap_or("not YAML").trim();
    let text = first.rfind(" at line ").map_or(first, |end| &first[..end]);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = match (text.strip_prefix("line "), text.find(": ")) {
        (Some(_), Some(end)) => &text[end + 2..],
        _ => text,
    };
    text.trim_end_matches(':').to_owned()
}

/// The key on this line, from 1, if one stands there.
fn key_on(text: &str, line: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?)?;
    let (key, _) = line.trim_start_matches(['-', ' ']).split_once(':')?;
    let is_key = !key.is_empty()
        && key
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter == '_');
    is_key.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;

    /// Words of the library, and of serde below it.
    const FOREIGN: [&str; 20] = [
        "simple key",
        "not allowed in this context",
        "while parsing",
        "while scanning",
        "unclosed quote",
        "disallowed",
        "unsupported",
        "this error can be suppressed",
        "invalid type",
        "expected",
        "variant",
        "deserialize",
        "`",
        "mapping",
        "scalar",
        "sequence",
        "budget",
        "from_",
        "multiple",
        "missing field",
    ];

    #[test]
    fn mistakes_are_told_in_own_words() {
        let check = "version: 1\nchecks:\n  - name: a\n    type: tcp\n    target: h:1\n";
        for (text, told) in [
            ("", "the file ends before it says anything"),
            (
                "version: 1\n---\nversion: 2\n",
                "line 3: a second document begins (---)",
            ),
            ("version: 1\n---\n", "line 2: a second document begins (---)"),
            ("peers: []\n", "version is missing; write version: and its value"),
            (
                "version: 1\nchecks:\n  - type: tcp\n    target: h:1\n",
                "line 4: name is missing",
            ),
            (
                "version: 1\ncolour: blue\n",
                "line 2: unknown field \"colour\"; possible are version, updated_at",
            ),
            ("version: 1\nversion: 2\n", "line 2: version stands there twice"),
            (
                "version: 1\nchecks:\n  - name: a\n    type: ping\n",
                "line 4: type: \"ping\" is not known; write one of http, tcp, icmp",
            ),
            ("version: !!int x\n", "line 1: version: write a whole number"),
            ("version: 1\nchecks:\n  - <<: 7\n    name: a\n", "line 3: "),
            (
                "version: 1\nsettings: [1]\n",
                "line 2: settings: write keys with values",
            ),
            ("version: 1\nchecks:\n  a: b\n", "write a list, each entry"),
            ("version: 1\nchecks:\n  - 7\n", "line 3: write keys with values"),
            ("version: [1]\n", "line 1: version: write"),
            (
                "version: 1.5\n",
                "line 1: version: write a whole number, 0 or more",
            ),
            ("- version\n", "line 1: write keys with values"),
            ("7\n", "line 1: write keys with values"),
            (
                &format!("{check}    expect_status: 70000\n"),
                "line 6: expect_status: write a whole number from 0 to 65535",
            ),
            (
                &format!("{check}    disabled: [no]\n"),
                "line 6: disabled: write one word or number",
            ),
            (
                &format!("{check}    alert_ids: x\n"),
                "line 6: alert_ids: write a list",
            ),
            (
                &format!("{check}    interval: [5s]\n"),
                "line 6: interval: write one word or number",
            ),
            (
                &format!("{check}    interval: {}\n", "9".repeat(70_000)),
                "line 6: bad duration \"999",
            ),
        ] {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.contains(told), "{text:.60?}: {said}");
            let foreign = FOREIGN.iter().find(|word| said.contains(**word));
            assert_eq!(foreign, None, "{text:.60?}: {said}");
            assert!(said.len() < 600 && !said.contains('\n'), "{said}");
        }
        let alert = "version: 1\nalerts:\n  - name: a\n    type: smtp\n";
        let mut wrong = Vec::new();
        for (text, line, told) in [
            (
                format!("{alert}\tsmtp_host: h\n"),
                5,
                "a tab stands where blanks must be",
            ),
            (
                format!("{alert}    smtp_password: \"geheim\n"),
                5,
                "a quote is opened",
            ),
            (
                format!("{alert}    smtp_password: 'geheim\n    smtp_host: h\n"),
                5,
                "a quote is opened",
            ),
            (
                format!("{alert}    smtp_password: 'it's geheim'\n"),
                5,
                "behind the closing quote",
            ),
            (
                format!("{alert}    smtp_password: \"geheim\\d\"\n"),
                5,
                "a backslash between",
            ),
            (
                format!("{alert}    smtp_password: geheim: b: c\n"),
                5,
                "a second colon",
            ),
            (format!("{alert}    smtp_password: [geheim\n"), 5, ""),
            (format!("{alert}    smtp_password: {{geheim\n"), 5, ""),
            (
                format!("{alert}    smtp_password: geheim\n   smtp_host: h\n"),
                6,
                "in the column of what it belongs to",
            ),
            (format!("{alert}    smtp_password\n    smtp_host: h\n"), 5, ""),
            (
                format!("{alert}    smtp_password: @geheim\n"),
                5,
                "no value begins with this sign",
            ),
            (
                format!("{alert}    smtp_password: `geheim\n"),
                5,
                "no value begins with this sign",
            ),
            (
                format!("{alert}    smtp_password: !geheim x\n"),
                5,
                "a tag (!name) is not understood",
            ),
            (
                format!("{alert}    smtp_password: !x geheim\n"),
                5,
                "a tag (!name) is not understood",
            ),
            (
                format!("{alert}    !x smtp_password: geheim\n"),
                5,
                "a tag (!name) is not understood",
            ),
            (
                format!("{alert}    smtp_password: !!set geheim\n"),
                5,
                "a tag (!name) is not understood",
            ),
            (
                format!("{alert}    smtp_to: !x [a@b]\n"),
                5,
                "a tag (!name) is not understood",
            ),
            (
                format!("{alert}    smtp_password: *geheim\n"),
                5,
                "an alias (*name) has no anchor",
            ),
            (
                format!("{alert}    smtp_password: % geheim\n"),
                5,
                "no value begins with this sign",
            ),
            (
                format!("{alert}    smtp_password: [geheim]\n"),
                5,
                "smtp_password: write one word or number",
            ),
            (
                format!("{alert}    smtp_password: {{geheim: 1}}\n"),
                5,
                "smtp_password: write one word or number",
            ),
            (
                format!("{alert}    smtp_port: geheim\n"),
                5,
                "smtp_port: write a whole number from 0 to 65535",
            ),
            (
                format!("{alert}    default: geheim\n"),
                5,
                "default: write true or false",
            ),
        ] {
            let said = parse(&text).unwrap_err();
            let (at, said) = (said.line, said.to_string());
            let foreign = FOREIGN.iter().find(|word| said.contains(**word));
            let is_right = at == line && said.contains(told) && foreign.is_none();
            if !is_right || said.contains("geheim") || said.len() > 250 {
                wrong.push(format!("{text}line {line}, {told}: {said}"));
            }
        }
        assert_eq!(wrong.len(), 0, "{}", wrong.join("\n\n"));
        let long = format!("version: 1\n{}: 1\n", "k".repeat(900));
        let said = parse(&long).unwrap_err().to_string();
        assert!(
            said.starts_with("line 2: unknown field \"kkk") && said.len() < 500,
            "{said}"
        );
    }
}
