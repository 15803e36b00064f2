//! Text to document, strictly: an unknown field, a field given twice, a wrong type, a duplicate name or a missing alert is an error that
//! names its line.

use std::fmt;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::schema::{Alert, Check, Document, Enrollment, Peer, SCHEMA, Settings, Window};
use super::words::mistake_of;
use super::{integrity, size};
use crate::identity::NodeId;

/// Largest file that is looked at: ten thousand checks take about four megabytes.
pub const BYTES_MAX: usize = 16 << 20;

/// Highest version that a file may say. Each change raises it by one, so whatever a file says there must be room above; and numbers up
/// to this one survive programs that keep them as floating point.
pub const VERSION_MAX: u64 = 1 << 53;

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, from 1; 0 if it is in no line.
    pub line: u64,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may quote what the file says, and is shown to people.
        let text = terminal::harmless(&self.text);
        match self.line {
            0 => f.write_str(&text),
            line => write!(f, "line {line}: {text}"),
        }
    }
}

impl std::error::Error for Mistake {}

/// The document with the lines of its entries. Must know the same fields as [`Document`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Located {
    version: u64,
    #[serde(default)]
    updated_at: Option<String>,
    #[serde(default)]
    updated_by: Option<NodeId>,
    #[serde(default)]
    schema: Option<u32>,
    #[serde(default)]
    resolvers: Option<Vec<String>>,
    #[serde(default)]
    peers: Option<Vec<Spanned<Peer>>>,
    #[serde(default)]
    checks: Option<Vec<Spanned<Check>>>,
    #[serde(default)]
    alerts: Option<Vec<Spanned<Alert>>>,
    #[serde(default)]
    pending_enrollments: Option<Vec<Spanned<Enrollment>>>,
    #[serde(default)]
    maintenance: Option<Vec<Spanned<Window>>>,
    #[serde(default)]
    settings: Option<Settings>,
}

/// The lines on which entries begin, by section.
#[derive(Debug, Default)]
pub struct Lines {
    peers: Vec<u64>,
    checks: Vec<u64>,
    alerts: Vec<u64>,
    maintenance: Vec<u64>,
}

impl Lines {
    /// Where an entry begins; 0 if not known.
    pub fn of(&self, place: &integrity::Place) -> u64 {
        let (lines, position) = match *place {
            integrity::Place::Peer(position) => (&self.peers, position),
            integrity::Place::Check(position) => (&self.checks, position),
            integrity::Place::Alert(position) => (&self.alerts, position),
            integrity::Place::Window(position) => (&self.maintenance, position),
            integrity::Place::Whole => return 0,
        };
        lines.get(position).copied().unwrap_or(0)
    }
}

fn split<T>(entries: Option<Vec<Spanned<T>>>) -> (Vec<T>, Vec<u64>) {
    let entries = entries.unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| (entry.value, entry.referenced.line()))
        .unzip()
}

/// Reads a document and checks what holds between its entries.
///
/// # Errors
/// The first mistake.
pub fn parse(text: &str) -> Result<Document, Mistake> {
    parse_located(text).map(|(document, _)| document)
}

/// As [`parse`], with the lines of the entries for whoever finds something wrong later.
///
/// # Errors
/// The first mistake.
pub fn parse_located(text: &str) -> Result<(Document, Lines), Mistake> {
    if text.len() > BYTES_MAX {
        let text = format!("the file has {} bytes; at most {BYTES_MAX} are read", text.len());
        return Err(Mistake { line: 0, text });
    }
    let (document, lines) = read_located(text)?;
    if let Err(fault) = integrity::check(&document) {
        return Err(Mistake {
            line: lines.of(&fault.place),
            text: fault.to_string(),
        });
    }
    // What stands there once and is meant many times, or is written in fewer letters than the program takes.
    if size::upper_bound(&document) > BYTES_MAX {
        let written = super::render(&document).len();
        if written > BYTES_MAX {
            let text = format!(
                "written out, with what its aliases (*name) stand for, it has {written} bytes; at most {BYTES_MAX} are read: \
                 shorten texts or remove entries"
            );
            return Err(Mistake { line: 0, text });
        }
    }
    Ok((document, lines))
}

/// Reads a text that this program, or an older one without a limit, has written here, however long it is.
///
/// # Errors
/// The first mistake.
pub fn parse_written(text: &str) -> Result<Document, Mistake> {
    read_located(text).map(|(document, _)| document)
}

fn read_located(text: &str) -> Result<(Document, Lines), Mistake> {
    let located: Located = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let mut mistake = mistake_of(text, &error);
        if let Some(level) = level_of(text).filter(|level| *level > SCHEMA) {
            mistake.text = format!(
                "{} (written by a newer qu: schema {level}, this one knows {SCHEMA})",
                mistake.text
            );
        }
        mistake
    })?;
    if located.version > VERSION_MAX {
        return Err(Mistake {
            line: line_of(text, "version:"),
            text: format!(
                "version {} is too high; at most {VERSION_MAX} is possible",
                located.version
            ),
        });
    }
    if let Some(level) = located.schema.filter(|level| *level > SCHEMA) {
        return Err(Mistake {
            line: line_of(text, "schema:"),
            text: format!("schema {level} was written by a newer qu; this one knows {SCHEMA}"),
        });
    }
    let (peers, peer_lines) = split(located.peers);
    let (checks, check_lines) = split(located.checks);
    let (alerts, alert_lines) = split(located.alerts);
    let (maintenance, window_lines) = split(located.maintenance);
    let (pending_enrollments, _) = split(located.pending_enrollments);
    let document = Document {
        version: located.version,
        updated_at: located.updated_at,
        updated_by: located.updated_by,
        schema: located.schema,
        resolvers: located.resolvers.unwrap_or_default(),
        peers,
        checks,
        alerts,
        pending_enrollments,
        maintenance,
        settings: located.settings.unwrap_or_default(),
    };
    let lines = Lines {
        peers: peer_lines,
        checks: check_lines,
        alerts: alert_lines,
        maintenance: window_lines,
    };
    Ok((document, lines))
}

/// Reads any other small file as strictly.
///
/// # Errors
/// The first mistake.
pub fn parse_strictly<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| mistake_of(text, &error))
}

fn options() -> serde_saphyr::Options {
    // The defaults refuse duplicate keys and bound aliases, depth and nodes; ten thousand checks need more nodes than they allow.
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: 2_000_000,
            max_events: 4_000_000,
        },
        with_snippet: false,
        // A tag that means nothing here would be dropped without a word, and with it what its author meant.
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
    }
}

/// The level that a file which cannot be read says it has.
fn level_of(text: &str) -> Option<u32> {
    let value = text.lines().find_map(|line| line.strip_prefix("schema:"))?;
    value.split('#').next()?.trim().parse().ok()
}

/// The line of what an objection is about that belongs to no entry: it begins with the name of the section.
pub fn line_of_setting(text: &str, objection: &str) -> u64 {
    let section = objection.split(['.', ':', ' ']).next().unwrap_or_default();
    line_of(text, &format!("{section}:"))
}

/// The first line that begins so, from 1; 0 if none does.
pub fn line_of(text: &str, prefix: &str) -> u64 {
    let position = text.lines().position(|line| line.starts_with(prefix));
    position.map_or(0, |position| position as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    const CHECKS: &str = "version: 3\nchecks:\n  - id: a\n    name: one\n    type: tcp\n    target: h:1\n";

    #[test]
    fn a_mistake_names_its_line() {
        for (text, expected) in [
            ("version: x\n", "line 1: "),
            (
                "version: -1\n",
                "line 1: version: write a whole number, 0 or more",
            ),
            (
                "version: 1\nschema: 1.5\n",
                "line 2: schema: write a whole number, 0 or more",
            ),
            (
                "version: 1\nsettings: fast\n",
                "line 2: settings: write keys with values, each on a line",
            ),
            (
                "version: 1\nchecks: 7\n",
                "line 2: checks: write a list, each entry on a line",
            ),
            (
                "version: 1\nupdated_at: [a]\n",
                "line 2: updated_at: write one word or number",
            ),
            (
                "version: 1\nsettings:\n  flap_damping: perhaps\n",
                "line 3: flap_damping: write true or false",
            ),
            (
                "version: 1\nchecks: &a\n  - *a\n",
                "an alias (*name) stands within what its anchor (&name) begins",
            ),
            (
                "version: 1\nresolvers: &a [*a]\n",
                "an alias (*name) stands within what its anchor (&name) begins",
            ),
            (
                "version: 1\nupdated_at: *now\n",
                "line 2: an alias (*name) has no anchor (&name) above it",
            ),
            (
                "version: 1\nversion: 2\n",
                "line 2: version stands there twice; keep one of them",
            ),
            ("version: 1\nchekcs: []\n", "line 2: unknown field"),
            ("peers: []\n", "version is missing"),
            ("version: 1\nchecks: [\n", "line "),
            ("- version\n", "line 1: "),
            (
                "# restored\nversion: 18446744073709551615\n",
                "line 2: version 18446744073709551615 is too high; at most 9007199254740992 is possible",
            ),
            (
                "version: 1\nschema: 9\nnewthing: 1\n",
                "(written by a newer qu: schema 9, this one knows 2)",
            ),
            (
                "version: 1\nschema: 9\n",
                "line 2: schema 9 was written by a newer qu",
            ),
        ] {
            let told = mistake(text);
            assert!(told.contains(expected), "{text:?}: {told}");
            assert!(!told.contains('\n') && !told.contains("Policy"), "{told}");
        }
        assert!(mistake(&format!("{CHECKS}    intervall: 5s\n")).starts_with("line 7: unknown field"));
        let told = mistake(&format!("{CHECKS}    interval: 5\n"));
        assert!(told.starts_with("line 7: bad duration \"5\""), "{told}");
        let twice = format!("{CHECKS}  - id: b\n    name: one\n    type: tcp\n    target: h:1\n");
        assert_eq!(mistake(&twice), "line 7: checks: the name \"one\" is used twice");
        let missing = format!("{CHECKS}    alert_ids: [oncall]\n");
        assert_eq!(
            mistake(&missing),
            "line 3: check one: there is no alert \"oncall\""
        );
    }

    #[test]
    fn aliases_do_not_make_a_document_that_could_not_be_read_again() {
        let long = "x".repeat(190_000);
        let mut text = format!("version: 1\nchecks:\n  - {{name: a, type: tcp, target: &t '{long}'}}\n");
        let aliases = (0..90).map(|number| format!("  - {{name: b{number}, type: tcp, target: *t}}\n"));
        text.extend(aliases);
        let told = parse(&text).unwrap_err().to_string();
        assert!(
            told.starts_with("written out, with what its aliases (*name) stand for, it has 17")
                && told.contains("at most 16777216 are read: shorten texts or remove entries"),
            "{told:.400}"
        );
        assert!(parse_written(&text).is_ok());
    }

    #[test]
    fn empty_sections_are_read() {
        let document = parse("version: 0\nchecks:\nalerts:\n").unwrap();
        assert_eq!(document, Document::default());
    }
}
