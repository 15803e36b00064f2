//! One TOML file as a layer, with the line of every key.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::Error;
use super::origin::{Layer, Origin};

pub(super) fn layer(path: &Path, content: &str) -> Result<Layer, Error> {
    let syntax = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = position(content, at);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        Error::Syntax {
            path: path.to_owned(),
            line,
            column,
            message,
        }
    };
    let spans = DeTable::parse(content).map_err(|error| syntax(&error))?;
    let table = toml::from_str(content).map_err(|error| syntax(&error))?;
    let mut lines = Lines {
        path,
        content,
        origins: BTreeMap::new(),
    };
    lines.table("", spans.get_ref());
    Ok(Layer {
        table,
        origins: lines.origins,
    })
}

struct Lines<'a> {
    path: &'a Path,
    content: &'a str,
    origins: BTreeMap<String, Origin>,
}

impl Lines<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            self.note(&path, key.span().start);
            self.value(&path, value.get_ref());
        }
    }

    fn value(&mut self, path: &str, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(array) => {
                for (n, element) in array.iter().enumerate() {
                    let path = format!("{path}[{n}]");
                    self.note(&path, element.span().start);
                    self.value(&path, element.get_ref());
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, path: &str, at: usize) {
        let (line, _) = position(self.content, at);
        self.origins.insert(
            path.to_owned(),
            Origin::File {
                path: self.path.to_owned(),
                line,
            },
        );
    }
}

/// Line and column, both from 1, of a byte offset. Columns count characters.
fn position(content: &str, at: usize) -> (usize, usize) {
    let before = content.get(..at).unwrap_or(content);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}
