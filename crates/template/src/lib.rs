//! The part of Go `text/template` that alert texts are written in.
//!
//! An operator's template arrives as text, is parsed once (when the alert is saved) and rendered many times (when alerts are sent).
//! Both steps are pure functions: no files, no network, no clock. What Go's package prints, this crate prints; the goldens in
//! `tests/oracle` were made by that package (Go 1.19) and hold us to it.
//!
//! The way of a text: [`lexer`] cuts it into tokens, [`parser`] makes the tree of [`tree`], [`exec`] walks the tree with the data
//! of [`value`], [`call`] holds the functions and [`format`] holds `print` and `printf`.
//!
//! # Language
//! Text, `{{- -}}`, comments, `.A.B`, `$`, variables with `:=` and `=`, pipelines, parentheses, `if`/`else if`/`else`, `with`,
//! `range` with `else`, `break` and `continue`, `define`, `template`, `block`, the literals, and the functions `and or not eq ne lt
//! le gt ge len index slice print printf println html js urlquery`.
//!
//! # Data
//! [`Value::Record`] is Go's struct: a field that does not exist is an error. [`Value::Map`] is a map with string keys, and a key
//! that does not exist gives the zero value the map was built with, as Go does with the option `missingkey=zero`: `""` for a map of
//! strings, `0` for a map of integers, and `<no value>` for a map of anything (whose zero is [`Value::Null`]).
//!
//! # Where this differs from Go, on purpose
//! - A template that is called, or a variable that is assigned to, without having been defined is a [`ParseError`]; Go notices only
//!   when it gets there.
//! - `{{range $x = .L}}` assigns to `$x` in every case; Go 1.19 assigns to the variable declared last.
//! - Complex numbers are refused, `call` does not exist, and `%p` never prints an address.
//! - A text made on the way (by `printf`, say) is as limited as the whole output, so `{{len (printf "%100000d" 1)}}` is an error.
//! - Identifiers may have some characters (such as `²`) that Go refuses.
//! - Bytes that are not UTF-8 (half a character cut out by `slice`) end in the output as U+FFFD.
//!
//! # Limits
//! Templates are written by people and may loop: see [`Limits`].
//!
//! ```
//! use template::{Limits, Template, Value};
//!
//! let template = Template::parse("subject", "{{.Check.Name}} is {{.Verb}}{{if gt .Down 1}} ({{.Down}} nodes){{end}}")?;
//! let check = Value::record("Check", [("Name", Value::from("shop"))]);
//! let data = Value::record("Event", [("Check", check), ("Verb", "DOWN".into()), ("Down", 3.into())]);
//! assert_eq!(template.render(&data, &Limits::default())?, "shop is DOWN (3 nodes)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod call;
mod error;
mod exec;
mod format;
mod lexer;
mod limits;
mod literal;
mod parser;
mod tree;
mod value;

pub use error::{ExecError, ExecErrorKind, ParseError};
pub use limits::Limits;
pub use value::{List, Map, Record, Text, Value};

use std::collections::BTreeMap;

use tree::Node;

/// A parsed template with everything it defines.
#[derive(Debug, Clone)]
pub struct Template {
    name: String,
    source: String,
    /// The bodies by name; the template's own is under `name`.
    bodies: BTreeMap<String, Vec<Node>>,
}

impl Template {
    /// Parses `text` within the default [`Limits`]. `name` is what messages call it ("subject", "body").
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        Self::parse_within(name, text, &Limits::default())
    }

    /// Parses `text`; of the limits, source size and depth count.
    pub fn parse_within(name: &str, text: &str, limits: &Limits<'_>) -> Result<Self, ParseError> {
        let bodies = parser::parse(name, text, limits)?;
        Ok(Self {
            name: name.to_owned(),
            source: text.to_owned(),
            bodies,
        })
    }

    /// The text that the template gives for `data`. Nothing is returned of a text that fails half way.
    pub fn render(&self, data: &Value, limits: &Limits<'_>) -> Result<String, ExecError> {
        exec::render(self, data, limits)
    }

    /// The name it was parsed under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }
}
