//! What can be wrong with settings, and how it is said.

use std::path::PathBuf;

use toml::{Table, Value};

use super::keys;
use super::origin::{Layer, Origin, find as origin_of};
use super::types::SECRET_SHOWN;
use crate::ErrorKind;

/// Why the settings could not be loaded. Each text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("read settings from {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line from 1.
        line: usize,
        /// Column from 1, in characters.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// An environment variable is not Unicode.
    #[error("bad environment variable {variable}: value is not UTF-8")]
    NotUnicode {
        /// Its name.
        variable: String,
    },
    /// An environment variable has the prefix but names no key.
    #[error("bad environment variable {variable}: want {prefix}__SECTION__KEY")]
    Variable {
        /// Its name.
        variable: String,
        /// The program's prefix.
        prefix: String,
    },
    /// A key that does not exist.
    #[error("unknown key {:?} {}: {}", .key.key, .key.origin, .key.hint)]
    Unknown {
        /// Which, where, and what may have been meant.
        key: UnknownKey,
    },
    /// A required key is not there.
    #[error("missing key {key:?} (section {origin})")]
    Missing {
        /// The dotted key.
        key: String,
        /// Where its section was written.
        origin: Origin,
    },
    /// A value of the wrong type, or out of bounds.
    #[error("bad value {value} for {key:?} {origin}: expected {expected}")]
    Value {
        /// The dotted key.
        key: String,
        /// The value as TOML, or a placeholder for a secret.
        value: String,
        /// Where it was written.
        origin: Origin,
        /// What would be right.
        expected: String,
    },
    /// More than one of these.
    #[error("{}", joined(.0))]
    Several(Vec<Error>),
}

/// A key that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The dotted key.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// What may have been meant.
    pub hint: String,
}

impl Error {
    /// All of these as one, in the order of the lines of the file; none if there are none.
    pub fn of_all(mut errors: Vec<Error>) -> Option<Error> {
        errors.sort_by_key(|error| match error.place() {
            Some((_, Origin::File { line, .. })) => *line,
            _ => 0,
        });
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }

    /// Each single error.
    pub fn each(&self) -> &[Error] {
        match self {
            Self::Several(errors) => errors,
            single => std::slice::from_ref(single),
        }
    }

    /// The dotted key that is wrong, if it is one.
    pub fn key(&self) -> Option<&str> {
        self.place().map(|(key, _)| key)
    }

    /// Whether this is a key missing from the section in which `other` found an unknown one.
    pub(super) fn is_missing_beside(&self, other: &Error) -> bool {
        let section = |key: &str| key.rsplit_once('.').map(|(section, _)| section.to_owned());
        match (self, other) {
            (Self::Missing { key, .. }, Self::Unknown { key: unknown }) => {
                section(key) == section(&unknown.key)
            }
            _ => false,
        }
    }

    fn place(&self) -> Option<(&str, &Origin)> {
        match self {
            Self::Unknown { key } => Some((&key.key, &key.origin)),
            Self::Missing { key, origin } | Self::Value { key, origin, .. } => Some((key, origin)),
            _ => None,
        }
    }

    /// Always the operator's to correct, except when the file cannot be read.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => ErrorKind::of_io(source),
            _ => ErrorKind::Invalid,
        }
    }
}

fn joined(errors: &[Error]) -> String {
    let each: Vec<String> = errors.iter().map(ToString::to_string).collect();
    each.join("; ")
}

/// Turns serde's message about the value at `path` into ours.
pub(super) fn of_value(path: &str, message: &str, merged: &Table, known: &Table, layers: &[Layer]) -> Error {
    let message = message.lines().collect::<Vec<_>>().join(" ");
    let origin = origin_of(layers, path);
    if let Some(field) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        let key = if path == "." {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        };
        return Error::Missing { key, origin };
    }
    let value = show(path, merged, known);
    // Serde's texts are "invalid type: string "x", expected u64" or whatever the type itself says, for instance
    // "bad size "x": expected ...". Only what is wanted is kept: the value is shown by us, or not at all.
    let expected = match message.rsplit_once("expected ") {
        Some((_, expected)) => plain(expected).to_owned(),
        None if value == SECRET_SHOWN => "another value".to_owned(),
        None => format!("another value ({message})"),
    };
    Error::Value {
        key: path.to_owned(),
        value,
        origin,
        expected,
    }
}

/// Rust's type names in words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a section",
        other => other,
    }
}

/// The value at `path` as TOML, or a placeholder when it is, or holds, a secret.
pub(super) fn show(path: &str, merged: &Table, known: &Table) -> String {
    if keys::find_shown(known, path, false).is_some_and(holds_secret) {
        return SECRET_SHOWN.to_owned();
    }
    keys::find_shown(merged, path, true).map_or_else(|| "(none)".to_owned(), ToString::to_string)
}

fn holds_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => text == SECRET_SHOWN,
        Value::Array(array) => array.iter().any(holds_secret),
        Value::Table(table) => table.values().any(holds_secret),
        _ => false,
    }
}
