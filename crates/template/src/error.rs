//! What can be wrong with a template, and where: lines and columns count from 1, columns in characters.

use std::fmt::Write as _;

use thiserror::Error;

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("template: {name}:{line}:{column}: {message}")]
#[non_exhaustive]
pub struct ParseError {
    /// The name given to [`crate::Template::parse`].
    pub name: String,
    /// The line of the problem.
    pub line: usize,
    /// The column of the problem.
    pub column: usize,
    /// What is wrong and what would be right, in one line.
    pub message: String,
}

/// Why a template gave no text for the data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("template: {name}:{line}:{column}: executing {body} at <{context}>: {message}")]
#[non_exhaustive]
pub struct ExecError {
    /// The name given to [`crate::Template::parse`].
    pub name: String,
    /// The line of the failing part.
    pub line: usize,
    /// The column of the failing part.
    pub column: usize,
    /// The quoted name of the body (main, `define` or `block`) that was executed.
    pub body: String,
    /// The beginning of the failing part of the template.
    pub context: String,
    /// What kind of failure it is.
    pub kind: ExecErrorKind,
    /// What is wrong, in one line.
    pub message: String,
}

/// Kinds of [`ExecError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecErrorKind {
    /// The template and the data do not fit: an unknown field, a wrong argument.
    Mismatch,
    /// Too much output, too many steps, too deep: one of [`crate::Limits`].
    Limit,
    /// The deadline of [`crate::Limits::deadline`] has passed.
    Deadline,
}

/// Line and column of the byte `pos` of `source`.
pub(crate) fn line_and_column(source: &str, pos: usize) -> (usize, usize) {
    let before = source.get(..pos).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// `text` in quotes on one line, shortened when it is longer than `longest` characters.
pub(crate) fn quoted(text: &str, longest: usize) -> String {
    let mut out = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == longest {
            out.push_str("\"...");
            return out;
        }
        push_escaped(&mut out, c);
    }
    out.push('"');
    out
}

/// The first characters of `text` on one line, without quotes.
pub(crate) fn excerpt(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == longest {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            push_escaped(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        // A single quote stays as it is inside of double ones.
        '\'' => out.push(c),
        _ if c.is_control() || c == '"' || c == '\\' => {
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", c.escape_debug());
        }
        _ => out.push(c),
    }
}
