//! Layers, and where each of their keys was written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the built-in default holds.
    Default,
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
    },
    /// The command line.
    CommandLine {
        /// The flag.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "from the built-in default"),
            Self::Environment { variable } => write!(f, "from environment variable {variable}"),
            Self::File { path, line } => write!(f, "in {} line {line}", path.display()),
            Self::CommandLine { flag } => write!(f, "from {flag}"),
        }
    }
}

/// The keys one place gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) table: Table,
    /// By path as shown, `a.b[0].c`. Sections and elements are in it too.
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Layer {
    /// Sets one key, making the sections around it.
    pub(super) fn put(&mut self, path: &[String], value: Value, origin: Origin) {
        let (last, sections) = path.split_last().expect("a path has at least one key");
        let mut table = &mut self.table;
        for section in sections {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                // `A__B` beside `A__B__C`: the longer name wins, the check of types finds the shorter one wrong.
                *inner = Value::Table(Table::new());
            }
            table = inner.as_table_mut().expect("made a table just above");
        }
        table.insert(last.clone(), value);
        for depth in 1..=path.len() {
            self.origins
                .entry(path[..depth].join("."))
                .or_insert_with(|| origin.clone());
        }
    }
}

/// The origin of a path in the highest layer that has it; failing that, of the nearest section around it.
pub(super) fn find(layers: &[Layer], path: &str) -> Origin {
    let mut path = path;
    loop {
        if let Some(origin) = layers.iter().rev().find_map(|layer| layer.origins.get(path)) {
            return origin.clone();
        }
        match path.rfind(['.', '[']) {
            Some(end) => path = &path[..end],
            None => return Origin::Default,
        }
    }
}
